package simulate

import (
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

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
		mean(t, test.name, Run{New: Named("random"), Servers: 10, Rate: 9, Jobs: long,
			Work: test.work}, test.want, test.percent)
	}
}

// With servers that share their time it is 10, whatever the jobs are like.
func TestSharing(t *testing.T) {
	for name, work := range map[string]func(*rand.Rand) float64{"fixed": Fixed,
		"exponential": Exponential, "Pareto": Pareto} {
		mean(t, name, Run{New: Named("random"), Servers: 10, Rate: 8, Jobs: 1e6, Work: work,
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
			mean(t, fmt.Sprintf("%d of 100 at %v", d, λ), Run{New: Choices(d), Servers: 100,
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
			r := Run{New: Named("round-robin"), Servers: n, Rate: float64(n) * ρ, Jobs: jobs(ρ),
				Work: Exponential}
			mean(t, fmt.Sprintf("%d in turn at %v", n, ρ), r, RoundRobin(n, ρ), percent)
			r.New = Named("least-connections")
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
			r.New = Named(name)
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
		r := Run{New: Named("least-time"), Servers: 5, Rate: 50, Jobs: 50 * 300, Seed: seed + 1,
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

func TestHedging(t *testing.T) {
	seeds := uint64(3)
	if harness.Race {
		seeds = 1
	}
	for seed := range seeds {
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
	r := Run{New: Named("two-choices"), Servers: 10, Rate: 9, Jobs: 10_000, Seed: 1, Work: Pareto}
	one := r.Simulate()
	if r.Simulate() != one {
		t.Error("the same seed gives another run")
	}
	if r.Seed++; r.Simulate() == one {
		t.Error("another seed gives the same run")
	}
}

// Whoever makes the steps gets the same result, and sees the queues on the way.
func TestSteps(t *testing.T) {
	ended := 0
	r := Run{New: Named("two-choices"), Servers: 10, Rate: 9, Jobs: 10_000, Seed: 1,
		Work: Exponential}
	want := r.Simulate()
	r.Done = func(int, float64, float64) { ended++ }
	s := r.Start()
	longest := 0
	for at := .1; s.Until(at); at += .1 {
		if s.Now() != at || s.Ended() != ended {
			t.Fatalf("it is %v instead of %v; %d of %d jobs ended", s.Now(), at, s.Ended(), ended)
		}
		all := 0
		for i := range r.Servers {
			all += s.Queue(i)
			longest = max(longest, s.Queue(i))
		}
		if all != s.Arrived()-s.Ended() {
			t.Fatalf("%d jobs at the servers, %d in flight", all, s.Arrived()-s.Ended())
		}
	}
	got := s.Result()
	// The sum is over shorter times, and servers are idle for a moment at the end.
	near(t, "utilisation", got.Utilisation, want.Utilisation, .1)
	if got.Utilisation = want.Utilisation; got != want {
		t.Errorf("by steps %+v, at once %+v", got, want)
	}
	if longest > got.Longest || longest < got.Longest-2 || s.Step() {
		t.Errorf("the longest queue seen is %d; %+v", longest, got)
	}
}

// Another algorithm, from the next job on, knows what the last one knew.
func TestUse(t *testing.T) {
	var got [5]int
	s := Run{New: Named("round-robin"), Servers: 5, Rate: 8, Jobs: math.MaxInt, Seed: 1,
		Work:  func(r *rand.Rand) float64 { return .05 * r.ExpFloat64() },
		Speed: func(server int, _ float64) float64 { return 1 / float64(1+9*(server/4)) },
		Done:  func(server int, _, _ float64) { got[server]++ }}.Start()
	share := func(until float64) float64 { // of the slow one, from now on
		got = [5]int{}
		s.Forget()
		s.Until(until)
		return float64(got[4]) / float64(got[0]+got[1]+got[2]+got[3]+got[4])
	}
	inTurn, slow := share(300), s.Result()
	s.Use(Named("least-time"))
	s.Until(330) // the queue of the slow one is gone
	if fast := share(630); fast > inTurn/3 || 2*s.Result().P99 > slow.P99 ||
		s.Result().P50 > s.Result().P99 {
		t.Errorf("the slow one has %.3f in turn, %.3f by least time\n%+v\n%+v", inTurn, fast,
			slow, s.Result())
	}
}

// lying is a server that works more than it says.
type lying struct{ server }

func (l lying) depart(now float64) (began, worked float64, sender int, failed bool) {
	began, worked, sender, failed = l.server.depart(now)
	return began, .99 * worked, sender, failed
}

func TestBooksMustBalance(t *testing.T) {
	r := Run{New: Named("random"), Servers: 2, Rate: 1, Jobs: 1000, Work: Exponential}
	for name, falsify := range map[string]func(s *Simulation){
		"work":          func(s *Simulation) { s.servers[0] = lying{s.servers[0]} },
		"Little's law":  func(s *Simulation) { s.inFlight++ },
		"servers' work": func(s *Simulation) { s.busy++ },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: false, and nobody notices", name)
				}
			}()
			s := r.Start()
			falsify(s)
			s.simulate()
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
