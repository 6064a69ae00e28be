//go:build unix

package kept

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"reverseproxy/internal/harness"
	"reverseproxy/internal/narrate"
	"reverseproxy/internal/proc"
)

// A client that leaves between its requests is no failure.
func (k chapter) clientLeavesWhileIdle(t *testing.T) {
	p := k.start(t)
	for _, leave := range []func(*harness.Conn){
		func(c *harness.Conn) { c.Close() }, (*harness.Conn).Reset,
	} {
		c := p.Dial(t)
		c.Send(get("/"))
		b := p.Backend.Accept(t)
		serves(t, b, "GET /", answer("x"))
		wants(t, c, 200, "x")
		p.WaitEvent(t, "idle", func(e narrate.Event) bool { return e.Kind == narrate.KindIdle })
		leave(c)
	}
	p.WaitEvents(t, "close", 2, func(e narrate.Event) bool {
		return e.Step == narrate.Close && e.Err == ""
	})
	pooled(t, p, "", narrate.Closed, "it left")
	if s := p.Interrupt(t).Summary; s.Failed != 0 || s.Requests != 2 {
		t.Errorf("summary: %+v", s)
	}
}

// A client that leaves midway cancels the backend's work, and that connection
// carries nothing more.
func (k chapter) clientLeavesMidway(t *testing.T) {
	p, b := k.idle(t)
	c := p.Dial(t)
	c.Send(get("/work"))
	b.Request()
	time.Sleep(50 * time.Millisecond) // it is watched from now on
	c.Reset()
	b.Gone()
	pooled(t, p, p.Backend.Addr, narrate.Closed, "given up")
}

// Ctrl+C closes idle clients and idle connections at once. Requests in hand are
// answered, and their clients told that there will be no more.
func (k chapter) ctrlC(t *testing.T) {
	const idleClients, busyClients = 100, 5
	p := k.start(t)
	var idle, busy, backends []*harness.Conn
	for i := range idleClients + busyClients {
		c := p.Dial(t)
		c.Send(get("/first"))
		b := p.Backend.Accept(t)
		serves(t, b, "GET /first", answer("x"))
		wants(t, c, 200, "x")
		if i < idleClients {
			idle = append(idle, c)
		} else {
			busy = append(busy, c)
		}
		backends = append(backends, b)
	}
	p.WaitPooled(t, idleClients+busyClients)
	for _, c := range busy {
		c.Send(get("/busy") + get("/unheard"))
	}
	p.WaitPooled(t, idleClients) // those used last are taken first
	p.CtrlC()
	for _, c := range append(idle, backends[:idleClients]...) {
		same(t, "an idle one", "closed", c.End())
	}
	// And that before the end of all, in 5 s: the busy ones can yet be answered.
	for _, b := range backends[idleClients:] {
		serves(t, b, "GET /busy", answer("late"))
	}
	for _, c := range busy {
		same(t, "Connection", "close", wants(t, c, 200, "late"))
		same(t, "a busy one", "closed", c.End())
	}
	for _, b := range backends[idleClients:] {
		same(t, "its backend's", "closed", b.End())
	}
	e := p.Wait(t)
	if s := e.Summary; e.Code != 0 || s == nil || s.Failed != 0 || s.MostAtOnce > busyClients {
		t.Errorf("exit status %d, summary %+v, want at most %d at once", e.Code, s, busyClients)
	}
}

