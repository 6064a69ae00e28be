package plots

import (
	"fmt"
	"image/color"
	"math"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// Strip is one of several graphs, one under the other.
type Strip struct {
	Title  string
	Series []Series
}

// Band is a time, in seconds, in which something is different.
type Band struct {
	From, To float64
	Label    string
}

const (
	stripHeight = vg.Length(200)
	stripGap    = vg.Length(16)
)

var bandColor = color.RGBA{0xEE, 0xEE, 0xEE, 255}

// Stack draws strips, one under the other, over the same seconds and to the same
// scale.
func Stack(name, title, alt string, seconds float64, bands []Band, strips []Strip) (*Figure,
	error) {
	x, y := Axis{Label: "seconds", Max: seconds}, Axis{}
	for t := 0.0; t <= seconds; t++ {
		tick := plot.Tick{Value: t}
		if math.Mod(t, 5) == 0 {
			tick.Label = Short(t)
		}
		x.Ticks = append(x.Ticks, tick)
	}
	for _, s := range strips {
		for _, line := range s.Series {
			y.Max = max(y.Max, slices.Max(append(line.Y, 1)))
		}
	}
	y.Max *= 1.2 // room for the bands' labels
	step := math.Pow(10, math.Floor(math.Log10(y.Max)))
	if y.Max/step < 4 {
		step /= 2
	}
	for v := 0.0; v <= y.Max; v += step {
		y.Ticks = append(y.Ticks, plot.Tick{Value: v, Label: Short(v)})
	}
	const head = vg.Length(48)
	figure := &Figure{Name: name, Title: title, Alt: alt, width: width,
		height: head + vg.Length(len(strips))*stripHeight + 2*margin}
	var graphs []*plot.Plot
	var legends []plot.Legend
	legendWidth := vg.Length(0)
	for i, s := range strips {
		axis := x
		if i < len(strips)-1 {
			axis.Label = ""
		}
		p := newPlot(s.Title, axis, y)
		p.Title.TextStyle = face(legendSize, true)
		p.Title.Padding = 4
		p.Add(bandPlot(bands), newGrid())
		legend := plot.NewLegend()
		legend.TextStyle.Font = face(tickSize, false).Font
		legend.ThumbnailWidth, legend.Padding = 30, 5
		legend.Left, legend.Top = true, true
		for _, line := range s.Series {
			if len(line.X) == 0 {
				continue
			}
			pts := make(plotter.XYs, len(line.X))
			for i := range line.X {
				pts[i] = plotter.XY{X: line.X[i], Y: line.Y[i]}
			}
			l, err := plotter.NewLine(bare(pts))
			if err != nil {
				return nil, fmt.Errorf("%s: %s: %w", name, line.Name, err)
			}
			l.LineStyle = draw.LineStyle{Color: line.Style.Color, Width: 1.8,
				Dashes: line.Style.Dash}
			p.Add(l)
			legend.Add(line.Name, l)
		}
		graphs, legends = append(graphs, p), append(legends, legend)
	}
	figure.draw = func(c draw.Canvas) {
		c.FillText(centred(face(titleSize, true)),
			vg.Point{X: (c.Min.X + c.Max.X) / 2, Y: c.Max.Y}, title)
		for i := range legends {
			legendWidth = max(legendWidth, legends[i].Rectangle(c).Size().X+8)
		}
		for i, p := range graphs {
			top := c.Max.Y - head - vg.Length(i)*stripHeight
			cell := draw.Canvas{Canvas: c.Canvas, Rectangle: vg.Rectangle{
				Min: vg.Point{X: c.Min.X, Y: top - stripHeight + stripGap},
				Max: vg.Point{X: c.Max.X, Y: top}}}
			p.Draw(draw.Crop(cell, 0, -legendWidth, 0, 0))
			legends[i].Draw(draw.Crop(cell, cell.Size().X-legendWidth+6, 0, 0, -24))
		}
	}
	return figure, nil
}

// bare leaves out the points of a line that lie between two of the same height.
func bare(pts plotter.XYs) (out plotter.XYs) {
	for i, p := range pts {
		if i == 0 || i == len(pts)-1 || pts[i-1].Y != p.Y || pts[i+1].Y != p.Y {
			out = append(out, p)
		}
	}
	return slices.Clip(out)
}

// bandPlot draws bands behind the lines.
type bandPlot []Band

func (bands bandPlot) Plot(c draw.Canvas, p *plot.Plot) {
	trX, _ := p.Transforms(&c)
	label := face(14, false)
	label.XAlign, label.YAlign = draw.XCenter, draw.YTop
	for _, b := range bands {
		from, to := trX(b.From), trX(b.To)
		fill(c, bandColor, from, c.Min.Y, to, c.Max.Y)
		c.FillText(label, vg.Point{X: (from + to) / 2, Y: c.Max.Y - 2}, b.Label)
	}
}
