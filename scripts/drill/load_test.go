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

// patience is how long a test waits for what must come.
const patience = time.Minute

// fullSpeed skips a test that takes long and measures what holds at full speed.
func fullSpeed(t *testing.T) {
	t.Helper()
	if harness.Race || testing.Short() {
		t.Skip("takes half a minute, and is a matter of speed")
	}
}

// motionHere is how slowly the drills must run for a machine to bear them that has other things
// to do. It measures how much the test itself can ask and answer.
func motionHere(t *testing.T) slowMotion {
	t.Helper()
	const needed, most = 20_000, 3 // requests a second, of a machine with nothing else to do
	b := &busy{seen: make([]atomic.Int32, 2)}
	servers, err := farm([]string{"127.0.0.1:0"}, b)
	if err != nil {
		t.Fatal(err)
	}
	defer killAll(servers)
	began := time.Now()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() { // ends after half a second
			c := &client{addr: addrsOf(servers)[0], patience: tooLong, idle: idleTime}
			defer c.close()
			for time.Since(began) < time.Second/2 {
				c.ask(small(1))
			}
		})
	}
	all.Wait()
	rate := float64(b.seen[1].Load()) / time.Since(began).Seconds()
	m := slowMotion(min(max(1, needed/rate+0.5), most))
	t.Logf("%.0f requests a second: the drills run %d times slower", rate, m)
	return m
}

// The drills do little but wait, so all are run at once.
func TestDead(t *testing.T) {
	fullSpeed(t)
	motion := motionHere(t)
	var all sync.WaitGroup
	for _, c := range []struct {
		folder string
		rate   int
		loses  bool // GETs
	}{{"ch6_keep_alive", 60, true}, {"ch7_timeouts_retries", 1, false},
		{"ch7_timeouts_retries", 200, false}} {
		all.Go(func() { // ends with its drill
			t.Run(fmt.Sprint(c.folder, "/", c.rate), func(t *testing.T) {
				r, err := (&dead{motion: motion}).run(t.Context(), chapter(c.folder), c.rate)
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
	all.Wait()
}

// The storm without a budget is one of tries, which takes the machine's time: these two are run
// one after the other.
func TestStorm(t *testing.T) {
	fullSpeed(t)
	for _, c := range []struct {
		budget              string
		before, best, worst float64 // bounds of what stormResult has
	}{
		{"0", 0, 0.5, 0}, // a machine that stands still begins the storm before the freeze does
		{"100", 0.99, 1, 0.95},
	} {
		t.Run("budget "+c.budget, func(t *testing.T) {
			s := chapter("ch7_timeouts_retries", "-retry-budget", c.budget)
			r, err := storm(t.Context(), s, max(2, motionHere(t)))
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("goodput %.2f before, at best %.2f just after, at worst %.2f later",
				r.Before, r.Best, r.Worst)
			if r.Before < c.before || r.Best > c.best || r.Worst < c.worst {
				t.Errorf("want at least %.2f, at most %.2f, at least %.2f", c.before, c.best,
					c.worst)
			}
		})
	}
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
		"-retry-on", retryOn, "-server-timeout", patience.String())
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
			c := &client{addr: addr, patience: patience, idle: idleTime}
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
		patience: patience, query: small, motion: motionHere(t)}
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
