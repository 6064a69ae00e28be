package site

import (
	"bytes"
	"fmt"
	"html/template"
	"path"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/renderer"
	"github.com/yuin/goldmark/text"
	"github.com/yuin/goldmark/util"

	"reverseproxy/internal/book"
	"reverseproxy/internal/book/anchor"
	"reverseproxy/internal/book/steps"
)

// slidesDir is where the slides stand in the site.
const slidesDir = "slides/"

// deck is the slides of a chapter, which the template "slides" shows.
type deck struct {
	Title  string
	URL    string
	Up     string
	Next   *navPage
	Header []headerField // of main.go: problem, new idea, …
	Slides []slide
}

// slide is what stands under one heading. What is too long for the screen goes on in
// further slides: the browser knows how long it is, and cuts it there (slides.js).
type slide struct {
	ID    string
	Level int // 2, or 3 for a part of the slide before
	Title string
	Body  template.HTML
	C     []cell   // a step: C, if there is a C program, …
	Go    *cell    // … and Go beside it
	Notes []string // for the teacher: what the kernel does meanwhile
}

type headerField struct{ Name, Text string }

// slides makes the slides of every chapter that has a page, and the list of them.
func (b *builder) slides() {
	var all []navPage
	for _, p := range b.nav.Pages {
		if p.First() && p.Path != "README.md" {
			all = append(all, navPage{p.Title, slidesDir + path.Base(p.URL), p.Path})
		}
	}
	for _, c := range b.nav.Chapters {
		if c.Page != "" {
			all = append(all, navPage{c.Title, c.Slides(),
				strings.TrimSuffix(c.Page, ".html") + ".md"})
		}
	}
	for i, p := range all {
		d := deck{Title: p.Title, URL: p.URL, Up: "../"}
		if i+1 < len(all) {
			d.Next = &all[i+1]
		}
		source, err := b.read(p.Path)
		if err != nil {
			continue // findDocuments has said so
		}
		var chapter navChapter
		for _, c := range b.nav.Chapters {
			if c.Slides() == p.URL {
				chapter = c
			}
		}
		main := b.mainOf(chapter)
		d.Header = header(main)
		d.Slides = b.deckOf(p, source, b.stepSlides(chapter, main))
		b.site.Files[d.URL] = []byte(b.render("slides.html", d))
	}
	list := deckList{Decks: all, Up: "../", Book: !b.slidesOnly}
	b.site.Files[slidesDir+"index.html"] = []byte(b.render("decks.html", list))
	if list.Up = ""; b.slidesOnly {
		b.site.Files["index.html"] = []byte(b.render("decks.html", list))
	}
}

// deckList is what the template "decks" shows.
type deckList struct {
	Decks []navPage
	Up    string
	Book  bool // the site has the book, too
}

// Slides is where the chapter's slides stand.
func (c navChapter) Slides() string { return slidesDir + c.Dir + ".html" }

// mainOf reads a chapter's program; nil if there is none.
func (b *builder) mainOf(c navChapter) []byte {
	if !c.Main {
		return nil
	}
	src, err := b.read(c.Dir + "/main.go")
	if err != nil {
		b.problem("%s/main.go: %v", c.Dir, err)
	}
	return src
}

// header reads the comment that main.go opens with: "// Problem: …", "// New idea: …".
func header(src []byte) (fields []headerField) {
	for line := range strings.Lines(string(src)) {
		said, ok := strings.CutPrefix(strings.TrimSpace(line), "// ")
		if !ok && len(fields) > 0 || strings.HasPrefix(line, "package ") {
			break
		}
		name, rest, found := strings.Cut(said, ": ")
		switch {
		case found && len(fields) < 4 && slices.Contains(headerNames, name):
			fields = append(fields, headerField{name, rest})
		case len(fields) > 0:
			fields[len(fields)-1].Text += " " + said
		}
	}
	return slices.DeleteFunc(fields, func(f headerField) bool { return f.Name == "C" })
}

var headerNames = []string{"Problem", "New idea", "Still open", "C", "Run"}

