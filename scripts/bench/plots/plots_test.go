package plots

import (
	"bytes"
	"encoding/xml"
	"errors"
	"image/png"
	"io"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
)

var nan = math.NaN()

func TestSegments(t *testing.T) {
	for _, c := range []struct {
		name string
		bar  Bar
		want [4][2]float64
	}{
		{"answered", Bar{0.1, 0.4, 0.6, 0.7, 9},
			[4][2]float64{{0, 0.1}, {0.1, 0.4}, {0.4, 0.6}, {0.6, 0.7}}},
		{"never connected", Bar{nan, nan, nan, nan, 5},
			[4][2]float64{{0, 5}}},
		{"stayed in the backlog", Bar{0.1, nan, nan, nan, 5},
			[4][2]float64{{0, 0.1}, {0.1, 5}}},
		{"no answer", Bar{0.1, 0.2, nan, nan, 5},
			[4][2]float64{{0, 0.1}, {0.1, 0.2}, {0.2, 5}}},
		{"clocks a hair apart", Bar{0.2, 0.1999, 0.3, 0.4, 9},
			[4][2]float64{{0, 0.2}, {0.2, 0.2}, {0.1999, 0.3}, {0.3, 0.4}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if d := cmp.Diff(c.want, c.bar.segments(), cmpopts.EquateApprox(0, 1e-12)); d != "" {
				t.Errorf("-want +got\n%s", d)
			}
		})
	}
}

func TestShort(t *testing.T) {
	got := map[float64]string{}
	for _, v := range []float64{0, 0.5, 0.123, 2, 10, 12.34, 123.4, 1234.5, 1234567} {
		got[v] = Short(v)
	}
	want := map[float64]string{0: "0", 0.5: "0.5", 0.123: "0.12", 2: "2", 10: "10", 12.34: "12.3",
		123.4: "123", 1234.5: "1,234", 1234567: "1,234,567"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}

func TestDecades(t *testing.T) {
	labels := func(ticks []plot.Tick) (s []string) {
		for _, x := range ticks {
			if x.Label != "" {
				s = append(s, x.Label)
			}
		}
		return s
	}
	if d := cmp.Diff([]string{"1", "10", "100", "1,000"}, labels(decades(1, 1000))); d != "" {
		t.Errorf("three decades: -want +got\n%s", d)
	}
	if d := cmp.Diff([]string{"50", "100", "200"}, labels(decades(40, 300))); d != "" {
		t.Errorf("less than one: -want +got\n%s", d)
	}
}

// figures draws one of each kind.
func figures(t *testing.T) []*Figure {
	t.Helper()
	must := func(f *Figure, err error) *Figure {
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	s := Series{Name: "ch4 <&>", Style: Style{Blue, Dashed, OpenSquare}, X: []float64{1, 8, 64},
		Y: []float64{100, 900, 5000}, Lo: []float64{90, 800, 4000}, Hi: []float64{110, 950, 6000}}
	return []*Figure{
		must(Lines("lines", "Lines", "alt", Axis{Label: "clients", Log: true},
			Axis{Label: "requests/s", Log: true}, []Series{s})),
		must(Dots("dots", "Dots", "alt", Axis{Label: "µs", Log: true},
			[]Dot{{Name: "a", Style: s.Style, Value: 20, Lo: 10, Hi: 30},
				{Name: "b", Style: Style{Color: Vermilion, Mark: Up}, Value: 5000, Lo: 5000,
					Hi: 5000}})),
		must(Timelines("times", "Times", "alt",
			[]Panel{{"ch2", []Bar{{0.1, 0.4, 0.6, 0.7, 9}, {nan, nan, nan, nan, 1}}}})),
		must(Shares("shares", "Shares", "alt", Axis{Label: "ms"}, []string{"one", "two"},
			[]Parts{{"ch4", []float64{.4, .6}, 20}, {"ch5", []float64{0, 1}, 20}})),
		must(Stack("stack", "Stack", "alt", 64, []Band{{5, 10, "dead"}},
			[]Strip{{"ch4", []Series{s}}, {"ch5", []Series{s, {Name: "empty"}}}})),
	}
}

func TestFiguresAreWellFormed(t *testing.T) {
	for _, f := range figures(t) {
		t.Run(f.Name, func(t *testing.T) {
			d := xml.NewDecoder(bytes.NewReader(f.SVG()))
			text := ""
			for {
				tok, err := d.Token()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				if c, ok := tok.(xml.CharData); ok {
					text += string(c)
				}
			}
			if !strings.Contains(text, f.Title) {
				t.Errorf("no title in the text of the picture: %q", text)
			}
			if s := f.Inline(); !strings.HasPrefix(s, "<svg") ||
				strings.Contains(s, "font-family:Liberation Sans;") {
				t.Errorf("inline SVG begins %.40q", s)
			}
			b, err := f.PNG()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := png.Decode(bytes.NewReader(b)); err != nil {
				t.Error(err)
			}
		})
	}
}

// Of an interrupted run there may be one point only, wherever it lies.
func TestLineOfOnePoint(t *testing.T) {
	axis := Axis{Log: true}
	for _, at := range []float64{0.4, 1, 64} {
		f, err := Lines("one", "One", "alt", axis, axis, []Series{{Name: "ch4",
			Style: Style{Color: Blue, Mark: Circle}, X: []float64{at}, Y: []float64{at}}})
		if err != nil {
			t.Fatal(err)
		}
		if svg := f.SVG(); !bytes.Contains(svg, []byte("One")) {
			t.Errorf("at %g: %s", at, svg)
		}
	}
}

// The same data must give the same bytes: the pictures in docs/ are kept in
// the repository.
func TestFiguresAreReproducible(t *testing.T) {
	a, b := figures(t), figures(t)
	for i := range a {
		if !bytes.Equal(a[i].SVG(), b[i].SVG()) {
			t.Errorf("%s differs from one drawing to the next", a[i].Name)
		}
	}
}

func TestThinKeepsTheEnds(t *testing.T) {
	var in plotter.XYs
	for i := range 41 {
		in = append(in, plotter.XY{X: float64(i)})
	}
	got := thin(in)
	if len(got) != 9 || got[0].X != 0 || got[8].X != 40 {
		t.Errorf("%v", got)
	}
}
