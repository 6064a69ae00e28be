//go:build linux

package loop

import (
	"bytes"
	"io"

	"reverseproxy/ch2_basic_proxy/forward"
	"reverseproxy/ch2_basic_proxy/http1"
	"reverseproxy/internal/narrate"
)

// ReadRequest is step 5: it reads a request's header from the client and refuses what
// must not be forwarded. Before a client's further requests it waits in silence.
func (c *Conn) ReadRequest() bool {
	if !c.begun && !c.firstByte() {
		return false
	}
	x, s := c.x, &c.client
	head, err := s.header(http1.RefuseRequest)
	if err == errWait {
		return false
	}
	x.head = bytes.HasPrefix(s.in[max(s.r-len(head), 0):s.w], []byte("HEAD "))
	if err == nil {
		err = x.request.Parse(head)
	}
	if x.refused = err != nil; err != nil {
		return c.tellRequest(forward.RequestError(err))
	}
	s.by(0)
	x.parsed = true
	r := &x.request
	if r.Framing == http1.Length {
		held := s.held()
		x.body = held[:min(r.Length, int64(len(held)))]
		s.r += len(x.body)
	}
	x.up = transfer{src: s, message: &r.Message, out: r.Framing,
		left: r.Length - int64(len(x.body)), limit: c.loop.settings.MaxBody,
		idle: c.loop.settings.Idle}
	x.read = r.Framing != http1.Chunked && x.up.left == 0
	return c.tellRequest(forward.Refused(r, c.loop.settings.MaxBody))
}

// firstByte reports whether a request has begun.
func (c *Conn) firstByte() bool {
	s := &c.client
	for {
		if c.requests > 0 { // empty lines, which some send behind a body, begin none
			s.r += http1.Blank(s.held())
		}
		if len(s.held()) > 0 {
			break
		}
		err := s.fill(0)
		if err == nil {
			continue
		}
		s.r, s.w = 0, 0
		s.rest()
		switch {
		case err == errWait:
			c.wait()
		case c.requests > 0:
			c.leave(err)
		case err == errLate && !c.loop.stop.Load():
			c.tellRequest(forward.RequestError(err))
		default:
			c.tellRequest(errNoRequest)
		}
		return false
	}
	c.loop.waiting.remove(c)
	c.begun = true
	c.requests++
	c.before = s.sent
	c.x = c.loop.free.exchange()
	c.log.Begin()
	if c.requests > 1 {
		s.within(c.loop.settings.Request)
	} else { // the time for it runs since then; Stop may have shortened it
		s.by(c.since + c.loop.settings.Request)
	}
	return true
}

// wait begins the wait for a client's next request, unless it has begun.
func (c *Conn) wait() {
	l := c.loop
	if c.requests == 0 || c.waits {
		return
	}
	l.waiting.add(c)
	l.roomMade()
	c.log.Idle(true)
	switch {
	case l.stop.Load():
		c.client.within(stopGrace)
	case l.wanted:
		l.wanted = false
		c.unwanted = true
		c.client.within(1) // as good as now; but not while it is being served
	default:
		c.client.within(l.settings.Keep.Timeout)
	}
}

// leave ends the wait for a client's next request: none will come.
func (c *Conn) leave(err error) {
	reason := "it left"
	switch {
	case c.unwanted:
		reason = "its place was needed"
	case c.loop.stop.Load():
		reason = "the proxy ends"
	case err == errLate:
		reason = "it was idle too long"
	}
	c.log.Pool("", narrate.Closed, reason)
	c.close()
}

// tellRequest narrates step 5, and reports whether that is done.
func (c *Conn) tellRequest(err error) bool {
	e := narrate.Event{Calls: c.loop.use.readCall()}
	if err != nil {
		return c.stepFailed(narrate.ReadRequest, err, e)
	}
	if c.log.On() {
		r := &c.x.request
		e.Bytes, e.Text = int64(r.Size), string(r.Method)+" "+string(r.Target)
		c.log.Step(narrate.ReadRequest, e)
	}
	return true
}

