// Package playground is a farm to look at: a simulation of chapter 9's algorithms whose
// load, weights and slow server are changed while it goes on. The reader shows two of
// them side by side, in a browser, for which folder wasm compiles this package.
package playground

import (
	"errors"
	"math/rand/v2"
	"slices"

	"reverseproxy/ch9_balancing_algorithms/choose"
	"reverseproxy/ch9_balancing_algorithms/simulate"
)

// Settings say what is simulated. The first four may be changed on the way.
type Settings struct {
	Algorithm string
	Load      float64   // jobs a second that come for each server; one does 1 a second
	Weights   []float64 // of the servers; one that is missing is 1
	Slow      float64   // how many times slower the last server is; 1: not at all

	Servers int
	Work    string // a key of Works
	Jobs    int    // that come before it ends; the first tenth does not count
	Seed    uint64
}

// Bounds of the settings; what is in between can be drawn and waited for.
const (
	maxServers = 20
	maxJobs    = 10_000_000
	maxLoad    = 2
	maxWeight  = 100
	maxSlow    = 100
)

// Works are the works that jobs may have, each 1 s on average.
var Works = map[string]func(*rand.Rand) float64{"exponential": simulate.Exponential,
	"fixed": simulate.Fixed, "pareto": simulate.Pareto}

func (s Settings) check() error {
	switch {
	case s.Servers < 1 || s.Servers > maxServers:
		return errors.New("1 to 20 servers, please")
	case !(s.Load > 0 && s.Load <= maxLoad):
		return errors.New("a load above 0 and up to 2, please")
	case !(s.Slow >= 1 && s.Slow <= maxSlow):
		return errors.New("a server is 1 to 100 times slower")
	case s.Jobs < 10 || s.Jobs > maxJobs:
		return errors.New("10 to 10,000,000 jobs, please")
	case Works[s.Work] == nil:
		return errors.New("no such work: " + s.Work)
	}
	for _, w := range s.Weights {
		if !(w >= 1 && w <= maxWeight) {
			return errors.New("weights are 1 to 100")
		}
	}
	_, err := choose.Find(s.Algorithm)
	return err
}

// Farm is a simulation that can be looked at.
type Farm struct {
	*simulate.Simulation
	settings Settings
	recent   []float64 // seconds that the last jobs took; a ring
	ended    int       // jobs that went into it
}

// window is how many jobs "the last jobs" are.
const window = 1000

// New begins a run.
func New(s Settings) (*Farm, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	f := &Farm{settings: s}
	f.Simulation = simulate.Run{New: f.algorithm(), Servers: s.Servers, Rate: f.rate(),
		Jobs: s.Jobs, Seed: s.Seed, Work: Works[s.Work], Done: f.done, Speed: f.speed}.Start()
	return f, nil
}

func (f *Farm) rate() float64 { return float64(f.settings.Servers) * f.settings.Load }

// speed is asked when a server begins with a job.
func (f *Farm) speed(server int, _ float64) float64 {
	if server == f.settings.Servers-1 {
		return 1 / f.settings.Slow
	}
	return 1
}

// algorithm makes the algorithm that is set, with the weights that are set.
func (f *Farm) algorithm() simulate.Algorithm {
	s := f.settings
	return func(g *choose.Group) choose.Algorithm {
		for i, b := range g.Backends {
			if b.Weight = 1; i < len(s.Weights) {
				b.Weight = s.Weights[i]
			}
		}
		g.SetShares(func(*choose.Backend) float64 { return 1 })
		return simulate.Named(s.Algorithm)(g)
	}
}

// done notes how long a job took.
func (f *Farm) done(_ int, _, took float64) {
	if len(f.recent) < window {
		f.recent = append(f.recent, took)
	} else {
		f.recent[f.ended%window] = took
	}
	f.ended++
}

// Change goes on with other settings. How many servers there are, their work, the jobs and the
// seed are those of the beginning.
func (f *Farm) Change(s Settings) error {
	old := f.settings
	s.Servers, s.Work, s.Jobs, s.Seed = old.Servers, old.Work, old.Jobs, old.Seed
	if err := s.check(); err != nil {
		return err
	}
	f.settings = s
	f.Rate = f.rate()
	if s.Algorithm != old.Algorithm || !slices.Equal(s.Weights, old.Weights) {
		f.Use(f.algorithm())
	}
	return nil
}

// NextJob goes on until another job has come. It returns false if none is left.
func (f *Farm) NextJob() bool {
	before := f.Arrived()
	for f.Arrived() == before {
		if !f.Step() {
			return false
		}
	}
	return true
}

// Recent returns mean, median and 99th percentile of the last thousand jobs' times, in
// seconds; 0 if none has ended.
func (f *Farm) Recent() (mean, p50, p99 float64) {
	n := len(f.recent)
	if n == 0 {
		return 0, 0, 0
	}
	sorted := slices.Sorted(slices.Values(f.recent))
	for _, took := range sorted {
		mean += took / float64(n)
	}
	return mean, sorted[n/2], sorted[n*99/100]
}
