//go:build linux

package loop

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// recv reads what has come on a socket. read(2) does the same, but on its way through the
// kernel it first passes what is for files of all kinds. Package unix has recvfrom(2) only
// with the sender's address, which costs more than it saves.
func (t *Techniques) recv(fd int, b []byte) (int, error) {
	if !t.Recv {
		return unix.Read(fd, b)
	}
	return recv(fd, b, 0)
}

func recv(fd int, b []byte, flags uintptr) (int, error) {
	n, _, err := unix.Syscall6(unix.SYS_RECVFROM, uintptr(fd),
		uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), flags, 0, 0)
	return result(n, err)
}

// send writes to a socket what the kernel takes of b. As with recv, write(2) is longer. Package
// unix does not say how much of it sendto(2) has taken. If last, the kernel keeps a packet that
// is not full until the connection is closed, or for 200 ms.
func (t *Techniques) send(fd int, b []byte, last bool) (int, error) {
	if !t.Recv {
		return unix.Write(fd, b)
	}
	flags := uintptr(unix.MSG_NOSIGNAL)
	if last {
		flags |= unix.MSG_MORE
	}
	n, _, err := unix.Syscall6(unix.SYS_SENDTO, uintptr(fd),
		uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), flags, 0, 0)
	return result(n, err)
}

func result(n uintptr, err unix.Errno) (int, error) {
	if err != 0 {
		return 0, err
	}
	return int(n), nil
}

// readCall and writeCall are the names of the C calls, for the narration.
func (t *Techniques) readCall() string {
	if t.Recv {
		return "recv"
	}
	return "read"
}

func (t *Techniques) writeCall() string {
	if t.Recv {
		return "send"
	}
	return "write"
}
