package sequence

import (
	"encoding/xml"
	"errors"
	"io"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

var everything = `sequenceDiagram
    participant C as Client
    participant P as Proxy & <friends>
    participant B as Backend
    Note over P: 1 socket, 2 bind, and something else that is long
    C->>P: SYN <b>&amp; "quotes"
    P-->>C: 9 send
    P--xC: lost
    C-xP: refused
    Note over C,B: wide
    Note over B: ` + strings.Repeat("right ", 20) + `
    C->>B: ` + strings.Repeat("long ", 30) + `
    D->>C: a stranger
`

// The drawing is well-formed, holds every text, and all of it is inside its frame.
func TestSVG(t *testing.T) {
	svg, err := SVG(everything)
	if err != nil {
		t.Fatal(err)
	}
	var texts strings.Builder
	for decoder := xml.NewDecoder(strings.NewReader(svg)); ; {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("not well-formed: %v\n%s", err, svg)
		}
		if data, ok := token.(xml.CharData); ok {
			texts.WriteString(string(data) + "\n")
		}
	}
	for _, want := range []string{"Client", "Proxy & <friends>", "SYN <b>&amp; \"quotes\"",
		"9 send", "lost", "refused",
		"wide", "right right", "long long", "a stranger", "D\n"} {
		if !strings.Contains(texts.String(), want) {
			t.Errorf("the drawing misses %q", want)
		}
	}
	box := regexp.MustCompile(`viewBox="0 0 (\d+) (\d+)"`).FindStringSubmatch(svg)
	right, _ := strconv.ParseFloat(box[1], 64)
	number := func(s string) float64 { n, _ := strconv.ParseFloat(s, 64); return n }
	ends := regexp.MustCompile(` (?:x|x1|x2)="(-?[\d.]+)"(?: y="[\d.]+" width="([\d.]+)")?`)
	for _, m := range ends.FindAllStringSubmatch(svg, -1) {
		if from, to := number(m[1]), number(m[1])+number(m[2]); from < 0 || to > right {
			t.Errorf("%s goes from %v to %v, outside of 0 to %v", m[0], from, to, right)
		}
	}
}

// Texts between two participants never reach past them.
func TestWideTextsFit(t *testing.T) {
	long := strings.Repeat("long ", 30)
	d, err := parse("sequenceDiagram\nA->>B: " + long + "\nB->>C: short")
	if err != nil {
		t.Fatal(err)
	}
	if x, _ := d.layout(); x[1]-x[0] < width(strings.TrimSpace(long)) {
		t.Errorf("the participants are %v apart, the text needs %v", x[1]-x[0], width(long))
	}
}

// What cannot be drawn is refused, not left out.
func TestRefused(t *testing.T) {
	for source, want := range map[string]string{
		"":                                "not with sequenceDiagram",
		"flowchart LR\nA-->B":             "not with sequenceDiagram",
		"sequenceDiagram":                 "nobody takes part",
		"sequenceDiagram\nA=>B: x":        `"A=>B: x" is not known`,
		"sequenceDiagram\nA->>A: x":       `"A->>A: x" is not known`,
		"sequenceDiagram\nloop x\nA->>B:": `"loop x" is not known`,
	} {
		if _, err := SVG(source); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", source, err, want)
		}
	}
}

func FuzzSVG(f *testing.F) {
	f.Add(everything)
	f.Fuzz(func(t *testing.T, source string) {
		if svg, err := SVG(source); err == nil && strings.Contains(svg, "<script") {
			t.Errorf("markup passes: %s", svg)
		}
	})
}
