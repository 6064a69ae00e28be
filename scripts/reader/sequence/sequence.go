// Package sequence draws the sequence diagrams of the book. It reads the part of
// mermaid's language that the book uses, so that the same source is drawn by
// GitHub and by the reader: participants, arrows and notes. It writes SVG that
// takes its colours from the page's style sheet.
package sequence

import (
	"fmt"
	"html"
	"regexp"
	"slices"
	"strings"
)

// Sizes in SVG units; the page scales the whole drawing.
const (
	fontSize  = 16.0 // of text
	charWidth = 8.6  // of an average character, on the wide side
	margin    = 16.0
	minGap    = 200.0 // from participant to participant
	boxHeight = 36.0  // of a participant's name
	noteSize  = 28.0  // height of a note
	rowHeight = 44.0  // of a message
	headSize  = 9.0   // of an arrow's head
)

// item is a message or a note: an arrow from one participant to another, or a
// text over them.
type item struct {
	note, dashed bool
	crossed      bool // it is lost on its way, or nobody takes it
	from, to     int
	text         string
}

type diagram struct {
	ids, names []string
	items      []item
}

var (
	participant = regexp.MustCompile(`^participant\s+(\S+)(?:\s+as\s+(.+))?$`)
	message     = regexp.MustCompile(`^(\w+)\s*(--?)(>>|x)\s*(\w+)\s*:\s*(.*)$`)
	note        = regexp.MustCompile(`^Note over\s+(\w+)(?:\s*,\s*(\w+))?\s*:\s*(.*)$`)
)

// SVG draws a mermaid sequence diagram. The error says what of the source it
// cannot draw; the caller shows the source then.
func SVG(source string) (string, error) {
	d, err := parse(source)
	if err != nil {
		return "", err
	}
	return d.draw(), nil
}

// parse reads a diagram. It refuses what it does not know, so that nothing is
// left out silently.
func parse(source string) (*diagram, error) {
	d := &diagram{}
	first, rest, _ := strings.Cut(strings.TrimSpace(source), "\n")
	if strings.TrimSpace(first) != "sequenceDiagram" {
		return nil, fmt.Errorf("it begins with %q, not with sequenceDiagram", first)
	}
	for line := range strings.Lines(rest) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		if m := participant.FindStringSubmatch(line); m != nil {
			if i := d.find(m[1]); m[2] != "" {
				d.names[i] = m[2]
			}
		} else if m := message.FindStringSubmatch(line); m != nil && m[1] != m[4] {
			d.items = append(d.items, item{dashed: m[2] == "--", crossed: m[3] == "x",
				from: d.find(m[1]), to: d.find(m[4]), text: m[5]})
		} else if m := note.FindStringSubmatch(line); m != nil {
			if m[2] == "" {
				m[2] = m[1]
			}
			a, b := d.find(m[1]), d.find(m[2])
			d.items = append(d.items, item{note: true, from: min(a, b), to: max(a, b), text: m[3]})
		} else {
			return nil, fmt.Errorf("%q is not known", line)
		}
	}
	if len(d.ids) == 0 {
		return nil, fmt.Errorf("nobody takes part")
	}
	return d, nil
}

// find finds a participant, or adds it at the right.
func (d *diagram) find(id string) int {
	if i := slices.Index(d.ids, id); i >= 0 {
		return i
	}
	d.ids, d.names = append(d.ids, id), append(d.names, id)
	return len(d.ids) - 1
}

func width(text string) float64 { return float64(len([]rune(text)))*charWidth + margin }

// layout places the middles of the participants so far apart that every text
// fits, and returns the right end of the drawing.
func (d *diagram) layout() (x []float64, right float64) {
	gap := make([]float64, len(d.names)) // to the next participant
	for i := range gap {
		gap[i] = minGap
		if i+1 < len(gap) {
			gap[i] = max(minGap, (width(d.names[i])+width(d.names[i+1]))/2+margin)
		}
	}
	left := width(d.names[0]) / 2
	last := width(d.names[len(d.names)-1]) / 2
	for _, it := range d.items {
		a, b := min(it.from, it.to), max(it.from, it.to)
		for i := a; i < b; i++ {
			gap[i] = max(gap[i], (width(it.text)+margin)/float64(b-a))
		}
		if a == b { // a note over one: half of it on each side
			half := width(it.text)/2 + margin/2
			if a > 0 {
				gap[a-1] = max(gap[a-1], half+margin)
			} else {
				left = max(left, half)
			}
			if a+1 < len(gap) {
				gap[a] = max(gap[a], half+margin)
			} else {
				last = max(last, half)
			}
		}
	}
	at := margin + left
	for i := range gap {
		x, at = append(x, at), at+gap[i]
	}
	return x, x[len(x)-1] + last + margin
}

func (d *diagram) draw() string {
	x, right := d.layout()
	var back, front strings.Builder
	text := func(class string, x, y float64, s string) {
		fmt.Fprintf(&front, `<text class="%s" text-anchor="middle" x="%.1f" y="%.1f">%s</text>`,
			class, x, y, html.EscapeString(s))
	}
	box := func(class string, x, y, w, h float64) {
		fmt.Fprintf(&front,
			`<rect class="%s" x="%.1f" y="%.1f" width="%.1f" height="%.1f" rx="4"/>`,
			class, x-w/2, y, w, h)
	}
	names := func(y float64) {
		for i, name := range d.names {
			box("seq-actor", x[i], y, width(name)+margin, boxHeight)
			text("seq-name", x[i], y+boxHeight/2+fontSize/3, name)
		}
	}
	names(margin)
	y := margin + boxHeight + margin
	for _, it := range d.items {
		a, b := x[it.from], x[it.to]
		if it.note {
			box("seq-note", (a+b)/2, y, max(width(it.text), b-a+margin), noteSize)
			text("seq-text", (a+b)/2, y+noteSize/2+fontSize/3, it.text)
			y += noteSize + margin
			continue
		}
		class, dir := "seq-line", 1.0
		if it.dashed {
			class += " seq-dashed"
		}
		if b < a {
			dir = -1
		}
		text("seq-text", (a+b)/2, y+fontSize, it.text)
		line := y + rowHeight - margin
		fmt.Fprintf(&front, `<line class="%s" x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f"/>`,
			class, a, line, b-2*dir, line)
		if y += rowHeight; it.crossed {
			fmt.Fprintf(&front,
				`<path class="seq-line" d="M%.1f %.1f l%.1f %.1f m0 %.1f l%.1f %.1f"/>`,
				b-2*dir-dir*headSize, line-headSize/2, dir*headSize, headSize, -headSize,
				-dir*headSize, headSize)
			continue
		}
		fmt.Fprintf(&front, `<path class="seq-head" d="M%.1f %.1f l%.1f %.1f v%.1f z"/>`,
			b-2*dir, line, -dir*headSize, -headSize/2, headSize)
	}
	for i := range x {
		fmt.Fprintf(&back, `<line class="seq-life" x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f"/>`,
			x[i], margin+boxHeight, x[i], y)
	}
	names(y)
	label := html.EscapeString("Sequence diagram: " + strings.Join(d.names, ", "))
	return fmt.Sprintf(`<svg class="sequence" role="img" aria-label="%s" viewBox="0 0 %.0f %.0f" `+
		`width="%.0f" height="%.0f" font-size="%.0f">`, label, right, y+boxHeight+margin, right,
		y+boxHeight+margin, fontSize) + back.String() + front.String() + "</svg>"
}
