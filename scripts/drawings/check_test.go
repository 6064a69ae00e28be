package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/chromedp/chromedp"
	"golang.org/x/image/font"
	"golang.org/x/image/font/gofont/gobold"
	"golang.org/x/image/font/gofont/goregular"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/math/fixed"

	"reverseproxy/internal/book"
	"reverseproxy/internal/browser"
	"reverseproxy/internal/harness"
)

const (
	most   = 15 << 10 // bytes of a file
	margin = 4.0      // between letters and what is beside them
	// wider is how much wider letters may be than Go's own, which are wider than
	// those of most systems; DejaVu Sans is the widest that is common.
	wider = 1.08
)

// committed reads a drawing as it lies in the repository.
func committed(t *testing.T, name string) []byte {
	t.Helper()
	root, err := book.Root()
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(filepath.Join(root, folder, name))
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func TestCommittedFilesAreThese(t *testing.T) {
	for name, d := range drawings() {
		made := d.SVG()
		if !bytes.Equal(made, committed(t, name)) {
			t.Errorf("%s/%s is an older one: go run ./scripts/drawings", folder, name)
		}
		if len(made) > most {
			t.Errorf("%s has %d bytes, at most %d should be", name, len(made), most)
		}
	}
}

// Each chapter's page shows its drawing, with words for those who do not see it.
func TestPagesShowThem(t *testing.T) {
	for name := range drawings() {
		var n int
		if _, err := fmt.Sscanf(name, "draw-ch%d.svg", &n); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if n > len(book.Chapters) {
			continue
		}
		chapter := "ch0_before_you_start"
		if n > 0 {
			chapter = book.Of(n).Dir
		}
		if !bytes.Contains(committed(t, "../"+chapter+".md"), []byte("](img/"+name+")")) {
			t.Errorf("docs/%s.md does not show %s", chapter, name)
		}
	}
}

// measure says how wide a text is, in pixels.
type measure func(t text) float64

func TestTextHasRoom(t *testing.T) {
	faces := map[bool]*opentype.Font{}
	for bold, ttf := range map[bool][]byte{false: goregular.TTF, true: gobold.TTF} {
		face, err := opentype.Parse(ttf)
		if err != nil {
			t.Fatal(err)
		}
		faces[bold] = face
	}
	estimate := func(line text) float64 {
		face, err := opentype.NewFace(faces[line.bold], &opentype.FaceOptions{Size: line.size,
			DPI: 72})
		if err != nil {
			t.Fatal(err)
		}
		return wider * float64(font.MeasureString(face, line.words)) / float64(fixed.I(1))
	}
	for name, d := range drawings() {
		for _, p := range d.crowded(estimate) {
			t.Errorf("%s: %s", name, p)
		}
	}
}

// The same with the letters of a browser on this machine.
func TestTextHasRoomInABrowser(t *testing.T) {
	if _, err := browser.Find(); err != nil {
		harness.Missing(t, err.Error())
	}
	tab, end, err := browser.Start(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer end()
	for name, d := range drawings() {
		file := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(file, d.SVG(), 0o644); err != nil {
			t.Fatal(err)
		}
		var widths []float64
		if err := chromedp.Run(tab, chromedp.Navigate("file://"+file), chromedp.Evaluate(
			`[...document.querySelectorAll("text")].map(t => t.getComputedTextLength())`,
			&widths)); err != nil {
			t.Fatal(err)
		}
		if len(widths) != len(d.texts) {
			t.Fatalf("%s has %d texts in the browser, %d were written", name, len(widths),
				len(d.texts))
		}
		next := 0
		for _, p := range d.crowded(func(text) float64 { next++; return widths[next-1] }) {
			t.Errorf("%s: %s", name, p)
		}
	}
}

// crowded says which text leaves the drawing or its box, or meets another text, an
// edge or a line.
func (d *drawing) crowded(width measure) (problems []string) {
	var rooms []rect
	for _, line := range d.texts {
		w := width(line)
		left := line.at.x - line.align*w
		rooms = append(rooms, rect{left, line.at.y - ascent*line.size, left + w,
			line.at.y + descent*line.size})
	}
	for i, room := range rooms {
		complain := func(format string, args ...any) {
			problems = append(problems, fmt.Sprintf("%q ", d.texts[i].words)+
				fmt.Sprintf(format, args...))
		}
		grown := rect{room.left - margin, room.top - 1, room.right + margin, room.bottom + 1}
		if !grown.within(rect{0, 0, pageWidth, d.height}) {
			complain("leaves the drawing")
		}
		for j := range i {
			if grown.meets(rooms[j]) {
				complain("meets %q", d.texts[j].words)
			}
		}
		for _, box := range d.boxes {
			if grown.meets(box) && !grown.within(box) {
				complain("meets the edge of the box at %g, %g", box.left, box.top)
			}
		}
		for _, path := range d.paths {
			for j := range path[1:] {
				if room.crossed(path[j], path[j+1]) {
					complain("meets the line from %g, %g", path[0].x, path[0].y)
					break
				}
			}
		}
	}
	return problems
}

func (r rect) within(o rect) bool {
	return r.left >= o.left && r.right <= o.right && r.top >= o.top && r.bottom <= o.bottom
}

func (r rect) meets(o rect) bool {
	return r.left < o.right && o.left < r.right && r.top < o.bottom && o.top < r.bottom
}

// crossed reports whether the line from a to b passes through r, looked at every
// pixel.
func (r rect) crossed(a, b point) bool {
	n := int(max(b.x-a.x, a.x-b.x, b.y-a.y, a.y-b.y)) + 1
	for i := range n + 1 {
		part := float64(i) / float64(n)
		x, y := a.x+part*(b.x-a.x), a.y+part*(b.y-a.y)
		if x > r.left-1 && x < r.right+1 && y > r.top && y < r.bottom {
			return true
		}
	}
	return false
}

// The check finds what is wrong.
func TestCrowded(t *testing.T) {
	for want, spoil := range map[string]func(d *drawing){
		`"a long one" meets the edge of the box at 40, 10`: func(d *drawing) {
			d.box(40, 10, 60, 30, "kernel", "a long one")
		},
		`"two" meets "one"`: func(d *drawing) {
			d.note(50, 50, 0, "one")
			d.note(60, 52, 0, "two")
		},
		`"here" meets the line from 0, 45`: func(d *drawing) {
			d.note(50, 50, 0, "here")
			d.arrow("", point{0, 45}, point{200, 45})
		},
		`"far" leaves the drawing`: func(d *drawing) { d.note(630, 50, 0, "far") },
	} {
		d := &drawing{height: 100}
		spoil(d)
		got := d.crowded(func(line text) float64 {
			return 0.5 * line.size * float64(len(line.words))
		})
		if len(got) != 1 || got[0] != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
