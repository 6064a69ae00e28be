package plots

import (
	"fmt"
	"image/color"
	"math"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// Parts is a line of Shares: how a whole is divided, and a value that comes of it.
type Parts struct {
	Name  string
	Parts []float64 // together 1
	Value float64
}

// partColors are those of the parts, from the first one on.
var partColors = []color.Color{SkyBlue, Blue, Vermilion}

const (
	shareRow  = vg.Length(30)
	sharePart = 0.58 // of the width, for the names and the parts
)

// Shares draws a line for each contestant: at the left its parts, whose names are given,
// side by side; at the right its value, as a dot to a logarithmic scale.
func Shares(name, title, alt string, x Axis, names []string, rows []Parts) (*Figure, error) {
	if len(rows) == 0 {
		return nil, fmt.Errorf("%s: no values", name)
	}
	n := float64(len(rows))
	x.Log, x.Min, x.Max = true, math.Inf(1), 0
	var ticks []plot.Tick
	var dots []Dot
	for i, row := range rows {
		x.Min, x.Max = min(x.Min, row.Value), max(x.Max, row.Value)
		ticks = append(ticks, plot.Tick{Value: n - 1 - float64(i), Label: row.Name + "  "})
		dots = append(dots, Dot{Value: row.Value,
			Style: Style{Color: Black, Mark: Circle}})
	}
	x.Min = math.Pow(10, math.Floor(math.Log10(x.Min)))
	x.Max *= math.Pow(x.Max/x.Min, 0.25) // room for the value at the right
	y := Axis{Min: -0.6, Max: n - 0.4, Ticks: ticks}
	share := Axis{Label: "share of the requests, %", Max: 100}
	for v := 0.0; v <= 100; v += 50 {
		share.Ticks = append(share.Ticks, plot.Tick{Value: v, Label: Short(v)})
	}
	left := newPlot("", share, y)
	left.Y.LineStyle.Width, left.Y.Tick.LineStyle.Width = 0, 0
	left.Y.Tick.Label.XAlign, left.Y.Tick.Label.YAlign = draw.XRight, draw.YCenter
	left.Add(sharePlot(rows))
	y.Ticks = []plot.Tick{}
	right := newPlot("", x, y)
	right.Y.LineStyle.Width = 0
	grid := newGrid()
	grid.Horizontal.Color = nil
	right.Add(grid, dotPlot{dots})
	const head = vg.Length(70)
	return &Figure{Name: name, Title: title, Alt: alt, width: width,
		height: head + 70 + vg.Length(n)*shareRow + 2*margin,
		draw: func(c draw.Canvas) {
			c.FillText(centred(face(titleSize, true)),
				vg.Point{X: (c.Min.X + c.Max.X) / 2, Y: c.Max.Y}, title)
			drawLegend(c, c.Max.Y-46, names, partColors)
			graphs := draw.Crop(c, 0, 0, 0, -head)
			middle := sharePart * c.Size().X
			left.Draw(draw.Crop(graphs, 0, middle-c.Size().X, 0, 0))
			right.Draw(draw.Crop(graphs, middle+28, 0, 0, 0))
		}}, nil
}

type sharePlot []Parts

func (rows sharePlot) Plot(c draw.Canvas, p *plot.Plot) {
	trX, trY := p.Transforms(&c)
	for i, row := range rows {
		y, from := trY(float64(len(rows)-1-i)), 0.0
		for k, part := range row.Parts {
			if part > 0 {
				fill(c, partColors[k], trX(100*from), y-9, trX(100*(from+part)), y+9)
			}
			from += part
		}
	}
}
