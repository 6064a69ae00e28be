// Package stat holds the few statistics the bench needs: medians, spreads,
// ratios.
package stat

import (
	"math"
	"slices"
)

// Spread is the median of some figures with the least and the greatest.
type Spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
	N      int     `json:"n"` // how many figures

	figures []float64 // as they were measured; one that is no number stands for a gap
}

// Of takes the spread of the figures that are numbers; N is 0 when none is. Their places
// matter to Ratio.
func Of(figures ...float64) Spread {
	v := slices.DeleteFunc(slices.Clone(figures), func(x float64) bool {
		return math.IsNaN(x) || math.IsInf(x, 0)
	})
	if len(v) == 0 {
		return Spread{}
	}
	slices.Sort(v)
	m := v[len(v)/2]
	if len(v)%2 == 0 {
		m = (v[len(v)/2-1] + v[len(v)/2]) / 2
	}
	return Spread{m, v[0], v[len(v)-1], len(v), slices.Clone(figures)}
}

// Percent is half the distance from least to greatest in per cent of the
// median: "± 4 %".
func (s Spread) Percent() float64 {
	if s.N == 0 || s.Median == 0 {
		return 0
	}
	return (s.Max - s.Min) / 2 / s.Median * 100
}

// Ratio is s over base: the median of the ratios of the figures in the same places, which
// were measured one soon after the other. What slows the machine down for a minute slows down
// both, and the ratio of their medians may still be that of a good minute to a bad one. Where
// no place has both, it is the ratio of the medians; NaN when either is missing or zero.
func (s Spread) Ratio(base Spread) float64 {
	if s.N == 0 || base.N == 0 || base.Median == 0 {
		return math.NaN()
	}
	var ratios []float64
	for i := range min(len(s.figures), len(base.figures)) {
		ratios = append(ratios, s.figures[i]/base.figures[i])
	}
	if both := Of(ratios...); both.N > 0 {
		return both.Median
	}
	return s.Median / base.Median
}
