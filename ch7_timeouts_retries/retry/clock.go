package retry

import (
	"net/http"
	"sync"
	"time"

	"reverseproxy/ch2_basic_proxy/forward"
)

// How a client's pace is judged: it has credit, in seconds. Each second that it is
// waited for costs one; the bytes of -min-rate earn one.
const (
	look  = 1 * time.Second // between two looks
	grace = 5               // seconds of credit at the start
	most  = 35              // the most seconds of credit that bytes can earn
)

// pace is the credit of a client that sends a body, or takes one.
type pace struct {
	credit float64 // seconds
	bytes  int64   // that had passed at the last look
}

// keepsUp looks at a client that has moved so many bytes so far. It reports false
// when it was waited for, and has no credit any more.
func (p *pace) keepsUp(bytes int64, waiting bool, rate int64) bool {
	p.credit = min(p.credit+float64(max(bytes-p.bytes, 0))/float64(rate), most)
	p.bytes = bytes
	if waiting {
		p.credit -= look.Seconds()
	}
	return p.credit >= 0
}

// A clock ends a request that takes too long (-total-timeout), and one whose
// client is too slow (-min-rate). What it asks and tells of the request are
// Request's and Client's methods.
type clock struct {
	uploading, taking func() (bytes int64, waiting bool)
	abandon           func(*forward.Error)
	rate              int64 // bytes a second; 0: any

	mu            sync.Mutex
	up, down      pace
	looks, totals *time.Timer // nil: there is none
	stopped       bool
}

// start starts a request's clock.
func (p *Policy) start(r *forward.Request) *clock {
	c := &clock{uploading: r.Uploading, taking: r.Client.Taking, abandon: r.Abandon, rate: p.rate}
	c.run(p.total)
	return c
}

func (c *clock) run(total time.Duration) {
	c.mu.Lock() // a look may come before this is over
	defer c.mu.Unlock()
	c.up.credit, c.down.credit = grace, grace
	if total > 0 {
		c.totals = time.AfterFunc(total, func() { c.abandon(errTotal) })
	}
	if c.rate > 0 {
		c.looks = time.AfterFunc(look, c.look)
	}
}

var (
	errTotal = &forward.Error{Status: http.StatusGatewayTimeout, By: forward.ByProxy,
		Reason: "no whole answer came within -total-timeout"}
	errSends = &forward.Error{Status: http.StatusRequestTimeout, By: forward.ByClient,
		Reason: "the request's body comes too slowly"}
	errTakes = &forward.Error{By: forward.ByClient,
		Reason: "the client takes its answer too slowly"}
)

// look looks whether the client keeps up, and sees to the next look.
func (c *clock) look() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return
	}
	sent, sends := c.uploading()
	took, takes := c.taking()
	switch {
	case !c.up.keepsUp(sent, sends, c.rate):
		c.abandon(errSends)
	case !c.down.keepsUp(took, takes, c.rate):
		c.abandon(errTakes)
	default:
		c.looks.Reset(look)
	}
}

// stop stops the clock: the request is over.
func (c *clock) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped = true
	for _, t := range []*time.Timer{c.looks, c.totals} {
		if t != nil {
			t.Stop()
		}
	}
}
