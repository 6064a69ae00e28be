package proc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// clock reads the CPU clock of another process: nanoseconds of user and
// system time of all its threads, ended ones included (clock_getcpuclockid(3)).
func clock(pid int) time.Duration {
	const sched = 2 // CPUCLOCK_SCHED
	var ts unix.Timespec
	if unix.ClockGettime(int32(^pid<<3|sched), &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// Listening reports whether somebody listens on the port of an address, without
// connecting to it.
func Listening(addr string) bool {
	_, text, _ := net.SplitHostPort(addr)
	port, err := strconv.Atoi(text)
	if err != nil {
		return false
	}
	found, err := listeners(port)
	if err != nil {
		return listed(port) // a kernel, or a container, without sock_diag
	}
	return len(found) > 0
}

// listed is Listening by /proc/net/tcp, which is slow where there are many
// connections: its second column ends in the port, its fourth is 0A for LISTEN.
func listed(port int) bool {
	for _, file := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		b, _ := os.ReadFile(file)
		for line := range strings.Lines(string(b)) {
			f := strings.Fields(line)
			if len(f) > 3 && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", port)) && f[3] == "0A" {
				return true
			}
		}
	}
	return false
}

// Holder is the process that listens on the port of an address, as far as it can
// be seen: 0 if not.
func Holder(addr string) (pid int) {
	_, text, _ := net.SplitHostPort(addr)
	port, _ := strconv.Atoi(text)
	found, _ := listeners(port)
	if len(found) == 0 {
		return 0
	}
	for _, pid := range all() {
		for _, file := range Files(pid) {
			if slices.ContainsFunc(found, func(l listener) bool {
				return file == fmt.Sprintf("socket:[%d]", l.inode)
			}) {
				return pid
			}
		}
	}
	return 0
}

const (
	diagRequest = 56 // bytes of struct inet_diag_req_v2
	diagState   = 1  // offset of idiag_state in struct inet_diag_msg
	diagPort    = 4  // offset of idiag_sport, network order
	diagQueue   = 56 // offset of idiag_rqueue: of a listener, connections not yet accepted
	diagInode   = 68 // offset of idiag_inode
	diagMessage = 72 // bytes of struct inet_diag_msg
	diagExt     = 18 // offset of idiag_ext in the request, behind the netlink header
	diagMemInfo = 7  // INET_DIAG_SKMEMINFO
	memDrops    = 8  // SK_MEMINFO_DROPS, index of an uint32 in that attribute
	stateListen = 10 // TCP_LISTEN
)

// Queue asks sock_diag(7) about the listeners on a port: how many established
// connections they have not accepted yet (Recv-Q of "ss -lt"), and how many the
// kernel has turned away because that queue was full.
func Queue(port int) (queued, dropped int, err error) {
	found, err := listeners(port)
	if err == nil && len(found) == 0 {
		err = errors.New("no such listener")
	}
	for _, l := range found {
		queued, dropped = queued+l.queued, dropped+l.dropped
	}
	return queued, dropped, err
}

// listener is a socket that listens.
type listener struct {
	queued, dropped int // see Queue
	inode           uint32
}

// listeners asks sock_diag(7) about the sockets that listen on a port.
func listeners(port int) (found []listener, err error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		req := make([]byte, unix.SizeofNlMsghdr+diagRequest)
		binary.NativeEndian.PutUint32(req[0:], uint32(len(req)))
		binary.NativeEndian.PutUint16(req[4:], unix.SOCK_DIAG_BY_FAMILY)
		binary.NativeEndian.PutUint16(req[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
		req[16], req[17] = family, unix.IPPROTO_TCP
		req[diagExt] = 1 << (diagMemInfo - 1)
		binary.NativeEndian.PutUint32(req[20:], 1<<stateListen)
		kernel := &unix.SockaddrNetlink{Family: unix.AF_NETLINK}
		if err := unix.Sendto(fd, req, 0, kernel); err != nil {
			return nil, err
		}
		err := eachListener(fd, func(m []byte) {
			if int(binary.BigEndian.Uint16(m[diagPort:])) == port {
				found = append(found, listener{int(binary.NativeEndian.Uint32(m[diagQueue:])),
					drops(m[diagMessage:]), binary.NativeEndian.Uint32(m[diagInode:])})
			}
		})
		if err != nil && family == unix.AF_INET { // there may be no IPv6
			return nil, err
		}
	}
	return found, nil
}

// eachListener reads one answer of the kernel.
func eachListener(fd int, each func(message []byte)) error {
	for buf := make([]byte, 32<<10); ; {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err != nil {
			return err
		}
		for b := buf[:n]; len(b) >= unix.SizeofNlMsghdr; {
			size := int(binary.NativeEndian.Uint32(b))
			kind := binary.NativeEndian.Uint16(b[4:])
			switch {
			case kind == unix.NLMSG_ERROR:
				return errors.New("the kernel tells nothing about its sockets")
			case kind == unix.NLMSG_DONE:
				return nil
			case size < unix.SizeofNlMsghdr, size > len(b):
				return nil
			}
			if m := b[unix.SizeofNlMsghdr:size]; len(m) >= diagMessage &&
				m[diagState] == stateListen {
				each(m)
			}
			b = b[min((size+3)&^3, len(b)):]
		}
	}
}

// drops finds the count in the attributes of a message.
func drops(b []byte) int {
	for len(b) >= 4 {
		size, kind := int(binary.NativeEndian.Uint16(b)), binary.NativeEndian.Uint16(b[2:])
		if size < 4 || size > len(b) {
			return 0
		}
		if v := b[4:size]; kind == diagMemInfo && len(v) >= 4*(memDrops+1) {
			return int(binary.NativeEndian.Uint32(v[4*memDrops:]))
		}
		b = b[min((size+3)&^3, len(b)):]
	}
	return 0
}
