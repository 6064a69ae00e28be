package main

import (
	"encoding/xml"
	"fmt"
	"math"
	"strings"
)

// Sizes, in pixels of a drawing that is shown as large as it is.
const (
	pageWidth = 640.0 // of a drawing; a window of 500 pixels shows it at three quarters
	normal    = 16.0  // of letters
	small     = 14.0
	lineStep  = 1.3  // from one line of a box to the next, in sizes of its letters
	ascent    = 0.78 // of a letter above its line, in sizes
	descent   = 0.22 // and below it
	headWide  = 4.5  // half of an arrow's head
	headLong  = 11.0
	thick     = 1.8 // of lines
	roundness = 6.0 // of corners
)

// style is what all drawings look like. Kinds are what a thing is: a program, the
// kernel, the other side, what is new in the chapter, what goes wrong.
const style = `
text{font:16px system-ui,"Segoe UI",Arial,sans-serif;fill:#1b1f24}
.small{font-size:14px}.bold{font-weight:bold}.soft{fill:#4d5560}
.paper{fill:#fff}
.program{fill:#ddf1ff;stroke:#0969da}.kernel{fill:#eef0f2;stroke:#7d8590}
.other{fill:#dcf7e2;stroke:#1a7f37}.new{fill:#fff0bd;stroke:#946000}
.bad{fill:#ffe6e3;stroke:#cf222e}.empty{fill:none;stroke:#7d8590}
.line{fill:none;stroke:#3d444d}.head{fill:#3d444d}
.line.bad{fill:none;stroke:#cf222e}.head.bad{fill:#cf222e;stroke:none}
.line.new{fill:none;stroke:#946000}.head.new{fill:#946000;stroke:none}
.dashed{stroke-dasharray:5 4}
@media(prefers-color-scheme:dark){
text{fill:#e6edf3}.soft{fill:#aab4bf}.paper{fill:#0d1117}
.program{fill:#0e2c4a;stroke:#58a6ff}.kernel{fill:#20262d;stroke:#8b949e}
.other{fill:#11301b;stroke:#3fb950}.new{fill:#3a2b05;stroke:#d29922}
.bad{fill:#46161a;stroke:#f85149}.empty{stroke:#8b949e}
.line{stroke:#c3ccd5}.head{fill:#c3ccd5}
.line.bad{fill:none;stroke:#f85149}.head.bad{fill:#f85149}
.line.new{fill:none;stroke:#d29922}.head.new{fill:#d29922}
}
`

type point struct{ x, y float64 }

// rect is a box, or the room that a text takes.
type rect struct{ left, top, right, bottom float64 }

// text is one line of letters.
type text struct {
	at    point   // on the line that the letters stand on
	align float64 // part of its width that lies to the left of at: 0, 0.5 or 1
	size  float64 // of letters
	bold  bool
	soft  bool // less important
	words string
}

// drawing is a picture that is being made: the SVG, and what a test looks at.
type drawing struct {
	height float64
	title  string
	svg    strings.Builder
	texts  []text
	boxes  []rect
	paths  [][]point // lines, arrows and circles
}

// box draws a box of a kind, with lines of words in its middle. A kind may have
// "dashed" behind it.
func (d *drawing) box(x, y, w, h float64, kind string, lines ...string) {
	d.boxes = append(d.boxes, rect{x, y, x + w, y + h})
	fmt.Fprintf(&d.svg, `<rect class="%s" x="%g" y="%g" width="%g" height="%g" rx="%g" `+
		`stroke-width="%g"/>`+"\n", kind, x, y, w, h, roundness, thick)
	size := normal
	first := y + h/2 + size*(ascent-descent)/2 - float64(len(lines)-1)*size*lineStep/2
	for i, words := range lines {
		d.write(text{at: point{x + w/2, first + float64(i)*size*lineStep}, align: 0.5, size: size,
			words: words})
	}
}

// name writes bold words, the name of what lies around them.
func (d *drawing) name(x, y float64, words string) {
	d.write(text{at: point{x, y}, size: normal, bold: true, words: words})
}

// note writes small words.
func (d *drawing) note(x, y, align float64, words string) {
	d.write(text{at: point{x, y}, align: align, size: small, soft: true, words: words})
}

