package suite

import (
	"errors"
	"net"
	"syscall"
	"time"
)

// Deafen has a backend that is down listen with a full queue, so that the kernel answers
// no further SYN: to the proxy it looks like a host that is gone. It is down as before
// when hear is called.
func (b *Backend) Deafen() (hear func(), err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.held == nil {
		return nil, errors.New("its port could not be kept")
	}
	raw, err := b.held.SyscallConn()
	if err != nil {
		return nil, err
	}
	var queued []net.Conn
	hear = func() {
		for _, c := range queued {
			c.Close()
		}
		// A copy that a program has, until it runs, is not to listen on.
		raw.Control(func(fd uintptr) { syscall.Shutdown(int(fd), syscall.SHUT_RDWR) })
	}
	failed := raw.Control(func(fd uintptr) {
		syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
		err = syscall.Listen(int(fd), 0)
	})
	if err = errors.Join(failed, err); err != nil {
		return nil, err
	}
	for range 8 {
		c, err := net.DialTimeout("tcp", b.Addr, 150*time.Millisecond)
		if err != nil {
			return hear, nil // full
		}
		queued = append(queued, c)
	}
	hear()
	return nil, errors.New("the queue does not fill")
}
