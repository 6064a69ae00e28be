package health

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"reverseproxy/ch2_basic_proxy/forward"
	"reverseproxy/ch2_basic_proxy/http1"
	"reverseproxy/internal/narrate"
)

// TestFairShare: after a death each survivor has the same share.
func TestFairShare(t *testing.T) {
	for _, n := range []int{2, 3, 4, 5, 10} {
		in(t, n, nil, func(r *rig) {
			r.shares(rand.IntN(10))
			r.set("b1", dead)
			r.until("b1", narrate.Down, 10*time.Second)
			got := r.shares(3000)
			for _, b := range r.backends[1:] {
				want := 3000 / float64(n-1)
				if d := float64(got[b.Addr]) - want; d < -want/100 || d > want/100 {
					t.Errorf("%d backends: %v", n, got)
				}
			}
			if got["b1"] != 0 {
				t.Errorf("%d backends: the dead one had %d", n, got["b1"])
			}
		})
	}
}

// TestFairShareOfTries: as long as the death is not known, tries go to the dead
// backend in its turn, and those that follow them evenly to the others.
func TestFairShareOfTries(t *testing.T) {
	in(t, 4, []string{"-max-fails", "0", "-check", "off"}, func(r *rig) {
		got := map[string]int{}
		for range 3000 {
			b := r.pick()
			if b == "b1" {
				r.done(b, 0, errRefused)
				b = r.pick("b1")
			}
			r.done(b, 200, nil)
			got[b]++
		}
		if diff := cmp.Diff(map[string]int{"b2": 1000, "b3": 1000, "b4": 1000}, got); diff != "" {
			t.Error(diff)
		}
	})
}

// TestNamedTwice: a backend that -backends names twice has two turns, and is one
// backend all the same.
func TestNamedTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 2)
		r.app.Backends = append(r.app.Backends, "b1")
		r.Watch()
		defer r.stop()
		if diff := cmp.Diff(map[string]int{"b1": 200, "b2": 100}, r.shares(300)); diff != "" {
			t.Error(diff)
		}
	})
}

// TestAtMostHalf: requests that fail take half of the backends out, not more.
func TestAtMostHalf(t *testing.T) {
	for n, want := range []int{0, 0, 1, 1, 2, 2, 3} {
		if n == 0 {
			continue
		}
		in(t, n, nil, func(r *rig) {
			for _, b := range r.backends {
				r.report(b.Addr, 0, errBroken)
			}
			out := 0
			synctest.Wait()
			for _, b := range r.backends {
				if b.out() {
					out++
				}
			}
			if out != want {
				t.Errorf("%d of %d backends are out, want %d", out, n, want)
			}
		})
	}
}

// TestAllSoftDown: when all backends are suspected, all are used.
func TestAllSoftDown(t *testing.T) {
	for name, answer := range map[string]func(context.Context) (int, error){
		"status": status(503), "slow": hangs, "broken": breaks} {
		in(t, 3, nil, func(r *rig) {
			for _, b := range r.backends {
				r.set(b.Addr, answer)
			}
			time.Sleep(10 * time.Second)
			for _, b := range r.backends {
				r.is(b.Addr, narrate.Down)
			}
			if got := r.shares(300); got["b1"] != 100 || got["b2"] != 100 || got["b3"] != 100 {
				t.Errorf("%s: %v", name, got)
			}
			if all := r.states(""); len(all) != 1 || all[0].State != panicked {
				t.Errorf("%s: told %v", name, all)
			}
			for _, b := range r.backends {
				r.set(b.Addr, nil)
			}
			time.Sleep(10 * time.Second)
			if all := r.states(""); len(all) != 2 || all[1].State != usual {
				t.Errorf("%s: told %v", name, all)
			}
		})
	}
}

// TestPanicRevivesSoftOnly: what refuses connections gets no requests in a panic.
func TestPanicRevivesSoftOnly(t *testing.T) {
	in(t, 4, nil, func(r *rig) {
		r.set("b1", dead)
		r.set("b2", dead)
		r.set("b3", hangs)
		time.Sleep(10 * time.Second)
		if diff := cmp.Diff(map[string]int{"b3": 50, "b4": 50}, r.shares(100)); diff != "" {
			t.Error(diff)
		}
		r.set("b2", nil) // from now on half of them are well
		time.Sleep(20 * time.Second)
		if diff := cmp.Diff(map[string]int{"b2": 50, "b4": 50}, r.shares(100)); diff != "" {
			t.Error(diff)
		}
	})
}

