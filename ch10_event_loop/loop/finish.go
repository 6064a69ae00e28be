//go:build linux

package loop

import (
	"reverseproxy/ch2_basic_proxy/forward"
	"reverseproxy/ch2_basic_proxy/http1"
	"reverseproxy/ch6_keep_alive/keep"
	"reverseproxy/internal/narrate"
)

// finalStep says how far Finish is.
type finalStep uint8

const (
	finishing finalStep = iota
	telling             // an error page, or the rest of one, is being sent
	draining            // the rest of the request's body is read
	lingering           // what still comes is read, until the client closes
)

// Again reports whether the request that failed is to be sent once more, over a fresh
// connection to the same backend; see keep.RaceLost.
func (c *Conn) Again() bool {
	e, x := asError(c.failure), c.x
	if e == nil || x == nil || !keep.RaceLost(e, x.request.Method) || x.taken {
		return false
	}
	c.loop.pool.put(c.backend, c)
	c.backend, c.failure = nil, nil
	x.forwarded, x.upload, x.responding, x.complete, x.heard = false, nothing, false, false, false
	c.log.Again()
	return true
}

// Finish is step 10: it keeps both connections if they can carry another request, and
// closes them otherwise. A client whose request failed is told so, if its answer has
// not begun. It reports whether the client's connection goes on.
func (c *Conn) Finish() bool {
	c.ending = true
	for {
		switch c.final {
		case finishing:
			c.endRequest()
			c.final = telling
		case telling:
			if !c.told() {
				return false
			}
			if ok, next := c.mayStay(); ok {
				c.nextRequest()
				return true
			} else if c.final = next; next == finishing {
				c.close()
				return false
			}
		case draining:
			if !c.drain() {
				return false
			}
		case lingering:
			c.linger()
			return false
		}
	}
}

// endRequest ends what is still under way, and begins to tell the client what failed.
func (c *Conn) endRequest() {
	if x := c.x; x != nil {
		x.upload = nothing
		x.up.dropPipe()
		x.down.dropPipe()
	}
	if b := c.backend; b != nil && b.connecting {
		c.loop.pool.discard(b)
	} else if b != nil {
		c.loop.pool.put(b, c)
	}
	c.backend = nil
	c.client.by(0)
	e, x := asError(c.failure), c.x
	if e == nil || e.Status == 0 || x != nil && x.answered != 0 {
		return
	}
	if x == nil { // it was silent
		c.x = c.loop.free.exchange()
		x = c.x
	}
	h := c.hop()
	h.Date = c.loop.today()
	if e.Status == 408 || e.Status == 500 {
		h.Connection = "close"
	}
	x.answered, x.closing, x.marked = e.Status, h.Connection == "close", true
	_, err := c.client.write(http1.AppendPage(c.loop.out[:0], e.Status, e.Reason, x.head, h))
	x.whole = err == nil
}

// told reports whether the error page has been sent, or cannot be.
func (c *Conn) told() bool {
	x := c.x
	if x == nil {
		return true
	}
	if x.whole {
		switch err := c.client.flush(c.loop.settings.Idle); err {
		case nil:
		case errWait:
			return false
		default:
			x.whole = false
		}
	}
	end := narrate.Event{Status: x.answered, Bytes: c.client.sent - c.before,
		Failed: forward.Failed(c.failure)}
	if c.failure != nil && c.log.On() {
		end.Err, end.Fault = c.failure.Error(), forward.Fault(c.failure)
	}
	c.log.End(end)
	return true
}

