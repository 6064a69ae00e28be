package simulate

import (
	"math"
	"math/rand/v2"
)

// Exponential is a job's work that says nothing of how much is left.
func Exponential(r *rand.Rand) float64 { return r.ExpFloat64() }

// Fixed is the same work each time.
func Fixed(*rand.Rand) float64 { return 1 }

// A bounded Pareto distribution: most jobs are small, and the few large ones are most
// of the work.
const (
	paretoShape = 1.5    // α
	paretoRange = 1000.0 // of the greatest to the least
)

// paretoLeast makes the mean 1.
var paretoLeast = (1 - math.Pow(paretoRange, -paretoShape)) * (paretoShape - 1) / paretoShape /
	(1 - math.Pow(paretoRange, 1-paretoShape))

// Pareto is such a work.
func Pareto(r *rand.Rand) float64 {
	x := 1 - r.Float64()*(1-math.Pow(paretoRange, -paretoShape))
	return paretoLeast * math.Pow(x, -1/paretoShape)
}

// CutNormal is a normal distribution with σ = μ, where less than 0 is 0, with the mean
// that is given.
func CutNormal(mean float64) func(*rand.Rand) float64 {
	// The mean of max(0, 1+N) is Φ(1) + φ(1).
	cut := (1+math.Erf(1/math.Sqrt2))/2 + math.Exp(-.5)/math.Sqrt(2*math.Pi)
	return func(r *rand.Rand) float64 { return max(0, 1+r.NormFloat64()) * mean / cut }
}

// histogram counts times in steps of less than 1 %.
type histogram struct {
	counts [steps]int
	n      int
}

// A float64's bits from the sign on, as far as they are wanted: 11 of the exponent,
// and 7 of the fraction make 128 steps for a doubling.
const (
	fraction = 7
	shift    = 52 - fraction
	leastExp = 1023 - 30 // 2⁻³⁰ s, and less
	steps    = 60 << fraction
)

func (h *histogram) add(x float64) {
	i := int(math.Float64bits(x)>>shift) - leastExp<<fraction
	h.counts[min(max(i, 0), steps-1)]++
	h.n++
}

// quantile returns the time that the given part of all is less than; 0: there are none.
func (h *histogram) quantile(part float64) float64 {
	if h.n == 0 {
		return 0
	}
	upTo := 0
	for i, n := range h.counts {
		if upTo += n; float64(upTo) >= part*float64(h.n) {
			return math.Float64frombits(uint64(i+leastExp<<fraction) << shift)
		}
	}
	return 0
}
