package cli

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// portOwner returns " by NAME (process PID)" for the program that listens on a
// TCP port, as far as /proc lets us see it, and "" otherwise; nobody says that
// there is no such program.
func portOwner(port string) (owner string, nobody bool) {
	n, err := strconv.Atoi(port)
	if err != nil {
		return "", false
	}
	inode := listeningInode(n)
	if inode == "" {
		return "", true
	}
	links, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil && target == "socket:["+inode+"]" {
			pid := strings.Split(link, "/")[2]
			return fmt.Sprintf(" by %s (process %s)", programName(pid), pid), false
		}
	}
	return "", false
}

// programName is the file name of a process's program; the kernel's own name
// for it (comm) is cut after 15 bytes.
func programName(pid string) string {
	if exe, err := os.Readlink("/proc/" + pid + "/exe"); err == nil {
		return strings.TrimSuffix(filepath.Base(exe), " (deleted)")
	}
	name, _ := os.ReadFile("/proc/" + pid + "/comm")
	return strings.TrimSpace(string(name))
}

// listeningInode finds the socket that listens on a port in /proc/net/tcp: its
// columns are number, local address, remote address, state (0A is LISTEN) ...
// and, as the tenth, the inode.
func listeningInode(port int) string {
	for _, file := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		f, err := os.Open(file)
		if err != nil {
			continue
		}
		defer f.Close()
		for lines := bufio.NewScanner(f); lines.Scan(); {
			col := strings.Fields(lines.Text())
			if len(col) > 9 && col[3] == "0A" && strings.HasSuffix(col[1], fmt.Sprintf(":%04X", port)) {
				return col[9]
			}
		}
	}
	return ""
}
