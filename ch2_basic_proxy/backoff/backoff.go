// Package backoff pauses after a failed accept.
//
// A server that cannot accept, because it has no descriptor left, is told so
// again at once, and again: the client stays in the kernel's queue. A loop that
// only went on would keep a processor busy and fill the log, and would leave
// less time to those whose end gives a descriptor back.
package backoff

import (
	"time"

	"reverseproxy/internal/cli"
)

const (
	first = 5 * time.Millisecond // the first pause; each is twice the one before
	most  = 1 * time.Second      // the longest
)

// Pause is the pause of one loop. Only one goroutine may use it.
type Pause struct {
	app  *cli.App
	next time.Duration
	over time.Time // when the latest pause was over
}

// New returns the Pause of a loop of app.
func New(app *cli.App) *Pause { return &Pause{app: app} }

// After reports a failure and waits: 5 ms at first, then twice as long each
// time, 1 s at most. When the failure before is long past, it begins again with
// 5 ms. Ctrl+C ends the wait.
func (p *Pause) After(err error) {
	p.next = min(2*p.next, most)
	if time.Since(p.over) > 2*most {
		p.next = first
	}
	p.app.Log.Problem("Accept failed: %v; next try in %v", err, p.next)
	select {
	case <-p.app.Stopping():
	case <-time.After(p.next):
	}
	p.over = time.Now()
}
