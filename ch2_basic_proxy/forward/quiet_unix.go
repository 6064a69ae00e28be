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
	return peek(b.raw) == nothingYet
}

// more reports whether something has come from the client that was not read.
func (c *Client) more() bool {
	raw, err := rawConn(c.Conn)
	if err != nil {
		return false
	}
	return peek(raw) > 0
}

const nothingYet = -1

// peek returns how many bytes can be read, of one: 0 at the connection's end, or
// nothingYet.
func peek(raw syscall.RawConn) (n int) {
	raw.Control(func(fd uintptr) {
		var one [1]byte
		k, _, err := unix.Recvfrom(int(fd), one[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		if n = max(k, 0); err == unix.EAGAIN {
			n = nothingYet
		}
	})
	return n
}
