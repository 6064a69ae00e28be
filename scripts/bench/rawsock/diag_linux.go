package rawsock

import (
	"encoding/binary"
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	diagRequest = 56 // bytes of struct inet_diag_req_v2
	diagState   = 1  // offset of idiag_state in struct inet_diag_msg
	diagPort    = 4  // offset of idiag_sport, network order
	diagQueue   = 56 // offset of idiag_rqueue: of a listener, connections not yet accepted
	diagMessage = 72 // bytes of struct inet_diag_msg
	stateListen = 10 // TCP_LISTEN
)

var diagSocket = -1

// AcceptQueue is the number of established connections that the listener on
// the address's port has not accepted yet: Recv-Q of "ss -lt", asked for
// through sock_diag(7).
func AcceptQueue(a *Addr) (int, error) {
	if diagSocket < 0 {
		fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
		if err != nil {
			return 0, err
		}
		diagSocket = fd
	}
	req := make([]byte, unix.SizeofNlMsghdr+diagRequest)
	binary.NativeEndian.PutUint32(req[0:], uint32(len(req)))
	binary.NativeEndian.PutUint16(req[4:], unix.SOCK_DIAG_BY_FAMILY)
	binary.NativeEndian.PutUint16(req[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	req[16], req[17] = unix.AF_INET, unix.IPPROTO_TCP
	binary.NativeEndian.PutUint32(req[20:], 1<<stateListen)
	if err := unix.Sendto(diagSocket, req, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return 0, err
	}
	want := *(*[2]byte)(unsafe.Pointer(&a.sa.Port))
	return readDiag(want)
}

func readDiag(port [2]byte) (int, error) {
	queued, found := 0, false
	for buf := make([]byte, 32<<10); ; {
		n, _, err := unix.Recvfrom(diagSocket, buf, 0)
		if err != nil {
			return 0, err
		}
		for b := buf[:n]; len(b) >= unix.SizeofNlMsghdr; {
			size := int(binary.NativeEndian.Uint32(b))
			kind := binary.NativeEndian.Uint16(b[4:])
			if kind == unix.NLMSG_DONE || kind == unix.NLMSG_ERROR || size < unix.SizeofNlMsghdr || size > len(b) {
				if !found {
					return 0, errors.New("no such listener")
				}
				return queued, nil
			}
			if m := b[unix.SizeofNlMsghdr:size]; len(m) >= diagMessage &&
				m[diagState] == stateListen && [2]byte(m[diagPort:]) == port {
				queued += int(binary.NativeEndian.Uint32(m[diagQueue:]))
				found = true
			}
			b = b[min((size+3)&^3, len(b)):]
		}
	}
}
