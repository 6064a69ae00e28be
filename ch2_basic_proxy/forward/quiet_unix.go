//go:build unix

package forward

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// Quiet reports whether nothing has come on a connection that carries no
// request: no byte, no end, no reset. It looks without reading or waiting
// (recv with MSG_PEEK).
func (b *Backend) Quiet() bool {
	if b.raw == nil {
		raw, err := rawConn(b.Conn)
		if err != nil {
			return false
		}
		b.raw = raw
	}
	_, err := peek(b.raw)
	return err == unix.EAGAIN
}

// more reports whether something has come from the client that was not read.
func (c *Client) more() bool {
	raw, err := rawConn(c.Conn)
	if err != nil {
		return false
	}
	n, _ := peek(raw)
	return n > 0
}

// peek looks for a byte: 0 at end of file, EAGAIN if nothing has come.
func peek(raw syscall.RawConn) (n int, err error) {
	failed := raw.Control(func(fd uintptr) {
		var one [1]byte
		n, _, err = unix.Recvfrom(int(fd), one[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	})
	if failed != nil {
		return 0, failed
	}
	return n, err
}
