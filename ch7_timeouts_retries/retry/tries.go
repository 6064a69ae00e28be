package retry

import (
	"errors"
	"fmt"
	"net/http"

	"reverseproxy/ch2_basic_proxy/forward"
	"reverseproxy/ch6_keep_alive/keep"
	"reverseproxy/internal/narrate"
)

// Tries are the tries of one request, one after the other.
type Tries struct {
	Addr string // the backend of the one in hand, host:port

	policy  *Policy
	request *forward.Request
	log     *narrate.Conn
	clock   *clock
	from    Chooser
	next    string   // what that has chosen for the next one
	none    error    // why it had nothing to choose
	tried   []string // backends
	further int      // tries after one that a backend may have seen
	refused bool     // Answer wants another one
	failed  bool     // the answer that the client gets is a failure
}

// Begin begins the tries of a request, and its clock.
func (p *Policy) Begin(r *forward.Request, from Chooser, log *narrate.Conn) *Tries {
	if p.retries > 0 {
		r.Keep(mostBody)
	}
	return &Tries{policy: p, request: r, log: log, clock: p.start(r), from: from}
}

// End ends the last try, and stops the request's clock. If there was no backend
// for it, that is its failure.
func (t *Tries) End(failure *error) {
	t.clock.stop()
	t.release()
	if t.none != nil {
		*failure = t.none
	}
}

func (t *Tries) release() {
	if t.Addr != "" {
		t.from.Release(t.Addr)
		t.Addr = ""
	}
}

// Next reports whether there is a try to make: the first one, or one more after a
// try that failed with err. Addr is its backend.
func (t *Tries) Next(err error) bool {
	var e *forward.Error
	switch {
	case len(t.tried) == 0:
		if t.next, t.none = t.from.Choose(t.request, nil); t.none != nil {
			return false
		}
	case err == nil:
		if !t.failed {
			t.policy.budget.Success()
		}
		return false
	case t.refused: // Answer has decided
		t.refused = false
		t.release()
	case !errors.As(err, &e) || e.By != forward.ByBackend:
		return false // another backend would not help
	default:
		t.release() // or two requests could wait for each other's backend
		if !t.may(e, t.policy.on[kind(e)], false) {
			return false
		}
	}
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
	case e.Sent && !keep.Idempotent(t.request.Method):
		why = string(t.request.Method) + " must not be done twice"
	case e.Sent && later:
		why = "the backend said when to come again (Retry-After)"
	case e.Sent && t.further >= t.policy.retries:
		why = "-retries allows no more"
	case !affordable:
		why = "too many tries have failed (-retry-budget)"
	}
	if why == "" {
		var none error
		if t.next, none = t.from.Choose(t.request, t.tried); none != nil {
			if why = none.Error(); !e.Sent && none != errNone {
				t.none = none
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
