package sequence

import (
	"fmt"
	"html"
	"slices"
	"strings"
)

// Sizes in SVG units; the page scales the whole drawing.
const (
	fontSize   = 16.0 // of text
	lineHeight = 20.0
	charWidth  = 8.6 // of an average character, on the wide side
	margin     = 16.0
	actorPad   = 16.0 // left and right of a participant's name
	minGap     = 200.0
	rowGap     = 16.0 // between items
	notePad    = 8.0
	blockPad   = 12.0 // from a block's frame to what it holds
	selfWidth  = 42.0 // of the loop of a message to oneself
	headSize   = 9.0  // of an arrow's head
	badge      = 10.0 // radius of a message's number
)

// SVG draws a mermaid sequence diagram. The error says what of the source it cannot
// draw; the caller shows the source then.
func SVG(source string) (string, error) {
	d, err := parse(source)
	if err != nil {
		return "", err
	}
	c := &canvas{d: d}
	c.layout()
	c.draw()
	return c.svg(), nil
}

// canvas is a drawing in progress.
type canvas struct {
	d          diagram
	x          []float64 // the middle of each participant
	left       float64   // leftmost point used
	right      float64   // rightmost
	y          float64
	back       strings.Builder // frames, behind everything
	lines      strings.Builder // lifelines
	front      strings.Builder
	headHeight float64
	messages   int
}

func width(lines []string) float64 {
	most := 0
	for _, l := range lines {
		most = max(most, len([]rune(l)))
	}
	return float64(most) * charWidth
}

// layout places the participants so far apart that every text fits.
func (c *canvas) layout() {
	n := len(c.d.actors)
	gap := make([]float64, n) // from participant i to i+1
	half := make([]float64, n)
	for i, a := range c.d.actors {
		lines := textLines(a.label)
		half[i] = width(lines)/2 + actorPad
		c.headHeight = max(c.headHeight, float64(len(lines))*lineHeight+notePad*2)
	}
	for i := range n - 1 {
		gap[i] = max(minGap, half[i]+half[i+1]+margin)
	}
	widen := func(from, to int, need float64) {
		have := 0.0
		for i := from; i < to; i++ {
			have += gap[i]
		}
		for i := from; i < to && have < need; i++ {
			gap[i] += (need - have) / float64(to-from)
		}
	}
	for _, it := range c.d.items {
		w := width(textLines(it.text))
		a, b := min(it.from, it.to), max(it.from, it.to)
		switch {
		case it.kind == message && a == b && a < n-1:
			widen(a, a+1, w+selfWidth+margin*2)
		case it.kind == message && a < b:
			widen(a, b, w+badge*4+margin)
		case it.kind == note && it.side == "over" && a < b:
			widen(a, b, w-half[a]-half[b])
		case it.kind == note && it.side == "right" && a < n-1:
			widen(a, a+1, w+notePad*2+margin*2)
		case it.kind == note && it.side == "left" && a > 0:
			widen(a-1, a, w+notePad*2+margin*2)
		}
	}
	at := half[0]
	for i := range n {
		c.x = append(c.x, at)
		at += gap[i]
	}
	c.left, c.right = 0, c.x[n-1]+half[n-1]
}

// reach notes how far the drawing goes.
func (c *canvas) reach(left, right float64) {
	c.left, c.right = min(c.left, left), max(c.right, right)
}

// text writes lines around x, the first baseline at y.
func (c *canvas) text(class, anchor string, x, y float64, lines []string) {
	for i, l := range lines {
		fmt.Fprintf(&c.front, `<text class="%s" text-anchor="%s" x="%.1f" y="%.1f">%s</text>`,
			class, anchor, x, y+float64(i)*lineHeight, html.EscapeString(l))
	}
}

// frame is a block that is open.
type frame struct {
	top         float64
	from, to    int
	left, right float64
	depth       int
}

