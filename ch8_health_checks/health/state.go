package health

import (
	"fmt"
	"time"

	"reverseproxy/internal/narrate"
)

// Bounds of what is made of failures.
const (
	longest  = 5   // an ejection lasts at most so many times -fail-timeout
	floor    = 0.1 // the share with which a backend's slow start begins
	atLeast  = 20  // requests, before their ratio says anything
	lookBack = 10  // seconds over which the ratio is taken
)

// A result is what became of a check or a request, as far as that says something
// of the backend.
type result int

const (
	none    result = iota // it says nothing: the client's failure, or the proxy's
	passed                // an answer
	gone                  // an answer that says: no new requests, please (404 to a check)
	bad                   // an answer with a status that is not wanted
	slow                  // connected, but no answer in time
	broken                // the connection broke
	refused               // no connection came about: nobody seems to listen there
)

// state is what is known of one backend. Its methods take the time, in order.
type state struct {
	*limits

	failed, good int  // checks in a row; one of them is 0
	down         bool // checks have taken it out
	leaving      bool // a check was answered with 404
	drained      bool // somebody wants it drained

	broke int       // failed requests in a row
	until time.Time // it is ejected until then; zero: it is not
	timed bool      // checks do not shorten that
	row   int       // how many times it was ejected in a row
	calm  time.Time // since when nothing has failed

	refuses bool      // the last attempt to connect failed
	back    time.Time // when it came back after a failure; zero: it never was out
	recent  window    // its requests
	cause   string    // of the last change
}

// check takes a check's result, and what is to be said of it.
func (s *state) check(now time.Time, r result, why string) {
	s.tick(now)
	s.refuses = r == refused
	if r != passed && r != gone {
		s.good, s.failed = 0, min(s.failed+1, s.fall)
		s.down = s.down || s.failed == s.fall
		s.cause = fmt.Sprintf("%d of %d checks failed: %s", s.failed, s.fall, why)
		return
	}
	if s.failed > 0 || s.leaving != (r == gone) {
		s.cause = "a check was answered: " + why
	}
	s.failed, s.good, s.leaving = 0, min(s.good+1, s.rise), r == gone
	if !s.out() {
		return
	}
	s.cause = fmt.Sprintf("%d of %d checks passed", s.good, s.rise)
	if s.good == s.rise {
		s.down = false
		if !s.timed {
			s.until = time.Time{}
		}
		s.returned(now)
	}
}

// request takes what became of a request. It reports whether that is reason to eject
// the backend.
func (s *state) request(now time.Time, r result) (eject bool) {
	s.tick(now)
	s.recent.add(now, r != passed)
	switch {
	case r == passed, r == bad:
		s.refuses, s.broke = false, 0
	case r == refused: // that an old connection broke would not say so
		s.refuses = true
	}
	if r == passed || s.out() {
		return false
	}
	s.settle(now)
	if r == bad { // a client may have asked for it
		return false
	}
	s.broke++
	return s.maxFails > 0 && s.broke >= s.maxFails
}

// eject takes the backend out for a time: the longer, the more often in a row.
// Checks that pass may shorten it, unless it is timed.
func (s *state) eject(now time.Time, timed bool, why string) {
	s.settle(now)
	s.row = min(s.row+1, longest)
	d := time.Duration(s.row) * s.failTimeout
	s.until, s.timed, s.good = now.Add(d), timed, 0
	s.cause = fmt.Sprintf("out for %v: %s", d, why)
}

// settle notes that something has failed: until now nothing had since calm, and
// each -fail-timeout of that takes one ejection off the row.
func (s *state) settle(now time.Time) {
	s.row = max(0, s.row-int(now.Sub(s.calm)/s.failTimeout))
	s.calm = now
}

// tick ends an ejection whose time is over.
func (s *state) tick(now time.Time) {
	if s.ejected() && !now.Before(s.until) {
		s.cause = "its time out is over"
		s.until = time.Time{}
		s.returned(now)
	}
}

// returned notes that the backend is back, if it is.
func (s *state) returned(now time.Time) {
	if !s.out() {
		s.back, s.calm, s.broke = now, now, 0
	}
}

// out reports whether the backend is down, of either kind.
func (s *state) out() bool { return s.down || s.ejected() }

// ejected reports whether failed requests have taken it out.
func (s *state) ejected() bool { return !s.until.IsZero() }

// draining reports whether the backend is to get no new requests.
func (s *state) draining() bool { return s.drained || s.leaving }

// tooMany returns the percentage of failures among the last requests, if it is
// too high. A backend that is just back has its slow start and a whole window
// before it is judged, so that its state cannot change all the time.
func (s *state) tooMany(now time.Time) (percent int, yes bool) {
	percent, n := s.recent.ratio(now)
	judged := s.back.IsZero() || now.Sub(s.back) >= s.slowStart+lookBack*time.Second
	return percent, s.failRatio > 0 && n >= atLeast && percent >= s.failRatio && judged && !s.out()
}

// share returns which part of a full share of the requests the backend gets: less
// for a while when it is back after a failure.
func (s *state) share(now time.Time) float64 {
	d := now.Sub(s.back)
	if s.back.IsZero() || d >= s.slowStart {
		return 1
	}
	return max(floor, float64(d)/float64(s.slowStart))
}

// name returns the state's name, as events have it.
func (s *state) name() string {
	switch {
	case s.out() && s.good > 0 && !(s.ejected() && s.timed):
		return narrate.GoingUp
	case s.out():
		return narrate.Down
	case s.draining():
		return narrate.Draining
	case s.failed > 0:
		return narrate.GoingDown
	}
	return narrate.Up
}

// window counts the requests of the last ten seconds, each second by itself.
type window [lookBack]second

type second struct {
	at           int64 // seconds since 1970
	all, failing int
}

func (w *window) add(now time.Time, failing bool) {
	s := &w[now.Unix()%lookBack]
	if s.at != now.Unix() {
		*s = second{at: now.Unix()}
	}
	s.all++
	if failing {
		s.failing++
	}
}

// ratio returns the percentage of failures, and of how many requests.
func (w *window) ratio(now time.Time) (percent, all int) {
	failing := 0
	for _, s := range w {
		if now.Unix()-s.at < lookBack {
			all += s.all
			failing += s.failing
		}
	}
	return 100 * failing / max(all, 1), all
}