// Many clients of all kinds leave no goroutine and no descriptor behind.
func (k chapter) nothingLeft(t *testing.T) {
	harness.NeedProc(t)
	one := func(p *harness.Proxy, served int) {
		c := p.Dial(t)
		c.Send(get("/bytes?n=1"))
		wants(t, c, 200, "")
		c.Close()
		p.WaitEvents(t, "close", served, step(narrate.Close))
		p.WaitPooled(t, 0)
		p.WaitIdle(t)
	}
	run := func() *harness.Proxy {
		m := k.brief()
		p := harness.Start(t, m, append(m.Demo(3), "-reuse", "always")...)
		one(p, 1)
		return p
	}
	fresh := run()
	kinds := fresh.Goroutines(t)

	p := run()
	before := p.Descriptors(t)
	var all sync.WaitGroup
	for i := range 64 {
		all.Go(func() { // ends with its client
			for n := range 5 {
				conn, err := net.Dial("tcp", p.Addr)
				if err != nil {
					t.Error(err)
					return
				}
				switch (i + n) % 4 {
				case 0: // leaves in silence
				case 1: // leaves between its requests
					fmt.Fprint(conn, get("/bytes?n=10")+get("/bytes?n=10"))
					conn.Read(make([]byte, 10))
				case 2: // leaves midway
					fmt.Fprint(conn, request("POST /echo", "Content-Length: 100000\r\n", ""))
					fmt.Fprint(conn, strings.Repeat("x", 5000))
				case 3: // speaks nonsense
					fmt.Fprint(conn, get("/bytes?n=1")+"nonsense\r\n\r\n")
					conn.Read(make([]byte, 10))
				}
				conn.Close()
			}
		})
	}
	all.Wait()
	p.WaitDescriptors(t, before)
	one(p, 1+64*5+1)
	if diff := cmp.Diff(kinds, p.Goroutines(t)); diff != "" {
		t.Errorf("goroutines after the first client (-) and after all (+):\n%s", diff)
	}
}

// When descriptors run short, idle connections make room: with 64 of them, 100
// clients one after the other find no lack.
func (k chapter) fewDescriptors(t *testing.T) {
	harness.NeedProc(t)
	p := harness.Launch{Model: k.Model, Under: proc.Limited(64)}.StartWithBackend(t)
	for i := range 100 {
		c := p.Dial(t)
		c.Send(get("/"))
		serves(t, p.Backend.Accept(t), "GET /", answer("x"))
		wants(t, c, 200, "x")
		if i%2 == 0 {
			c.Close()
		} else {
			c.Reset()
		}
	}
	pooled(t, p, p.Backend.Addr, narrate.Dropped, "descriptor")
	for _, e := range p.Events() {
		if e.Err != "" {
			t.Fatalf("the program complains: %+v", e)
		}
	}
}

// When all slots are taken, clients that keep theirs without using it give it up:
// the one idle longest, or the next one that would be idle.
func (k chapter) slotsAreShared(t *testing.T) {
	p := k.start(t, "-max-conns", "2")
	next := func(path string) *harness.Conn {
		t.Helper()
		c := p.Dial(t)
		c.Send(get(path))
		serves(t, p.Backend.Accept(t), "GET "+path, answer("x"))
		wants(t, c, 200, "x")
		return c
	}
	first := next("/1")
	p.WaitEvent(t, "idle", func(e narrate.Event) bool { return e.Kind == narrate.KindIdle })
	second := next("/2")
	same(t, "the one idle longest", "closed", first.End())
	pooled(t, p, "", narrate.Closed, "its place was needed")

	second.Send(get("/busy"))
	p.WaitEvents(t, "busy", 3, step(narrate.ForwardRequest))
	c := p.Dial(t)
	c.Send(get("/3")) // takes the place of the first
	p.WaitEvents(t, "busy", 4, step(narrate.ForwardRequest))
	d := p.Dial(t)
	d.Send(get("/4")) // waits for one
	b := p.Backend.Accept(t)
	p.WaitIdle(t) // until its place is known to be wanted
	serves(t, b, "GET /3", answer("x"))
	same(t, "Connection", "close", wants(t, c, 200, "x")) // or it might send one more in vain
	same(t, "the next one that would be idle", "closed", c.End())
	serves(t, p.Backend.Accept(t), "GET /4", answer("x"))
	wants(t, d, 200, "x")
}
