package live

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// counting answers every request and counts them and their connections.
type counting struct {
	*http.Server
	addr            string
	conns, requests atomic.Int64
	open            atomic.Int64
	hold            chan struct{} // an answer takes one, if it is not nil
}

func countingServer(t *testing.T, hold chan struct{}, idle time.Duration) *counting {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &counting{addr: l.Addr().String(), hold: hold}
	c.Server = &http.Server{IdleTimeout: idle,
		Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			c.requests.Add(1)
			if c.hold != nil {
				<-c.hold
			}
		}),
		ConnState: func(_ net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				c.conns.Add(1)
				c.open.Add(1)
			case http.StateClosed:
				c.open.Add(-1)
			}
		}}
	go c.Serve(l) // ends when the server is closed
	t.Cleanup(func() { c.Close() })
	return c
}

// eventually waits for what must come.
func eventually(t *testing.T, what string, seen func() bool) {
	t.Helper()
	for limit := time.Now().Add(patience); !seen(); time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("not seen: %s", what)
		}
	}
}

// watcher is a viewer of a page.
type watcher struct {
	number uint64
	conn   net.Conn
	next   func() sse
}

// steadyPage starts a page that watches a proxy, and a viewer.
func steadyPage(t *testing.T, proxy string, keeps bool) (*Server, watcher) {
	t.Helper()
	s := start(t, Config{Keeps: keeps, BackendAddrs: []string{"127.0.0.1:8000"}})
	s.SetProxy(proxy)
	return s, newViewer(t, s)
}

func newViewer(t *testing.T, s *Server) watcher {
	t.Helper()
	c := openStream(t, s)
	w := watcher{conn: c, next: readStream(t, c)}
	var h hello
	if err := json.Unmarshal(w.next().data, &h); err != nil || h.Viewer == 0 {
		t.Fatalf("viewer %d, %v", h.Viewer, err)
	}
	w.number = h.Viewer
	return w
}

// ask sets the rate for a viewer.
func ask(t *testing.T, s *Server, rate int, viewer uint64) (int, string) {
	t.Helper()
	return send(t, s, "POST", "/steady", fmt.Sprintf(`{"rate":%d,"viewer":%d}`, rate, viewer),
		map[string]string{"X-Live-Token": s.token})
}

func mustAsk(t *testing.T, s *Server, rate int, viewer uint64) {
	t.Helper()
	if status, body := ask(t, s, rate, viewer); status != 204 {
		t.Fatalf("rate %d: status %d, %s", rate, status, body)
	}
}

// What nobody watches, or the program cannot do, is not begun.
func TestKeepSendingIsRefused(t *testing.T) {
	proxy := countingServer(t, nil, 0)
	s, viewer := steadyPage(t, proxy.addr, false)
	for _, c := range []struct {
		rate   int
		viewer uint64
		why    string
	}{
		{-1, viewer.number, "between 0 and 50"},
		{51, viewer.number, "between 0 and 50"},
		{10, 0, "that watches"},
		{10, viewer.number + 1, "that watches"},
	} {
		if status, why := ask(t, s, c.rate, c.viewer); status != 409 ||
			!strings.Contains(why, c.why) {
			t.Errorf("%+v: status %d, %s", c, status, why)
		}
	}
	if status, _ := send(t, s, "POST", "/steady", `{"rate":10}`, nil); status != 403 {
		t.Errorf("without a token: status %d, want 403", status)
	}
	alone := start(t, Config{})
	alone.SetProxy(proxy.addr)
	viewer = newViewer(t, alone)
	if status, _ := ask(t, alone, 10, viewer.number); status != 409 {
		t.Errorf("a program that forwards nothing: status %d, want 409", status)
	}
	if rate := s.snapshot().Steady + alone.snapshot().Steady; rate != 0 {
		t.Errorf("it sends %d requests a second", rate)
	}
}

// A connection for each request, or a few for all of them, as the program can.
func TestKeepSending(t *testing.T) {
	for _, keeps := range []bool{false, true} {
		t.Run(fmt.Sprint("kept ", keeps), func(t *testing.T) {
			proxy := countingServer(t, nil, 0)
			s, viewer := steadyPage(t, proxy.addr, keeps)
			mustAsk(t, s, maxRate, viewer.number)
			if rate := s.snapshot().Steady; rate != maxRate {
				t.Errorf("viewers are told of %d requests a second, want %d", rate, maxRate)
			}
			eventually(t, "30 requests", func() bool { return proxy.requests.Load() >= 30 })
			mustAsk(t, s, 0, viewer.number)
			s.shots.running.Wait() // no client is left; what they have sent may still arrive
			eventually(t, "the end of all connections",
				func() bool { return proxy.open.Load() == 0 })
			conns, requests := proxy.conns.Load(), proxy.requests.Load()
			if keeps && conns != keptClients || !keeps && conns != requests {
				t.Errorf("%d requests on %d connections", requests, conns)
			}
		})
	}
}

