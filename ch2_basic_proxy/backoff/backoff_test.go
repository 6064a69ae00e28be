package backoff

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"reverseproxy/internal/cli"
	"reverseproxy/internal/narrate"
)

func TestPause(t *testing.T) { synctest.Test(t, testPause) } // time passes at once

func testPause(t *testing.T) {
	app := cli.New("127.0.0.1:8000")
	var problems []string
	app.Log = narrate.New(narrate.All, func(e narrate.Event) { problems = append(problems, e.Err) })
	failure := errors.New("too many open files")

	p := New(app)
	start := time.Now()
	for range 3 {
		p.After(failure)
	}
	if d := time.Since(start); d != 35*time.Millisecond {
		t.Errorf("three pauses, of 5, 10 and 20 ms, took %v", d)
	}
	want := "next try in 5ms next try in 10ms next try in 20ms"
	for i, problem := range problems {
		if !strings.HasPrefix(problem, "Accept failed: too many open files; ") {
			t.Errorf("problem %d: %q", i, problem)
		}
		problems[i] = strings.TrimPrefix(problem, "Accept failed: too many open files; ")
	}
	if got := strings.Join(problems, " "); got != want {
		t.Errorf("%q, want %q", got, want)
	}

	p.next, p.over = 800*time.Millisecond, time.Now()
	p.After(failure)
	if p.next != most {
		t.Errorf("the longest pause is %v, want %v", p.next, most)
	}
	p.over = time.Now().Add(-time.Minute)
	p.After(failure)
	if p.next != first {
		t.Errorf("after a minute without failure the pause is %v, want %v", p.next, first)
	}
}
