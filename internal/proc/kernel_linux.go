package proc

import (
	"encoding/binary"
	"errors"
	"net"
	"strconv"
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
	_, _, err = Queue(port)
	return err == nil
}

const (
	diagRequest = 56 // bytes of struct inet_diag_req_v2
	diagState   = 1  // offset of idiag_state in struct inet_diag_msg
	diagPort    = 4  // offset of idiag_sport, network order
	diagQueue   = 56 // offset of idiag_rqueue: of a listener, connections not yet accepted
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
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return 0, 0, err
	}
	defer unix.Close(fd)
	found := false
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
			return 0, 0, err
		}
		err := eachListener(fd, func(m []byte) {
			if int(binary.BigEndian.Uint16(m[diagPort:])) == port {
				queued += int(binary.NativeEndian.Uint32(m[diagQueue:]))
				dropped += drops(m[diagMessage:])
				found = true
			}
		})
		if err != nil {
			return 0, 0, err
		}
	}
	if !found {
		return 0, 0, errors.New("no such listener")
	}
	return queued, dropped, nil
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
			case kind == unix.NLMSG_DONE, kind == unix.NLMSG_ERROR:
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
