//go:build !unix

package forward

import "time"

// Quiet reports whether nothing has come on a connection that carries no
// request: no byte, no end, no reset. This system cannot look without reading;
// so the look reads, and a byte that came makes the connection unusable anyway.
func (b *Backend) Quiet() bool {
	var one [1]byte
	b.SetReadDeadline(time.Now().Add(time.Millisecond))
	n, err := b.Conn.Read(one[:])
	return n == 0 && isTimeout(err)
}

// more reports whether something has come from the client that was not read. Here it
// is not known.
func (c *Client) more() bool { return false }
