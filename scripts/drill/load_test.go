package main

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"reverseproxy/internal/harness"
)

// fullSpeed skips a test that takes long and measures what holds at full speed.
func fullSpeed(t *testing.T) {
	t.Helper()
	if harness.Race || testing.Short() {
		t.Skip("takes half a minute, and is a matter of speed")
	}
}

// The drills do little but wait, so all are run at once.
func TestDeadAndStorm(t *testing.T) {
	fullSpeed(t)
	var all sync.WaitGroup
	for _, c := range []struct {
		folder string
		rate   int
		loses  bool // GETs
	}{{"ch6_keep_alive", 60, true}, {"ch7_timeouts_retries", 1, false},
		{"ch7_timeouts_retries", 200, false}} {
		all.Go(func() { // ends with its drill
			t.Run(fmt.Sprint("dead/", c.folder, "/", c.rate), func(t *testing.T) {
				r, err := new(dead).run(t.Context(), chapter(c.folder), c.rate)
				if err != nil {
					t.Fatal(err)
				}
				if (r.LostGETs > 0) != c.loses {
					t.Errorf("%d of %d GETs are lost", r.LostGETs, r.GETs)
				}
				if r.Twice > 0 {
					t.Errorf("%d POSTs are processed twice", r.Twice)
				}
			})
		})
	}
	for _, c := range []struct {
		budget      string
		best, worst float64 // bounds of what stormResult has
	}{{"0", 0.5, 0}, {"100", 1, 0.95}} {
		all.Go(func() { // ends with its drill
			t.Run("storm/budget "+c.budget, func(t *testing.T) {
				s := chapter("ch7_timeouts_retries", "-retry-budget", c.budget)
				r, err := storm(t.Context(), s)
				if err != nil {
					t.Fatal(err)
				}
				t.Logf("goodput %.2f before, at best %.2f just after, at worst %.2f later",
					r.Before, r.Best, r.Worst)
				if r.Before < 0.99 || r.Best > c.best || r.Worst < c.worst {
					t.Errorf("want 1, at most %.2f, at least %.2f", c.best, c.worst)
				}
			})
		})
	}
	all.Wait()
}

// busy are backends that count, and fail: all at once, or with 503.
type busy struct {
	seen  []atomic.Int32
	wait  chan struct{} // if not nil: first tries are held until it is closed, and broken off
	first atomic.Int32  // how many are held
}

func (b *busy) await(*session) error    { return nil }
func (b *busy) garbage(*session, error) {}
func (b *busy) answer(c *session, r *http.Request) error {
	q, err := parse(r)
	if err != nil {
		return err
	}
	switch n := b.seen[q.id].Add(1); {
	case b.wait == nil:
		_, err := io.WriteString(c, "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
		return err
	case n > 1:
		return usual(c, q, r)
	}
	if int(b.first.Add(1)) == len(b.seen)-1 {
		close(b.wait)
	}
	<-b.wait
	return io.EOF
}

// start starts the backends, and ch7 before them.
func (b *busy) start(t *testing.T, requests int, retryOn string) (addr string) {
	t.Helper()
	b.seen = make([]atomic.Int32, requests+1)
	servers, err := farm(strings.Fields(strings.Repeat("127.0.0.1:0 ", 3)), b)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { killAll(servers) })
	p, err := chapter("ch7_timeouts_retries").start(t.Context(), addrsOf(servers), "-log", "off",
		"-retry-on", retryOn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.stop)
	return p.addr
}

func small(id int) *query { return &query{id: id, method: "GET", shape: "length", size: 1} }

// A full budget covers the failure of 49 requests together: half of 100 tokens, and
// one that must be left.
func TestFortyNineTogether(t *testing.T) {
	const n = 49
	b := &busy{wait: make(chan struct{})}
	addr := b.start(t, n, "broken")
	var all sync.WaitGroup
	for id := 1; id <= n; id++ {
		all.Go(func() { // ends with its answer
			c := &client{addr: addr, patience: tooLong}
			defer c.close()
			if o := c.ask(small(id)); o.err != nil || o.status != http.StatusOK {
				t.Errorf("request %d got status %d, %v", id, o.status, o.err)
			}
		})
	}
	all.Wait()
}

// When all backends are overloaded, other tries are load without use: the budget
// keeps them below a twentieth, from the first second on.
func TestAllBusy(t *testing.T) {
	fullSpeed(t)
	const rate, seconds = 1000, 3
	b := &busy{}
	l := &load{addr: b.start(t, rate*seconds, "503"), rate: rate, last: seconds * time.Second,
		patience: tooLong, query: small}
	for _, s := range l.run(t.Context()) {
		if s.Status != http.StatusServiceUnavailable {
			t.Fatalf("a client got status %d, not its backend's own answer", s.Status)
		}
	}
	for second := range seconds {
		tries := 0
		for id := second*rate + 1; id <= (second+1)*rate; id++ {
			tries += int(b.seen[id].Load())
		}
		t.Logf("second %d: %d tries of %d requests", second+1, tries, rate)
		if tries > rate*105/100 {
			t.Errorf("second %d: %d tries of %d requests", second+1, tries, rate)
		}
	}
}
