package plots

import (
	"fmt"
	"image/color"
	"math"
	"sort"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// Bar is what one client saw, in seconds since all began; the parts follow
// each other, and a part whose end is unknown is left out.
type Bar struct {
	Connected float64 // handshake done
	Arrived   float64 // the request was at the backend; NaN if it never was
	First     float64 // first byte of the answer; NaN if none came
	Done      float64 // NaN if it failed
	GaveUp    float64 // when it failed
}

// Panel is one contestant's clients.
type Panel struct {
	Name string
	Bars []Bar
}

// The kinds of waiting, as the legend names them.
var (
	waits = []string{"connecting", "waiting in the backlog", "waiting for the backend",
		"receiving"}
	waitColors = []color.Color{Vermilion, color.RGBA{0xC4, 0xC4, 0xC4, 255}, Blue, Black}
)

// segments cuts a bar into the four kinds: start and end of each, in seconds.
func (b Bar) segments() [4][2]float64 {
	last := b.GaveUp
	if !math.IsNaN(b.Done) {
		last = b.Done
	}
	times := [5]float64{0, b.Connected, b.Arrived, b.First, last}
	var seg [4][2]float64
	for i := range seg {
		if math.IsNaN(times[i]) {
			continue
		}
		end := times[i+1]
		if math.IsNaN(end) {
			end = last // it failed in this part
		}
		seg[i] = [2]float64{times[i], max(end, times[i])}
	}
	return seg
}

const (
	panelHeight = vg.Length(178)
	panelCols   = 3
)

// Timelines draws a grid of panels with a common time axis, one bar a client,
// sorted by the time its request came to the backend.
func Timelines(name, title, alt string, panels []Panel) (*Figure, error) {
	if len(panels) == 0 {
		return nil, fmt.Errorf("%s: no timelines", name)
	}
	end := 0.0
	for _, p := range panels {
		for _, b := range p.Bars {
			s := b.segments()
			end = max(end, s[3][1], s[2][1], s[1][1], s[0][1])
		}
	}
	rows := (len(panels) + panelCols - 1) / panelCols
	const head = vg.Length(86)
	return &Figure{Name: name, Title: title, Alt: alt, width: width + 100,
		height: head + vg.Length(rows)*panelHeight,
		draw: func(c draw.Canvas) {
			top := c.Max.Y
			c.FillText(centred(face(titleSize, true)), vg.Point{X: (c.Min.X + c.Max.X) / 2, Y: top},
				title)
			drawLegend(c, top-44, waits, waitColors)
			w := c.Size().X / panelCols
			for i, p := range panels {
				x := c.Min.X + vg.Length(i%panelCols)*w
				y := top - head + margin - vg.Length(i/panelCols)*panelHeight
				cell := draw.Canvas{Canvas: c.Canvas, Rectangle: vg.Rectangle{
					Min: vg.Point{X: x + 6, Y: y - panelHeight + 12},
					Max: vg.Point{X: x + w - 10, Y: y}}}
				drawPanel(cell, p, end)
			}
		}}, nil
}

// drawLegend draws a legend in one row.
func drawLegend(c draw.Canvas, y vg.Length, names []string, colors []color.Color) {
	sty := face(legendSize, false)
	sty.YAlign = draw.YCenter
	total := vg.Length(0)
	for _, name := range names {
		total += 34 + sty.Width(name) + 26
	}
	x := c.Min.X + (c.Size().X-total)/2
	for i, name := range names {
		fill(c, colors[i], x, y-7, x+26, y+7)
		c.FillText(sty, vg.Point{X: x + 34, Y: y}, name)
		x += 34 + sty.Width(name) + 26
	}
}

func fill(c draw.Canvas, col color.Color, x0, y0, x1, y1 vg.Length) {
	c.SetColor(col)
	c.Fill(vg.Rectangle{Min: vg.Point{X: x0, Y: y0}, Max: vg.Point{X: x1, Y: y1}}.Path())
}

func drawPanel(c draw.Canvas, panel Panel, end float64) {
	var ticks []plot.Tick
	step := 0.5
	if end > 4 {
		step = 1
	}
	for v := 0.0; v <= end*1.02; v += step {
		ticks = append(ticks, plot.Tick{Value: v, Label: Short(v) + " s"})
	}
	p := newPlot(panel.Name, Axis{Max: end * 1.03, Min: 0, Ticks: ticks},
		Axis{Min: 0, Max: float64(len(panel.Bars)), Ticks: []plot.Tick{}})
	p.Title.TextStyle.Font.Size = legendSize
	p.Title.Padding = 3
	p.X.Tick.Label.Font.Size = 14
	p.Y.LineStyle.Width = 0
	bars := append([]Bar(nil), panel.Bars...)
	sort.SliceStable(bars, func(i, j int) bool {
		return order(bars[i]) < order(bars[j])
	})
	p.Add(barPlot(bars))
	p.Draw(c)
}

func order(b Bar) float64 {
	if math.IsNaN(b.Arrived) {
		return math.Inf(1)
	}
	return b.Arrived
}

type barPlot []Bar

func (bp barPlot) Plot(c draw.Canvas, p *plot.Plot) {
	trX, trY := p.Transforms(&c)
	for i, b := range bp {
		y1 := trY(float64(len(bp)-i)) - 1.5
		y0 := trY(float64(len(bp)-i-1)) + 1.5
		for k, s := range b.segments() {
			if s[1] <= s[0] {
				continue
			}
			x0, x1 := trX(s[0]), trX(s[1])
			if k == 3 { // a small answer comes at once: make it visible
				x1 = max(x1, x0+2)
			}
			fill(c, waitColors[k], x0, y0, x1, y1)
		}
	}
}