// deckOf cuts a chapter's page at its headings. Where it compares C and Go in a table,
// the steps follow; a page without that table has them before what changed.
func (b *builder) deckOf(p navPage, source []byte, steps []slide) (all []slide) {
	d := &document{b: b, name: p.Path, url: p.URL, plain: true}
	md := goldmark.New(goldmark.WithExtensions(extension.GFM),
		goldmark.WithRendererOptions(renderer.WithNodeRenderers(util.Prioritized(d, 1))))
	tree := md.Parser().Parse(text.NewReader(source))
	d.prepare(tree, source)
	s := slideWriter{render: func(n ast.Node) string {
		var out bytes.Buffer
		if err := md.Renderer().Render(&out, source, n); err != nil {
			b.problem("%s: %v", p.Path, err)
		}
		return out.String()
	}}
	for n := tree.FirstChild(); n != nil; n = n.NextSibling() {
		if h, ok := n.(*ast.Heading); ok {
			title := anchor.Text(h, source)
			if h.Level == 2 && (stepsEnd(title) || followsTable(all)) {
				all, steps = append(all, steps...), nil
			}
			id, _ := h.AttributeString("id")
			name, _ := id.([]byte)
			if h.Level > 1 {
				all = append(all, slide{ID: string(name), Level: min(h.Level, 3), Title: title})
			}
			continue
		}
		if len(all) > 0 {
			last := &all[len(all)-1]
			last.Body += template.HTML(s.block(n))
		}
	}
	all = append(all, steps...)
	return slices.DeleteFunc(all, func(s slide) bool { return s.Body == "" && s.Go == nil })
}

func followsTable(all []slide) bool {
	return len(all) > 0 && strings.HasPrefix(all[len(all)-1].Title, "C beside Go")
}

func stepsEnd(title string) bool {
	return strings.HasPrefix(title, "What changed") || strings.HasPrefix(title, "Questions")
}

// slideWriter writes the blocks of a page for slides: of a long paragraph its first
// sentence, the rest is for the teacher to say.
type slideWriter struct {
	render func(ast.Node) string
}

const (
	maxSaid = 200 // characters that a paragraph may have and still be shown whole
	minSaid = 70  // characters that are to be shown of a longer one
)

func (s slideWriter) block(n ast.Node) string {
	switch n := n.(type) {
	case *ast.Paragraph, *ast.TextBlock:
		return paragraph(s.render(n))
	case *ast.List:
		tag := "ul"
		if n.IsOrdered() {
			tag = "ol"
		}
		var out strings.Builder
		fmt.Fprintf(&out, "<%s>\n", tag)
		for item := n.FirstChild(); item != nil; item = item.NextSibling() {
			out.WriteString("<li>")
			for c := item.FirstChild(); c != nil; c = c.NextSibling() {
				out.WriteString(s.block(c))
			}
			out.WriteString("</li>\n")
		}
		fmt.Fprintf(&out, "</%s>\n", tag)
		return out.String()
	}
	return s.render(n)
}

// paragraph shortens a paragraph, given as HTML, to its first sentence, to the next one
// too if that is very short, and to the last one too if that leads to what stands below
// it. What it leaves out becomes a note.
func paragraph(p string) string {
	p = strings.TrimSpace(p)
	p = strings.TrimSuffix(strings.TrimPrefix(p, "<p>"), "</p>")
	if length(p) <= maxSaid {
		return "<p>" + p + "</p>\n"
	}
	rest := sentences(p)
	said := []string{rest[0]}
	if rest = rest[1:]; len(rest) > 0 && length(said[0]) < minSaid {
		said, rest = append(said, rest[0]), rest[1:]
	}
	if n := len(rest); n > 0 && strings.HasSuffix(rest[n-1], ":") {
		said, rest = append(said, rest[n-1]), rest[:n-1]
	}
	out := "<p>" + strings.Join(said, " ") + "</p>\n"
	if len(rest) > 0 {
		out += `<aside class="note" hidden><p>` + strings.Join(rest, " ") + "</p></aside>\n"
	}
	return out
}

// length returns how many characters of HTML are read.
func length(p string) int { return utf8.RuneCountInString(tags.ReplaceAllString(p, "")) }

