//go:build linux

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"reverseproxy/internal/harness"
	"reverseproxy/internal/proc"
	"reverseproxy/scripts/bench/load"
	"reverseproxy/scripts/bench/stat"
)

// What was measured on a busy machine is in no median, and decides nothing.
func TestBusyRoundsAreDiscarded(t *testing.T) {
	defer func(was float64) { mostOthers = was }(mostOthers)
	mostOthers = 0.5
	take := func(id string, round int, cpu, others float64) *sample {
		return &sample{Cell: "b64", Contestant: id, Round: round, CPU: cpu, RPS: 1e6 / cpu,
			Requests: 10, OtherCPU: others, Latency: load.NewHistogram()}
	}
	ids := []string{"ch10", "nginx", "HAProxy", nullRelay}
	b := &bench{o: &options{}, cells: []*cell{{ID: "b64", Workload: "b", Title: "T"}}}
	for _, id := range ids {
		b.contestants = append(b.contestants, &contestant{ID: id})
	}
	b.samples = []*sample{take("ch10", 1, 9, 0.49), take("ch10", 2, 90, 0.51),
		take("ch10", 3, 11, 0.1), take("nginx", 1, 5, 0.9), take("nginx", 2, 5, 0.6),
		take("HAProxy", 1, 12, 0.2), take(nullRelay, 1, 10, 0.2)}
	r := b.collect(false)
	x := r.find("b64", "ch10")
	if d := cmp.Diff(stat.Spread{Median: 10, Min: 9, Max: 11, N: 2}, x.CPU,
		cmpopts.IgnoreUnexported(stat.Spread{})); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
	if x.Note != "machine busy in 1 of 3 rounds" || x.Discarded != 1 || x.Requests != 20 {
		t.Errorf("%q, %d discarded, %d requests", x.Note, x.Discarded, x.Requests)
	}
	got := map[string]string{}
	for _, g := range r.Goals {
		if strings.HasPrefix(g.What, "ch10: CPU a request, t") {
			got[g.Against] = g.Verdict
		}
	}
	// nginx might have been the better of the two: nobody knows.
	want := map[string]string{"nginx or HAProxy": machineBusy, nullRelay: reached}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
	var out bytes.Buffer
	r.print(&out)
	for _, say := range []string{"machine busy in 2 of 2 rounds",
		"3 of 7 measurements are discarded"} {
		if !strings.Contains(out.String(), say) {
			t.Errorf("%q is not in\n%s", say, &out)
		}
	}
	if !r.busy() || strings.Contains(out.String(), "0.00 ×") {
		t.Errorf("a verdict where there is none:\n%s", &out)
	}
}

// Beside programs that take all they can get, the bench gives no verdict, says why,
// and writes no page. It runs as a process of its own, as in a terminal.
func TestNoVerdictOnBusyMachine(t *testing.T) {
	dir := t.TempDir()
	page := filepath.Join(dir, docsPage)
	if err := os.WriteFile(page, []byte("<!-- bench b64 -->\nold\n<!-- /bench -->\n"),
		0o600); err != nil {
		t.Fatal(err)
	}
	bench := harness.BuildPlain(t, "scripts/bench")
	for range 2*runtime.NumCPU() + 2 { // the bench's own two programs get their share
		spin, err := proc.Run(proc.Shell("while :; do :; done")...)
		if err != nil {
			t.Fatal(err)
		}
		defer spin.Kill()
	}
	run, err := proc.Run(bench, "-quick", "-only",
		"^straight$", "-workloads", "b", "-o", dir, "-docs", dir)
	if err != nil {
		t.Fatal(err)
	}
	defer run.Kill()
	if !run.Wait(2*time.Minute) || run.Code() != exitBusy {
		t.Errorf("exit %d", run.Code())
	}
	for _, say := range []string{"machine busy in 1 of 1 rounds", "no verdict"} {
		if !strings.Contains(run.LastWords(), say) && !strings.Contains(run.Stdout.String(), say) {
			t.Errorf("%q is missing in %s", say, run.LastWords())
		}
	}
	b, _ := os.ReadFile(page)
	if !strings.Contains(string(b), "\nold\n") {
		t.Errorf("the page is\n%s", b)
	}
}
