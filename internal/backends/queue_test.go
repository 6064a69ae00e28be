package backends

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// limited starts a backend of that capacity, and returns what asks it.
func limited(t *testing.T, perSecond int) (g *Group, ask func(context.Context) int) {
	t.Helper()
	g, err := StartLimited([]string{"127.0.0.1:0"}, perSecond)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return g, func(ctx context.Context) int {
		r, _ := http.NewRequestWithContext(ctx, "GET", "http://"+g.Addrs()[0]+"/bytes?n=2", nil)
		transport := &http.Transport{DisableKeepAlives: true}
		res, err := transport.RoundTrip(r)
		if err != nil {
			return 0
		}
		res.Body.Close()
		return res.StatusCode
	}
}

// Those whose clients have left are served before one that comes after them.
func TestAbandonedRequestsCostTheirTime(t *testing.T) {
	const n, rate = 20, 100
	g, ask := limited(t, rate)
	ctx, leave := context.WithCancel(t.Context())
	var gone sync.WaitGroup
	for range n {
		gone.Go(func() { ask(ctx) })
	}
	for g.Requests(0) < n {
		time.Sleep(time.Millisecond)
	}
	began := time.Now()
	leave()
	gone.Wait()
	if status := ask(t.Context()); status != http.StatusOK {
		t.Fatalf("status %d", status)
	}
	// Those that were served while the rest arrived are left out generously.
	if took := time.Since(began); took < n/2*time.Second/rate {
		t.Errorf("answered after %v, behind %d abandoned requests of 10 ms", took, n)
	}
}

// After a freeze all come at once: the queue takes its 200, and one is served.
func TestFullQueue(t *testing.T) {
	g, ask := limited(t, 100)
	g.Freeze()
	var ok, full atomic.Int64
	var all sync.WaitGroup
	for range queueLength + 60 {
		all.Go(func() {
			switch ask(t.Context()) {
			case http.StatusOK:
				ok.Add(1)
			case http.StatusServiceUnavailable:
				full.Add(1)
			}
		})
	}
	for g.Requests(0) < queueLength+60 {
		time.Sleep(time.Millisecond)
	}
	if ok.Load()+full.Load() > 0 {
		t.Error("a frozen backend has answered")
	}
	g.Thaw()
	all.Wait()
	if ok.Load() < queueLength || full.Load() == 0 || ok.Load()+full.Load() != queueLength+60 {
		t.Errorf("%d were served and %d turned away, of %d", ok.Load(), full.Load(), queueLength+60)
	}
}
