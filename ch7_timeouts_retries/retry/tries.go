package retry

import (
	"errors"
	"fmt"
	"net/http"
	"slices"

	"reverseproxy/ch2_basic_proxy/forward"
	"reverseproxy/ch5_load_balancer/balance"
	"reverseproxy/ch6_keep_alive/keep"
	"reverseproxy/internal/narrate"
)

// Chooser chooses the backend of each try, where it is not simply the next one.
type Chooser interface {
	// Choose returns the address of a backend for one more try of a request, none
	// of those that have been tried; or ErrNone.
	Choose(r *forward.Request, tried []string) (addr string, err error)
	// Release is called when the try is over.
	Release(addr string)
}

// ErrNone is the error of a Chooser that has no backend for another try.
var ErrNone = errors.New("no other backend is left")

// Tries are the tries of one request, one after the other.
type Tries struct {
	Addr string // the backend of the one in hand, host:port

	policy  *Policy
	request *forward.Request
	log     *narrate.Conn
	clock   *clock
	next    string   // the backend of the next one, once it is chosen
	from    Chooser  // nil: the next one in the list
	none    error    // why it found no backend
	tried   []string // backends
	further int      // tries after one that a backend may have seen
	refused bool     // Answer wants another one
	failed  bool     // the answer that the client gets is a failure
}

// Begin begins the tries of a request, and its clock. The first goes to the
// backend whose turn it is.
func (p *Policy) Begin(r *forward.Request, turns *balance.RoundRobin, log *narrate.Conn) *Tries {
	t := p.BeginWith(r, nil, log)
	t.next = turns.Next()
	return t
}

// BeginWith is Begin, with the backends that from chooses.
func (p *Policy) BeginWith(r *forward.Request, from Chooser, log *narrate.Conn) *Tries {
	if p.retries > 0 {
		r.Keep(mostBody)
	}
	return &Tries{policy: p, request: r, log: log, clock: p.start(r), from: from}
}

// End ends the last try, and stops the request's clock. If no backend could be
// found for it, that is its failure.
func (t *Tries) End(failure *error) {
	t.clock.stop()
	t.release()
	if t.none != nil {
		*failure = t.none
	}
}

func (t *Tries) release() {
	if t.from != nil && t.Addr != "" {
		t.from.Release(t.Addr)
		t.Addr = ""
	}
}

// Next reports whether there is a try to make: the first one, or one more after a
// try that failed with err. Addr is its backend.
func (t *Tries) Next(err error) bool {
	var e *forward.Error
	switch {
	case len(t.tried) == 0 && t.next == "":
		if t.none = t.choose(); t.none != nil {
			return false
		}
	case len(t.tried) == 0:
	case err == nil:
		if !t.failed {
			t.policy.budget.Success()
		}
		return false
	case t.refused: // Answer has decided
		t.refused = false
	case !errors.As(err, &e) || e.By != forward.ByBackend:
		return false // another backend would not help
	case !t.may(e, t.policy.on[kind(e)], false):
		return false
	}
	t.release()
	t.Addr = t.next
	t.tried = append(t.tried, t.Addr)
	t.log.Route(t.Addr)
	return true
}

// Answer returns nil if the response is to go to the client. Otherwise it counts
// as a failure (-retry-on 503), and another try will be made.
func (t *Tries) Answer(r *forward.Response) error {
	if r.Status == http.StatusSwitchingProtocols {
		t.clock.stop() // a tunnel lives as long as its ends want
	}
	if !t.policy.answers[r.Status] {
		return nil
	}
	err := &forward.Error{Status: r.Status, By: forward.ByBackend, Sent: true,
		Reason: fmt.Sprintf("the backend answered %d", r.Status)}
	if t.may(err, true, r.Get("Retry-After") != nil) {
		t.refused = true
		return err
	}
	t.failed = true
	return nil
}

// kind is what went wrong with a try, in -retry-on's words; "" is something else,
// such as an answer that is malformed.
func kind(e *forward.Error) string {
	switch {
	case !e.Sent:
		return Connect
	case e.Broken:
		return Broken
	case e.Status == http.StatusGatewayTimeout:
		return Timeout
	}
	return ""
}

// may reports whether another try is made after one that failed with e, and has
// chosen its backend then. Named says that -retry-on names the failure, later that
// the backend asked to come again later.
//
// What no backend can have seen may go to the next one, and costs nothing. What
// one may have seen is repeated only if doing it twice is as good as doing it
// once, and only within -retries and the budget.
func (t *Tries) may(e *forward.Error, named, later bool) bool {
	affordable := true
	if e.Sent && named && !e.Answered {
		affordable = t.policy.budget.Failure()
	}
	whole, gone := t.request.Again()
	why := ""
	switch {
	case e.Answered:
		why = "the client has a part of the answer"
	case !named:
		why = "-retry-on does not name this failure"
	case !whole:
		why = gone
	case e.Sent && !keep.Idempotent(t.request):
		why = string(t.request.Method) + " must not be done twice"
	case e.Sent && later:
		why = "the backend said when to come again (Retry-After)"
	case e.Sent && t.further >= t.policy.retries:
		why = "-retries allows no more"
	case !affordable:
		why = "too many tries have failed (-retry-budget)"
	}
	if why == "" {
		if !e.Sent {
			t.release() // it has not begun anything
		}
		switch err := t.choose(); {
		case err == nil:
		case err != ErrNone:
			why, t.none = "no other backend came free", err
		default:
			why = ErrNone.Error()
			if t.from != nil && !e.Sent {
				t.none = &forward.Error{Status: http.StatusServiceUnavailable, Err: e.Err,
					Reason: "no backend is left: " + e.Reason, By: forward.ByBackend}
			}
		}
	}
	if why != "" {
		t.log.Tried(false, why)
		return false
	}
	if e.Sent {
		t.further++
	}
	t.log.Tried(true, "the next one goes to "+t.next)
	t.log.Again()
	return true
}

// choose chooses the backend of the next try.
func (t *Tries) choose() (err error) {
	if t.from != nil {
		t.next, err = t.from.Choose(t.request, t.tried)
		return err
	}
	if t.next = t.untried(); t.next == "" {
		return ErrNone
	}
	return nil
}

// untried returns the next backend in the list that has not been tried, or "".
func (t *Tries) untried() string {
	all := t.policy.app.Backends
	i := slices.Index(all, t.Addr)
	for n := 1; n < len(all); n++ {
		if addr := all[(i+n)%len(all)]; !slices.Contains(t.tried, addr) {
			return addr
		}
	}
	return ""
}