func (c *canvas) draw() {
	c.y = margin
	if c.d.title != "" {
		c.text("seq-title", "middle", (c.x[0]+c.x[len(c.x)-1])/2, c.y+fontSize, []string{c.d.title})
		c.y += lineHeight + rowGap
	}
	top := c.y
	c.heads(top)
	c.y = top + c.headHeight + rowGap
	var open []frame
	for i, it := range c.d.items {
		switch it.kind {
		case message:
			c.message(it)
		case note:
			c.note(it)
		case blockStart:
			open = append(open, c.start(i, it, len(open)))
		case blockElse:
			c.otherwise(it, open[len(open)-1])
		case blockEnd:
			c.end(open[len(open)-1])
			open = open[:len(open)-1]
		}
	}
	bottom := c.y
	c.heads(bottom)
	for _, x := range c.x {
		fmt.Fprintf(&c.lines, `<line class="seq-life" x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f"/>`, x, top+c.headHeight, x, bottom)
	}
	c.y = bottom + c.headHeight + margin
}

// heads draws the participants' names in boxes.
func (c *canvas) heads(y float64) {
	for i, a := range c.d.actors {
		lines := textLines(a.label)
		w := width(lines) + actorPad*2
		fmt.Fprintf(&c.front, `<rect class="seq-actor" x="%.1f" y="%.1f" width="%.1f" height="%.1f" rx="6"/>`, c.x[i]-w/2, y, w, c.headHeight)
		free := c.headHeight - float64(len(lines))*lineHeight
		c.text("seq-name", "middle", c.x[i], y+free/2+fontSize-1, lines)
	}
}

func (c *canvas) message(it item) {
	lines := textLines(it.text)
	if it.text == "" {
		lines = nil
	}
	c.messages++
	x1, x2 := c.x[it.from], c.x[it.to]
	if it.from == it.to {
		c.self(it, lines, x1)
		return
	}
	c.text("seq-text", "middle", (x1+x2)/2, c.y+fontSize, lines)
	c.y += float64(len(lines))*lineHeight + 7
	dir := 1.0
	if x2 < x1 {
		dir = -1
	}
	class := "seq-line"
	if it.dashed {
		class += " seq-dashed"
	}
	fmt.Fprintf(&c.front, `<line class="%s" x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f"/>`, class, x1, c.y, x2-dir*2, c.y)
	c.head(it.head, x2-dir*2, dir)
	if it.both {
		c.head(it.head, x1+dir*2, -dir)
	}
	c.badge(x1)
	c.y += rowGap
}

// self draws a message of a participant to itself.
func (c *canvas) self(it item, lines []string, x float64) {
	h := max(float64(len(lines))*lineHeight, lineHeight)
	class := "seq-line"
	if it.dashed {
		class += " seq-dashed"
	}
	fmt.Fprintf(&c.front, `<path class="%s" fill="none" d="M%.1f %.1f h%.1f v%.1f h%.1f"/>`, class, x, c.y+4, selfWidth-14, h, -(selfWidth - 16))
	c.text("seq-text", "start", x+selfWidth-6, c.y+fontSize+1, lines)
	c.reach(0, x+selfWidth+width(lines)+margin)
	y := c.y
	c.y += 4 + h
	c.head(it.head, x+2, -1)
	c.y = y + 4
	c.badge(x)
	c.y = y + h + rowGap + 6
}

// head draws the end of an arrow that points to the right (dir 1) or left (-1).
func (c *canvas) head(shape byte, x, dir float64) {
	y, s := c.y, headSize
	switch shape {
	case '>':
		fmt.Fprintf(&c.front, `<path class="seq-head" d="M%.1f %.1f l%.1f %.1f v%.1f z"/>`, x, y, -dir*s, -s/2, s)
	case ')':
		fmt.Fprintf(&c.front, `<path class="seq-line" fill="none" d="M%.1f %.1f L%.1f %.1f L%.1f %.1f"/>`, x-dir*s, y-s/2, x, y, x-dir*s, y+s/2)
	case 'x':
		fmt.Fprintf(&c.front, `<path class="seq-line" fill="none" d="M%.1f %.1f l%.1f %.1f m0 %.1f l%.1f %.1f"/>`,
			x-dir*s-s/2, y-s/2, s, s, -s, -s, s)
	}
}

// badge numbers a message at its beginning.
func (c *canvas) badge(x float64) {
	if !c.d.number {
		return
	}
	fmt.Fprintf(&c.front, `<circle class="seq-badge" cx="%.1f" cy="%.1f" r="%.1f"/>`, x, c.y, badge)
	fmt.Fprintf(&c.front, `<text class="seq-number" text-anchor="middle" x="%.1f" y="%.1f">%d</text>`, x, c.y+4.5, c.messages)
}