// TestTheLastIsKept: the last backend that does not refuse connections is used,
// whatever its checks and requests say.
func TestTheLastIsKept(t *testing.T) {
	in(t, 3, nil, func(r *rig) {
		r.set("b1", dead)
		r.set("b2", dead)
		time.Sleep(10 * time.Second)
		r.set("b3", hangs)
		for range 100 {
			time.Sleep(100 * time.Millisecond)
			if got := r.try(0, errTimeout); got != "b3" {
				t.Fatalf("%s is tried", got)
			}
		}
	})
	// One of two refuses, which is not yet enough to take it out.
	in(t, 2, []string{"-max-fails", "2", "-check", "off"}, func(r *rig) {
		r.report("b1", 0, errRefused)
		r.report("b2", 0, errBroken)
		r.report("b2", 0, errBroken)
		synctest.Wait()
		if len(r.usable) != 2 {
			t.Errorf("only %s is used", r.usable[0].Addr)
		}
	})
}

// TestOneBackendAtItsLimit: its checks time out, and every third request.
func TestOneBackendAtItsLimit(t *testing.T) {
	in(t, 1, nil, func(r *rig) {
		r.set("b1", hangs)
		for i := range 120 * 30 {
			time.Sleep(time.Second / 120)
			if i%3 == 0 {
				r.try(0, errTimeout)
			} else {
				r.try(200, nil)
			}
		}
	})
}

// TestAllDead: of backends that all refuse connections, one is tried.
func TestAllDead(t *testing.T) {
	in(t, 3, nil, func(r *rig) {
		for _, b := range r.backends {
			r.set(b.Addr, dead)
		}
		time.Sleep(10 * time.Second)
		var tried []string
		for range 6 {
			b := r.pick()
			tried = append(tried, b)
			r.done(b, 0, errRefused)
			_, err := r.Choose(nil, []string{b})
			if err != errNone {
				t.Fatalf("after one: %v", err)
			}
		}
		if got := strings.Join(tried, " "); got != "b1 b2 b3 b1 b2 b3" {
			t.Error(got)
		}
		// One answers: it is no longer known to refuse, so that all go there.
		b := r.pick()
		r.done(b, 200, nil)
		if diff := cmp.Diff(map[string]int{b: 10}, r.shares(10)); diff != "" {
			t.Error(diff)
		}
		for _, b := range r.backends {
			r.set(b.Addr, nil)
		}
		time.Sleep(4 * time.Second)
		for _, b := range r.backends {
			r.is(b.Addr, narrate.Up)
		}
	})
}

// TestWhatBringsBack: checks bring back what a connection took out, and only time
// what an answer took out, or none in time.
func TestWhatBringsBack(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
		want time.Duration // less than that
	}{
		{"refused", errRefused, 4 * time.Second},
		{"not accepted", errNotAccepted, 4 * time.Second},
		{"broken", errBroken, 4 * time.Second},
		{"timeout", errTimeout, 10 * time.Second},
	} {
		in(t, 2, nil, func(r *rig) {
			time.Sleep(time.Duration(rand.Int64N(int64(10 * time.Second))))
			r.report("b1", 0, c.err)
			r.is("b1", narrate.Down)
			got := r.until("b1", narrate.Up, time.Minute)
			if got > c.want || got < c.want-2*time.Second-time.Millisecond {
				t.Errorf("%s: back after %v, want %v", c.name, got, c.want)
			}
		})
	}
	in(t, 2, []string{"-check", "off"}, func(r *rig) { // without checks it is time
		r.report("b1", 0, errRefused)
		if got := r.until("b1", narrate.Up, time.Minute); got != 10*time.Second {
			t.Errorf("back after %v", got)
		}
	})
	in(t, 2, nil, func(r *rig) { // time that is over does not help against checks
		r.set("b1", dead)
		r.report("b1", 0, errRefused)
		time.Sleep(time.Minute)
		r.is("b1", narrate.Down)
	})
}