// sentences cuts HTML behind each full stop that stands in no element and before a
// capital letter.
func sentences(p string) (all []string) {
	depth, from := 0, 0
	for i := 0; i < len(p); i++ {
		switch {
		case strings.HasPrefix(p[i:], "</"):
			depth--
		case p[i] == '<' && !strings.HasPrefix(p[i:], "<br"):
			depth++
		}
		if p[i] == '<' {
			if end := strings.IndexByte(p[i:], '>'); end > 0 {
				if p[i+end-1] == '/' && !strings.HasPrefix(p[i:], "<br") {
					depth-- // <img />
				}
				i += end
			}
			continue
		}
		if depth > 0 || !strings.ContainsRune(".?!", rune(p[i])) || i+2 >= len(p) ||
			p[i+1] != ' ' && p[i+1] != '\n' {
			continue
		}
		if next, _ := utf8.DecodeRuneInString(p[i+2:]); unicode.IsUpper(next) || next == '<' {
			all = append(all, p[from:i+1])
			from = i + 2
		}
	}
	return append(all, p[from:])
}

// stepSlides makes a slide of each step: Go beside C, or Go alone.
func (b *builder) stepSlides(c navChapter, src []byte) (all []slide) {
	if src == nil {
		return nil
	}
	side := &sideBuilder{chapter: c.Chapter, g: newListing("go", "go",
		strings.Split(strings.TrimSuffix(string(src), "\n"), "\n"))}
	if c.C == nil {
		return side.goSteps(src)
	}
	file, alignment := b.loadC(c.Chapter)
	side.file, side.alignment = file, alignment
	if file != nil {
		side.c = newListing("c", "c", file.Lines)
	}
	cut, err := cutGo(c.Chapter, src)
	if err != nil {
		return nil // sideBySide has said so
	}
	side.cut = cut
	var open *slide // the one whose Go covers this row
	until := 0      // the row below it
	for _, cell := range side.cells() {
		if cell.IDs == "" {
			continue
		}
		switch cell.Side {
		case "c":
			if cell.Row >= until {
				all = append(all, slide{Level: 3, ID: cell.Anchor, Title: cell.Label})
				open = &all[len(all)-1]
			}
			open.C = append(open.C, cell)
		case "go":
			until = cell.Row + cell.Span
			open.Go = &cell
			open.Title = "Step " + cell.Number + ": " + cell.Label
			if cell.Number == "" { // what happens between two steps
				open.Title = strings.ToUpper(cell.Label[:1]) + cell.Label[1:]
			}
		default:
			open.Notes = append(open.Notes, cell.Say...)
			if cell.Go != "" {
				open.Notes = append(open.Notes, "Go: "+cell.Go)
			}
		}
	}
	return all
}

// goSteps makes the slides of a chapter that has no C original.
func (s *sideBuilder) goSteps(src []byte) (all []slide) {
	sections, err := steps.Parse(s.chapter.Dir+"/main.go", src, nil)
	if err != nil {
		return nil
	}
	slices.SortStableFunc(sections, func(a, b steps.Section) int { return a.First - b.First })
	for i := 0; i < len(sections); {
		first := sections[i]
		var spans []span
		for ; i < len(sections) && sections[i].First == first.First; i++ {
			spans = append(spans, span{sections[i].From, sections[i].To})
		}
		slices.SortFunc(spans, func(a, b span) int { return a.from - b.from })
		c := cell{Side: "go", Where: s.g.where(spans), Chunks: s.chunks(s.g, spans, nil, nil)}
		c.Chunks = withGaps(c.Chunks)
		var rows []book.Row
		for n := first.First; n <= first.Last; n++ {
			rows = append(rows, book.Row{Step: n})
		}
		s.name(&c, rows...)
		all = append(all, slide{Level: 3, ID: "step-" + rowID(rows[0]), Go: &c,
			Title: "Step " + c.Number + ": " + c.Label})
	}
	return all
}

// withGaps puts a gap between pieces of code that do not touch.
func withGaps(chunks []chunk) (all []chunk) {
	for i, c := range chunks {
		if i > 0 {
			all = append(all, chunk{Gap: "further down"})
		}
		all = append(all, c)
	}
	return all
}
