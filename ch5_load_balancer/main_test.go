//go:build unix

package main

import (
	"encoding/json"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"reverseproxy/internal/harness"
	"reverseproxy/internal/narrate"
)

func TestMain(m *testing.M) { harness.Main(m) }

func TestScenarios(t *testing.T) { harness.RunScenarios(t, harness.Balancer) }

func TestLives(t *testing.T) { harness.RunLives(t, harness.Balancer) }

// ask asks for data and returns the port of the backend that answered.
func ask(t *testing.T, p *harness.Proxy) string {
	t.Helper()
	body, err := p.TryGet("/api/data")
	var data struct{ Backend string }
	if err == nil {
		err = json.Unmarshal([]byte(body), &data)
	}
	if err != nil {
		t.Error(err)
	}
	return data.Backend
}

func port(addr string) string { return addr[strings.LastIndexByte(addr, ':')+1:] }

func TestInTurn(t *testing.T) {
	p := harness.Start(t, harness.Balancer, harness.Balancer.Demo(3)...)
	var want, got []string
	for i := range 30 {
		want = append(want, port(p.Backends[i%3]))
		got = append(got, ask(t, p))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the backends of 30 requests, want (-), got (+):\n%s", diff)
	}
	routes := p.WaitEvents(t, "route", 30,
		func(e narrate.Event) bool { return e.Kind == narrate.KindRoute })
	for i, e := range routes {
		if e.Peer != p.Backends[i%3] {
			t.Errorf("route %d: %s, want %s", i, e.Peer, p.Backends[i%3])
		}
	}
	p.Interrupt(t)
}

func TestInTurnFrom30ClientsAtOnce(t *testing.T) {
	p := harness.Start(t, harness.Balancer, append(harness.Balancer.Demo(3), "-log", "text")...)
	var all sync.WaitGroup
	var mu sync.Mutex
	got, want := map[string]int{}, map[string]int{}
	for range 30 {
		all.Go(func() { // ends with its answer
			backend := ask(t, p)
			mu.Lock()
			got[backend]++
			mu.Unlock()
		})
	}
	all.Wait()
	tally := "Turns: "
	for i, addr := range p.Backends {
		want[port(addr)] = 10
		tally += addr + " 10"
		if i < 2 {
			tally += ", "
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("30 clients at once, want (-), got (+):\n%s", diff)
	}
	e := p.Interrupt(t)
	if !regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(tally) +
		`\nSummary: 30 connections`).MatchString(e.Stdout) {
		t.Errorf("no line %q before the summary:\n%s", tally, e.Stdout)
	}
}

// TestDeadBackendKeepsItsTurn shows the chapter's named gap: of three backends
// one refuses, and every third client gets 502.
func TestDeadBackendKeepsItsTurn(t *testing.T) {
	demo := harness.Start(t, harness.Balancer, harness.Balancer.Demo(3)...)
	p := harness.Start(t, harness.Balancer, "-backends",
		demo.Backends[0]+","+harness.Refused(t)+", "+demo.Backends[2])
	var got []int
	for range 6 {
		got = append(got, p.Get(t, "/api/data").Status)
	}
	if diff := cmp.Diff([]int{200, 502, 200, 200, 502, 200}, got); diff != "" {
		t.Errorf("want (-), got (+):\n%s", diff)
	}
	if s := p.Interrupt(t).Summary; s.Connections != 6 || s.Failed != 2 {
		t.Errorf("summary: %+v", s)
	}
}