// Connect is step 6: it takes an idle connection to the backend at addr (host:port),
// or makes one, which takes the time that the backend's kernel takes to answer.
func (c *Conn) Connect() bool {
	l := c.loop
	if c.backend == nil {
		if b := l.pool.take(c.route, c); b != nil {
			c.backend = b
			c.log.Step(narrate.Connect, narrate.Event{Peer: b.addr, Reused: true})
			return true
		}
		c.beginWatch()
		c.backend = l.newBackend(c.route, c)
	}
	b := c.backend
	err := b.connect()
	if err == errWait {
		return false
	}
	e := narrate.Event{Calls: "socket, connect", Peer: b.addr}
	if err != nil {
		failure := c.failed(forward.ConnectError(err, b.addr))
		l.pool.discard(b)
		c.backend = nil
		return c.stepFailed(narrate.Connect, failure, e)
	}
	l.pool.fresh.Add(1)
	c.log.Step(narrate.Connect, e)
	return true
}

// WriteRequest is step 7: it writes the request's header to the backend, with as much
// of the body as is there. A write that fails is no error yet: the answer may be there
// already, and step 8 tells.
func (c *Conn) WriteRequest() bool {
	l, b, x := c.loop, c.backend, c.x
	r := &x.request
	if !x.forwarded {
		x.forwarded = true
		x.tries++
		b.begin()
		hop := http1.Hop{Via: l.settings.Name, For: c.address()}
		if l.settings.Keep.Size == 0 {
			hop.Connection = "close"
		}
		if r.Host == nil {
			hop.Host = forward.HostOf(b.addr)
		}
		_, b.unsent = b.write(append(r.Append(l.out[:0], hop), x.body...))
	}
	if b.unsent == nil {
		switch err := b.flush(l.settings.Idle); err {
		case nil:
		case errWait:
			b.sendAtOnce()
			return false
		case errLate:
			return c.stepFailed(narrate.ForwardRequest, c.failed(forward.ErrNotTaken),
				narrate.Event{Calls: c.loop.use.writeCall(), Bytes: b.sent})
		default:
			b.unsent = err
		}
	}
	c.log.Step(narrate.ForwardRequest, narrate.Event{Calls: c.loop.use.writeCall(), Bytes: b.sent})
	x.began = l.nano
	if b.unsent == nil && !x.read {
		x.up.dst, x.owed, x.upload = &b.socket, true, sending
		b.sendAtOnce()
		b.by(0)
		return true
	}
	c.beginWatch()
	c.await(b.unsent == nil)
	return true
}

// ReadResponse is step 8: it reads the header of the backend's response. Interim
// responses (100 Continue, 103 Early Hints) are passed on as they come.
func (c *Conn) ReadResponse() bool {
	b := c.backend
	if !c.x.heard {
		if c.x.err = c.readResponse(); c.x.err == errWait {
			return false
		}
		c.x.heard = true
		c.log.Happened()
	}
	if c.resting() {
		return false // slow motion: it is told later
	}
	err := c.x.err
	e := narrate.Event{Calls: c.loop.use.readCall()}
	if err != nil {
		if b.unsent != nil && !b.heard {
			err = b.unsent
		}
		return c.stepFailed(narrate.ReadResponse, c.failed(forward.ResponseError(err)), e)
	}
	if c.log.On() {
		r := &c.x.response
		e.Bytes, e.Status, e.Text = int64(r.Size), r.Status, string(r.Reason)
		c.log.Step(narrate.ReadResponse, e)
	}
	return true
}

func (c *Conn) readResponse() error {
	b, x, l := c.backend, c.x, c.loop
	r := &x.response
	for {
		if err := c.client.flush(l.settings.Idle); err == errWait {
			return err // an interim response comes before all else
		} else if err != nil {
			x.answered = r.Status
			return forward.ClientGone(err)
		}
		if len(b.held()) == 0 {
			if err := b.fill(0); err != nil {
				return err
			}
		}
		b.heard = true
		c.begins(true)
		head, err := b.header(http1.RefuseResponse)
		if err != nil {
			return err
		}
		if err := r.Parse(head, string(x.request.Method)); err != nil {
			return err
		}
		if !r.Interim() {
			break
		}
		x.interims++
		if err := forward.TooManyInterim(x.interims, l.nano-x.began); err != nil {
			return err
		}
		c.begins(false)
		b.ackAtOnce() // of what follows
		if x.request.Minor == 0 {
			continue // HTTP/1.0 knows no interim responses
		}
		if _, err := c.client.write(r.Append(l.out[:0], http1.NoBody, c.hop())); err != nil {
			x.answered = r.Status // a part of it, and nothing can follow that
			return forward.ClientGone(err)
		}
	}
	switch {
	case r.Status == 408 && r.Close && b.requests > 1 && x.complete:
		// It had given the idle connection up, and said so (RFC 9110, section
		// 15.5.9): that is not an answer to this request, which came whole.
		b.heard = false
		return io.EOF
	case r.Status == 101 && !r.Switches(&x.request):
		return forward.ErrUnasked
	}
	b.by(0)
	return nil
}

