package site

import (
	"fmt"
	"html"
	"html/template"
	"maps"
	"math"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/alecthomas/chroma/v2"
	"github.com/alecthomas/chroma/v2/lexers"
	"github.com/alecthomas/chroma/v2/styles"
)

// coloured remembers what highlight has coloured, by language and text: a book that is
// built anew after an edit is the same but for one file.
var coloured = struct {
	sync.Mutex
	lines map[string][]template.HTML
}{lines: map[string][]template.HTML{}}

// maxColoured is how many texts are remembered; the book has about a hundred.
const maxColoured = 1000

// highlight colours a text and returns its lines as HTML: escaped, with the class
// names of chroma. A language that chroma does not know is only escaped. The caller must
// not change the lines.
func highlight(language, text string) []template.HTML {
	key := language + "\x00" + text
	coloured.Lock()
	lines, ok := coloured.lines[key]
	coloured.Unlock()
	if ok {
		return lines
	}
	lines = colour(language, text)
	coloured.Lock()
	defer coloured.Unlock()
	if len(coloured.lines) >= maxColoured {
		clear(coloured.lines)
	}
	coloured.lines[key] = lines
	return lines
}

func colour(language, text string) []template.HTML {
	text = strings.TrimSuffix(strings.ReplaceAll(text, "\r\n", "\n"), "\n")
	lexer := lexers.Get(language)
	if lexer == nil {
		return escapeLines(text)
	}
	tokens, err := chroma.Coalesce(lexer).Tokenise(nil, text)
	if err != nil {
		return escapeLines(text)
	}
	var lines []template.HTML
	for _, line := range chroma.SplitTokensIntoLines(tokens.Tokens()) {
		var b strings.Builder
		for _, t := range line {
			value := html.EscapeString(strings.TrimRight(t.Value, "\n"))
			class := className(t.Type)
			switch {
			case value == "":
			case class == "":
				b.WriteString(value)
			default:
				b.WriteString(`<span class="` + class + `">` + value + `</span>`)
			}
		}
		lines = append(lines, template.HTML(b.String()))
	}
	return lines
}

func escapeLines(text string) []template.HTML {
	var lines []template.HTML
	for l := range strings.SplitSeq(text, "\n") {
		lines = append(lines, template.HTML(html.EscapeString(l)))
	}
	return lines
}

// className is the class of a token, or of the nearest of its families that has one.
func className(t chroma.TokenType) string {
	for ; t != 0; t = t.Parent() {
		if class, ok := chroma.StandardTypes[t]; ok {
			return class
		}
		if t.Parent() == t {
			break
		}
	}
	return ""
}

// language names the lexer for a file.
func language(file string) string {
	switch path.Ext(file) {
	case ".go":
		return "go"
	case ".c":
		return "c"
	}
	if lexer := lexers.Match(file); lexer != nil {
		return lexer.Config().Name
	}
	return ""
}

// chromaCSS is the style sheet for highlighted code. The reader chooses light or
// dark by an attribute of the root element, or leaves it to the system. The
// backgrounds are the darkest light and the lightest dark that code stands on.
func chromaCSS() string {
	light := rules("github", ":root", chroma.MustParseColour("#1d2128"),
		chroma.MustParseColour("#ffe08a"))
	ink, background := chroma.MustParseColour("#e8eaee"), chroma.MustParseColour("#5c4a10")
	dark := rules("github-dark", `:root[data-theme="dark"]`, ink, background)
	system := rules("github-dark", `:root:not([data-theme="light"])`, ink, background)
	return light + dark + "@media (prefers-color-scheme: dark) {\n" + system + "}\n"
}

// minContrast is what WCAG 2 asks of text, as a ratio of luminances.
const minContrast = 4.5

// rules writes the colours of a chroma style as rules under a selector. Colours that
// are hard to read on the background are moved towards ink.
func rules(style, under string, ink, background chroma.Colour) string {
	var b strings.Builder
	s := styles.Get(style)
	for _, t := range slices.Sorted(maps.Keys(chroma.StandardTypes)) {
		class := chroma.StandardTypes[t]
		if class == "" || t == chroma.Background || t == chroma.PreWrapper {
			continue
		}
		colour := s.Get(t).Colour
		if !colour.IsSet() || t == chroma.Error || t.InCategory(chroma.Generic) {
			colour = ink
		}
		for i := 0; contrast(colour, background) < minContrast && i < 10; i++ {
			colour = mix(colour, ink)
		}
		fmt.Fprintf(&b, "%s code .%s{color:%s}\n", under, class, colour)
	}
	return b.String()
}

// mix moves a colour a fifth of the way to another.
func mix(c, to chroma.Colour) chroma.Colour {
	part := func(a, b uint8) uint8 { return uint8((4*int(a) + int(b)) / 5) }
	return chroma.NewColour(part(c.Red(), to.Red()), part(c.Green(), to.Green()),
		part(c.Blue(), to.Blue()))
}

// contrast is the ratio of two colours' luminances, 1 to 21, as WCAG 2 defines it.
func contrast(a, b chroma.Colour) float64 {
	x, y := luminance(a), luminance(b)
	return (max(x, y) + 0.05) / (min(x, y) + 0.05)
}

func luminance(c chroma.Colour) float64 {
	linear := func(v uint8) float64 {
		f := float64(v) / 255
		if f <= 0.04045 {
			return f / 12.92
		}
		return math.Pow((f+0.055)/1.055, 2.4)
	}
	return 0.2126*linear(c.Red()) + 0.7152*linear(c.Green()) + 0.0722*linear(c.Blue())
}

// expandTabs writes the tabs that a coloured line begins with as spaces: the lines of
// narrow columns are wrapped under their indentation, where tab stops do not work.
func expandTabs(line template.HTML) template.HTML {
	text := string(line)
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '<':
			end := strings.IndexByte(text[i:], '>')
			if end < 0 {
				return line
			}
			i += end
		case '\t':
			text = text[:i] + strings.Repeat(" ", tabColumns) + text[i+1:]
			i += tabColumns - 1
		case ' ':
		default:
			return template.HTML(text)
		}
	}
	return template.HTML(text)
}
