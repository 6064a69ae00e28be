//go:build linux || darwin

package main

import (
	"strings"
	"testing"

	"reverseproxy/internal/harness"
	"reverseproxy/internal/narrate"
	"reverseproxy/internal/proc"
)

func TestMain(m *testing.M) { harness.Main(m) }

func TestPrintsWhatItGets(t *testing.T) {
	p := harness.Start(t, harness.Base, "-log", "text")
	c := p.Dial(t)
	c.Send("GET / HTTP/1.1\r\nHost: proxy.test\r\nX-Title: \x1b]0;zq\x07\xff\x9b2J\r\n\r\n")
	if end := c.End(); end != "closed" {
		t.Errorf("the client's connection: %s, want it closed without a byte", end)
	}
	e := p.Wait(t)
	if e.Code != 0 || e.Stderr != "" {
		t.Errorf("exit status %d, stderr %q", e.Code, e.Stderr)
	}
	for _, want := range []string{
		"| GET / HTTP/1.1\n", "| Host: proxy.test\n", `| X-Title: \x1b]0;zq\a\xff\x9b2J` + "\n",
		"Summary: 1 connection, 1 request, 0 failed, ",
	} {
		if !strings.Contains(e.Stdout, want) {
			t.Errorf("stdout lacks %q:\n%s", want, e.Stdout)
		}
	}
	harness.CheckPlain(t, "stdout", e.Stdout)
}

func TestReadsAtMostABuffer(t *testing.T) {
	p := harness.Start(t, harness.Base)
	c := p.Dial(t)
	c.Send(strings.Repeat("x", 5000)) // more than one read takes
	c.Gone()
	e := p.Wait(t)
	read := p.WaitEvent(t, "read",
		func(e narrate.Event) bool { return e.Step == narrate.ReadRequest })
	if e.Code != 0 || read.Bytes < 1 || read.Bytes > bufferSize {
		t.Errorf("exit status %d, read %d bytes", e.Code, read.Bytes)
	}
}

func TestSkipListen(t *testing.T) {
	harness.RefusesToStart(t, harness.Base, 1, []string{"-skip-listen"}, "accept",
		"invalid argument", "listen", "Base.c", "-skip-listen")
}

func TestSilentClient(t *testing.T) {
	p := harness.Start(t, harness.Base, "-request-timeout", "200ms")
	c := p.Dial(t)
	if end := c.End(); end != "closed" {
		t.Errorf("a silent client's connection: %s", end)
	}
	e := p.Wait(t)
	end := p.WaitEvent(t, "close", func(e narrate.Event) bool { return e.Step == narrate.Close })
	if e.Code != 0 || !end.Failed || !strings.Contains(end.Err, "silent") || e.Summary.Failed != 1 {
		t.Errorf("exit status %d, close %+v, summary %+v", e.Code, end, e.Summary)
	}
}

func TestClientThatLeaves(t *testing.T) {
	p := harness.Start(t, harness.Base)
	c := p.Dial(t)
	c.CloseWrite()
	c.Gone()
	if e := p.Wait(t); e.Code != 0 || e.Summary == nil || e.Summary.Connections != 1 {
		t.Errorf("exit status %d, summary %+v", e.Code, e.Summary)
	}
}

// TestClientThatResets before it is accepted, without a word or with one.
func TestClientThatResets(t *testing.T) {
	harness.NeedProc(t)
	for _, said := range []string{"", "hello"} {
		p := harness.Start(t, harness.Base)
		p.Freeze(t)
		c := p.Dial(t)
		c.Send(said)
		c.Reset()
		p.Thaw(t)
		e := p.Wait(t)
		if e.Code != 0 || e.Stderr != "" || e.Summary == nil || e.Summary.Connections != 1 {
			t.Errorf("exit status %d, stderr %q, summary %+v", e.Code, e.Stderr, e.Summary)
		}
		for _, e := range p.Events() {
			if e.Fault == "proxy" || e.Step == narrate.Accept &&
				!strings.HasPrefix(e.Peer, "127.0.0.1:") {
				t.Errorf("%+v", e)
			}
		}
	}
}

func TestCtrlC(t *testing.T) {
	t.Run("before a client", func(t *testing.T) {
		p := harness.Start(t, harness.Base)
		if s := p.Interrupt(t).Summary; s == nil || s.Connections != 0 {
			t.Errorf("summary %+v", s)
		}
	})
	t.Run("with a client", func(t *testing.T) { // who may still say something
		p := harness.Start(t, harness.Base)
		c := p.Dial(t)
		p.WaitEvent(t, "accept", func(e narrate.Event) bool { return e.Step == narrate.Accept })
		p.CtrlC()
		c.Send("hello")
		c.Gone()
		e := p.Wait(t)
		if e.Code != 0 || e.Summary == nil || e.Summary.Connections != 1 || e.Summary.Failed != 0 {
			t.Errorf("exit status %d, summary %+v", e.Code, e.Summary)
		}
	})
}

func TestStartsAgainAtOnce(t *testing.T) {
	p := harness.Start(t, harness.Base, "-listen", proc.FreeAddr())
	c := p.Dial(t)
	c.Send("hello")
	c.Gone()
	p.Wait(t)
	again := harness.Start(t, harness.Base, "-listen", p.Addr)
	again.Interrupt(t)
}

func TestFlags(t *testing.T) {
	for _, life := range harness.Lives {
		switch life.Name {
		case "port in use", "bad flags", "help":
			t.Run(life.Name, func(t *testing.T) { life.Run(t, harness.Base) })
		}
	}
	harness.RefusesToStart(t, harness.Base, 1, []string{"-listen", "[::1]:0"}, "IPv4")
	harness.RefusesToStart(t, harness.Base, 1, []string{"-listen", "192.0.2.1:0"}, "192.0.2.1",
		"-listen")
}
