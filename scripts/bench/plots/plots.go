// Package plots draws the pictures of the bench: lines, dots, and timelines,
// in fonts for a projector, with the Okabe–Ito colours that the colour-blind
// can tell apart, and with a marker and a dash pattern beside each colour.
package plots

import (
	"bytes"
	"fmt"
	"image/color"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	xfont "golang.org/x/image/font"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgsvg"
)

// Sizes in points; a figure is shown about as wide as the page.
const (
	width      = vg.Length(900)
	height     = vg.Length(520)
	titleSize  = vg.Length(21)
	labelSize  = vg.Length(18)
	tickSize   = vg.Length(16)
	legendSize = vg.Length(16)
	margin     = vg.Length(14)
	pngDPI     = 96
)

// Okabe and Ito's palette, without its yellow, which is too pale on white.
var (
	Black     = color.RGBA{0, 0, 0, 255}
	Orange    = color.RGBA{0xE6, 0x9F, 0x00, 255}
	SkyBlue   = color.RGBA{0x56, 0xB4, 0xE9, 255}
	Green     = color.RGBA{0x00, 0x9E, 0x73, 255}
	Blue      = color.RGBA{0x00, 0x72, 0xB2, 255}
	Vermilion = color.RGBA{0xD5, 0x5E, 0x00, 255}
	Purple    = color.RGBA{0xCC, 0x79, 0xA7, 255}
	Grey      = color.RGBA{0x80, 0x80, 0x80, 255}
	pale      = color.RGBA{0xDD, 0xDD, 0xDD, 255}
)

// Dash patterns.
var (
	Solid  []vg.Length
	Dashed = []vg.Length{9, 5}
	Dotted = []vg.Length{2, 4}
)

// Style is how one contestant looks in every picture.
type Style struct {
	Color color.Color
	Dash  []vg.Length
	Mark  Marker
}

// Series is one contestant's line: points, and, when given, the least and
// greatest value seen at each.
type Series struct {
	Name   string
	Style  Style
	X, Y   []float64
	Lo, Hi []float64
}

// Figure is a picture that can be written as SVG and PNG.
type Figure struct {
	Name   string // file name without extension, "bench-throughput"
	Title  string
	Alt    string // what it shows, for those who cannot see it
	width  vg.Length
	height vg.Length
	draw   func(draw.Canvas)
}

func face(size vg.Length, bold bool) text.Style {
	f := font.Font{Typeface: "Liberation", Variant: "Sans", Size: size}
	if bold {
		f.Weight = xfont.WeightBold
	}
	return text.Style{Color: color.Black, Font: f, Handler: plot.DefaultTextHandler}
}

// paint draws the figure on any gonum canvas.
func (f *Figure) paint(c vg.CanvasSizer) {
	dc := draw.New(c)
	dc.SetColor(color.White)
	dc.Fill(dc.Rectangle.Path())
	f.draw(draw.Crop(dc, margin, -margin, margin, -margin))
}

// SVG is the figure as a standalone SVG document.
func (f *Figure) SVG() []byte {
	c := vgsvg.New(f.width, f.height)
	f.paint(c)
	var b bytes.Buffer
	_, _ = c.WriteTo(&b) // a bytes.Buffer does not fail
	return compact(b.Bytes())
}

// compact names the font once, for all: a viewer without Liberation Sans takes
// one of the same widths. What is the default anyway goes, and a dark mode comes.
func compact(svg []byte) []byte {
	for _, r := range [][2]string{
		{"font-family:Liberation Sans;", ""}, {"font-variant:normal;", ""},
		{"font-weight:normal;", ""},
		{"font-style:normal;", ""}, {"\n\t", " "}, {"stroke-linecap:butt;", ""},
		{"<svg ", "<svg style=\"font-family:'Liberation Sans',Arial,Helvetica,sans-serif\" "},
	} {
		svg = bytes.ReplaceAll(svg, []byte(r[0]), []byte(r[1]))
	}
	head, body, _ := bytes.Cut(svg, []byte("<g "))
	return slices.Concat(head, []byte(darkStyle+"\n<g "), body)
}

// darkStyle turns a picture's lightness round where the reader wants it dark; turning
// the hues back leaves each colour what it was.
const darkStyle = "<style>@media (prefers-color-scheme:dark)" +
	"{svg{filter:invert(.91) hue-rotate(180deg)}}</style>"

// Inline is the SVG without the XML declaration, to stand inside HTML.
func (f *Figure) Inline() string {
	s := string(f.SVG())
	if i := strings.Index(s, "<svg"); i > 0 {
		s = s[i:]
	}
	return s
}

// PNG is the figure as a PNG image.
func (f *Figure) PNG() ([]byte, error) {
	c := vgimg.PngCanvas{Canvas: vgimg.NewWith(vgimg.UseWH(f.width, f.height),
		vgimg.UseDPI(pngDPI))}
	f.paint(c)
	var b bytes.Buffer
	if _, err := c.WriteTo(&b); err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name, err)
	}
	return b.Bytes(), nil
}

