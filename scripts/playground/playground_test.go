package playground

import (
	"math"
	"testing"

	"reverseproxy/ch9_balancing_algorithms/simulate"
)

var usual = Settings{Algorithm: "round-robin", Load: .8, Slow: 1, Servers: 5, Work: "exponential",
	Jobs: 5000, Seed: 1}

// A farm that is looked at on its way ends with the numbers of a run in one go.
func TestFarmIsARun(t *testing.T) {
	for _, algorithm := range []string{"round-robin", "two-choices", "least-time", "ring-hash"} {
		s := usual
		s.Algorithm = algorithm
		farm, err := New(s)
		if err != nil {
			t.Fatal(err)
		}
		for at := .3; farm.Until(at); at += .3 {
			farm.NextJob()
			at = max(at, farm.Now())
		}
		run := simulate.Run{New: simulate.Named(algorithm), Servers: 5, Rate: 4, Jobs: 5000,
			Seed: 1, Work: simulate.Exponential}.Simulate()
		got := farm.Result()
		if math.Abs(got.Mean/run.Mean-1) > 1e-12 || got.P99 != run.P99 ||
			got.Longest != run.Longest || farm.Ended() != 5000 {
			t.Errorf("%s: %+v, want %+v", algorithm, got, run)
		}
		if mean, p50, p99 := farm.Recent(); !(0 < p50 && p50 < mean && mean < p99) {
			t.Errorf("%s: the last jobs: %v, %v, %v", algorithm, mean, p50, p99)
		}
	}
}

// Load, weights, the slow server and the algorithm count from the next job on.
func TestChange(t *testing.T) {
	s := usual
	s.Load, s.Jobs = .5, 60_000
	farm, err := New(s)
	if err != nil {
		t.Fatal(err)
	}
	count := func(jobs int) (share []float64) { // of each server, of the next jobs
		share = make([]float64, s.Servers)
		done := farm.Done
		farm.Done = func(server int, began, took float64) {
			share[server] += 1 / float64(jobs)
			done(server, began, took)
		}
		for range jobs {
			farm.NextJob()
		}
		farm.Done = done
		return share
	}
	change := func(change func()) {
		t.Helper()
		change()
		if err := farm.Change(s); err != nil {
			t.Fatal(err)
		}
	}
	if share := count(5000); math.Abs(share[0]-.2) > .01 {
		t.Errorf("in turn: %v", share)
	}
	change(func() { s.Algorithm, s.Weights = "weighted-round-robin", []float64{6, 1, 1, 1, 1} })
	if share := count(20_000); share[1] > .11 || farm.Queue(0) < 1000 {
		t.Errorf("six of ten jobs, a queue of %d: %v", farm.Queue(0), share)
	}
	change(func() { s.Algorithm, s.Weights, s.Slow = "least-connections", nil, 10 })
	count(10_000) // the long queue ends
	if share := count(10_000); share[4] > .1 || share[0] < .15 {
		t.Errorf("the last one is slow: %v", share)
	}
	before, at := farm.Arrived(), farm.Now()
	change(func() { s.Load = 2 })
	farm.Until(at + 1000)
	if rate := float64(farm.Arrived()-before) / 1000; rate < 9 || rate > 11 {
		t.Errorf("%v jobs a second, want 10", rate)
	}
	s.Load = 3
	if err := farm.Change(s); err == nil {
		t.Error("a load of 3 is taken")
	}
}

func TestBounds(t *testing.T) {
	for name, change := range map[string]func(*Settings){
		"no server":    func(s *Settings) { s.Servers = 0 },
		"many servers": func(s *Settings) { s.Servers = math.MaxInt32 },
		"no load":      func(s *Settings) { s.Load = 0 },
		"no number":    func(s *Settings) { s.Load = math.NaN() },
		"fast":         func(s *Settings) { s.Slow = .5 },
		"a weight":     func(s *Settings) { s.Weights = []float64{1, 0} },
		"jobs":         func(s *Settings) { s.Jobs = 1e9 },
		"work":         func(s *Settings) { s.Work = "none" },
		"algorithm":    func(s *Settings) { s.Algorithm = "best" },
	} {
		s := usual
		change(&s)
		if _, err := New(s); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
