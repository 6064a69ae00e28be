//go:build linux

package loop

import (
	"math"
	"slices"
	"sync/atomic"

	"reverseproxy/ch2_basic_proxy/forward"
	"reverseproxy/ch6_keep_alive/keep"
	"reverseproxy/internal/narrate"
)

// pool keeps idle connections to backends, as ch6's does, by the same rules. For each
// backend they lie on a stack: the one used last is taken first. When something
// happens on an idle one, the loop closes it: that is its end, or something unasked.
type pool struct {
	loop   *Loop
	idle   map[string][]*backend // by address; the last is the one used last
	open   int                   // connections, idle or not
	closed bool
	fresh  atomic.Int64 // connections made
	reused atomic.Int64 // requests that went over one of them again
}

// take takes the idle connection that was used last off the stack, of those that the
// client's request may go over; nil if there is none. After a try that failed there is
// none: the others may be as dead.
func (p *pool) take(addr string, c *Conn) *backend {
	limits := p.loop.settings.Keep
	if c.x.tries > 0 || !limits.MayShare(c.requests, math.MaxInt, true) {
		return nil
	}
	for i := len(p.idle[addr]) - 1; i >= 0; i-- {
		b := p.idle[addr][i]
		if !limits.MayShare(c.requests, b.requests, b.owner == c) {
			continue
		}
		if !c.x.read || !keep.Idempotent(c.x.request.Method) { // it could not be sent again
			b.look()
		}
		if p.usable(b) {
			p.idle[addr] = slices.Delete(p.idle[addr], i, i+1)
			p.reused.Add(1)
			b.conn, b.owner = c, c
			return b
		}
	}
	return nil
}

// put keeps a connection if it can carry another request and there is room for it,
// and closes it otherwise.
func (p *pool) put(b *backend, c *Conn) {
	ok, reason := c.reusable(b)
	if ok {
		reason = p.keep(b, c)
	}
	if reason == "" && ok {
		c.log.Pool(b.addr, narrate.Kept, "")
		return
	}
	p.discard(b)
	c.log.Pool(b.addr, narrate.Closed, reason)
}

// keep puts it on its backend's stack, or says why not.
func (p *pool) keep(b *backend, c *Conn) (reason string) {
	l := p.loop
	limits := l.settings.Keep
	hint, said := forward.IdleTimeout(&c.x.response)
	until, reason := limits.Until(l.now, l.start.Add(b.since), b.requests, hint, said)
	switch {
	case reason != "":
		return reason
	case p.closed:
		return "the proxy ends"
	case len(p.idle[b.addr]) >= limits.Size:
		return "enough are idle (-keepalive)"
	}
	b.conn = nil
	if b.readable { // the last read did not see the end of what was there
		l.turn = max(l.turn, 0) + 1
		if err := b.fill(0); err != errWait {
			return "it sent more than its response, or has closed"
		}
	}
	b.r, b.w = 0, 0
	b.rest()
	b.by(l.nano + until.Sub(l.now))
	if p.idle == nil {
		p.idle = map[string][]*backend{}
	}
	p.idle[b.addr] = append(p.idle[b.addr], b)
	return ""
}

// usable reports whether an idle connection can still be used, and drops it otherwise.
func (p *pool) usable(b *backend) bool {
	switch {
	case b.readable:
		p.drop(b, "the backend has closed it, or sent something unasked")
	case b.late():
		p.drop(b, "its time was over")
	default:
		return true
	}
	return false
}

// drop closes an idle connection, and says why.
func (p *pool) drop(b *backend, why string) {
	if i := slices.Index(p.idle[b.addr], b); i >= 0 {
		p.idle[b.addr] = slices.Delete(p.idle[b.addr], i, i+1)
	}
	p.discard(b)
	if p.loop.log.Level() == narrate.All {
		p.loop.log.Emit(narrate.Event{Kind: narrate.KindPool, Name: "pool", Peer: b.addr,
			State: narrate.Dropped, Text: why})
	}
}

// discard closes a connection that is not in the pool.
func (p *pool) discard(b *backend) {
	b.socket.close()
	p.open--
}

// fit makes room for a connection that has been made, if that takes more descriptors
// than there are.
func (p *pool) fit() {
	for p.loop.clients+p.open > p.loop.room && p.oldest() {
	}
}

// oldest closes the connection that has been idle longest: its descriptor is needed. It
// returns false if none is idle.
func (p *pool) oldest() bool {
	var oldest *backend
	for _, all := range p.idle {
		if len(all) > 0 && (oldest == nil || all[0].readBy < oldest.readBy) {
			oldest = all[0]
		}
	}
	if oldest != nil {
		p.drop(oldest, "its descriptor was needed")
	}
	return oldest != nil
}

// leave closes the connections that only this client could have had.
func (p *pool) leave(c *Conn) {
	if p.loop.settings.Keep.Reuse != keep.Never {
		return
	}
	for _, all := range p.idle {
		for _, b := range slices.Clone(all) {
			if b.owner == c {
				p.drop(b, "its client has left")
			}
		}
	}
}

// close closes all idle connections, and lets none be kept any more.
func (p *pool) close() {
	p.closed = true
	for _, all := range p.idle {
		for _, b := range slices.Clone(all) {
			p.drop(b, "the proxy ends")
		}
	}
}
