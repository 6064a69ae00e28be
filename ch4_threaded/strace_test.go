//go:build linux

package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"reverseproxy/internal/harness"
	"reverseproxy/internal/narrate"
)

// TestNarrationIsTrue holds the narrated steps, and the system calls that they
// name, against those that the kernel sees, in one order.
func TestNarrationIsTrue(t *testing.T) {
	l, story := harness.Traced(t, harness.Launch{Model: harness.Threaded, Plain: true})
	p := l.StartWithBackend(t)
	c := p.Dial(t)
	c.Send("GET /traced HTTP/1.1\r\nHost: proxy.test\r\n\r\n")
	b := p.Backend.Accept(t)
	b.Request()
	b.Send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	if got := c.Response("GET"); got.Body != "ok" {
		t.Errorf("%+v", got)
	}
	p.WaitEvent(t, "close", func(e narrate.Event) bool { return e.Step == narrate.Close })
	p.Interrupt(t)

	want := []string{
		"socket", "bind", "listen", "told 1", "told 2", "told 3", // all inside net.Listen
		"accept", "told 4",
		"read client", "told 5",
		"socket", "connect", "told 6", // both inside net.Dial
		"write backend", "told 7",
		"read backend", "told 8",
		"write client", "told 9",
		"close backend", "close client", "told 10",
	}
	seen := story()
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Errorf("want (-), strace has seen (+):\n%s", diff)
	}

	var said, made []string
	for _, e := range p.Events() {
		if e.Kind == narrate.KindStep {
			said = append(said, e.Calls)
		}
	}
	for _, call := range seen {
		name, _, _ := strings.Cut(call, " ")
		if name != "told" && (len(made) == 0 || made[len(made)-1] != name) {
			made = append(made, name)
		}
	}
	if diff := cmp.Diff(strings.Join(made, ", "), strings.Join(said, ", ")); diff != "" {
		t.Errorf("calls made (-) and calls named by the narration (+):\n%s", diff)
	}
}
