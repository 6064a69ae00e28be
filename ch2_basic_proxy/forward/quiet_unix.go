//go:build unix

package forward

import "golang.org/x/sys/unix"

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
	quiet := false
	err := b.raw.Control(func(fd uintptr) {
		var one [1]byte
		_, _, err := unix.Recvfrom(int(fd), one[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		quiet = err == unix.EAGAIN
	})
	return err == nil && quiet
}