// TestFailRatio: a backend that fails every second request, and never five in a
// row, is out within 10 s.
func TestFailRatio(t *testing.T) {
	for _, rate := range []time.Duration{8, 20, 100, 1000} { // requests a second
		in(t, 3, nil, func(r *rig) {
			n := 0
			for len(r.states("b1")) == 0 {
				time.Sleep(time.Second / rate)
				b := r.pick()
				status := 200
				if b == "b1" {
					if n++; n%2 == 0 {
						status = 500
					}
				}
				r.done(b, status, nil)
				if time.Since(r.began) > 10*time.Second {
					t.Fatalf("%d requests a second: not out", rate)
				}
			}
			r.is("b1", narrate.Down)
			if n < atLeast {
				t.Errorf("out after %d requests", n)
			}
			if got := r.until("b1", narrate.Up, time.Minute); got != 10*time.Second {
				t.Errorf("back after %v", got)
			}
		})
	}
}

// TestOff: 0 turns each of the two reasons off.
func TestOff(t *testing.T) {
	in(t, 2, []string{"-max-fails", "0", "-fail-ratio", "0", "-backend-max-conns", "0"},
		func(r *rig) {
			for range 1000 {
				r.report("b1", 0, errBroken)
				r.report("b1", 500, nil)
				r.report("b2", 200, nil)
			}
			r.is("b1", narrate.Up)
		})
}

// TestCostsNothing: while nothing changes, a request costs no memory.
func TestCostsNothing(t *testing.T) {
	in(t, 3, []string{"-check", "off"}, func(r *rig) {
		if n := testing.AllocsPerRun(100, func() { r.try(200, nil) }); n > 0 {
			t.Errorf("%v allocations", n)
		}
	})
}

// TestNoFlapping: checks pass and all else is 500. In no minute are there more
// than four changes.
func TestNoFlapping(t *testing.T) {
	for _, rate := range []time.Duration{1, 5, 30, 300} {
		in(t, 3, nil, func(r *rig) {
			for time.Since(r.began) < 5*time.Minute {
				time.Sleep(time.Second / rate)
				b := r.pick()
				r.done(b, map[bool]int{true: 500, false: 200}[b == "b1"], nil)
			}
			all := r.states("b1")
			for i := range all {
				if i >= 4 && all[i].Time.Sub(all[i-4].Time) < time.Minute {
					t.Errorf("%d a second: five changes from %v to %v", rate,
						all[i-4].Time.Sub(r.began), all[i].Time.Sub(r.began))
				}
			}
			if rate > 5 && len(all) < 5 {
				t.Errorf("%d a second: only %d changes", rate, len(all))
			}
		})
	}
}

// TestNoClientEjects: one that asks for nothing but errors gets them from all
// backends alike.
func TestNoClientEjects(t *testing.T) {
	in(t, 3, nil, func(r *rig) {
		for i := range 3000 {
			time.Sleep(time.Millisecond)
			r.try(200+300*(i/3%2), nil) // half of the requests, the same at each
		}
		for _, b := range r.backends {
			r.is(b.Addr, narrate.Up)
		}
	})
}

