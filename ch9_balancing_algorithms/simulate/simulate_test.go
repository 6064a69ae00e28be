package simulate

import (
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"reverseproxy/ch9_balancing_algorithms/choose"
	"reverseproxy/internal/harness"
)

var seeds = flag.Uint64("seeds", 1, "how many `seeds` the long runs are made with, 1 to 3")

const long = 10_000_000 // jobs

// raceJobs is what a run is cut down to under the race detector, which makes it ten
// times slower; there is nothing in here that could race but the test's own goroutines.
const raceJobs = 100_000

// mean runs a simulation with each seed, and compares the mean with what it must be,
// within some percent.
func mean(t *testing.T, what string, r Run, want, percent float64) {
	t.Helper()
	t.Run(what, func(t *testing.T) {
		all := uint64(3)
		if r.Jobs >= long {
			all = *seeds
			if testing.Short() {
				t.Skip("10⁷ jobs take seconds")
			}
		}
		t.Parallel()
		if harness.Race && r.Jobs > raceJobs {
			percent *= math.Sqrt(float64(r.Jobs / raceJobs))
			r.Jobs, all = raceJobs, 1
		}
		for seed := range all {
			r.Seed = seed + 1
			near(t, fmt.Sprintf("seed %d", r.Seed), r.Simulate().Mean, want, percent)
		}
	})
}

func near(t *testing.T, what string, got, want, percent float64) {
	t.Helper()
	off := 100 * (got/want - 1)
	t.Logf("%s: %.4g, want %.4g: %+.2f %%", what, got, want, off)
	if math.Abs(off) > percent {
		t.Errorf("%s: %.4g, want %.4g ± %g %%", what, got, want, percent)
	}
}

func jobs(load float64) int {
	if load >= .9 {
		return long
	}
	return long / 10
}

// Jobs that are split at random: at each server it is M/G/1.
func TestRandomSplit(t *testing.T) {
	for _, test := range []struct {
		name          string
		work          func(*rand.Rand) float64
		want, percent float64
	}{
		{"fixed", Fixed, 5.5, 1.5},
		{"exponential", Exponential, 10, 3},
		{"Pareto", Pareto, 49.98, 12},
	} {
		mean(t, test.name, Run{New: kind("random"), Servers: 10, Rate: 9, Jobs: long,
			Work: test.work}, test.want, test.percent)
	}
}

// With servers that share their time it is 10, whatever the jobs are like.
func TestSharing(t *testing.T) {
	for name, work := range map[string]func(*rand.Rand) float64{"fixed": Fixed,
		"exponential": Exponential, "Pareto": Pareto} {
		mean(t, name, Run{New: kind("random"), Servers: 10, Rate: 8, Jobs: 1e6, Work: work,
			Sharing: true}, 5, 4)
	}
}

func TestSupermarket(t *testing.T) {
	with100 := map[[2]float64]float64{{2, .9}: 2.647, {2, .95}: 3.465, {3, .9}: 2.063,
		{3, .95}: 2.621}
	for _, λ := range []float64{.5, .7, .8, .9, .95} {
		for d := 1; d <= 3; d++ {
			want, percent := Supermarket(d, λ), 2.0
			if w := with100[[2]float64{float64(d), λ}]; w > 0 {
				want, percent = w, 1.5
			}
			switch {
			case d == 1 && λ == .95:
				percent = 4
			case d == 1:
				percent = 3
			}
			mean(t, fmt.Sprintf("%d of 100 at %v", d, λ), Run{New: choices(d), Servers: 100,
				Rate: 100 * λ, Jobs: jobs(λ), Work: Exponential}, want, percent)
		}
	}
}

func TestRoundRobinAndShortestQueue(t *testing.T) {
	shortest := map[int][4]float64{3: {1.243, 2.287, 3.992, 7.345},
		10: {1.024, 1.357, 1.912, 2.961}}
	for _, n := range []int{3, 10} {
		for i, ρ := range []float64{.5, .8, .9, .95} {
			percent := 3.0
			if ρ == .95 {
				percent = 4
			}
			r := Run{New: kind("round-robin"), Servers: n, Rate: float64(n) * ρ, Jobs: jobs(ρ),
				Work: Exponential}
			mean(t, fmt.Sprintf("%d in turn at %v", n, ρ), r, RoundRobin(n, ρ), percent)
			r.New = kind("least-connections")
			mean(t, fmt.Sprintf("shortest of %d at %v", n, ρ), r, shortest[n][i], percent)
		}
	}
}

