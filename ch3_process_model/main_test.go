//go:build unix

package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"reverseproxy/internal/harness"
	"reverseproxy/internal/narrate"
	"reverseproxy/internal/proc"
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
	for _, flags := range [][]string{{"-max-children", "0"}, {"-max-children", "all"},
		{"-prefork", "-1"}, {"-prefork", "some"}} {
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
	if got := h.client.Response("GET"); got.Status != 200 || got.Body != "ok" ||
		got.End != "closed" {
		t.Errorf("connection %d ends with %+v", h.conn, got)
	}
}

func state(state string) func(narrate.Event) bool {
	return func(e narrate.Event) bool { return e.State == state }
}

func accepted(e narrate.Event) bool { return e.Step == narrate.Accept }

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
	p.WaitIdle(t)
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
		return e.Kind == narrate.KindWorker && strings.HasPrefix(e.Text, "exited and was reaped: "+
			"exit status 0")
	})
	p.WaitChildren(t, 0)
	p.WaitDescriptors(t, before)
	if s := p.Interrupt(t).Summary; int(s.Connections) != n+1 || s.Failed != 0 ||
		s.CPUSeconds < 0.1 {
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
				return e.Kind == narrate.KindWorker && e.Worker == name &&
					strings.HasPrefix(e.Text, "exited")
			})
			if !strings.HasSuffix(report.Text, "reaped: "+test.status) {
				t.Errorf("the parent reports %q, want %q", report.Text, test.status)
			}
			end := p.WaitEvent(t, "close", closed(unlucky.conn))
			if !end.Failed || !strings.Contains(end.Err, name) ||
				!strings.Contains(end.Err, test.status) {
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
		p.WaitSockets(t, h.pid, 2)
	}
	p.WaitSockets(t, p.PID(), 1) // it closes its copy when the child may long be at work
	pids := p.Children(t)
	if len(pids) != 2 || first.pid == second.pid || !contains(pids, first.pid) ||
		!contains(pids, second.pid) {
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
	p.WaitEvents(t, "a child is reaped", 3, state(narrate.Exited))
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
	p.WaitEvents(t, "a child is started", 9, state(narrate.Started))
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

// TestFamilyIsTerminated sends SIGTERM to the parent and all children at once,
// as systemd and pkill do: a request in flight is answered, also one whose child
// has only just been started.
func TestFamilyIsTerminated(t *testing.T) {
	for _, m := range []harness.Model{harness.Fork, harness.Prefork} {
		t.Run(m.Name, func(t *testing.T) {
			harness.NeedProc(t)
			for range 20 {
				p := harness.StartWithBackend(t, m)
				h := hold(t, p, "/held")
				var early []*harness.Conn // perhaps their children do not run yet
				for range 3 {
					c := p.Dial(t)
					c.Send("GET /early HTTP/1.1\r\nHost: proxy.test\r\n\r\n")
					early = append(early, c)
				}
				p.WaitEvents(t, "all are accepted", 4, accepted)
				for _, pid := range append(p.Children(t), p.PID()) {
					syscall.Kill(pid, syscall.SIGTERM)
				}
				h.release(t)
				for range early {
					b := p.Backend.Accept(t)
					b.Request()
					b.Send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
				}
				for _, c := range early {
					if got := c.Response("GET"); got.Status != 200 || got.Body != "ok" {
						t.Errorf("a request in flight ends with %+v", got)
					}
				}
				e := p.Wait(t)
				if s := e.Summary; e.Code != 0 || s == nil || s.Connections != 4 || s.Failed != 0 {
					t.Errorf("exit status %d, summary %+v", e.Code, e.Summary)
				}
				p.WaitFamilyGone(t)
			}
		})
	}
}

// TestTerminatedChild sends SIGTERM to one standing child that waits: it ends,
// and another takes its place.
func TestTerminatedChild(t *testing.T) {
	harness.NeedProc(t)
	p := harness.StartWithBackend(t, harness.Prefork)
	h := hold(t, p, "/first")
	h.release(t)
	pid := h.pid // it runs, for it has served
	p.WaitEvent(t, "close", closed(h.conn))
	syscall.Kill(pid, syscall.SIGTERM)
	e := p.WaitEvent(t, "its end", state(narrate.Exited))
	if e.Worker != fmt.Sprint("child ", pid) || !strings.HasSuffix(e.Text, "exit status 0") {
		t.Errorf("%+v, want the end of child %d", e, pid)
	}
	p.WaitEvents(t, "a child is started", 5, state(narrate.Started))
	hold(t, p, "/next").release(t)
	p.Interrupt(t)
}

// TestRestartAfterKill kills the parent while a standing child serves: the port
// is free at once, and the client is served to its end.
func TestRestartAfterKill(t *testing.T) {
	harness.NeedProc(t)
	p := harness.StartWithBackend(t, harness.Prefork, "-listen", proc.FreeAddr())
	h := hold(t, p, "/held")
	p.Signal(syscall.SIGKILL)
	for end := time.Now().Add(harness.Patience); ; time.Sleep(5 * time.Millisecond) {
		c, err := net.Dial("tcp", p.Addr)
		if err != nil {
			break // nobody listens, and no client waits for nothing
		}
		c.Close()
		if time.Now().After(end) {
			t.Fatal("the port still listens, and nobody serves it")
		}
	}
	again := harness.StartWithBackend(t, harness.Prefork, "-listen", p.Addr)
	hold(t, again, "/again").release(t)
	h.release(t)
	again.Interrupt(t)
	p.WaitFamilyGone(t)
	p.Wait(t)
}

// TestProgramDeleted takes the program's file away while it runs, and puts
// another one in its place.
func TestProgramDeleted(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux keeps the way to a program whose file is gone")
	}
	for _, m := range []harness.Model{harness.Fork, harness.Prefork} {
		copied := filepath.Join(t.TempDir(), "ch3_process_model")
		program, err := os.ReadFile(harness.Build(t, m.Folder))
		if err == nil {
			err = os.WriteFile(copied, program, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
		under := []string{"sh", "-c", `shift; exec "$0" "$@"`, copied}
		p := harness.Launch{Model: m, Under: under}.StartWithBackend(t)
		hold(t, p, "/before").release(t)
		os.Remove(copied)
		if m.Standing > 0 {
			syscall.Kill(p.WaitChildren(t, m.Standing)[0], syscall.SIGKILL)
			p.WaitEvents(t, "a child is started", m.Standing+1, state(narrate.Started))
		}
		hold(t, p, "/deleted").release(t)
		if err := os.WriteFile(copied, []byte("#!/bin/sh\nexit 3\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		h := hold(t, p, "/replaced")
		name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", h.pid))
		if string(name) != "ch3_process_mod\n" {
			t.Errorf("%s: ps and pkill know the child as %q", m.Name, name)
		}
		h.release(t)
		p.Interrupt(t)
	}
}

// TestNoTemporaryFolder: -prefork needs none where there is memfd_create.
func TestNoTemporaryFolder(t *testing.T) {
	env := []string{"TMPDIR=/does/not/exist"}
	if runtime.GOOS != "linux" {
		e := harness.Launch{Model: harness.Prefork, Env: env}.Spawn(t).Wait(t)
		if e.Code != 1 || e.Stdout != "" || strings.Count(e.Stderr, "\n") != 1 {
			t.Errorf("%+v, want exit status 1 and the reason, before it is ready", e)
		}
		return
	}
	p := harness.Launch{Model: harness.Prefork, Env: env}.StartWithBackend(t)
	hold(t, p, "/held").release(t)
	p.Interrupt(t)
}

// TestPreforkFitsDescriptors asks for more standing children than ulimit -n has
// room for.
func TestPreforkFitsDescriptors(t *testing.T) {
	harness.NeedProc(t)
	m := harness.Prefork
	m.Flags, m.Standing = []string{"-prefork", "100"}, 10 // 64 - 24 - 2*4 descriptors, 3 for each
	under := []string{"sh", "-c", `ulimit -n 64; exec "$0" "$@"`}
	p := harness.Launch{Model: m, Under: under}.StartWithBackend(t)
	p.WaitChildren(t, m.Standing)
	hold(t, p, "/held").release(t)
	problems := 0
	for _, e := range p.Events() {
		if e.Kind == narrate.KindProblem {
			problems++
			if !strings.Contains(e.Err, "ulimit -n") || !strings.Contains(e.Err, "room for 10 ") {
				t.Errorf("problem: %s", e.Err)
			}
		}
	}
	if problems != 1 {
		t.Errorf("%d problems are told, want one: that there are fewer", problems)
	}
	p.Interrupt(t)
}

// TestKilledUnderLoad kills standing children again and again while clients
// come, and compares the counts with what was told of each connection.
func TestKilledUnderLoad(t *testing.T) {
	harness.NeedProc(t)
	m := harness.Prefork
	m.Flags, m.Standing = []string{"-prefork", "16"}, 16
	p := harness.Start(t, m, m.Demo(1)...)
	over := make(chan struct{})
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() { // ends when the last child has been killed
			for {
				select {
				case <-over:
					return
				default:
					p.TryGet("/bytes?n=16") // many fail: their children are killed
				}
			}
		})
	}
	p.WaitEvents(t, "a child is started", m.Standing, state(narrate.Started))
	for reaped := 0; reaped < 60; reaped++ {
		pids := p.Children(t)
		for ; len(pids) == 0; pids = p.Children(t) { // each place pauses before its next child
			time.Sleep(time.Millisecond)
		}
		syscall.Kill(pids[reaped%len(pids)], syscall.SIGKILL)
		p.WaitEvents(t, "a child is reaped", reaped+1, state(narrate.Exited))
	}
	close(over)
	all.Wait()
	p.WaitEvents(t, "all are started again", m.Standing+60, state(narrate.Started))
	start := time.Now()
	e := p.Interrupt(t)
	if d := time.Since(start); d > 4900*time.Millisecond { // one in flight gets 5 s
		t.Errorf("the end takes %v: something is thought to be in flight", d)
	}
	conns, requests, failed := map[uint64]bool{}, 0, 0
	for _, e := range p.Events() {
		if e.Conn != 0 {
			conns[e.Conn] = conns[e.Conn] || e.Step == narrate.Close
		}
		if e.Kind == narrate.KindRequest {
			requests++
		}
		if e.Step == narrate.Close && e.Failed {
			failed++
		}
	}
	for conn, closed := range conns {
		if !closed {
			t.Errorf("connection %d is not closed", conn)
		}
	}
	if s := e.Summary; int(s.Connections) != len(conns) || int(s.Requests) != requests ||
		int(s.Failed) != failed || failed == 0 {
		t.Errorf("summary %+v, but told: %d connections, %d requests, %d failed",
			s, len(conns), requests, failed)
	}
}

// TestRefusedClientIsNotHeld lowers the limit on open files while the program
// runs, so that it can accept, but start no child. The client is told, and its
// socket is given back, although it does not close its end.
func TestRefusedClientIsNotHeld(t *testing.T) {
	harness.NeedProc(t)
	p := harness.StartWithBackend(t, harness.Fork)
	hold(t, p, "/before").release(t)
	p.WaitChildren(t, 0)
	limitFiles(t, p.PID(), 7) // its socket, two copies, a pipe, /dev/null twice; none for fork
	c := p.Dial(t)
	c.Send("GET /refused HTTP/1.1\r\nHost: proxy.test\r\n\r\n")
	if got := c.Response("GET"); got.Status != 503 {
		t.Errorf("a client for whom no child can be started reads %+v", got)
	}
	start := time.Now()
	p.WaitEvent(t, "its close", closed(2))
	if d := time.Since(start); d > 4900*time.Millisecond {
		t.Errorf("its socket is held for %v more; it is silent, and 1 s is enough", d)
	}
	p.Interrupt(t)
}