// TestWhatCounts: only what is the backend's fault.
func TestWhatCounts(t *testing.T) {
	backend := func(status int, cause error) *forward.Error {
		return &forward.Error{Status: status, By: forward.ByBackend, Err: cause}
	}
	for _, c := range []struct {
		name   string
		status int
		err    error
		want   result
	}{
		{"200", 200, nil, passed},
		{"404", 404, nil, passed},
		{"500", 500, nil, bad},
		{"503", 503, nil, bad},
		{"refused", 0, errRefused, refused},
		{"not accepted in time", 0, errNotAccepted, refused},
		{"no answer in time", 0, errTimeout, slow},
		{"broken", 0, errBroken, broken},
		{"the body stood still", 200, &forward.Error{Status: 504, By: forward.ByBackend,
			Answered: true}, slow},
		{"the body broke off", 200, &forward.Error{Status: 502, By: forward.ByBackend,
			Answered: true}, broken},
		{"the body of 503 broke off", 503, &forward.Error{Status: 502, By: forward.ByBackend,
			Answered: true}, broken},
		{"a tunnel broke off", 101, &forward.Error{By: forward.ByBackend, Answered: true,
			Reason: "the tunnel broke off"}, none},
		{"503, and tried again", 503, backend(503, nil), bad},
		{"the client left after 503", 503, &forward.Error{By: forward.ByClient,
			Answered: true}, none},
		{"broken while it waited for the body", 0, &forward.Error{Status: 502,
			By: forward.ByBackend, Sent: true, Owed: true, Broken: true}, none},
		{"an idle connection ended", 0, &forward.Error{Status: 502, By: forward.ByBackend,
			Broken: true, Stale: true}, none},
		{"malformed", 0, backend(502, &http1.Error{Reason: "?"}), none},
		{"the client left", 0, &forward.Error{By: forward.ByClient}, none},
		{"the client was too slow", 0, &forward.Error{Status: 408, By: forward.ByClient}, none},
		{"the client left midway", 200, &forward.Error{By: forward.ByClient}, none},
		{"no descriptors", 0, &forward.Error{Status: 503, By: forward.ByProxy}, none},
		{"a fault of the proxy", 0, &forward.Error{Status: 500, By: forward.ByProxy}, none},
		{"some error", 0, errors.New("?"), none},
	} {
		if got, _ := judge(c.status, c.err); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

// TestClientsEjectNobody: failures of clients leave counters as they are.
func TestClientsEjectNobody(t *testing.T) {
	in(t, 2, []string{"-max-fails", "2"}, func(r *rig) {
		for range 1000 {
			r.report("b1", 0, &forward.Error{Status: 408, By: forward.ByClient})
		}
		r.is("b1", narrate.Up)
		r.report("b1", 0, errBroken)
		r.report("b1", 0, &forward.Error{By: forward.ByClient}) // neither counts nor ends the row
		r.report("b1", 0, errBroken)
		r.is("b1", narrate.Down)
	})
}

// TestDraining: a backend that drains gets no new requests; its idle connections
// are closed then, and when its last ones have come back.
func TestDraining(t *testing.T) {
	in(t, 2, nil, func(r *rig) {
		var closed []string
		r.Idle = func(addr string) { closed = append(closed, addr) }
		inHand := r.pick()
		if err := r.Drain("b1", true); err != nil || inHand != "b1" {
			t.Fatal(inHand, err)
		}
		r.is("b1", narrate.Draining)
		if diff := cmp.Diff(map[string]int{"b2": 100}, r.shares(100)); diff != "" {
			t.Error(diff)
		}
		before := len(closed)
		if r.done(inHand, 200, nil); before == 0 || len(closed) == before {
			t.Errorf("closed %d times, and %d times more when it was done", before,
				len(closed)-before)
		}
		// The only other one dies: the draining one serves, and that is told.
		b := r.pick()
		r.done(b, 0, errRefused)
		if b = r.pick(b); b != "b1" {
			t.Errorf("the second try goes to %s", b)
		}
		r.done(b, 200, nil)
		r.set("b2", dead)
		r.until("b2", narrate.Down, 10*time.Second)
		if diff := cmp.Diff(map[string]int{"b1": 100}, r.shares(100)); diff != "" {
			t.Error(diff)
		}
		if all := r.states(""); len(all) != 1 || all[0].State != reserve {
			t.Errorf("told %v", all)
		}
		r.Drain("b1", false)
		synctest.Wait()
		if r.find("b1").Share() != 1 {
			t.Error("a backend that has not failed has a slow start")
		}
		r.is("b1", narrate.Up)
		if err := r.Drain("b3", true); err == nil {
			t.Error("no error for a backend that is not there")
		}
	})
}

// TestDrainingWhileDown: the idle connections of a backend that is down are closed,
// too, when it is to drain, whoever wants that.
func TestDrainingWhileDown(t *testing.T) {
	for name, drain := range map[string]func(*rig){
		"by hand":    func(r *rig) { r.Drain("b1", true) },
		"by a check": func(r *rig) { r.set("b1", status(404)) },
	} {
		in(t, 3, nil, func(r *rig) {
			closed := 0
			r.Idle = func(addr string) { closed++ }
			r.report("b1", 0, errTimeout)
			drain(r)
			time.Sleep(3 * time.Second)
			synctest.Wait()
			r.is("b1", narrate.Down)
			if r.Farm.mu.Lock(); closed == 0 {
				t.Errorf("%s: they are not", name)
			}
			r.Farm.mu.Unlock()
		})
	}
}

// TestOnlyDrainingAndIll: where all drain, which a -check that is not there makes
// them do, requests still take out the one that fails; and not the most of them.
func TestOnlyDrainingAndIll(t *testing.T) {
	in(t, 3, nil, func(r *rig) {
		for _, b := range r.backends {
			r.set(b.Addr, status(404))
		}
		time.Sleep(10 * time.Second)
		r.report("b1", 0, errTimeout)
		if diff := cmp.Diff(map[string]int{"b2": 50, "b3": 50}, r.shares(100)); diff != "" {
			t.Error(diff)
		}
		r.set("b2", hangs)
		r.until("b2", narrate.Down, 10*time.Second)
		if got := r.shares(300); got["b1"] == 0 || got["b2"] == 0 || got["b3"] == 0 {
			t.Error(got)
		}
	})
}

// TestSpare: a request that all others have failed is served by one that drains.
func TestSpare(t *testing.T) {
	in(t, 3, []string{"-max-fails", "0"}, func(r *rig) {
		r.Drain("b1", true)
		tried := []string{r.pick(), r.pick()}
		if got := r.pick(tried...); got != "b1" {
			t.Errorf("after %v: %s", tried, got)
		}
	})
}

// TestDrainedByCheck: 404 drains, at once, until another answer; 503 is a failure.
func TestDrainedByCheck(t *testing.T) {
	in(t, 2, nil, func(r *rig) {
		time.Sleep(time.Second)
		r.set("b1", status(404))
		if got := r.until("b1", narrate.Draining, 3*time.Second); got > 2*time.Second {
			t.Errorf("draining after %v", got)
		}
		time.Sleep(time.Minute)
		r.is("b1", narrate.Draining)
		r.set("b1", dead) // and ends: that is no reason to send it requests
		time.Sleep(3 * time.Second)
		r.is("b1", narrate.Draining)
		if diff := cmp.Diff(map[string]int{"b2": 100}, r.shares(100)); diff != "" {
			t.Error(diff)
		}
		time.Sleep(5 * time.Second)
		r.is("b1", narrate.Down)
		r.set("b1", nil)
		time.Sleep(5 * time.Second)
		r.is("b1", narrate.Up)
		r.set("b1", status(503))
		time.Sleep(3 * time.Second)
		r.is("b1", narrate.GoingDown)
		time.Sleep(5 * time.Second)
		r.is("b1", narrate.Down)
	})
}

// TestQueue: no backend has more requests in hand than it may; the others wait, in
// order, and no longer than for a connection.
func TestQueue(t *testing.T) {
	in(t, 2, []string{"-backend-max-conns", "2"}, func(r *rig) {
		var inHand []string
		for range 4 {
			inHand = append(inHand, r.pick())
		}
		began := time.Now()
		got := make(chan int, 20)
		var mu sync.Mutex
		numbers := map[*forward.Request]int{}
		r.Turns = func(request *forward.Request, usable []*Backend) *Backend {
			mu.Lock()
			defer mu.Unlock()
			got <- numbers[request]
			return inTurn(request, usable)
		}
		var all sync.WaitGroup
		for i := range 10 {
			all.Go(func() { // ends with its request
				request, _ := r.request()
				mu.Lock()
				numbers[request] = i
				mu.Unlock()
				b, err := r.Choose(request, nil)
				if err != nil {
					var e *forward.Error
					took := time.Since(began)
					if !errors.As(err, &e) || e.Status != 503 || took != 5*time.Second {
						t.Errorf("after %v: %v", took, err)
					}
					return
				}
				time.Sleep(2500 * time.Millisecond)
				r.done(b, 200, nil)
			})
			synctest.Wait()
		}
		time.Sleep(time.Second)
		for _, b := range inHand {
			r.done(b, 200, nil)
		}
		synctest.Wait()
		time.Sleep(1500 * time.Millisecond)
		r.Farm.mu.Lock()
		for _, b := range r.backends {
			if b.busy != 2 {
				t.Errorf("%s has %d requests in hand", b.Addr, b.busy)
			}
		}
		r.Farm.mu.Unlock()
		all.Wait()
		close(got)
		next := 0
		for i := range got {
			if i != next {
				t.Errorf("the %d. was served before the %d.", i, next)
			}
			next++
		}
		if next != 8 { // 4 after 1 s, 4 after 3.5 s, none within 5 s
			t.Errorf("%d were served", next)
		}
		synctest.Wait()
		var lengths []int
		for _, e := range r.events {
			if e.Kind == narrate.KindQueue {
				lengths = append(lengths, e.Waiting)
			}
		}
		want := []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0}
		if !slices.Equal(lengths, want) {
			t.Errorf("lengths %v", lengths)
		}
	})
}

// TestGivenUpBeforeItWaits: a request whose time was over before it came to wait is
// not in the queue any more, and no backend is kept for it.
func TestGivenUpBeforeItWaits(t *testing.T) {
	in(t, 1, []string{"-backend-max-conns", "1"}, func(r *rig) {
		b := r.pick()
		request, _ := r.request()
		request.Abandon(&forward.Error{Status: 504, By: forward.ByProxy})
		if addr, err := r.Choose(request, nil); err == nil {
			t.Errorf("it may have %s", addr)
		}
		r.done(b, 200, nil)
		if n := r.backends[0].busy; n != 0 || len(r.queue) != 0 {
			t.Errorf("%d in hand, %d wait", n, len(r.queue))
		}
	})
}

// TestTogether: many at once, with all that can happen.
func TestTogether(t *testing.T) {
	in(t, 5, []string{"-backend-max-conns", "3"}, func(r *rig) {
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() { // ends after its requests
				request, _ := r.request()
				for range 100 {
					var tried []string
					for range 3 {
						b, err := r.Choose(request, tried)
						if err != nil {
							break
						}
						if slices.Contains(tried, b) {
							t.Errorf("%s again after %v", b, tried)
						}
						tried = append(tried, b)
						time.Sleep(time.Duration(rand.IntN(100)) * time.Millisecond)
						switch rand.IntN(20) {
						case 0:
							r.done(b, 0, errBroken)
						case 1:
							r.done(b, 0, errRefused)
						case 2:
							r.Drain(b, rand.IntN(2) == 0)
							r.done(b, 0, errTimeout)
						default:
							r.done(b, 200, nil)
						}
					}
				}
			})
		}
		all.Wait()
		synctest.Wait()
		for _, b := range r.backends {
			if b.busy != 0 {
				t.Errorf("%s has %d requests in hand", b.Addr, b.busy)
			}
		}
		if len(r.queue) > 0 {
			t.Errorf("%d wait", len(r.queue))
		}
	})
}

