//go:build unix

package main

import (
	"testing"

	"reverseproxy/internal/harness"
	"reverseproxy/internal/narrate"
)

func TestMain(m *testing.M) { harness.Main(m) }

func TestScenarios(t *testing.T) { harness.RunScenarios(t, harness.Basic) }

func TestLives(t *testing.T) { harness.RunLives(t, harness.Basic) }

func TestOnce(t *testing.T) {
	p := harness.Start(t, harness.Basic, append(harness.Basic.Demo(1), "-once")...)
	if got := p.Get(t, "/bytes?n=16"); got.Status != 200 || got.Body != "000000000000000\n" {
		t.Errorf("the one client reads %+v", got)
	}
	e := p.Wait(t)
	if e.Code != 0 || e.Summary == nil || e.Summary.Connections != 1 {
		t.Errorf("exit status %d, summary %+v", e.Code, e.Summary)
	}
	worker := p.WaitEvent(t, "close",
		func(e narrate.Event) bool { return e.Step == narrate.Close }).Worker
	if worker != "main goroutine" {
		t.Errorf("it was served by %q, want the main goroutine", worker)
	}
}
