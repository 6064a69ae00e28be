// Package keep keeps connections for more than one request: a client's for its
// next one, a backend's, in a pool, for anybody's.
//
// A connection is worth keeping: it saves a handshake on each side, and the
// memory and the ports of the one before. It may be kept only if both ends agree
// on where the message before ended; otherwise an answer reaches somebody it is
// not for. Package forward says of a connection whether that is so; this package
// decides what becomes of it, and says why.
package keep

import (
	"math"
	"time"

	"reverseproxy/ch2_basic_proxy/forward"
	"reverseproxy/ch4_threaded/workers"
	"reverseproxy/internal/cli"
	"reverseproxy/internal/narrate"
)

// What is done for a client that has not sent its request's body to the end.
const (
	DrainMost   = 64 << 10        // bytes of it that are read all the same
	DrainWithin = 1 * time.Second // and how long is waited for them
)

// Flags registers the flags of a Pool and returns the Pool that they set. The slots
// are those that its clients have.
func Flags(app *cli.App, slots *workers.Slots) *Pool {
	p := &Pool{Limits: LimitFlags(app), app: app, slots: slots}
	p.last = p.clients.wanted.Load
	app.Check(p.check)
	app.OnStop(p.Close)
	app.AtEnd(p.Tally)
	return p
}

func (p *Pool) check() error {
	p.most = p.app.FitDescriptors(math.MaxInt, 2) // as many as clients
	return nil
}

// Next reports whether a client's connection carries another request: it is
// fresh, or the client may and does send one. Its first request is waited for by
// step 5, every other here, in silence.
func (p *Pool) Next(c *forward.Client, log *narrate.Conn) bool {
	if c.Requests > 0 {
		if reason := p.mayStay(c); reason != "" {
			log.Pool("", narrate.Closed, reason)
			return false
		}
		p.clients.begin(c)
		ok, reason := c.Next(p.Timeout)
		p.clients.end(c)
		if !ok {
			log.Pool("", narrate.Closed, reason)
			return false
		}
	}
	c.Connection, c.Last = "", p.last
	if p.Last(c.Requests, time.Since(c.Since)) {
		c.Connection = "close" // the client is told with the answer
	}
	return true
}

// mayStay returns why a client's connection cannot carry another request, or "".
func (p *Pool) mayStay(c *forward.Client) string {
	if c.Connection == "close" {
		return ReasonLast
	}
	_, reason := c.Reusable()
	if reason == forward.Unread && c.Drain(DrainMost, DrainWithin) {
		return ""
	}
	return reason
}
