package stat

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestOf(t *testing.T) {
	for _, c := range []struct {
		name    string
		figures []float64
		want    Spread
		percent float64
	}{
		{"none", nil, Spread{}, 0},
		{"one", []float64{7}, Spread{Median: 7, Min: 7, Max: 7, N: 1}, 0},
		{"odd", []float64{30, 10, 20}, Spread{Median: 20, Min: 10, Max: 30, N: 3}, 50},
		{"even", []float64{4, 1, 2, 3}, Spread{Median: 2.5, Min: 1, Max: 4, N: 4}, 60},
		{"an outlier moves the spread, not the median", []float64{10, 11, 500},
			Spread{Median: 11, Min: 10, Max: 500, N: 3}, 245.0 / 11 * 100},
		{"what is no number is left out", []float64{math.NaN(), 5, math.Inf(1)},
			Spread{Median: 5, Min: 5, Max: 5, N: 1}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := Of(c.figures...)
			if d := cmp.Diff(c.want, got, cmpopts.IgnoreUnexported(Spread{})); d != "" {
				t.Errorf("Of: -want +got\n%s", d)
			}
			if d := cmp.Diff(c.percent, got.Percent(), cmpopts.EquateApprox(1e-9, 0)); d != "" {
				t.Errorf("Percent: -want +got\n%s", d)
			}
		})
	}
}

func TestOfLeavesItsInputAlone(t *testing.T) {
	in := []float64{3, 1, 2}
	Of(in...)
	if d := cmp.Diff([]float64{3, 1, 2}, in); d != "" {
		t.Error(d)
	}
}

// What was measured in the same round is compared, if there is such a round.
func TestRatio(t *testing.T) {
	none := math.NaN()
	for _, c := range []struct {
		name       string
		mine, base []float64
		want       float64
	}{
		{"a slow round is slow for both", []float64{10, 44, 12}, []float64{20, 80, 24}, 0.5},
		{"the medians are of different rounds", []float64{30, 10, 20}, []float64{10, 20, 40}, 0.5},
		{"a round that one has missed", []float64{none, 30, 60}, []float64{10, none, 20}, 3},
		{"fewer rounds", []float64{30}, []float64{10, 20, 30}, 3},
		{"no round together: the medians", []float64{none, 30}, []float64{10}, 3},
	} {
		if got := Of(c.mine...).Ratio(Of(c.base...)); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	for _, base := range []Spread{{}, Of(0)} {
		if got := Of(1).Ratio(base); !math.IsNaN(got) {
			t.Errorf("against %v: %v, want no number", base, got)
		}
	}
}
