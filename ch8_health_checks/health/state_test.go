package health

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"reverseproxy/internal/harness"
	"reverseproxy/internal/narrate"
)

// reference is the state machine once more, told otherwise: it keeps all that has
// happened and looks through it.
type reference struct {
	fall, rise int
	fail       time.Duration
	checks     []bool // of all, true: passed
	since      int    // checks before this one do not bring it back
	down       bool
	until      time.Duration // ejected until then; 0: not
	timed      bool
	row        int
	quiet      time.Duration // the last failure, or the last return
	leaving    bool
	refuses    bool
}

func (m *reference) tail(pass bool, n, from int) bool {
	if len(m.checks)-from < n {
		return false
	}
	for _, c := range m.checks[len(m.checks)-n:] {
		if c != pass {
			return false
		}
	}
	return true
}

func (m *reference) out() bool { return m.down || m.until != 0 }

func (m *reference) pass(now time.Duration) {
	if m.until != 0 && now >= m.until {
		m.until = 0
		if !m.down {
			m.quiet = now
		}
	}
}

func (m *reference) check(now time.Duration, r result) {
	m.pass(now)
	ok := r == passed || r == gone
	m.checks = append(m.checks, ok)
	m.refuses = r == refused
	if ok {
		m.leaving = r == gone
	}
	was := m.out()
	switch {
	case m.tail(false, m.fall, 0):
		m.down = true
	case was && m.tail(true, m.rise, m.since):
		m.down = false
		if !m.timed {
			m.until = 0
		}
	}
	if was && !m.out() {
		m.quiet = now
	}
}

func (m *reference) eject(now time.Duration, timed bool) {
	for t := m.quiet + m.fail; t <= now && m.row > 0; t += m.fail {
		m.row--
	}
	m.row = min(m.row+1, 5)
	m.quiet, m.until, m.timed, m.since = now, now+time.Duration(m.row)*m.fail, timed, len(m.checks)
}

func (m *reference) name() string {
	switch {
	case m.out():
		if m.tail(true, 1, m.since) && !(m.until != 0 && m.timed) {
			return narrate.GoingUp
		}
		return narrate.Down
	case m.leaving:
		return narrate.Draining
	case len(m.checks) > 0 && !m.checks[len(m.checks)-1]:
		return narrate.GoingDown
	}
	return narrate.Up
}

// TestAgainstAReference compares the state machine with one that is built
// otherwise, over 100,000 random sequences of checks and requests. The race detector would
// make it take long, and there is only one goroutine here.
func TestAgainstAReference(t *testing.T) {
	start, seeds := time.Unix(1_000_000, 0), uint64(100_000)
	if harness.Race {
		seeds /= 20
	}
	for seed := range seeds {
		rnd := rand.New(rand.NewPCG(seed, 8))
		l := &limits{fall: 1 + rnd.IntN(4), rise: 1 + rnd.IntN(4), maxFails: 1,
			failTimeout: time.Duration(1+rnd.IntN(12)) * time.Second}
		s := &state{limits: l}
		m := &reference{fall: l.fall, rise: l.rise, fail: l.failTimeout, quiet: -time.Hour}
		var now time.Duration
		story := ""
		for range 30 {
			now += time.Duration(rnd.IntN(4000)) * time.Millisecond
			at := start.Add(now)
			if rnd.IntN(4) > 0 {
				r := []result{passed, passed, passed, gone, bad, slow, broken, refused}[rnd.IntN(8)]
				story += fmt.Sprintf("%v: check %d, ", now, r)
				s.check(at, r, "")
				m.check(now, r)
			} else {
				r := []result{passed, slow, broken, refused}[rnd.IntN(4)]
				story += fmt.Sprintf("%v: request %d, ", now, r)
				m.pass(now)
				want := r != passed && !m.out()
				if r == passed {
					m.refuses = false
				} else if r == refused {
					m.refuses = true
				}
				if s.request(at, r) != want {
					t.Fatalf("seed %d, %v: ejected %t, want %t", seed, story, !want, want)
				}
				if want {
					s.eject(at, r == slow, "")
					m.eject(now, r == slow)
				}
			}
			left := max(0, m.until-now)
			if s.ejected() != (m.until != 0) || s.ejected() && s.until.Sub(at) != left ||
				s.name() != m.name() || s.out() != m.out() || s.refuses != m.refuses {
				t.Fatalf("seed %d, %s: %s, out %t, for %v, refuses %t; want %s, %t, %v, %t", seed,
					story, s.name(), s.out(), s.until.Sub(at), s.refuses, m.name(), m.out(), left,
					m.refuses)
			}
		}
	}
}

// TestEjectionsInARow: the n-th lasts n times as long, five times at most, and
// each -fail-timeout without a failure takes one off.
func TestEjectionsInARow(t *testing.T) {
	s := &state{limits: &limits{fall: 3, rise: 2, maxFails: 1, failTimeout: 10 * time.Second}}
	now := time.Unix(1000, 0)
	out := func() time.Duration {
		if !s.request(now, broken) {
			t.Fatal("it is not ejected")
		}
		s.eject(now, false, "")
		began := now
		for s.tick(now); s.out(); s.tick(now) {
			now = now.Add(time.Second)
		}
		return now.Sub(began)
	}
	for i, want := range []time.Duration{10, 20, 30, 40, 50, 50, 50} {
		if got := out(); got != want*time.Second {
			t.Errorf("ejection %d lasts %v, want %v", i+1, got, want*time.Second)
		}
	}
	now = now.Add(29 * time.Second) // two whole times without a failure: 5 - 2 + 1
	if got := out(); got != 40*time.Second {
		t.Errorf("after 29 s without a failure: %v", got)
	}
	now = now.Add(time.Hour)
	if got := out(); got != 10*time.Second {
		t.Errorf("after an hour without a failure: %v", got)
	}
}

func TestFailsInARow(t *testing.T) {
	s := &state{limits: &limits{maxFails: 3, failTimeout: time.Second}}
	now := time.Unix(1000, 0)
	for i, r := range []result{broken, broken, passed, broken, slow, bad, refused, broken} {
		if s.request(now, r) {
			t.Errorf("ejected by result %d", i)
		}
	}
	if !s.request(now, broken) {
		t.Error("not ejected by the third in a row")
	}
	s.eject(now, false, "")
	now = now.Add(time.Second)
	if s.request(now, broken) {
		t.Error("ejected by the first failure after its return")
	}
}
