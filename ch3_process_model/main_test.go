//go:build unix

package main

import (
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"

	"reverseproxy/internal/harness"
	"reverseproxy/internal/narrate"
)

func TestMain(m *testing.M) { harness.Main(m) }

func TestScenarios(t *testing.T) {
	t.Run("child per connection", func(t *testing.T) { harness.RunScenarios(t, harness.Fork) })
	t.Run("prefork", func(t *testing.T) { harness.RunScenarios(t, harness.Prefork) })
}

func TestLives(t *testing.T) {
	t.Run("child per connection", func(t *testing.T) { harness.RunLives(t, harness.Fork) })
	t.Run("prefork", func(t *testing.T) { harness.RunLives(t, harness.Prefork) })
}

func TestBadFlags(t *testing.T) {
	for _, flags := range [][]string{{"-max-children", "0"}, {"-max-children", "all"}, {"-prefork", "-1"}, {"-prefork", "some"}} {
		harness.RefusesToStart(t, harness.Fork, 2, flags, flags[0])
	}
}

// held is a client whose request has reached the backend and waits there.
type held struct {
	client, backend *harness.Conn
	conn            uint64 // the connection's number
	pid             int    // of the child that serves it
}

func hold(t *testing.T, p *harness.Proxy, target string) held {
	t.Helper()
	h := held{client: p.Dial(t)}
	h.client.Send("GET " + target + " HTTP/1.1\r\nHost: proxy.test\r\n\r\n")
	h.backend = p.Backend.Accept(t)
	h.backend.Request()
	e := p.WaitEvent(t, "the request for "+target, func(e narrate.Event) bool {
		return e.Step == narrate.ReadRequest && e.Text == "GET "+target
	})
	h.conn = e.Conn
	if _, err := fmt.Sscanf(e.Worker, "child %d", &h.pid); err != nil {
		t.Fatalf("worker %q is no child", e.Worker)
	}
	return h
}

func (h held) release(t *testing.T) {
	t.Helper()
	h.backend.Send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	if got := h.client.Response("GET"); got.Status != 200 || got.Body != "ok" || got.End != "closed" {
		t.Errorf("connection %d ends with %+v", h.conn, got)
	}
}

func closed(conn uint64) func(narrate.Event) bool {
	return func(e narrate.Event) bool { return e.Step == narrate.Close && e.Conn == conn }
}

func TestNoChildAndNoZombieIsLeft(t *testing.T) {
	harness.NeedProc(t)
	n := 1000
	if testing.Short() || harness.Race {
		n = 250
	}
	p := harness.Launch{Model: harness.Fork, Flags: harness.Fork.Demo(1), Plain: true}.Start(t)
	if _, err := p.TryGet("/bytes?n=16"); err != nil {
		t.Fatal(err)
	}
	p.WaitChildren(t, 0)
	before := p.Descriptors(t)
	jobs := make(chan int)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() { // ends when there are no more jobs
			for range jobs {
				if body, err := p.TryGet("/bytes?n=16"); err != nil || body != "000000000000000\n" {
					t.Errorf("%q, %v", body, err)
				}
			}
		})
	}
	for i := range n {
		jobs <- i
	}
	close(jobs)
	all.Wait()
	p.WaitEvents(t, "a child is reaped", n+1, func(e narrate.Event) bool {
		return e.Kind == narrate.KindWorker && strings.HasPrefix(e.Text, "exited and was reaped: exit status 0")
	})
	p.WaitChildren(t, 0)
	p.WaitDescriptors(t, before)
	if s := p.Interrupt(t).Summary; int(s.Connections) != n+1 || s.Failed != 0 || s.CPUSeconds < 0.1 {
		t.Errorf("summary, children's CPU time included: %+v", s)
	}
}

