//go:build linux

package loop

import (
	"io"

	"reverseproxy/ch2_basic_proxy/forward"
	"reverseproxy/ch2_basic_proxy/http1"
)

// beginTunnel joins the two connections after 101 Switching Protocols: what one sends,
// the other gets, whatever it means (RFC 9110, section 7.8).
func (c *Conn) beginTunnel() {
	x, idle := c.x, c.loop.settings.Idle
	c.tunnels = true
	c.backend.sendAtOnce()
	x.down = transfer{src: &c.backend.socket, dst: &c.client, message: &untilTheEnd,
		out: http1.UntilClose, idle: idle}
	x.lastByte = c.loop.nano
}

// untilTheEnd is the framing of what a tunnel carries.
var untilTheEnd = http1.Message{Framing: http1.UntilClose}

// tunnel moves what can be moved, both ways. When one side ends its sending (FIN), the
// other is told so and may go on.
func (c *Conn) tunnel() bool {
	x, b, turn := c.x, c.backend, c.loop.turn
	if x.upload == watching { // the request's body has been sent
		x.upload = nothing
		c.client.by(0)
		x.up = transfer{src: &c.client, dst: &b.socket, message: &untilTheEnd,
			out: http1.UntilClose, idle: c.loop.settings.Idle}
	}
	var err *forward.Error
	if x.upload == nothing {
		err = c.pipe(&x.up, &x.upEnded, forward.ByBackend, forward.ByClient)
	}
	c.loop.turn = turn // one direction without pause leaves the other its reads
	// Whatever broke, what has come by then is passed on.
	if e := c.pipe(&x.down, &x.downEnded, forward.ByClient, forward.ByBackend); err == nil {
		err = e
	}
	if err != nil {
		return c.responseFailed(err)
	}
	if !x.upEnded || !x.downEnded {
		return false
	}
	c.responded()
	return true
}

// pipe moves one direction, and ends dst's side of it when src has ended. writes and
// reads say whose failure one of dst and of src is.
func (c *Conn) pipe(t *transfer, ended *bool, writes, reads forward.Side) *forward.Error {
	if *ended {
		return nil
	}
	l := c.loop
	before := t.src.got + t.dst.sent
	err := t.run()
	if t.src.got+t.dst.sent != before {
		c.x.lastByte = l.nano
	}
	switch {
	case err == nil:
		*ended = true
		t.dst.closeWrite()
		return nil
	case err == errWait:
		return nil
	case err == errLate && !t.writes && l.nano < c.x.lastByte+t.idle:
		t.src.by(0) // the other direction is alive
		t.src.readBy = c.x.lastByte + t.idle
		l.timers.set(t.src)
		return nil
	case err == errLate:
		by := forward.ByClient // both were silent, and it is the client's tunnel
		if t.writes {
			by = writes
		}
		return &forward.Error{Reason: "the tunnel stood still too long", By: by}
	case err == io.ErrUnexpectedEOF:
		err = io.EOF
	}
	by := reads
	if t.writes {
		by = writes
	}
	return &forward.Error{Reason: "the tunnel broke off", Err: err, By: by}
}
