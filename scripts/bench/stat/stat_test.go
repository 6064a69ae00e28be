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
		{"one", []float64{7}, Spread{7, 7, 7, 1}, 0},
		{"odd", []float64{30, 10, 20}, Spread{20, 10, 30, 3}, 50},
		{"even", []float64{4, 1, 2, 3}, Spread{2.5, 1, 4, 4}, 60},
		{"an outlier moves the spread, not the median", []float64{10, 11, 500},
			Spread{11, 10, 500, 3}, 245.0 / 11 * 100},
		{"what is no number is left out", []float64{math.NaN(), 5, math.Inf(1)}, Spread{5, 5, 5, 1},
			0},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := Of(c.figures...)
			if d := cmp.Diff(c.want, got); d != "" {
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

func TestRatio(t *testing.T) {
	if got := Of(30).Ratio(Of(10, 20, 30)); got != 1.5 {
		t.Errorf("30 against a median of 20 is %v, want 1.5", got)
	}
	for _, base := range []Spread{{}, Of(0)} {
		if got := Of(1).Ratio(base); !math.IsNaN(got) {
			t.Errorf("against %v: %v, want no number", base, got)
		}
	}
}
