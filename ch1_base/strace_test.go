//go:build linux

package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"reverseproxy/internal/harness"
	"reverseproxy/internal/narrate"
)

// TestNarrationIsTrue holds the narrated steps, and the system calls that they
// name, against those that the kernel sees, in one order.
func TestNarrationIsTrue(t *testing.T) {
	l, story := harness.Traced(t, harness.Launch{Model: harness.Base, Plain: true})
	p := l.Start(t)
	c := p.Dial(t)
	c.Send("hello\r\n")
	c.Gone()
	if e := p.Wait(t); e.Code != 0 {
		t.Errorf("exit status %d", e.Code)
	}
	want := []string{"socket", "told 1", "bind", "told 2", "listen", "told 3", "accept", "told 4",
		"read client", "told 5", "close client", "close listener", "told 10"}
	if diff := cmp.Diff(want, story()); diff != "" {
		t.Errorf("want (-), strace has seen (+):\n%s", diff)
	}
	var calls []string
	for _, e := range p.Events() {
		if e.Kind == narrate.KindStep {
			calls = append(calls, e.Calls)
		}
	}
	if diff := cmp.Diff([]string{"socket", "bind", "listen", "accept", "read", "close"},
		calls); diff != "" {
		t.Errorf("calls named by the narration, want (-), got (+):\n%s", diff)
	}
}
