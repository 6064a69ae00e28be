// Package retry has a request answered by another backend when the first one
// fails, where that is safe, and bounds what it may cost: in tries, in time, and
// in the share of failures after which a retry makes matters worse.
package retry

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"reverseproxy/internal/cli"
)

// What can go wrong with a try, as -retry-on names it. An answer's status, such
// as 503, is one more.
const (
	Connect = "connect" // nothing was written: the backend refused, or cannot be reached
	Broken  = "broken"  // it ended the connection before its response's header was whole
	Timeout = "timeout" // it did not begin its response in time
)

// mostBody is how many bytes of a body are kept for another try.
const mostBody = 64 << 10

// Policy says when a request is tried again. It belongs to the program, Tries to
// one request.
type Policy struct {
	app     *cli.App
	retries int             // -retries
	on      map[string]bool // -retry-on: Connect, Broken, Timeout
	answers map[int]bool    // -retry-on: statuses
	budget  Budget          // -retry-budget
	total   time.Duration   // -total-timeout
	rate    int64           // -min-rate, bytes a second
}

// Flags registers the flags of a Policy and returns the Policy that they set.
func Flags(app *cli.App) *Policy {
	p := &Policy{app: app, on: map[string]bool{Connect: true, Broken: true}}
	p.budget.told = func(level, full float64) { app.Log.Budget(level, full) }
	fs := app.Flags
	fs.IntVar(&p.retries, "retries", 1,
		"most further `tries` of a request that a backend may have seen")
	fs.Func("retry-on", "`failures` after which another backend is tried: connect, broken, "+
		"timeout, 502, 503, 504, or none (default connect,broken)", p.setOn)
	fs.IntVar(&p.budget.full, "retry-budget", 100,
		"`tokens` of the retry budget: a failure takes one, a success gives half "+
			"a one, a retry needs more than half of them; 0 turns it off")
	fs.DurationVar(&p.total, "total-timeout", 0,
		"`time` for all tries of a request together (504 after it); 0 means any")
	fs.Int64Var(&p.rate, "min-rate", 240,
		"least `bytes` a second that a client sends or takes while it is waited for; 0 means any")
	app.Check(p.check)
	return p
}

func (p *Policy) setOn(list string) error {
	p.on, p.answers = map[string]bool{}, map[int]bool{}
	if list == "none" {
		return nil
	}
	for name := range strings.SplitSeq(list, ",") {
		switch name = strings.TrimSpace(name); name {
		case Connect, Broken, Timeout:
			p.on[name] = true
		case "502", "503", "504":
			status, _ := strconv.Atoi(name)
			p.answers[status] = true
		default:
			return fmt.Errorf("it must be none or some of connect, broken, timeout, 502, 503, 504")
		}
	}
	return nil
}

func (p *Policy) check() error {
	switch {
	case p.retries < 0:
		return fmt.Errorf("-retries must not be negative")
	case p.budget.full < 0:
		return fmt.Errorf("-retry-budget must not be negative")
	case p.total < 0:
		return fmt.Errorf("-total-timeout must not be negative")
	case p.rate < 0:
		return fmt.Errorf("-min-rate must not be negative")
	}
	p.budget.level = float64(p.budget.full)
	return nil
}
