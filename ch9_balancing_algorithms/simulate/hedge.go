package simulate

import (
	"math/rand/v2"
	"slices"
)

// Hedging sends a request to a second backend when the first one has not answered for
// a while, and takes the answer that comes first (J. Dean, L. Barroso, The Tail at
// Scale, CACM 56(2), 2013). The while is the 95th percentile of the last times: so
// about every twentieth request at most is sent twice.
type Hedging struct {
	Requests int
	Rate     float64 // a second
	Seed     uint64
	Answer   func(*rand.Rand) float64 // how long a backend takes, seconds
}

// TailAtScale is an answer of 10 ms, of which three in a hundred take 1 s.
func TailAtScale(r *rand.Rand) float64 {
	if r.Float64() < .03 {
		return 1
	}
	return .01
}

const (
	lastTimes    = 1000 // that count
	hedgeAfter   = .95  // of them
	firstHedging = 20   // times must be known
)

// Simulate returns the 99th percentile of the times without hedging and with it, in
// seconds, and how many tries there were for a request.
func (h Hedging) Simulate() (plain, hedged, load float64) {
	random := rand.New(rand.NewPCG(h.Seed, 1))
	var alone, both histogram
	var last delays
	var running []answer
	now, tries := 0.0, 0
	for range h.Requests {
		now += random.ExpFloat64() / h.Rate
		running = slices.DeleteFunc(running, func(a answer) bool {
			if a.at <= now {
				last.add(a.took)
			}
			return a.at <= now
		})
		took := h.Answer(random)
		alone.add(took)
		tries++
		if after := last.quantile(hedgeAfter); len(last.sorted) >= firstHedging && took > after {
			tries++
			took = min(took, after+h.Answer(random))
		}
		// From the first try's start to the answer, whichever try it came from. Did the
		// cancelled tries not count, slow backends would seem to be gone.
		both.add(took)
		running = append(running, answer{now + took, took})
	}
	return alone.quantile(.99), both.quantile(.99), float64(tries) / float64(h.Requests)
}

// answer is one that will come, and the time that it took.
type answer struct{ at, took float64 }

// delays are the last times.
type delays struct {
	ring   []float64 // in the order in which they came, the oldest at next
	next   int
	sorted []float64
}

func (d *delays) add(x float64) {
	if len(d.ring) < lastTimes {
		d.ring = append(d.ring, x)
	} else {
		i, _ := slices.BinarySearch(d.sorted, d.ring[d.next])
		d.sorted = slices.Delete(d.sorted, i, i+1)
		d.ring[d.next] = x
		d.next = (d.next + 1) % lastTimes
	}
	i, _ := slices.BinarySearch(d.sorted, x)
	d.sorted = slices.Insert(d.sorted, i, x)
}

func (d *delays) quantile(part float64) float64 {
	if len(d.sorted) == 0 {
		return 0
	}
	return d.sorted[int(part*float64(len(d.sorted)-1))]
}
