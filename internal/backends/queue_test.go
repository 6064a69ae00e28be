package backends

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
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
	synctest.Test(t, func(t *testing.T) { // time passes at once
		const n, rate = 20, 100
		q := newQueue(rate, &sync.RWMutex{})
		working, end := context.WithCancel(t.Context())
		go q.work(working) // ends with its context
		ctx, leave := context.WithCancel(t.Context())
		began := time.Now()
		var gone sync.WaitGroup
		for range n {
			gone.Go(func() {
				if err := q.wait(ctx); err == nil {
					t.Error("one whose client has left is served at once")
				}
			})
		}
		synctest.Wait()
		leave()
		gone.Wait()
		if err := q.wait(t.Context()); err != nil {
			t.Error(err)
		}
		if took, want := time.Since(began), (n+1)*time.Second/rate; took != want {
			t.Errorf("answered after %v, behind %d abandoned requests of 10 ms, want %v", took, n,
				want)
		}
		end()
	})
}

// After a freeze all come at once: the queue takes its 200, and one is served.
func TestFullQueue(t *testing.T) {
	const n = queueLength + 300 // which take 3 s to be served
	g, ask := limited(t, 100)
	g.Freeze()
	var ok, full atomic.Int64
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			switch ask(t.Context()) {
			case http.StatusOK:
				ok.Add(1)
			case http.StatusServiceUnavailable:
				full.Add(1)
			}
		})
	}
	for g.Requests(0) < n {
		time.Sleep(time.Millisecond)
	}
	if ok.Load()+full.Load() > 0 {
		t.Error("a frozen backend has answered")
	}
	g.Thaw()
	all.Wait()
	if ok.Load() < queueLength || full.Load() == 0 || ok.Load()+full.Load() != n {
		t.Errorf("%d were served and %d turned away, of %d", ok.Load(), full.Load(), n)
	}
}
