package simulate

import "math"

// Supermarket returns the mean time in a system of very many servers of load λ where
// each job draws d of them and takes the shortest queue (Mitzenmacher 2001).
func Supermarket(d int, λ float64) float64 {
	if d == 1 {
		return 1 / (1 - λ)
	}
	sum := 0.0
	for i := 1.0; ; i++ {
		term := math.Pow(λ, (math.Pow(float64(d), i)-float64(d))/float64(d-1))
		if sum += term; term < 1e-9 {
			return sum
		}
	}
}

// RoundRobin returns the mean time in a system of n servers of load ρ that have their
// turns: for each of them the time between two jobs is the sum of n exponential ones
// (E_n/M/1). A job finds k others there with probability (1-σ)σᵏ.
func RoundRobin(n int, ρ float64) float64 {
	σ := ρ
	for range 10_000 {
		σ = math.Pow(float64(n)*ρ/(float64(n)*ρ+1-σ), float64(n))
	}
	return 1 / (1 - σ)
}

// OneQueue returns the mean time in a system of n servers of load ρ that take their
// jobs from one queue (M/M/n): no choice made at once, on arrival, can be better.
func OneQueue(n int, ρ float64) float64 {
	term, sum := 1.0, 0.0 // Erlang's C
	for k := range n {
		sum += term
		term *= float64(n) * ρ / float64(k+1)
	}
	term /= 1 - ρ
	return 1 + term/(sum+term)/(float64(n)*(1-ρ))
}

// Split returns the mean time at a server of load ρ whose jobs come at random moments
// (M/G/1, Pollaczek and Khinchin), where C² is the variance of their work.
func Split(ρ, c2 float64) float64 { return 1 + ρ/(1-ρ)*(1+c2)/2 }

// ParetoC2 is the variance of Pareto.
var ParetoC2 = paretoLeast*paretoLeast*paretoShape/(2-paretoShape)*
	(math.Pow(paretoRange, 2-paretoShape)-1)/(1-math.Pow(paretoRange, -paretoShape)) - 1
