package cli

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// portOwner returns "NAME (process PID)" for the program that keeps others from
// listening on addr (host:port), as far as /proc lets us see it, and ""
// otherwise; nobody says that there is no such program.
func portOwner(addr string) (owner string, nobody bool) {
	wanted := places(addr)
	if len(wanted) == 0 {
		return "", false
	}
	inode := listeningInode(wanted)
	if inode == "" {
		return "", true
	}
	links, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil && target == "socket:["+inode+"]" {
			pid := strings.Split(link, "/")[2]
			return fmt.Sprintf("%s (process %s)", programName(pid), pid), false
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

// listeningInode finds a socket that listens where one is wanted in
// /proc/net/tcp: its columns are number, local address, remote address, state
// (0A is LISTEN) ... and, as the tenth, the inode.
func listeningInode(wanted []netip.AddrPort) string {
	inTheWay := func(on netip.AddrPort) bool {
		return slices.ContainsFunc(wanted, func(w netip.AddrPort) bool { return overlap(w, on) })
	}
	for _, file := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		f, err := os.Open(file)
		if err != nil {
			continue
		}
		defer f.Close()
		for lines := bufio.NewScanner(f); lines.Scan(); {
			col := strings.Fields(lines.Text())
			if len(col) > 9 && col[3] == "0A" && inTheWay(kernelAddr(col[1])) {
				return col[9]
			}
		}
	}
	return ""
}

// kernelAddr reads an address as /proc/net/tcp has it, "0100007F:1F90": words
// of four bytes in this machine's order.
func kernelAddr(s string) netip.AddrPort {
	host, service, _ := strings.Cut(s, ":")
	ip, _ := hex.DecodeString(host)
	for i := 0; i+4 <= len(ip); i += 4 {
		binary.NativeEndian.PutUint32(ip[i:], binary.BigEndian.Uint32(ip[i:]))
	}
	addr, _ := netip.AddrFromSlice(ip)
	port, _ := strconv.ParseUint(service, 16, 16)
	return netip.AddrPortFrom(addr.Unmap(), uint16(port))
}
