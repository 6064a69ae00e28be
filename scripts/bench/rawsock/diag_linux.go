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
	diagExt     = 18 // offset of idiag_ext in the request, behind the netlink header
	diagMemInfo = 7  // INET_DIAG_SKMEMINFO
	memDrops    = 8  // SK_MEMINFO_DROPS, index of an uint32 in that attribute
	stateListen = 10 // TCP_LISTEN
)

var diagSocket = -1

// Listener asks sock_diag(7) about the listener on the address's port: how
// many established connections it has not accepted yet (Recv-Q of "ss -lt"),
// and how many the kernel has turned away because that queue was full.
func Listener(a *Addr) (queued, dropped int, err error) {
	if diagSocket < 0 {
		fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
		if err != nil {
			return 0, 0, err
		}
		diagSocket = fd
	}
	req := make([]byte, unix.SizeofNlMsghdr+diagRequest)
	binary.NativeEndian.PutUint32(req[0:], uint32(len(req)))
	binary.NativeEndian.PutUint16(req[4:], unix.SOCK_DIAG_BY_FAMILY)
	binary.NativeEndian.PutUint16(req[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	req[16], req[17] = unix.AF_INET, unix.IPPROTO_TCP
	req[diagExt] = 1 << (diagMemInfo - 1)
	binary.NativeEndian.PutUint32(req[20:], 1<<stateListen)
	if err := unix.Sendto(diagSocket, req, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return 0, 0, err
	}
	return readDiag(*(*[2]byte)(unsafe.Pointer(&a.sa.Port)))
}

func readDiag(port [2]byte) (queued, dropped int, err error) {
	found := false
	for buf := make([]byte, 32<<10); ; {
		n, _, err := unix.Recvfrom(diagSocket, buf, 0)
		if err != nil {
			return 0, 0, err
		}
		for b := buf[:n]; len(b) >= unix.SizeofNlMsghdr; {
			size := int(binary.NativeEndian.Uint32(b))
			kind := binary.NativeEndian.Uint16(b[4:])
			if kind == unix.NLMSG_DONE || kind == unix.NLMSG_ERROR || size < unix.SizeofNlMsghdr || size > len(b) {
				if !found {
					return 0, 0, errors.New("no such listener")
				}
				return queued, dropped, nil
			}
			if m := b[unix.SizeofNlMsghdr:size]; len(m) >= diagMessage &&
				m[diagState] == stateListen && [2]byte(m[diagPort:]) == port {
				queued += int(binary.NativeEndian.Uint32(m[diagQueue:]))
				dropped += drops(m[diagMessage:])
				found = true
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
