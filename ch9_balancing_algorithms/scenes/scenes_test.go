package scenes

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"reverseproxy/ch9_balancing_algorithms/choose"
	"reverseproxy/ch9_balancing_algorithms/simulate"
	"reverseproxy/internal/harness"
)

// One of five is ten times slower from second 60 to 120.
func TestLeastTimeAfterASlowMinute(t *testing.T) {
	for seed := range uint64(3) {
		got, all := 0, 0
		r := slowMinute("least-time", seed+1)
		r.Done = func(server int, began, _ float64) {
			if began >= 150 && began < 180 { // 30 s to 60 s after it
				if all++; server == 0 {
					got++
				}
			}
		}
		r.Simulate()
		share := 5 * float64(got) / float64(all)
		t.Logf("seed %d: %.0f %% of its fair share", r.Seed, 100*share)
		if share < .8 {
			t.Errorf("seed %d: %.0f %% of its fair share", r.Seed, 100*share)
		}
	}
}

func TestHotCold(t *testing.T) {
	for _, load := range []float64{1.03, 1.14, 1.27} {
		for seed := range uint64(3) {
			t.Run(fmt.Sprintf("%v, seed %d", load, seed+1), func(t *testing.T) {
				if seed > 0 && (testing.Short() || harness.Race) || load < 1.2 && harness.Race {
					t.Skip("one seed will do, and one load with the race detector")
				}
				t.Parallel()
				run := func(name string) simulate.Result {
					r := halfFast(simulate.Named(name), load, 1e6)
					r.Seed = seed + 1
					return r.Simulate()
				}
				turns, two, cold := run("round-robin"), run("two-choices"), run("hot-cold")
				t.Logf("errors: in turn %.1f %%, hot-cold %.1f %%; p99: two choices %.3f, "+
					"hot-cold %.3f", 100*turns.Failed, 100*cold.Failed, two.P99, cold.P99)
				if cold.Failed > turns.Failed/10 || cold.P99 > two.P99 {
					t.Errorf("in turn %+v\ntwo choices %+v\nhot-cold %+v", turns, two, cold)
				}
			})
		}
	}
}

// A hundred proxies that know nothing of each other, and look at all backends, find the
// same few: there the queue is much longer than with samples of three.
func TestHotColdAmongManyProxies(t *testing.T) {
	if harness.Race {
		t.Skip("it takes half a minute with the race detector, and there are no goroutines in it")
	}
	r := halfFast(simulate.Named("hot-cold"), 1.03, 1e6)
	r.Proxies, r.Seed = 100, 1
	three := r.Simulate()
	r.New = func(g *choose.Group) choose.Algorithm { return choose.NewHotCold(g, 100) }
	all := r.Simulate()
	t.Logf("errors: sample of three %.3f %%, all %.3f %%; longest queue %d, %d", 100*three.Failed,
		100*all.Failed, three.Longest, all.Longest)
	if 3*three.Longest > 2*all.Longest {
		t.Errorf("sample of three %+v\nall %+v", three, all)
	}
}

func TestReport(t *testing.T) {
	var out, progress strings.Builder
	dir := t.TempDir()
	r := &Report{Jobs: 20_000, Seed: 1, Out: &out, Progress: &progress, Plots: dir}
	if err := r.Print(); err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(strings.SplitAfter(progress.String(), "100 % ")[0], "100 % ") {
		t.Errorf("progress: %q", progress.String())
	}
	for _, want := range []string{"(2.614)", "(13.448)", "(49.982)", "hot-cold over all",
		"Little's law"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %s in\n%s", want, out.String())
		}
	}
	drawn, _ := filepath.Glob(dir + "/*.svg")
	if len(drawn) != len(r.figures) {
		t.Errorf("%d pictures: %v", len(drawn), drawn)
	}
}
