package keep

import (
	"errors"
	"net"
	"slices"
	"testing"
	"time"

	"reverseproxy/ch2_basic_proxy/forward"
	"reverseproxy/ch4_threaded/workers"
	"reverseproxy/internal/cli"
	"reverseproxy/internal/narrate"
)

// newPool returns a pool with the flags' defaults, and what is narrated to it.
func newPool(t *testing.T) (*Pool, *narrate.Conn) {
	t.Helper()
	app := cli.New("127.0.0.1:8000")
	settings = forward.Flags(app)
	p := Flags(app, workers.Flags(app))
	app.Log = narrate.New(narrate.Off)
	if err := p.check(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p, app.Log.AcceptFrom("")
}

var settings *forward.Settings

// the returns the client's n-th request.
func the(n int, log *narrate.Conn) *forward.Request {
	ours, _ := net.Pipe()
	c := forward.NewClient(ours, settings, log)
	c.Requests = n
	return &forward.Request{Client: c}
}

// listen starts a backend that accepts and does no more.
func listen(t *testing.T) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

// fresh gets a connection to addr that must be a fresh one.
func fresh(t *testing.T, p *Pool, addr string, log *narrate.Conn) *forward.Backend {
	t.Helper()
	before := p.fresh
	b, err := p.Get(addr, the(1, log), log)
	if err != nil || p.fresh != before+1 {
		t.Fatalf("no fresh connection: %v", err)
	}
	return b
}

// The one used last is taken first, the oldest makes room, and a connection is
// never another backend's.
func TestStack(t *testing.T) {
	p, log := newPool(t)
	one, two := listen(t), listen(t)
	var all []*forward.Backend
	for _, addr := range []string{one, two, one, two} {
		all = append(all, fresh(t, p, addr, log))
	}
	r := the(2, log)
	for _, b := range all {
		p.Put(b, r, log)
	}
	for _, want := range []*forward.Backend{all[2], all[0]} {
		if got, err := p.Get(one, r, log); err != nil || got != want {
			t.Errorf("got %p, %v, want %p", got, err, want)
		}
	}
	p.Put(all[2], r, log)
	p.Put(all[0], r, log)

	p.mu.Lock()
	p.most = p.open // from now on each connection needs another one's descriptor
	p.mu.Unlock()
	var left []*forward.Backend
	for range 4 {
		fresh(t, p, one, log)
		p.mu.Lock() // the sweep comes when it will
		for _, idle := range p.idle {
			for _, i := range idle {
				left = append(left, i.backend)
			}
		}
		p.mu.Unlock()
	}
	// Of the two that had been idle longest, which were two's, one went at each
	// step, then those of one.
	count := func(b *forward.Backend) (n int) {
		for _, l := range left {
			if l == b {
				n++
			}
		}
		return n
	}
	got := []int{count(all[1]), count(all[3]), count(all[2]), count(all[0])}
	if want := []int{0, 1, 2, 3}; !slices.Equal(got, want) {
		t.Errorf("looks for which they stayed: %v, want %v", got, want)
	}
	if p.open != p.most {
		t.Errorf("%d connections are open, %d were possible", p.open, p.most)
	}
}

// Every connection that Get made is counted until it is closed, however it ends.
func TestOpenIsCounted(t *testing.T) {
	p, log := newPool(t)
	addr := listen(t)
	r := the(2, log)
	p.Size = 2
	var all []*forward.Backend
	for range 5 {
		all = append(all, fresh(t, p, addr, log))
	}
	for _, b := range all {
		p.Put(b, r, log)
	}
	if p.open != 2 {
		t.Errorf("%d are open, 2 may be idle", p.open)
	}
	if _, err := p.Get("127.0.0.1:1", r, log); err == nil || p.open != 2 {
		t.Errorf("after a connection that failed (%v) %d are open", err, p.open)
	}
	p.Close()
	if p.open != 0 {
		t.Errorf("after Close %d are open", p.open)
	}
	b := fresh(t, p, addr, log)
	if p.Put(b, r, log); p.open != 0 {
		t.Errorf("what came back after Close is kept")
	}
}

func TestSweep(t *testing.T) {
	p, log := newPool(t)
	b := fresh(t, p, listen(t), log)
	p.Timeout = 20 * time.Millisecond
	p.Put(b, the(1, log), log)
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		p.mu.Lock()
		open, sweeping := p.open, p.sweeping
		p.mu.Unlock()
		if open == 0 && !sweeping {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d open, sweeping %v", open, sweeping)
		}
	}
}

// Which requests are sent once more.
func TestAgain(t *testing.T) {
	log := narrate.New(narrate.Off).AcceptFrom("")
	stale := func(sent bool) error { return &forward.Error{Stale: true, Sent: sent} }
	for _, c := range []struct {
		name, method string
		err          error
		want         bool
	}{
		{"a race", "GET", stale(true), true},
		{"HEAD", "HEAD", stale(true), true},
		{"OPTIONS", "OPTIONS", stale(true), true},
		{"TRACE", "TRACE", stale(true), true},
		{"PUT", "PUT", stale(true), true},
		{"DELETE", "DELETE", stale(true), true},
		{"QUERY", "QUERY", stale(true), true},
		{"POST", "POST", stale(true), false},
		{"PATCH", "PATCH", stale(true), false},
		{"methods are case-sensitive", "get", stale(true), false},
		{"POST, nothing written", "POST", stale(false), true},
		{"no race", "GET", &forward.Error{Sent: true}, false},
		{"answered", "GET", &forward.Error{Stale: true, Answered: true}, false},
		{"another error", "GET", errors.New("?"), false},
		{"none", "GET", nil, false},
	} {
		r := &forward.Request{}
		r.Method = []byte(c.method)
		if got := (&Pool{}).Again(r, c.err, log); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