func (c *canvas) note(it item) {
	lines := textLines(it.text)
	w := width(lines) + notePad*2
	x := 0.0
	switch it.side {
	case "over":
		w = max(w, c.x[it.to]-c.x[it.from]+60)
		x = (c.x[it.from]+c.x[it.to])/2 - w/2
	case "left":
		x = c.x[it.from] - w - 10
	default:
		x = c.x[it.from] + 10
	}
	h := float64(len(lines))*lineHeight + notePad
	fmt.Fprintf(&c.front, `<rect class="seq-note" x="%.1f" y="%.1f" width="%.1f" height="%.1f" rx="3"/>`, x, c.y, w, h)
	c.text("seq-text", "middle", x+w/2, c.y+fontSize+notePad/2-1, lines)
	c.reach(x-margin/2, x+w+margin/2)
	c.y += h + rowGap
}

// start opens the frame of a block over the participants that it deals with.
func (c *canvas) start(i int, it item, depth int) frame {
	f := frame{top: c.y, depth: depth, from: len(c.x) - 1}
	open := 0
	deepest := 0
	for _, in := range c.d.items[i:] {
		switch in.kind {
		case blockStart:
			open++
			deepest = max(deepest, open)
		case blockEnd:
			open--
		case message, note:
			f.from, f.to = min(f.from, in.from, in.to), max(f.to, in.from, in.to)
			if w := c.x[in.from] + selfWidth + width(textLines(in.text)); in.kind == message && in.from == in.to {
				f.right = max(f.right, w+blockPad)
			}
		}
		if open == 0 {
			break
		}
	}
	f.from = min(f.from, f.to)
	pad := blockPad*float64(deepest) + 50
	f.left = c.x[f.from] - pad
	title := it.word
	if it.text != "" {
		title += "  [" + strings.Join(textLines(it.text), " ") + "]"
	}
	f.right = max(f.right, c.x[f.to]+pad, f.left+width([]string{title})+margin)
	c.reach(f.left-margin/2, f.right+margin/2)
	if it.word != "" {
		c.label(it, f, c.y)
		c.y += lineHeight + rowGap
	} else {
		c.y += blockPad
	}
	return f
}

// label writes a block's word and condition into its upper left corner.
func (c *canvas) label(it item, f frame, y float64) {
	w := width([]string{it.word}) + notePad*2
	if it.kind == blockStart {
		fmt.Fprintf(&c.front, `<path class="seq-tab" d="M%.1f %.1f h%.1f v%.1f l-6 6 h%.1f z"/>`, f.left, y, w, lineHeight-4, -(w - 6))
		c.text("seq-word", "start", f.left+notePad, y+fontSize, []string{it.word})
	} else {
		w = 0
	}
	if it.text != "" {
		c.text("seq-text", "start", f.left+w+notePad, y+fontSize, []string{"[" + strings.Join(textLines(it.text), " ") + "]"})
	}
}

func (c *canvas) otherwise(it item, f frame) {
	fmt.Fprintf(&c.back, `<line class="seq-frame seq-dashed" x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f"/>`, f.left, c.y, f.right, c.y)
	c.label(it, f, c.y+2)
	c.y += lineHeight + rowGap
}

func (c *canvas) end(f frame) {
	fmt.Fprintf(&c.back, `<rect class="seq-frame" x="%.1f" y="%.1f" width="%.1f" height="%.1f" rx="3"/>`, f.left, f.top, f.right-f.left, c.y-f.top)
	c.y += rowGap
}

func (c *canvas) svg() string {
	left, w := c.left-margin, c.right-c.left+margin*2
	names := make([]string, len(c.d.actors))
	for i, a := range c.d.actors {
		names[i] = strings.Join(textLines(a.label), " ")
	}
	names = slices.Compact(names)
	label := "Sequence diagram: " + strings.Join(names, ", ")
	return fmt.Sprintf(`<svg class="sequence" role="img" aria-label="%s" viewBox="%.0f 0 %.0f %.0f" width="%.0f" height="%.0f" font-size="%.0f">`,
		html.EscapeString(label), left, w, c.y, w, c.y, fontSize) +
		c.back.String() + c.lines.String() + c.front.String() + "</svg>"
}
