//go:build linux

package loop

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// clock is a loop with sockets that have only deadlines.
func clock(n int) (*Loop, []*socket) {
	l, all := &Loop{}, make([]*socket, n)
	for i := range all {
		all[i] = &socket{loop: l, fd: i}
	}
	return l, all
}

// TestTimers moves single deadlines.
func TestTimers(t *testing.T) {
	const none = -1
	for _, test := range []struct {
		name  string
		moves []time.Duration // of one socket, in this order; 0: no deadline, none: removed
		other time.Duration   // that of another one
		at    time.Duration
		due   int // how many are
		wait  int // then; milliseconds
	}{
		{"nobody waits", nil, 0, 5, 0, -1},
		{"one", []time.Duration{10}, 0, 10, 1, -1},
		{"a moment before", []time.Duration{10}, 0, 9, 0, 1},
		{"equal", []time.Duration{10}, 10, 10, 2, -1},
		{"later", []time.Duration{10, 20}, 0, 10, 0, 10},
		{"later, and then", []time.Duration{10, 20}, 0, 20, 1, -1},
		{"earlier", []time.Duration{20, 10}, 30, 10, 1, 20},
		{"later and earlier", []time.Duration{10, 30, 20}, 0, 20, 1, -1},
		{"none any more", []time.Duration{10, 0}, 0, 10, 0, -1},
		{"none, and one again", []time.Duration{10, 0, 15}, 0, 15, 1, -1},
		{"removed", []time.Duration{10, none}, 20, 10, 0, 10},
		{"removed, and back", []time.Duration{10, none, 30}, 20, 20, 1, 10},
		// epoll_wait takes no more than 31 bits: less than 25 days.
		{"in 50 days", []time.Duration{50 * 24 * 3600 * 1000}, 0, 0, 0, math.MaxInt32},
	} {
		l, s := clock(2)
		for _, by := range test.moves {
			if by == none {
				l.timers.remove(s[0])
				continue
			}
			s[0].readBy = by * time.Millisecond
			l.timers.set(s[0])
		}
		s[1].readBy = test.other * time.Millisecond
		l.timers.set(s[1])
		now := test.at * time.Millisecond
		if due := len(l.timers.due(now)); due != test.due {
			t.Errorf("%s: %d are due, want %d", test.name, due, test.due)
		}
		if wait := l.timers.wait(now); wait != test.wait {
			t.Errorf("%s: then it waits for %d ms, want %d", test.name, wait, test.wait)
		}
	}
}

// TestRestIsOver moves another deadline when a rest is over: that is nobody's deadline more.
func TestRestIsOver(t *testing.T) {
	l, s := clock(1)
	s[0].restBy = 10
	l.timers.set(s[0])
	if due := len(l.timers.due(10)); due != 1 {
		t.Errorf("%d are due, want 1", due)
	}
	for by := time.Duration(100); by < 110; by++ {
		s[0].by(by)
		if due := len(l.timers.due(20)); due != 0 {
			t.Fatalf("%d are due long before, want none", due)
		}
	}
}

// TestTimersAgainstAModel moves the deadlines of many sockets at random, all three that
// each has. The model looks at all of them, each time.
func TestTimersAgainstAModel(t *testing.T) {
	const sockets, steps = 40, 20_000
	for seed := range uint64(10) {
		r := rand.New(rand.NewPCG(seed, 1))
		l, all := clock(sockets)
		now := time.Duration(0)
		for step := range steps {
			s := all[r.IntN(sockets)]
			switch by := now + time.Duration(r.IntN(50)); r.IntN(8) {
			case 0:
				l.timers.remove(s)
				s.readBy, s.writeBy, s.restBy = 0, 0, 0
			case 1:
				s.by(0)
			case 2:
				s.writeBy = by
				l.timers.set(s)
			case 3:
				s.restBy = by
				l.timers.set(s)
			default:
				s.by(by)
			}
			if r.IntN(4) > 0 {
				continue
			}
			before := now
			now += time.Duration(r.IntN(12))
			var want []int
			for _, s := range all {
				// Due is what has passed since the last look, or was set to a time before.
				for _, by := range []time.Duration{s.readBy, s.writeBy, s.restBy} {
					if by > before && by <= now {
						want = append(want, s.fd)
						break
					}
				}
			}
			var got []int
			for _, s := range l.timers.due(now) {
				got = append(got, s.fd)
			}
			slices.Sort(got)
			for _, fd := range want {
				if !slices.Contains(got, fd) {
					t.Fatalf("seed %d, step %d, at %d: due are %v, want %v", seed, step, now, got,
						want)
				}
			}
			// Each one's earliest deadline to come is waited for, or an earlier time.
			for i, s := range all {
				if next := s.next(now); next != 0 && (s.place == 0 || s.queued > next) {
					t.Fatalf("seed %d, step %d: socket %d's deadline is forgotten", seed, step, i)
				}
			}
			for i, s := range l.timers.heap {
				if s.place != i+1 || i > 0 && l.timers.heap[(i+1)/2-1].queued > s.queued {
					t.Fatalf("seed %d, step %d: no heap at place %d", seed, step, i+1)
				}
			}
		}
	}
}
