package health

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"reverseproxy/ch2_basic_proxy/forward"
)

// Report takes what became of a try at a backend. Only what is the backend's fault
// counts.
func (f *Farm) Report(addr string, r *forward.Request, err error) {
	f.report(addr, r.Status(), err)
}

func (f *Farm) report(addr string, status int, err error) {
	r, why := judge(status, err)
	if r == none {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	b, now := f.find(addr), time.Now()
	name, refuses := b.name(), b.refuses
	eject := b.request(now, r)
	timed := r == slow // a check that passes says nothing of a request that hangs
	if percent, many := b.tooMany(now); !eject && many && f.othersDoBetter(b, percent, now) {
		eject, timed = true, true
		why = fmt.Sprintf("%d %% of its requests in the last %d s failed", percent, lookBack)
	}
	if eject && f.mayEject() {
		b.eject(now, timed, why)
		f.expireLater(b, b.until.Sub(now))
	}
	if b.name() != name || b.refuses != refuses {
		f.update()
	}
}

// mayEject reports whether another backend may be ejected: at most half of them.
func (f *Farm) mayEject() bool {
	n := 1
	for _, b := range f.backends {
		if b.ejected() {
			n++
		}
	}
	return 2*n <= len(f.backends)
}

// othersDoBetter reports whether some other backend has at most half of one's
// percentage of failures. Otherwise it is the requests: a client that asks for
// nothing but failures ejects nobody.
func (f *Farm) othersDoBetter(b *Backend, percent int, now time.Time) bool {
	for _, other := range f.backends {
		p, n := other.recent.ratio(now)
		if other != b && !other.out() && n >= atLeast && 2*p <= percent {
			return true
		}
	}
	return false
}

// expireLater has the end of a backend's ejection noticed, after d.
func (f *Farm) expireLater(b *Backend, d time.Duration) {
	if b.timer != nil {
		b.timer.Stop()
	}
	b.timer = time.AfterFunc(d, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		b.tick(time.Now())
		f.update()
	})
}

// Fault reports whether a try failed, and that is its backend's fault.
func Fault(r *forward.Request, err error) bool {
	result, _ := judge(r.Status(), err)
	return result != none && result != passed
}

// judge says what a request's status and error mean for its backend's health.
func judge(status int, err error) (result, string) {
	failed := status >= http.StatusInternalServerError
	if err == nil && !failed {
		return passed, ""
	}
	var e *forward.Error
	errors.As(err, &e)
	switch {
	case failed && (e == nil || !e.Answered):
		return bad, fmt.Sprintf("status %d", status)
	case e == nil || e.By != forward.ByBackend || e.Stale:
		return none, ""
	case status == http.StatusSwitchingProtocols:
		return none, "" // how a tunnel ends is the matter of the protocol in it
	case e.Unreached:
		return refused, e.Reason
	case e.Status == http.StatusGatewayTimeout:
		return slow, e.Reason
	case e.Broken && e.Owed:
		return none, "" // a backend that waited long enough for the client's body may do so
	case e.Broken, e.Answered:
		return broken, e.Reason
	}
	return none, ""
}