// Write writes NAME.svg and, if wanted, NAME.png into dir.
func (f *Figure) Write(dir string, withPNG bool) error {
	err := os.WriteFile(filepath.Join(dir, f.Name+".svg"), f.SVG(), 0o644)
	if err != nil || !withPNG {
		return err
	}
	b, err := f.PNG()
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, f.Name+".png"), b, 0o644)
}

// Axis describes one axis.
type Axis struct {
	Label    string
	Min, Max float64 // both 0: from the data
	Log      bool
	Ticks    []plot.Tick // nil: chosen here
}

func newPlot(title string, x, y Axis) *plot.Plot {
	p := plot.New()
	p.Title.Text = title
	p.Title.TextStyle = centred(face(titleSize, true))
	p.Title.Padding = 10
	p.BackgroundColor = color.White
	set := func(a *plot.Axis, want Axis) {
		a.Label.Text = want.Label
		a.Label.TextStyle.Font = face(labelSize, false).Font
		a.Label.Padding = 8
		a.Tick.Label.Font = face(tickSize, false).Font
		a.LineStyle.Width, a.Tick.LineStyle.Width = 1.2, 1.2
		a.Padding = 4
		if want.Min != 0 || want.Max != 0 {
			a.Min, a.Max = want.Min, want.Max
		}
		if want.Log {
			a.Scale = plot.LogScale{}
			a.Tick.Marker = plot.TickerFunc(decades)
		}
		if want.Ticks != nil {
			a.Tick.Marker = plot.ConstantTicks(want.Ticks)
		}
	}
	set(&p.X, x)
	set(&p.Y, y)
	return p
}

func centred(s text.Style) text.Style {
	s.XAlign, s.YAlign = draw.XCenter, draw.YTop
	return s
}

// decades labels 1, 10, 100 ... and, where there are few of them, 2 and 5 in
// between.
func decades(lo, hi float64) []plot.Tick {
	var ticks []plot.Tick
	few := math.Log10(hi/lo) < 2.2
	for d := math.Floor(math.Log10(lo)); d <= math.Ceil(math.Log10(hi)); d++ {
		for i := 1; i < 10; i++ {
			v := float64(i) * math.Pow(10, d)
			if v < lo*0.999 || v > hi*1.001 {
				continue
			}
			t := plot.Tick{Value: v}
			if i == 1 || few && (i == 2 || i == 5) {
				t.Label = Short(v)
			}
			ticks = append(ticks, t)
		}
	}
	return ticks
}

// Short prints a figure for a tick or a label: three significant digits,
// thousands separated.
func Short(v float64) string {
	switch a := math.Abs(v); {
	case a >= 1000:
		s := fmt.Sprintf("%.0f", v)
		for i := len(s) - 3; i > 0; i -= 3 {
			s = s[:i] + "," + s[i:]
		}
		return s
	case a >= 100:
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return strings.TrimSuffix(fmt.Sprintf("%.1f", v), ".0")
	}
	s := strings.TrimRight(fmt.Sprintf("%.2f", v), "0")
	return strings.TrimSuffix(s, ".")
}

// Lines draws one line for each series, with the legend in a column of its
// own at the right, so that it can hide nothing.
func Lines(name, title, alt string, x, y Axis, series []Series) (*Figure, error) {
	p := newPlot(title, x, y)
	p.Add(newGrid())
	legend := plot.NewLegend()
	legend.TextStyle.Font = face(legendSize, false).Font
	legend.ThumbnailWidth = 44
	legend.Padding = 7
	legend.Left, legend.Top = true, true
	for _, s := range series {
		if len(s.X) == 0 {
			continue
		}
		pts := make(plotter.XYs, len(s.X))
		for i := range s.X {
			pts[i] = plotter.XY{X: s.X[i], Y: s.Y[i]}
		}
		line, err := plotter.NewLine(pts)
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", name, s.Name, err)
		}
		line.LineStyle = draw.LineStyle{Color: s.Style.Color, Width: 2.5, Dashes: s.Style.Dash}
		marks, err := plotter.NewScatter(thin(pts))
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", name, s.Name, err)
		}
		marks.GlyphStyle = glyph(s.Style)
		p.Add(line, whiskers{s}, marks)
		legend.Add(s.Name, line, marks)
	}
	if y.Min == 0 && y.Max == 0 && y.Log {
		p.Y.Min, p.Y.Max = p.Y.Min*0.8, p.Y.Max*1.25
	}
	if x.Log && p.X.Min == p.X.Max { // gonum would take 1 off, and 0 has no logarithm
		p.X.Min, p.X.Max = p.X.Min*0.8, p.X.Max*1.25
	}
	return &Figure{Name: name, Title: title, Alt: alt, width: width, height: height,
		draw: func(c draw.Canvas) {
			w := legend.Rectangle(c).Size().X + 16
			p.Draw(draw.Crop(c, 0, -w, 0, 0))
			legend.Draw(draw.Crop(c, c.Size().X-w+12, 0, 0, -40))
		}}, nil
}