// begins notes that a response has begun or, after an interim one, that the next is
// awaited.
func (c *Conn) begins(responding bool) {
	x := c.x
	if x.responding == responding {
		return
	}
	x.responding = responding
	switch {
	case x.complete && responding:
		// The server timeout runs already, and for the whole header.
	case x.complete || responding:
		c.backend.within(c.loop.settings.Server)
	default:
		c.backend.by(0) // the request is still being sent
	}
}

// WriteResponse is step 9: it writes the response to the client, header and body, as
// it comes from the backend. After 101 it carries both directions until they end.
func (c *Conn) WriteResponse() bool {
	x := c.x
	if !x.sending {
		x.sending = true
		if err := c.writeHeader(); err != nil {
			return c.responseFailed(forward.ClientGone(err))
		}
	}
	if c.tunnels {
		return c.tunnel()
	}
	switch err := x.down.run(); {
	case err == errWait:
		return false
	case err != nil && x.down.writes:
		return c.responseFailed(forward.ClientGone(err))
	case err != nil:
		return c.responseFailed(forward.BodyError(err))
	}
	if !x.marked {
		c.client.setReset(false)
	}
	c.responded()
	return true
}

// writeHeader writes the response's header, with what is here of the body.
func (c *Conn) writeHeader() error {
	x, b, l := c.x, c.backend, c.loop
	r, q := &x.response, &x.request
	x.down = transfer{src: &b.socket, dst: &c.client, message: &r.Message, left: r.Length,
		out: r.Framing, idle: l.settings.Idle}
	switch {
	case q.Minor == 0 && r.Framing == http1.Chunked:
		x.down.out = http1.UntilClose // HTTP/1.0 knows no chunks
	case q.Minor == 1 && r.Framing == http1.UntilClose:
		x.down.out = http1.Chunked // so that a body cut short does not look complete
	}
	x.answered, x.marked = r.Status, x.down.out != http1.UntilClose
	h := c.hop()
	if !x.marked {
		h.Connection = "close"
		// The client takes the connection's end for the body's. Until that is whole,
		// any end is a reset, even that of this process.
		c.client.setReset(true)
	}
	x.closing = h.Connection == "close"
	if !r.Dated() {
		h.Date = l.today()
	}
	head := r.Append(l.out[:0], x.down.out, h)
	if r.Framing == http1.Length && l.use.Join {
		part := b.held()[:min(int64(len(b.held())), r.Length)]
		head = append(head, part...)
		b.r += len(part)
		x.down.left -= int64(len(part))
	}
	if r.Status == 101 {
		c.beginTunnel()
	}
	// If nothing but the connection's end follows, and at once, which is not so in slow motion,
	// it goes in the same packet.
	whole := x.down.out == http1.NoBody || x.down.out == http1.Length && x.down.left == 0
	c.client.last = l.use.Piggyback && whole && x.closing && x.read && l.log.Pause() == 0
	_, err := c.client.write(head)
	return err
}

// responded notes that the response has been written to its end.
func (c *Conn) responded() {
	x := c.x
	x.whole, c.backend.whole = true, true
	c.log.Step(narrate.SendResponse, narrate.Event{Calls: c.loop.use.writeCall(),
		Bytes: c.client.sent - c.before, Status: x.response.Status})
}

func (c *Conn) responseFailed(err *forward.Error) bool {
	return c.stepFailed(narrate.SendResponse, c.failed(err),
		narrate.Event{Calls: c.loop.use.writeCall(), Bytes: c.client.sent - c.before,
			Status: c.x.response.Status})
}