// mayStay reports whether the client's connection can carry another request (RFC 9112,
// section 9.3), and if not, what is done instead; finishing: nothing but close.
func (c *Conn) mayStay() (ok bool, next finalStep) {
	x, reason := c.x, ""
	switch {
	case !c.begun:
		reason = "it sent no request"
	case x.refused || !x.parsed:
		reason = "its request was malformed"
	case x.request.Close:
		reason = "it said close"
	case x.request.Minor == 0 && !x.request.KeepAlive:
		reason = "it speaks HTTP/1.0, and did not ask to be kept"
	case x.answered == 101:
		reason = "it speaks another protocol now"
	case !x.whole:
		reason = "its answer is not complete"
	case !x.marked:
		reason = "its answer ends with the connection"
	case x.closing && c.loop.settings.Keep.Last(c.requests-1, c.loop.nano-c.since):
		reason = keep.ReasonLast
	case x.closing:
		reason = "it was told close"
	case !x.read && c.final != draining && c.mayDrain():
		x.up.dst, x.up.drops = &c.client, true
		x.up.limit, x.up.idle = x.up.total+keep.DrainMost, 0
		c.client.within(keep.DrainWithin)
		return false, draining
	case !x.read:
		reason = "its request's body was not read to the end"
	default:
		return true, 0
	}
	c.log.Pool("", narrate.Closed, reason)
	if c.unread() {
		c.client.closeWrite()
		c.client.by(0)
		c.until = c.loop.nano + forward.LingerTotal
		return false, lingering
	}
	return false, finishing
}

// mayDrain reports whether the rest of the request's body is worth reading.
func (c *Conn) mayDrain() bool {
	x := c.x // after Expect, the body may come or not
	return x.up.left <= keep.DrainMost && x.request.Get("Expect") == nil && !x.up.lost
}

// drain reads what is left of the request's body, up to where the next request begins.
func (c *Conn) drain() bool {
	err := c.x.up.run()
	if err == errWait {
		return false
	}
	c.x.read = err == nil
	c.final = telling
	if err != nil {
		c.x.up.lost = true
	}
	return true
}

// nextRequest makes the connection ready for another request.
func (c *Conn) nextRequest() {
	c.endExchange()
	c.begun, c.ending, c.given, c.final, c.failure = false, false, false, finishing, nil
	c.client.by(0)
	c.client.rest()
}

// endExchange gives back what the request in hand needed.
func (c *Conn) endExchange() {
	if c.x != nil {
		c.loop.free.giveBackExchange(c.x)
		c.x = nil
	}
}

// unread reports whether the client may have sent, or be sending, something that was
// not read.
func (c *Conn) unread() bool {
	e, x := asError(c.failure), c.x
	switch {
	case e != nil && (e.Status == 0 || e.Answered):
		return false // it is gone, or is to see that something broke
	case e != nil && e.Status == 408:
		// It is silent. But behind its request there may be another, and then FIN.
		return c.client.readable && c.client.ended
	case x == nil || !x.parsed:
		return c.failure != nil
	}
	if !c.client.readable {
		c.client.look()
	}
	return len(c.client.held()) > 0 || c.client.readable || !x.read
}

// linger reads what still comes, for a while. Closing at once would make the kernel
// answer the client's bytes with RST, which can destroy the response before the client
// has read it (RFC 9112, section 9.6).
func (c *Conn) linger() {
	l, s := c.loop, &c.client
	pause := forward.LingerPause
	if !c.x.parsed {
		pause = forward.RefusePause
	}
	for {
		n, err := s.read(l.in[:], pause)
		switch {
		case n > 0 && l.nano < c.until && !l.stop.Load():
		case err == errWait && !l.stop.Load():
			if s.readBy > c.until {
				s.by(c.until)
			}
			return
		default:
			c.close()
			return
		}
	}
}

// close closes the client's connection.
func (c *Conn) close() {
	l, status := c.loop, 0
	if c.client.fd < 0 {
		return
	}
	l.waiting.remove(c)
	if b := c.backend; b != nil {
		l.pool.discard(b)
		c.backend = nil
	}
	if c.x != nil {
		status = c.x.answered
		c.x.up.dropPipe()
		c.x.down.dropPipe()
		c.endExchange()
	}
	c.client.close()
	l.pool.leave(c)
	c.log.Close(c.failure, forward.Failed(c.failure), status)
	l.left()
}
