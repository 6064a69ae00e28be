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

const everything = `
%% a comment
sequenceDiagram
    autonumber
    title The ten steps
    participant C as Client
    participant P as Proxy<br/>127.0.0.1:8080
    actor B as Backend
    Note over P: 1 socket, 2 bind
    C->>+P: SYN <b>&amp; "quotes"
    P->>P: 4 accept
    loop until the end
        P-->>C: 9 send #lt;bytes#gt;
        alt good
            B-)P: open
        else bad
            B--xP: cross
        end
    end
    par one
        C->B: line
    and two
        C-->B: dashed
    end
    rect rgb(0, 0, 0)
        Note left of C: left
    end
    Note over C,B: wide
    Note right of B: right
    activate P
    P<<->>B: both ways
    D->>C: a stranger
`

// The drawing is well-formed, holds every text, and all of it is inside its frame.
func TestSVG(t *testing.T) {
	svg, err := SVG(everything)
	if err != nil {
		t.Fatal(err)
	}
	var texts strings.Builder
	decoder := xml.NewDecoder(strings.NewReader(svg))
	for {
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
	for _, want := range []string{"The ten steps", "Client", "Proxy\n127.0.0.1:8080", "SYN <b>&amp; \"quotes\"", "9 send <bytes>",
		"loop", "[until the end]", "[good]", "[bad]", "[two]", "left", "wide", "right", "both ways", "a stranger", "D\n"} {
		if !strings.Contains(texts.String(), want) {
			t.Errorf("the drawing misses %q", want)
		}
	}
	box := regexp.MustCompile(`viewBox="(-?\d+) 0 (\d+) (\d+)"`).FindStringSubmatch(svg)
	left, _ := strconv.ParseFloat(box[1], 64)
	width, _ := strconv.ParseFloat(box[2], 64)
	for _, m := range regexp.MustCompile(` (?:x|x1|x2|cx)="(-?[\d.]+)"`).FindAllStringSubmatch(svg, -1) {
		if x, _ := strconv.ParseFloat(m[1], 64); x < left || x > left+width {
			t.Errorf("x=%v is outside of %v to %v", x, left, left+width)
		}
	}
}

func TestNumbers(t *testing.T) {
	for line, want := range map[string]int{"autonumber": 2, "autonumber off": 0, "": 0} {
		svg, err := SVG("sequenceDiagram\n" + line + "\nA->>B: x\nB-->>A: y")
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Count(svg, "<circle"); got != want {
			t.Errorf("%q: %d numbers, want %d", line, got, want)
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
	c := &canvas{d: d}
	c.layout()
	if have, need := c.x[1]-c.x[0], width([]string{long}); have < need {
		t.Errorf("the participants are %v apart, the text needs %v", have, need)
	}
}

// What cannot be drawn is refused, not left out.
func TestRefused(t *testing.T) {
	for source, want := range map[string]string{
		"":                                  "empty",
		"flowchart LR\nA-->B":               "not with sequenceDiagram",
		"sequenceDiagram":                   "nobody takes part",
		"sequenceDiagram\nA=>B: x":          `line 2: "A=>B: x" is not known`,
		"sequenceDiagram\nloop x\nA->>B: y": "loop has no end",
		"sequenceDiagram\nA->>B: x\nend":    `"end" is not known`,
		"sequenceDiagram\nelse\nA->>B: x":   `"else" is not known`,
	} {
		if _, err := SVG(source); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", source, err, want)
		}
	}
}

func FuzzSVG(f *testing.F) {
	f.Add(everything)
	f.Add("sequenceDiagram\nalt\nend\nA->>A: x")
	f.Fuzz(func(t *testing.T, source string) {
		svg, err := SVG(source)
		if err == nil && strings.Contains(svg, "<script") {
			t.Errorf("markup passes: %s", svg)
		}
	})
}
