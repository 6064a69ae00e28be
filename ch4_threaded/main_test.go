//go:build unix

package main

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"reverseproxy/internal/harness"
	"reverseproxy/internal/narrate"
)

func TestMain(m *testing.M) { harness.Main(m) }

func TestScenarios(t *testing.T) { harness.RunScenarios(t, harness.Threaded) }

func TestLives(t *testing.T) { harness.RunLives(t, harness.Threaded) }

func TestBadFlags(t *testing.T) {
	for _, value := range []string{"0", "-1", "many"} {
		harness.RefusesToStart(t, harness.Threaded, 2, []string{"-max-conns", value}, "-max-conns")
	}
}

// hold has n clients ask for something and returns them with their backend
// connections, which have not answered.
func hold(t *testing.T, p *harness.Proxy, n int) (clients, backends []*harness.Conn) {
	t.Helper()
	for range n {
		c := p.Dial(t)
		c.Send("GET /held HTTP/1.1\r\nHost: proxy.test\r\n\r\n")
		b := p.Backend.Accept(t)
		b.Request()
		clients, backends = append(clients, c), append(backends, b)
	}
	return clients, backends
}

func release(t *testing.T, client, backend *harness.Conn) {
	t.Helper()
	backend.Send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	if got := client.Response("GET"); got.Status != 200 || got.Body != "ok" {
		t.Errorf("a held client reads %+v", got)
	}
}

func TestMaxConns(t *testing.T) {
	p := harness.StartWithBackend(t, harness.Threaded, "-max-conns", "2")
	clients, backends := hold(t, p, 2)
	third := p.Dial(t) // the kernel completes the handshake
	third.Send("GET /third HTTP/1.1\r\nHost: proxy.test\r\n\r\n")
	release(t, clients[0], backends[0])
	b := p.Backend.Accept(t)
	b.Request()
	release(t, third, b)
	release(t, clients[1], backends[1])
	p.WaitEvents(t, "close", 3, func(e narrate.Event) bool { return e.Step == narrate.Close })

	open := 0
	for _, e := range p.Events() {
		switch e.Step {
		case narrate.Accept:
			open++
		case narrate.Close:
			open--
		}
		if open > 2 {
			t.Errorf("connection %d is accepted while 2 others are open", e.Conn)
		}
	}
	if s := p.Interrupt(t).Summary; s.Connections != 3 || s.MostAtOnce != 2 || s.Failed != 0 {
		t.Errorf("summary: %+v", s)
	}
}

func TestGoroutineForEach(t *testing.T) {
	p := harness.StartWithBackend(t, harness.Threaded)
	clients, backends := hold(t, p, 10)
	workers := map[string]bool{}
	for _, e := range p.WaitEvents(t, "read request", 10, isRequest) {
		workers[e.Worker] = strings.HasPrefix(e.Worker, "goroutine ")
	}
	if len(workers) != 10 {
		t.Errorf("10 clients at once are served by %v", workers)
	}
	for i := range clients {
		release(t, clients[i], backends[i])
	}
	if s := p.Interrupt(t).Summary; s.Connections != 10 || s.MostAtOnce != 10 || s.Failed != 0 {
		t.Errorf("summary: %+v", s)
	}
}

func isRequest(e narrate.Event) bool { return e.Step == narrate.ReadRequest }

func TestOSThreads(t *testing.T) {
	harness.NeedProc(t)
	const n = 50
	p := harness.StartWithBackend(t, harness.OSThreads, "-server-timeout", "1m")
	clients, backends := hold(t, p, n)
	threads := map[string]bool{}
	for _, e := range p.WaitEvents(t, "read request", n, isRequest) {
		var tid int
		if _, err := fmt.Sscanf(e.Worker, "thread %d", &tid); err != nil {
			t.Errorf("worker %q is no thread", e.Worker)
		}
		threads[fmt.Sprint(tid)] = true
	}
	if len(threads) != n || p.Threads(t) < n {
		t.Errorf("%d clients at once are served by %d of %d threads", n, len(threads), p.Threads(t))
	}
	for i := range clients {
		release(t, clients[i], backends[i])
	}
	delete(threads, fmt.Sprint(p.PID())) // the first thread stays as long as the process
	for tid := range threads {
		p.WaitThreadGone(t, tid)
	}
	p.Interrupt(t)
}

func TestOSThreadsAndResets(t *testing.T) {
	harness.NeedProc(t)
	p := harness.StartWithBackend(t, harness.OSThreads)
	for _, s := range harness.Scenarios {
		if s.Name == "clients that reset before they are accepted" {
			s.Check(t, p)
			p.Interrupt(t)
			return
		}
	}
	t.Error("that scenario is gone")
}

func TestOSThreadsAndCtrlC(t *testing.T) {
	p := harness.StartWithBackend(t, harness.OSThreads, "-max-conns", "3")
	clients, backends := hold(t, p, 3)
	for i := range clients {
		release(t, clients[i], backends[i])
	}
	if s := p.Interrupt(t).Summary; s.Connections != 3 || s.Failed != 0 {
		t.Errorf("summary: %+v", s)
	}
}

// TestSummaryTellsItsOwnMemory starts the program from a process that has had
// 150 MB resident: that figure must not turn up in the summary.
func TestSummaryTellsItsOwnMemory(t *testing.T) {
	harness.NeedProc(t)
	large := make([]byte, 150<<20)
	for i := 0; i < len(large); i += 4096 {
		large[i] = 1
	}
	p := harness.Launch{Model: harness.Threaded, Flags: harness.Threaded.Demo(1),
		Plain: true}.Start(t)
	if got := p.Get(t, "/bytes?n=16"); got.Status != 200 {
		t.Fatalf("%+v", got)
	}
	peak := p.PeakMemory(t)
	s := p.Interrupt(t).Summary
	if s.PeakMemory < peak || s.PeakMemory > peak+20<<20 {
		t.Errorf("the summary says %.1f MB, it was %.1f MB", float64(s.PeakMemory)/1e6,
			float64(peak)/1e6)
	}
	runtime.KeepAlive(large)
}