func TestKilledChildCostsOneClient(t *testing.T) {
	for _, test := range []struct {
		model  harness.Model
		signal syscall.Signal
		status string
	}{
		{harness.Fork, syscall.SIGKILL, "signal: killed"},
		{harness.Fork, syscall.SIGQUIT, "exit status 2"},
		{harness.Prefork, syscall.SIGKILL, "signal: killed"},
		{harness.Prefork, syscall.SIGQUIT, "exit status 2"},
	} {
		t.Run(fmt.Sprint(test.model.Name, " ", test.signal), func(t *testing.T) {
			t.Parallel()
			harness.NeedProc(t)
			p := harness.StartWithBackend(t, test.model)
			unlucky, other := hold(t, p, "/unlucky"), hold(t, p, "/other")
			if err := syscall.Kill(unlucky.pid, test.signal); err != nil {
				t.Fatal(err)
			}
			if _, body, err := unlucky.client.TryResponse("GET"); err == nil {
				t.Errorf("its client reads %q", body)
			}
			unlucky.backend.Gone()
			name := fmt.Sprintf("child %d", unlucky.pid)
			report := p.WaitEvent(t, "the parent's report", func(e narrate.Event) bool {
				return e.Kind == narrate.KindWorker && e.Worker == name && strings.HasPrefix(e.Text, "exited")
			})
			if !strings.HasSuffix(report.Text, "reaped: "+test.status) {
				t.Errorf("the parent reports %q, want %q", report.Text, test.status)
			}
			end := p.WaitEvent(t, "close", closed(unlucky.conn))
			if !end.Failed || !strings.Contains(end.Err, name) || !strings.Contains(end.Err, test.status) {
				t.Errorf("its close: %+v", end)
			}
			if test.signal == syscall.SIGQUIT {
				p.WaitStderr(t, "SIGQUIT: quit")
			}
			other.release(t)
			hold(t, p, "/next").release(t)
			p.WaitChildren(t, test.model.Standing)
			if s := p.Interrupt(t).Summary; s.Connections != 3 || s.Failed != 1 {
				t.Errorf("summary: %+v", s)
			}
		})
	}
}

func TestKilledChildIsReportedInWords(t *testing.T) {
	harness.NeedProc(t)
	p := harness.StartWithBackend(t, harness.Fork, "-log", "text")
	c := p.Dial(t)
	c.Send("GET / HTTP/1.1\r\nHost: proxy.test\r\n\r\n")
	p.Backend.Accept(t).Request()
	syscall.Kill(p.WaitChildren(t, 1)[0], syscall.SIGKILL)
	p.WaitLine(t, `^#1 .*child \d+ exited and was reaped: signal: killed$`)
	p.WaitLine(t, `^#1 .*10 .*child \d+ ended before`)
	p.Interrupt(t)
}

// TestChildHoldsOnlyItsOwn looks into a child: it has its client's socket and
// the backend's, neither the listening one nor another client's; and the parent
// has only the listening one.
func TestChildHoldsOnlyItsOwn(t *testing.T) {
	harness.NeedProc(t)
	p := harness.StartWithBackend(t, harness.Fork)
	first, second := hold(t, p, "/first"), hold(t, p, "/second")
	for _, h := range []held{first, second} {
		if n := harness.Sockets(h.pid); n != 2 {
			t.Errorf("a child has %d sockets, want 2", n)
		}
	}
	if n := harness.Sockets(p.PID()); n != 1 {
		t.Errorf("the parent has %d sockets, want 1", n)
	}
	pids := p.Children(t)
	if len(pids) != 2 || first.pid == second.pid || !contains(pids, first.pid) || !contains(pids, second.pid) {
		t.Errorf("the workers are %d and %d, the children %v", first.pid, second.pid, pids)
	}
	first.release(t)
	second.release(t)
	p.Interrupt(t)
}

func contains(list []int, n int) bool {
	for _, m := range list {
		if m == n {
			return true
		}
	}
	return false
}