// say writes words as large as those of boxes.
func (d *drawing) say(x, y, align float64, words string) {
	d.write(text{at: point{x, y}, align: align, size: normal, words: words})
}

func (d *drawing) write(t text) {
	d.texts = append(d.texts, t)
	var class []string
	if t.size == small {
		class = append(class, "small")
	}
	if t.bold {
		class = append(class, "bold")
	}
	if t.soft {
		class = append(class, "soft")
	}
	attributes := ""
	if len(class) > 0 {
		attributes = fmt.Sprintf(` class="%s"`, strings.Join(class, " "))
	}
	if anchor := map[float64]string{0.5: "middle", 1: "end"}[t.align]; anchor != "" {
		attributes += fmt.Sprintf(` text-anchor="%s"`, anchor)
	}
	fmt.Fprintf(&d.svg, `<text x="%s" y="%s"%s>`, number(t.at.x), number(t.at.y), attributes)
	_ = xml.EscapeText(&d.svg, []byte(t.words))
	d.svg.WriteString("</text>\n")
}

// arrow draws a line through points, with a head at its last one.
func (d *drawing) arrow(kind string, through ...point) {
	end, before := through[len(through)-1], through[len(through)-2]
	d.line(kind, through...)
	d.head(kind, before, end)
}

// both draws a line with a head at either end.
func (d *drawing) both(kind string, through ...point) {
	d.arrow(kind, through...)
	d.head(kind, through[1], through[0])
}

func (d *drawing) line(kind string, through ...point) {
	d.paths = append(d.paths, through)
	var path []string
	for _, p := range through {
		path = append(path, number(p.x)+","+number(p.y))
	}
	fmt.Fprintf(&d.svg, `<path class="line%s" stroke-width="%g" d="M%s"/>`+"\n", spaced(kind),
		thick, strings.Join(path, " L"))
}

func (d *drawing) head(kind string, from, to point) {
	length := math.Hypot(to.x-from.x, to.y-from.y)
	along := point{(to.x - from.x) / length, (to.y - from.y) / length}
	back := point{to.x - headLong*along.x, to.y - headLong*along.y}
	a := point{back.x - headWide*along.y, back.y + headWide*along.x}
	b := point{back.x + headWide*along.y, back.y - headWide*along.x}
	fmt.Fprintf(&d.svg, `<path class="head%s" d="M%s,%s L%s,%s L%s,%sZ"/>`+"\n",
		spaced(strings.TrimSuffix(kind, "dashed")), number(to.x), number(to.y), number(a.x),
		number(a.y), number(b.x), number(b.y))
}

// circle draws a circle; filled is a kind for a small disc, "" for its edge only.
func (d *drawing) circle(x, y, r float64, filled string) {
	class := "line"
	if filled != "" {
		class = filled
	}
	var edge []point
	for i := range 49 {
		angle := float64(i) * math.Pi / 24
		edge = append(edge, point{x + r*math.Cos(angle), y + r*math.Sin(angle)})
	}
	d.paths = append(d.paths, edge)
	fmt.Fprintf(&d.svg, `<circle class="%s" stroke-width="%g" cx="%s" cy="%s" r="%g"/>`+"\n",
		class, thick, number(x), number(y), r)
}

// SVG is the whole file.
func (d *drawing) SVG() []byte {
	var title strings.Builder
	_ = xml.EscapeText(&title, []byte(d.title))
	return fmt.Appendf(nil, `<svg xmlns="http://www.w3.org/2000/svg" width="%g" height="%g" `+
		`viewBox="0 0 %g %g" role="img">`+"\n<title>%s</title>\n<style>%s</style>\n"+
		`<rect class="paper" width="%g" height="%g" rx="%g"/>`+"\n%s</svg>\n",
		pageWidth, d.height, pageWidth, d.height, title.String(), style, pageWidth, d.height,
		roundness, d.svg.String())
}

func spaced(kind string) string {
	if kind = strings.TrimSpace(kind); kind != "" {
		return " " + kind
	}
	return ""
}

// number writes a coordinate with a tenth of a pixel.
func number(x float64) string {
	return strings.TrimSuffix(fmt.Sprintf("%.1f", x), ".0")
}
