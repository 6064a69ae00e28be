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
	"fmt"
	"math"
	"time"

	"reverseproxy/ch2_basic_proxy/forward"
	"reverseproxy/ch4_threaded/workers"
	"reverseproxy/internal/cli"
	"reverseproxy/internal/narrate"
)

// What is done for a client that has not sent its request's body to the end.
const (
	drainMost   = 64 << 10        // bytes of it that are read all the same
	drainWithin = 1 * time.Second // and how long is waited for them
)

// Reuse says which connections a request may go over (HAProxy: http-reuse).
type Reuse string

// The ways, from the most careful to the most economical.
const (
	Never      Reuse = "never"      // those of the same client
	Safe       Reuse = "safe"       // also others', but not for a client's first request
	Aggressive Reuse = "aggressive" // for that, too, if they have been reused before
	Always     Reuse = "always"     // any
)

// Flags registers the flags of a Pool, with nginx's and HAProxy's words, and
// returns the Pool that they set. The slots are those that its clients have.
func Flags(app *cli.App, slots *workers.Slots) *Pool {
	p := &Pool{app: app, slots: slots, reuse: Safe}
	p.last = p.clients.wanted.Load
	fs := app.Flags
	fs.IntVar(&p.size, "keepalive", 256,
		"most idle `connections` kept for each backend; 0 keeps none")
	app.CountVar(&p.requests, "keepalive-requests", 1000,
		"most `requests` on a connection, on either side")
	fs.DurationVar(&p.timeout, "keepalive-timeout", 60*time.Second,
		"`time` a connection may be idle, on either side")
	fs.DurationVar(&p.age, "keepalive-time", time.Hour,
		"`age` at which a connection takes no more requests, on either side")
	fs.Func("reuse", "`whose` idle connections a request may go over: "+
		"never, safe, aggressive, always (default safe)", p.setReuse)
	app.Check(p.check)
	app.OnStop(p.Close)
	app.AtEnd(p.Tally)
	return p
}

func (p *Pool) setReuse(s string) error {
	switch p.reuse = Reuse(s); p.reuse {
	case Never, Safe, Aggressive, Always:
		return nil
	}
	return fmt.Errorf("it must be never, safe, aggressive or always")
}

func (p *Pool) check() error {
	switch {
	case p.size < 0:
		return fmt.Errorf("-keepalive must not be negative")
	case p.timeout <= 0:
		return fmt.Errorf("-keepalive-timeout must be more than 0, such as 60s")
	case p.age <= 0:
		return fmt.Errorf("-keepalive-time must be more than 0, such as 1h")
	}
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
		ok, reason := c.Next(p.timeout)
		p.clients.end(c)
		if !ok {
			log.Pool("", narrate.Closed, reason)
			return false
		}
	}
	c.Connection, c.Last = "", p.last
	if c.Requests+1 >= p.requests || time.Since(c.Since) > p.age {
		c.Connection = "close" // the client is told with the answer
	}
	return true
}

// mayStay returns why a client's connection cannot carry another request, or "".
func (p *Pool) mayStay(c *forward.Client) string {
	if c.Connection == "close" {
		return "it has carried its last request (-keepalive-requests, -keepalive-time)"
	}
	_, reason := c.Reusable()
	if reason == forward.Unread && c.Drain(drainMost, drainWithin) {
		return ""
	}
	return reason
}