// A slower rate sends less: between two requests lies their gap, whatever it was before.
func TestRateChanges(t *testing.T) {
	proxy := countingServer(t, nil, 0)
	s, viewer := steadyPage(t, proxy.addr, false)
	mustAsk(t, s, 1, viewer.number)
	mustAsk(t, s, maxRate, viewer.number)
	eventually(t, "10 requests", func() bool { return proxy.requests.Load() >= 10 })
	mustAsk(t, s, 1, viewer.number)
	eventually(t, "what was sent before has come", func() bool {
		s.shots.mu.Lock()
		defer s.shots.mu.Unlock()
		return s.shots.steady.clients == 0
	})
	before, began := proxy.requests.Load(), time.Now()
	eventually(t, "2 more", func() bool { return proxy.requests.Load() >= before+3 })
	if took := time.Since(began); took < time.Second {
		t.Errorf("three requests at one a second took %v", took)
	}
}

// What is due while all clients are at work is left out; the bound holds from one
// stream to the next.
func TestKeepSendingIsBounded(t *testing.T) {
	for keeps, most := range map[bool]int64{false: maxSteady, true: keptClients} {
		hold := make(chan struct{})
		proxy := countingServer(t, hold, 0)
		s, viewer := steadyPage(t, proxy.addr, keeps)
		for range 2 {
			mustAsk(t, s, maxRate, viewer.number)
			eventually(t, fmt.Sprint(most, " clients"), func() bool {
				return proxy.requests.Load() >= most
			})
			mustAsk(t, s, 0, viewer.number)
		}
		mustAsk(t, s, maxRate, viewer.number)
		time.Sleep(5 * time.Second / maxRate) // five are due and must not be sent
		if n := proxy.conns.Load(); n != most {
			t.Errorf("kept %t: %d connections, want %d", keeps, n, most)
		}
		close(hold)
		eventually(t, "more after that", func() bool { return proxy.requests.Load() > most })
	}
}

// The stream ends with the viewer that asked last, and when any viewer stops it.
func TestKeepSendingEnds(t *testing.T) {
	proxy := countingServer(t, nil, 0)
	s, first := steadyPage(t, proxy.addr, true)
	second := newViewer(t, s)
	quiet := func() bool { return s.snapshot().Steady == 0 && proxy.open.Load() == 0 }

	mustAsk(t, s, 10, first.number)
	eventually(t, "a request", func() bool { return proxy.requests.Load() > 0 })
	mustAsk(t, s, 0, second.number)
	eventually(t, "the end by another viewer", quiet)

	mustAsk(t, s, 10, first.number)
	mustAsk(t, s, 20, second.number) // it is the second's now
	first.conn.Close()
	waitForViewers(t, s, 1)
	eventually(t, "a request", func() bool { return proxy.open.Load() > 0 })
	if rate := s.snapshot().Steady; rate != 20 {
		t.Errorf("after another viewer left: %d requests a second, want 20", rate)
	}
	second.conn.Close()
	eventually(t, "the end with its viewer", quiet)
}

// A proxy that ends its connections gets the request on another one; one that
// listens no more ends the stream.
func TestProxyEndsConnections(t *testing.T) {
	proxy := countingServer(t, nil, 30*time.Millisecond)
	s, viewer := steadyPage(t, proxy.addr, true)
	mustAsk(t, s, 20, viewer.number)
	eventually(t, "20 connections", func() bool { return proxy.conns.Load() >= 20 })
	var failed []string
	for seen := 0; seen < 10; {
		e := viewer.next()
		var tick tick
		json.Unmarshal(e.data, &tick)
		for _, r := range tick.Events {
			if r.Text == "done" {
				seen++
			}
			if r.Err != "" {
				failed = append(failed, r.Err)
			}
		}
	}
	if failed != nil {
		t.Errorf("clients failed: %q", failed)
	}
	proxy.Close()
	eventually(t, "the end", func() bool { return s.snapshot().Steady == 0 })
}

// Close ends the stream and waits for its clients.
func TestCloseEndsKeepSending(t *testing.T) {
	hold := make(chan struct{})
	proxy := countingServer(t, hold, 0)
	t.Cleanup(func() { close(hold) })
	s, viewer := steadyPage(t, proxy.addr, true)
	mustAsk(t, s, maxRate, viewer.number)
	eventually(t, "a request", func() bool { return proxy.requests.Load() > 0 })
	s.Close()
	if err := s.shots.keepSending(proxy.addr, true, 1, viewer.number); err == nil {
		t.Error("a stream begins after the end")
	}
}