func newGrid() *plotter.Grid {
	g := plotter.NewGrid()
	g.Vertical = draw.LineStyle{Color: pale, Width: 0.9}
	g.Horizontal = g.Vertical
	return g
}

// thin keeps at most about twelve marks of a line, the last among them.
func thin(pts plotter.XYs) plotter.XYs {
	if len(pts) <= 12 {
		return pts
	}
	var out plotter.XYs
	step := float64(len(pts)-1) / 8
	for i := 0.0; i < 8.5; i++ {
		out = append(out, pts[int(math.Round(i*step))])
	}
	return out
}

func glyph(s Style) draw.GlyphStyle {
	return draw.GlyphStyle{Color: s.Color, Radius: 5, Shape: s.Mark}
}

// whiskers draws the least and the greatest value at each point of a series.
type whiskers struct{ s Series }

func (w whiskers) Plot(c draw.Canvas, p *plot.Plot) {
	if len(w.s.Lo) != len(w.s.X) || len(w.s.Hi) != len(w.s.X) {
		return
	}
	trX, trY := p.Transforms(&c)
	sty := draw.LineStyle{Color: w.s.Style.Color, Width: 1.2}
	for i, x := range w.s.X {
		a, b := trY(w.s.Lo[i]), trY(w.s.Hi[i])
		c.StrokeLine2(sty, trX(x), a, trX(x), b)
		c.StrokeLine2(sty, trX(x)-4, a, trX(x)+4, a)
		c.StrokeLine2(sty, trX(x)-4, b, trX(x)+4, b)
	}
}

// Dot is one line of a dot plot.
type Dot struct {
	Name          string
	Style         Style
	Value, Lo, Hi float64
	Label         string // the value in words; "" prints it
}

// Dots draws one horizontal line for each contestant, from the axis to a
// mark at its value, with whiskers for the spread and the value beside it.
func Dots(name, title, alt string, x Axis, dots []Dot) (*Figure, error) {
	if len(dots) == 0 {
		return nil, fmt.Errorf("%s: no values", name)
	}
	lo, hi := math.Inf(1), math.Inf(-1)
	var ticks []plot.Tick
	for i, d := range dots {
		lo, hi = min(lo, d.Value, d.Lo), max(hi, d.Value, d.Hi)
		ticks = append(ticks, plot.Tick{Value: float64(len(dots) - 1 - i), Label: d.Name})
	}
	if x.Log {
		lo = math.Pow(10, math.Floor(math.Log10(lo)*1.0001-0.05))
		x.Min, x.Max = lo, hi*math.Pow(hi/lo, 0.2) // room for the value at the right
	} else {
		x.Min, x.Max = 0, hi*1.22
	}
	p := newPlot(title, x, Axis{Min: -0.6, Max: float64(len(dots)) - 0.4, Ticks: ticks})
	p.Y.Tick.LineStyle.Width = 0
	p.Y.Tick.Label.XAlign, p.Y.Tick.Label.YAlign = draw.XRight, draw.YCenter
	grid := newGrid()
	grid.Horizontal.Color = nil
	p.Add(grid, dotPlot{dots})
	return &Figure{Name: name, Title: title, Alt: alt, width: width,
		height: 130 + vg.Length(len(dots))*30, draw: p.Draw}, nil
}

type dotPlot struct{ dots []Dot }

func (dp dotPlot) Plot(c draw.Canvas, p *plot.Plot) {
	trX, trY := p.Transforms(&c)
	label := face(legendSize, false)
	label.YAlign = draw.YCenter
	for i, d := range dp.dots {
		y := trY(float64(len(dp.dots) - 1 - i))
		x := trX(d.Value)
		c.StrokeLine2(draw.LineStyle{Color: d.Style.Color, Width: 3, Dashes: d.Style.Dash}, c.Min.X,
			y, x, y)
		end := x
		if d.Hi > d.Lo {
			a, b := trX(d.Lo), trX(d.Hi)
			sty := draw.LineStyle{Color: color.Black, Width: 1.4}
			c.StrokeLine2(sty, a, y, b, y)
			c.StrokeLine2(sty, a, y-6, a, y+6)
			c.StrokeLine2(sty, b, y-6, b, y+6)
			end = max(end, b)
		}
		g := glyph(d.Style)
		g.Radius = 6
		c.DrawGlyph(g, vg.Point{X: x, Y: y})
		s := d.Label
		if s == "" {
			s = Short(d.Value)
		}
		c.FillText(label, vg.Point{X: end + 12, Y: y + 2}, s)
	}
}
