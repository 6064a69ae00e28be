//go:build linux

package loop

import (
	"math"
	"time"
)

// timers are the deadlines of all sockets, a binary heap: the earliest is first.
//
// A deadline is moved far more often than it passes. So a socket that gets a later
// one stays where it is; only when its old one has passed is it put where it
// belongs. A request moves its deadlines a dozen times, and the heap hardly ever.
type timers struct {
	heap []*socket
	late []*socket // what due returned last
}

// set notes a socket's deadline, which may have changed.
func (t *timers) set(s *socket) {
	by := s.earliest()
	switch {
	case by == 0:
	case s.place == 0:
		t.heap = append(t.heap, s)
		s.place, s.queued = len(t.heap), by
		t.up(s.place)
	case by < s.queued:
		s.queued = by
		t.up(s.place)
	}
}

// remove takes a socket out.
func (t *timers) remove(s *socket) {
	if s.place == 0 {
		return
	}
	at, last := s.place, t.heap[len(t.heap)-1]
	t.heap[len(t.heap)-1] = nil
	t.heap = t.heap[:len(t.heap)-1]
	s.place = 0
	if last != s {
		t.heap[at-1], last.place = last, at
		t.up(at)
		t.down(last.place)
	}
}

// due returns the sockets whose deadline has passed.
func (t *timers) due(now time.Duration) []*socket {
	t.late = t.late[:0]
	for len(t.heap) > 0 && t.heap[0].queued <= now {
		s := t.heap[0]
		t.remove(s)
		if by := s.earliest(); by != 0 && by <= now {
			t.late = append(t.late, s)
		}
		// A deadline that has passed counts as one until somebody has seen it; it is
		// not waited for again. A rest that is over is no more.
		if s.restBy <= now {
			s.restBy = 0
		}
		if by := s.next(now); by != 0 {
			t.heap = append(t.heap, s)
			s.place, s.queued = len(t.heap), by
			t.up(s.place)
		}
	}
	return t.late
}

// wait returns for how many milliseconds epoll_wait may wait; -1 means for ever. It is an int
// in C: what is more than 24 days away is waited for again and again.
func (t *timers) wait(now time.Duration) int {
	if len(t.heap) == 0 {
		return -1
	}
	ms := (max(t.heap[0].queued-now, 0) + time.Millisecond - 1) / time.Millisecond
	return int(min(ms, math.MaxInt32))
}

// up moves the one at a place, from 1, towards the first until its turn is right.
func (t *timers) up(i int) {
	for ; i > 1 && t.heap[i-1].queued < t.heap[i/2-1].queued; i /= 2 {
		t.swap(i, i/2)
	}
}

// down moves it the other way.
func (t *timers) down(i int) {
	for {
		least := 2 * i
		if least > len(t.heap) {
			return
		}
		if least < len(t.heap) && t.heap[least].queued < t.heap[least-1].queued {
			least++
		}
		if t.heap[i-1].queued <= t.heap[least-1].queued {
			return
		}
		t.swap(i, least)
		i = least
	}
}

func (t *timers) swap(i, j int) {
	a, b := t.heap[i-1], t.heap[j-1]
	t.heap[i-1], t.heap[j-1] = b, a
	a.place, b.place = j, i
}
