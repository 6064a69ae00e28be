package health

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"reverseproxy/ch2_basic_proxy/forward"
	"reverseproxy/ch4_threaded/workers"
	"reverseproxy/ch6_keep_alive/keep"
	"reverseproxy/internal/cli"
	"reverseproxy/internal/narrate"
)

// rig is a Farm in a bubble of fake time, over backends whose answers to checks
// the test sets.
type rig struct {
	*Farm
	t     *testing.T
	began time.Time

	mu     sync.Mutex
	answer map[string]func(ctx context.Context) (int, error) // to checks; nil: 200
	events []narrate.Event                                   // all but checks
	checks []narrate.Event
}

// in runs a test in a bubble, with n backends called b1, b2, …
func in(t *testing.T, n int, flags []string, test func(*rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, n, flags...)
		r.Watch()
		defer r.stop()
		test(r)
	})
}

func newRig(t *testing.T, n int, flags ...string) *rig {
	t.Helper()
	app := cli.New("b:1", "b:2")
	r := &rig{t: t, began: time.Now(),
		answer: map[string]func(context.Context) (int, error){}}
	settings := forward.Flags(app)
	r.Farm = Flags(app, settings, keep.Flags(app, workers.Flags(app)))
	if err := app.Flags.Parse(flags); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		app.Backends = append(app.Backends, fmt.Sprintf("b%d", i+1))
	}
	if err := r.Farm.check(); err != nil {
		t.Fatal(err)
	}
	r.probe = func(ctx context.Context, addr string) (int, error) {
		select { // the first check begins at once: set comes before its answer
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(1):
		}
		r.mu.Lock()
		answer := r.answer[addr]
		r.mu.Unlock()
		if answer == nil {
			return http.StatusOK, nil
		}
		return answer(ctx)
	}
	app.Log = narrate.New(narrate.All, func(e narrate.Event) {
		r.mu.Lock()
		defer r.mu.Unlock()
		if e.Kind == narrate.KindCheck {
			r.checks = append(r.checks, e)
		} else {
			r.events = append(r.events, e)
		}
	})
	return r
}

// set makes a backend answer its checks in this way; nil: 200.
func (r *rig) set(addr string, answer func(context.Context) (int, error)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer[addr] = answer
}

// The ways.
func status(n int) func(context.Context) (int, error) {
	return func(context.Context) (int, error) { return n, nil }
}

func dead(context.Context) (int, error) {
	return 0, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
}

func hangs(ctx context.Context) (int, error) {
	<-ctx.Done()
	return 0, ctx.Err()
}

func breaks(context.Context) (int, error) { return 0, errors.New("EOF") }

// Errors of requests.
var (
	errRefused = &forward.Error{Status: 502, By: forward.ByBackend, Unreached: true,
		Reason: "the backend refused the connection"}
	errNotAccepted = &forward.Error{Status: 504, By: forward.ByBackend, Unreached: true,
		Reason: "not in time"}
	errBroken = &forward.Error{Status: 502, By: forward.ByBackend, Sent: true, Broken: true,
		Reason: "the backend broke the connection"}
	errTimeout = &forward.Error{Status: 504, By: forward.ByBackend, Sent: true,
		Reason: "the backend did not answer in time"}
)

// request returns a request of a client that stays, and what makes it leave.
func (r *rig) request() (request *forward.Request, leave func()) {
	end, conn := net.Pipe()
	log := narrate.New(narrate.Off).AcceptFrom("")
	client := forward.NewClient(conn, r.settings, log)
	return &forward.Request{Client: client}, func() { end.Close() }
}

// pick chooses a backend, which must be there.
func (r *rig) pick(tried ...string) string {
	r.t.Helper()
	addr, err := r.Choose(nil, tried)
	if err != nil {
		r.t.Fatalf("after %v: %v", time.Since(r.began), err)
	}
	return addr
}

// done ends a try.
func (r *rig) done(addr string, status int, err error) {
	r.report(addr, status, err)
	r.Release(addr)
}

// try has a request answered by one try, and returns where it went.
func (r *rig) try(status int, err error) (addr string) {
	r.t.Helper()
	addr = r.pick()
	r.done(addr, status, err)
	return addr
}

// states returns what was narrated of a backend's health, in order; of "", how the
// usable ones were chosen.
func (r *rig) states(addr string) (states []narrate.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		if e.Kind == narrate.KindHealth && e.Peer == addr {
			states = append(states, e)
		}
	}
	return states
}

// is wants a backend to be in a state.
func (r *rig) is(addr, want string) {
	r.t.Helper()
	synctest.Wait()
	got := narrate.Up
	all := r.states(addr)
	cause := ""
	if len(all) > 0 {
		got, cause = all[len(all)-1].State, all[len(all)-1].Text
	}
	if got != want {
		r.t.Errorf("after %v %s is %s (%s), want %s", time.Since(r.began), addr, got, cause, want)
	}
}

// until waits until a backend is in a state, and returns how long that took.
func (r *rig) until(addr, want string, atMost time.Duration) time.Duration {
	r.t.Helper()
	began := time.Now()
	for {
		synctest.Wait()
		if all := r.states(addr); len(all) > 0 && all[len(all)-1].State == want {
			return time.Since(began)
		}
		if time.Since(began) > atMost {
			r.t.Fatalf("%s is not %s after %v: %v", addr, want, atMost, r.states(addr))
		}
		time.Sleep(time.Millisecond)
	}
}

// shares returns how many of n requests, all answered, went where.
func (r *rig) shares(n int) map[string]int {
	shares := map[string]int{}
	for range n {
		shares[r.try(200, nil)]++
	}
	return shares
}