// The published figures, to their last digit.
func TestTheory(t *testing.T) {
	for _, test := range []struct {
		name      string
		got, want float64
		digit     float64
	}{
		{"supermarket 2, .9", Supermarket(2, .9), 2.614, .001},
		{"supermarket 3, .95", Supermarket(3, .95), 2.535, .001},
		{"supermarket 5, .99", Supermarket(5, .99), 2.902, .001},
		{"E3/M/1 .5", RoundRobin(3, .5), 1.494, .001},
		{"E3/M/1 .95", RoundRobin(3, .95), 13.448, .001},
		{"E10/M/1 .8", RoundRobin(10, .8), 2.922, .001},
		{"E10/M/1 .9", RoundRobin(10, .9), 5.660, .001},
		{"M/M/2 .8", OneQueue(2, .8), 2.778, .001}, {"M/M/3 .9", OneQueue(3, .9), 3.724, .001},
		{"M/M/10 .8", OneQueue(10, .8), 1.205, .001}, {"M/M/10 .9", OneQueue(10, .9), 1.669, .001},
		{"C²", ParetoC2, 9.885, .001}, {"M/G/1", Split(.9, ParetoC2), 49.98, .01},
	} {
		if math.Abs(test.got-test.want) > test.digit {
			t.Errorf("%s: %.4f, want %.4f", test.name, test.got, test.want)
		}
	}
}

// A board that is written anew every 10 service times, and nothing known in between:
// all run to the shortest queue of a while ago.
func TestStaleBoard(t *testing.T) {
	for seed := range uint64(3) {
		r := Run{Servers: 100, Rate: 90, Jobs: 1e6, Seed: seed + 1, Work: Exponential, Board: 10}
		if harness.Race {
			r.Jobs = raceJobs
		}
		run := func(name string) float64 {
			r.New = kind(name)
			return r.Simulate().Mean
		}
		shortest, two, random := run("least-connections"), run("two-choices"), run("random")
		r.OwnPicks = true
		own := run("least-connections")
		t.Logf("seed %d: shortest %.2f, two choices %.2f, random %.2f; own picks counted: %.2f",
			r.Seed, shortest, two, random, own)
		if shortest < 15 || two > 7 || math.Abs(random-10) > .8 || own > two {
			t.Error("not what it must show")
		}
	}
}

// Five servers of 50 ms; the first answer of all takes ten times as long.
func TestLeastTimeAfterOneSlowAnswer(t *testing.T) {
	for seed := range uint64(3) {
		var got [5]int
		first := true
		r := Run{New: kind("least-time"), Servers: 5, Rate: 50, Jobs: 50 * 300, Seed: seed + 1,
			Work: func(r *rand.Rand) float64 {
				if first {
					first = false
					return .5
				}
				return .05 * r.ExpFloat64()
			}, Done: func(server int, _, _ float64) { got[server]++ }}
		r.Simulate()
		t.Logf("seed %d: %v", r.Seed, got)
		for _, n := range got {
			if 100*n < 15*r.Jobs {
				t.Errorf("seed %d: %v", r.Seed, got)
			}
		}
	}
}

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
				if seed > 0 && (testing.Short() || harness.Race) {
					t.Skip("one seed will do")
				}
				t.Parallel()
				run := func(name string) Result {
					r := halfFast(kind(name), load, 1e6)
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
	r := halfFast(kind("hot-cold"), 1.03, 1e6)
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

func TestHedging(t *testing.T) {
	for seed := range uint64(3) {
		plain, hedged, load := Hedging{Requests: 1e6, Rate: 100, Seed: seed + 1,
			Answer: TailAtScale}.Simulate()
		t.Logf("p99 %.3f s, %.3f s with hedging, load %.3f", plain, hedged, load)
		if plain < .99 || hedged > .04 || load > 1.06 {
			t.Errorf("p99 %.3f s, %.3f s with hedging, load %.3f", plain, hedged, load)
		}
	}
}

// The same seed, the same run.
func TestSeeds(t *testing.T) {
	r := Run{New: kind("two-choices"), Servers: 10, Rate: 9, Jobs: 10_000, Seed: 1, Work: Pareto}
	one := r.Simulate()
	if r.Simulate() != one {
		t.Error("the same seed gives another run")
	}
	if r.Seed++; r.Simulate() == one {
		t.Error("another seed gives the same run")
	}
}

// lying is a server that works more than it says.
type lying struct{ server }

func (l lying) depart(now float64) (began, worked float64, sender int, failed bool) {
	began, worked, sender, failed = l.server.depart(now)
	return began, .99 * worked, sender, failed
}

func TestBooksMustBalance(t *testing.T) {
	r := Run{New: kind("random"), Servers: 2, Rate: 1, Jobs: 1000, Work: Exponential}
	for name, falsify := range map[string]func(s *simulation){
		"work":          func(s *simulation) { s.servers[0] = lying{s.servers[0]} },
		"Little's law":  func(s *simulation) { s.inFlight++ },
		"servers' work": func(s *simulation) { s.busy++ },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: false, and nobody notices", name)
				}
			}()
			s := newSimulation(r)
			falsify(s)
			s.run()
		}()
	}
}

func TestHistogram(t *testing.T) {
	var h histogram
	for i := range 100_000 {
		h.add(float64(i) / 1000)
	}
	for _, part := range []float64{.01, .5, .99} {
		near(t, fmt.Sprint(part), h.quantile(part), 100*part, 1)
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