// TestFlags: wrong values are refused, in words.
func TestFlags(t *testing.T) {
	for _, c := range []struct{ flags, complaint string }{
		{"", ""},
		{"-check /health?deep=1", ""},
		{"-check tcp", ""},
		{"-check off", ""},
		{"-check health", "-check"},
		{"-check http://b/", "-check"},
		{"-check /%zz", "-check"},
		{"-check /?a b", "%20"},
		{"-check /?é", "%20"},
		{"-check /?a#b", "-check"},
		{"-check ", "-check"},
		{"-check-status 200", ""},
		{"-check-status 204-404", ""},
		{"-check-status 99", "of 200 to 599"},
		{"-check-status 300-200", "of 200 to 599"},
		{"-check-status 200-", "of 200 to 599"},
		{"-check-status 200-399x", "of 200 to 599"},
		{"-check-status ok", "of 200 to 599"},
		{"-inter 0s", "-inter"},
		{"-inter 1ns", "-inter must be at least 1ms"},
		{"-check-timeout 999us", "-check-timeout"},
		{"-fail-timeout 1us", "-fail-timeout"},
		{"-fall 0", "at least 1"},
		{"-rise 0", "at least 1"},
		{"-check-timeout 0s", "-check-timeout"},
		{"-check-timeout 1h", ""}, // more than -inter acts as that
		{"-max-fails 0", ""},
		{"-max-fails -1", "-max-fails"},
		{"-fail-timeout 0s", "-fail-timeout"},
		{"-fail-timeout 2000000h", "-fail-timeout"}, // five times that are no time.Duration
		{"-fail-ratio 0", ""},
		{"-fail-ratio 101", "-fail-ratio"},
		{"-slow-start 0s", ""},
		{"-slow-start -1s", "-slow-start"},
		{"-backend-max-conns -1", "-backend-max-conns"},
		{"-drain b1", ""},
		{"-drain b9", "-drain b9 is none of"},
	} {
		r := newRig(t, 1)
		name, value, _ := strings.Cut(c.flags, " ")
		var err error
		if name != "" {
			err = r.app.Flags.Parse([]string{name, value})
		}
		if err == nil {
			err = r.Farm.check()
		}
		if (err == nil) != (c.complaint == "") ||
			err != nil && !strings.Contains(err.Error(), c.complaint) {
			t.Errorf("%q: %v, want %q", c.flags, err, c.complaint)
		}
	}
}
