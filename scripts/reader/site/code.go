package site

import (
	"html"
	"html/template"
	"path"
	"strings"
	"sync"

	"github.com/alecthomas/chroma/v2"
	"github.com/alecthomas/chroma/v2/lexers"
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