func TestMaxChildren(t *testing.T) {
	harness.NeedProc(t)
	p := harness.StartWithBackend(t, harness.Fork, "-max-children", "2")
	first, second := hold(t, p, "/first"), hold(t, p, "/second")
	third := p.Dial(t) // the kernel completes the handshake
	third.Send("GET /third HTTP/1.1\r\nHost: proxy.test\r\n\r\n")
	p.WaitIdle(t)
	p.WaitChildren(t, 2)
	first.release(t)
	b := p.Backend.Accept(t)
	b.Request()
	held{client: third, backend: b}.release(t)
	second.release(t)
	p.WaitEvents(t, "a child is reaped", 3, func(e narrate.Event) bool { return strings.HasPrefix(e.Text, "exited") })
	running := 0
	for _, e := range p.Events() {
		switch {
		case e.Step == narrate.Accept:
			running++
		case strings.HasPrefix(e.Text, "exited"):
			running--
		}
		if running > 2 {
			t.Errorf("connection %d is accepted while two children run", e.Conn)
		}
	}
	if s := p.Interrupt(t).Summary; s.Connections != 3 || s.MostAtOnce != 2 || s.Failed != 0 {
		t.Errorf("summary: %+v", s)
	}
}

func TestStandingChildIsReplaced(t *testing.T) {
	harness.NeedProc(t)
	p := harness.StartWithBackend(t, harness.Prefork)
	before := p.WaitChildren(t, 4)
	for range 5 { // sooner than the pause has been reset: it doubles
		victim := p.WaitChildren(t, 4)[0]
		syscall.Kill(victim, syscall.SIGKILL)
		name := fmt.Sprintf("child %d", victim)
		p.WaitEvent(t, "the end of "+name, func(e narrate.Event) bool {
			return e.Worker == name && strings.HasPrefix(e.Text, "exited")
		})
	}
	p.WaitEvents(t, "a child is started", 9, func(e narrate.Event) bool { return e.Text == "started" })
	after := p.WaitChildren(t, 4)
	if contains(after, before[0]) {
		t.Errorf("children %v before, %v after", before, after)
	}
	var all []held
	for i := range 4 { // each of them serves
		all = append(all, hold(t, p, fmt.Sprintf("/%d", i)))
	}
	pids := map[int]bool{}
	for _, h := range all {
		pids[h.pid] = true
		h.release(t)
	}
	if len(pids) != 4 {
		t.Errorf("4 clients at once are served by the children %v", pids)
	}
	if s := p.Interrupt(t).Summary; s.Connections != 4 || s.Failed != 0 {
		t.Errorf("summary: %+v", s)
	}
	p.WaitFamilyGone(t)
}

// TestOrphans kills the parent, which cannot tell its children anything then:
// those who serve finish, and all end.
func TestOrphans(t *testing.T) {
	for _, m := range []harness.Model{harness.Fork, harness.Prefork} {
		t.Run(m.Name, func(t *testing.T) {
			t.Parallel()
			harness.NeedProc(t)
			p := harness.StartWithBackend(t, m)
			h := hold(t, p, "/held")
			p.Signal(syscall.SIGKILL)
			h.release(t)
			p.WaitFamilyGone(t)
			p.Wait(t)
		})
	}
}

// TestChildrenNarrate wants the steps of the children in the parent's output,
// in the words of each format.
func TestChildrenNarrate(t *testing.T) {
	for _, m := range []harness.Model{harness.Fork, harness.Prefork} {
		p := harness.StartWithBackend(t, m)
		h := hold(t, p, "/narrated")
		h.release(t)
		p.WaitEvent(t, "close", closed(h.conn))
		steps := ""
		for _, e := range p.Events() {
			if e.Kind == narrate.KindStep && e.Conn == h.conn {
				steps += fmt.Sprint(int(e.Step), " ")
				if e.Step > narrate.Accept && e.Worker != fmt.Sprintf("child %d", h.pid) {
					t.Errorf("%s: step %d is told by %q", m.Name, e.Step, e.Worker)
				}
			}
		}
		if steps != "4 5 6 7 8 9 10 " {
			t.Errorf("%s: steps %s", m.Name, steps)
		}
		p.Interrupt(t)
	}
}
