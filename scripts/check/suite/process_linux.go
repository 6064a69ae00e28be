package suite

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// canInspect says that /proc can be read.
const canInspect = true

// socketState looks up a local TCP port in /proc/net/tcp: 0A is listening, 06 TIME_WAIT.
func socketState(addr, state string) bool {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	n, _ := strconv.Atoi(port)
	want := fmt.Sprintf(":%04X", n)
	for _, file := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		data, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		for _, line := range bytes.Split(data, []byte("\n")) {
			f := bytes.Fields(line)
			if len(f) > 3 && strings.HasSuffix(string(f[1]), want) && string(f[3]) == state {
				return true
			}
		}
	}
	return false
}

// listens reports whether a socket listens on the port, without connecting:
// a program that serves one client would take the connection for it.
func listens(addr string) bool {
	_, text, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	port, _ := strconv.Atoi(text)
	for _, family := range []byte{syscall.AF_INET, syscall.AF_INET6} {
		inode, err := listening(family, port)
		if err != nil {
			return socketState(addr, "0A")
		}
		if inode > 0 {
			return true
		}
	}
	return false
}

// holderOf finds the program that listens on a port.
func holderOf(addr string) (h holder) {
	_, text, _ := net.SplitHostPort(addr)
	port, _ := strconv.Atoi(text)
	var sockets []string
	for _, family := range []byte{syscall.AF_INET, syscall.AF_INET6} {
		if inode, _ := listening(family, port); inode > 0 {
			sockets = append(sockets, fmt.Sprintf("socket:[%d]", inode))
		}
	}
	if len(sockets) == 0 {
		return holder{}
	}
	links, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, link := range links {
		to, err := os.Readlink(link)
		if err != nil || !slices.Contains(sockets, to) {
			continue
		}
		dir := filepath.Dir(filepath.Dir(link))
		line, _ := os.ReadFile(dir + "/cmdline")
		h.pid, _ = strconv.Atoi(filepath.Base(dir))
		h.name = Visible(strings.TrimSpace(strings.ReplaceAll(string(line), "\x00", " ")), 100)
		h.ours = hasMark(dir, ourMark)
		return h
	}
	return holder{}
}

// hasMark reports whether a process has the mark in its environment.
func hasMark(dir, mark string) bool {
	env, _ := os.ReadFile(dir + "/environ")
	return bytes.Contains(env, []byte(mark))
}

// marked returns the processes that have the mark in their environment.
func marked(mark string) (pids []int) {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		if hasMark(dir, mark) {
			n, _ := strconv.Atoi(filepath.Base(dir))
			pids = append(pids, n)
		}
	}
	return pids
}

// listening asks the kernel for its listening TCP sockets (NETLINK_SOCK_DIAG,
// see sock_diag(7)): much quicker than reading /proc/net/tcp, which holds
// every connection. inode is the socket's number, 0 when there is none.
func listening(family byte, port int) (inode uint32, err error) {
	const netlinkSockDiag, sockDiagByFamily, stateListen = 4, 20, 1 << 10
	fd, err := syscall.Socket(syscall.AF_NETLINK, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC,
		netlinkSockDiag)
	if err != nil {
		return 0, err
	}
	defer syscall.Close(fd)
	req := make([]byte, 16+56) // nlmsghdr, inet_diag_req_v2
	binary.NativeEndian.PutUint32(req[0:], uint32(len(req)))
	binary.NativeEndian.PutUint16(req[4:], sockDiagByFamily)
	binary.NativeEndian.PutUint16(req[6:], syscall.NLM_F_REQUEST|syscall.NLM_F_DUMP)
	req[16], req[17] = family, syscall.IPPROTO_TCP
	binary.NativeEndian.PutUint32(req[20:], stateListen)
	if err := syscall.Sendto(fd, req, 0,
		&syscall.SockaddrNetlink{Family: syscall.AF_NETLINK}); err != nil {
		return 0, err
	}
	buf := make([]byte, 64<<10)
	for {
		n, _, err := syscall.Recvfrom(fd, buf, 0)
		if err != nil {
			return 0, err
		}
		msgs, err := syscall.ParseNetlinkMessage(buf[:n])
		if err != nil {
			return 0, err
		}
		for _, m := range msgs {
			switch {
			case m.Header.Type == syscall.NLMSG_DONE:
				return 0, nil
			case m.Header.Type == syscall.NLMSG_ERROR:
				return 0, errors.New("no socket diagnosis")
			case len(m.Data) >= 72 && int(binary.BigEndian.Uint16(m.Data[4:])) == port:
				return binary.NativeEndian.Uint32(m.Data[68:]), nil
			}
		}
	}
}
