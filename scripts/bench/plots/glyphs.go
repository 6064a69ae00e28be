package plots

import (
	"image/color"
	"math"

	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// Marker is the shape of a mark: a polygon of some corners, filled or open,
// or a cross. gonum's own open marks and crosses are hairlines, which a
// projector swallows.
type Marker struct {
	Corners int     // 0: a circle
	Turn    float64 // radians
	Open    bool    // white inside
	Cross   bool    // Corners strokes from the centre instead of an outline
}

// The markers in use.
var (
	Circle       = Marker{}
	OpenCircle   = Marker{Open: true}
	Square       = Marker{Corners: 4, Turn: math.Pi / 4}
	OpenSquare   = Marker{Corners: 4, Turn: math.Pi / 4, Open: true}
	Up           = Marker{Corners: 3, Turn: math.Pi / 2}
	OpenDown     = Marker{Corners: 3, Turn: -math.Pi / 2, Open: true}
	Diamond      = Marker{Corners: 4}
	OpenDiamond  = Marker{Corners: 4, Open: true}
	DiagonalPlus = Marker{Corners: 4, Turn: math.Pi / 4, Cross: true}
	Plus         = Marker{Corners: 4, Cross: true}
)

// DrawGlyph draws the marker; it makes Marker a draw.GlyphDrawer.
func (m Marker) DrawGlyph(c *draw.Canvas, sty draw.GlyphStyle, at vg.Point) {
	r := sty.Radius
	if m.Corners > 0 {
		r *= 1.25 // about the area of the circle
	}
	corner := func(i int) vg.Point {
		a := m.Turn + 2*math.Pi*float64(i)/float64(max(m.Corners, 1))
		return vg.Point{X: at.X + r*vg.Length(math.Cos(a)), Y: at.Y + r*vg.Length(math.Sin(a))}
	}
	c.SetLineStyle(draw.LineStyle{Color: sty.Color, Width: 2.2})
	var p vg.Path
	if m.Cross {
		for i := range m.Corners {
			p.Move(at)
			p.Line(corner(i))
		}
		c.Stroke(p)
		return
	}
	if m.Corners == 0 {
		p.Move(vg.Point{X: at.X + r, Y: at.Y})
		p.Arc(at, r, 0, 2*math.Pi)
	} else {
		p.Move(corner(0))
		for i := 1; i < m.Corners; i++ {
			p.Line(corner(i))
		}
	}
	p.Close()
	c.SetColor(sty.Color)
	if m.Open {
		c.SetColor(color.White)
	}
	c.Fill(p)
	c.SetColor(sty.Color)
	c.Stroke(p)
}
