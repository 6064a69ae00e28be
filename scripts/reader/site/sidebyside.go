package site

import (
	"fmt"
	"html/template"
	"slices"
	"strconv"
	"strings"

	"reverseproxy/internal/book"
	"reverseproxy/scripts/reader/csource"
)

// sidePage is what the template "side" shows.
type sidePage struct {
	Chapter navChapter
	Left    string // "C", or "Go" where two chapters stand side by side
	CFile   string
	CLines  string
	HasC    bool
	Agrees  bool     // the C file is the one the book was written for
	CDir    bool     // a folder was given
	Notes   []string // what differs
	Diff    string
	Up      string
	Cells   []cell
}

// cell is a cell of the page's grid.
type cell struct {
	Side   string // "c", "go" or "kernel"
	Row    int    // of the grid, counted from 1
	Span   int
	IDs    string // the rows it belongs to, "1 2 3"; "" for the head
	Anchor string // "step-4", on the first cell of a row
	Number string // the badge, "4" or "1–3"; "" if there is none
	Label  string
	Where  string // the lines
	Chunks []chunk
	Calls  []outlineCall
	Say    []string // sentences in the place of code
	Go     string   // the kernel's column: what Go does differently
}

// chunk is a run of lines, or a gap between two of them.
type chunk struct {
	Gap   string
	Lines []codeLine
}

type codeLine struct {
	ID     string
	No     int
	Indent int
	Call   bool // the call that makes the step stands here
	HTML   template.HTML
}

type outlineCall struct {
	Call string
	Line string
}

// callPeers says which peer a call of a step deals with.
var callPeers = map[int]string{5: "client", 7: "backend", 8: "backend", 9: "client"}

// listing is a file's lines, coloured.
type listing struct {
	prefix string // of the lines' ids
	raw    []string
	html   []template.HTML
}

func newListing(prefix, lang string, raw []string) listing {
	html := slices.Clone(highlight(lang, strings.Join(raw, "\n")))
	for len(html) < len(raw) {
		html = append(html, "")
	}
	return listing{prefix, raw, html}
}

// sideBySide makes the page of a chapter that has a C original.
func (b *builder) sideBySide(c navChapter) {
	chapter := c.Chapter
	if chapter.C == nil {
		b.beside(c)
		return
	}
	p := sidePage{Chapter: c, Left: "C", CFile: chapter.C.File, CDir: b.cdir != nil, Up: "../",
		Diff: c.Diff}
	file, alignment := b.loadC(chapter)
	p.Notes = alignment.Notes
	p.HasC = file != nil
	p.Agrees = p.HasC && len(p.Notes) == 0
	p.CLines = fmt.Sprintf("%d lines", chapter.C.Lines)
	side := &sideBuilder{chapter: chapter, alignment: alignment, file: file}
	if file != nil {
		side.c = newListing("c", "c", file.Lines)
		p.CLines = fmt.Sprintf("%d lines", len(file.Lines))
	}
	if c.Main {
		src, err := b.read(c.Dir + "/main.go")
		if err == nil {
			side.cut, err = cutGo(chapter, src)
		}
		if err != nil {
			b.problem("%s/main.go: %v", c.Dir, err)
			p.Notes = append(p.Notes, c.Dir+"/main.go cannot be read: "+err.Error())
		} else {
			side.g = newListing("go", "go",
				strings.Split(strings.TrimSuffix(string(src), "\n"), "\n"))
		}
	} else {
		p.Notes = append(p.Notes, c.Dir+" has no main.go yet")
	}
	p.Cells = side.cells()
	b.sidePage(p)
}

// sidePage puts a page side by side into the site.
func (b *builder) sidePage(p sidePage) {
	var pages []navPage
	for _, n := range b.nav.Chapters {
		if n.Side != "" {
			pages = append(pages, navPage{Title: n.Dir, URL: n.Side})
		}
	}
	c := p.Chapter
	prev, next := around(pages, c.Side)
	b.page(c.Side, "side", p.CFile+" beside "+c.Dir, b.render("side.html", p), prev, next)
}

// sideBuilder makes the cells of a page.
type sideBuilder struct {
	chapter   book.Chapter
	file      *csource.File
	alignment csource.Alignment
	cut       goCut
	c, g      listing
}

// cells returns the cells row by row, left to right.
func (s *sideBuilder) cells() []cell {
	rows := s.rows()
	all := []cell{s.cHead(), s.goHead(), kernelHead()}
	spans := s.goSpans(rows)
	for i, row := range rows {
		grid := i + 2
		c := s.cCell(row)
		c.Row, c.Anchor = grid, "step-"+rowID(row)
		all = append(all, c)
		if n := spans[i]; n > 0 {
			g := s.goCell(rows[i : i+n])
			g.Row = grid
			all = append(all, g)
		}
		k := s.kernelCell(row)
		k.Row = grid
		all = append(all, k)
	}
	if len(s.cut.rest) > 0 {
		all = append(all, cell{Side: "go", Row: len(rows) + 2, Span: 1, Label: "further down",
			Where: s.g.where(s.cut.rest), Chunks: s.chunks(s.g, s.cut.rest, nil, nil)})
	}
	for i := range all {
		all[i].Span = max(all[i].Span, 1)
	}
	return all
}

// rows lists the chapter's rows without the steps that neither side has.
func (s *sideBuilder) rows() []book.Row {
	return slices.DeleteFunc(s.chapter.C.Rows(), func(row book.Row) bool {
		inGo := slices.ContainsFunc(s.cut.pieces,
			func(p goPiece) bool { return slices.Contains(p.rows, row) })
		inC := row.Extra > 0 || len(s.chapter.C.Steps[row.Step]) > 0
		onlyMissing := row.Step == 3 // Base.c forgets it; that is its lesson
		return !inGo && !inC && !onlyMissing
	})
}

// goSpans says how many rows the Go cell that begins at each row covers, 0 where
// one from above still does.
func (s *sideBuilder) goSpans(rows []book.Row) []int {
	spans := make([]int, len(rows))
	for i := range spans {
		spans[i] = 1
	}
	for _, p := range s.cut.pieces {
		first := slices.Index(rows, p.rows[0])
		last := slices.Index(rows, p.rows[len(p.rows)-1])
		start := first
		for spans[start] == 0 {
			start--
		}
		end := max(last+1, start+spans[start])
		for i := start; i < end; i++ {
			if i+spans[i] > end {
				end = i + spans[i]
			}
			spans[i] = 0
		}
		spans[start] = end - start
	}
	return spans
}

func (s *sideBuilder) cHead() cell {
	head := cell{Side: "c", Row: 1, Label: "before the steps"}
	if s.file == nil {
		head.Say = []string{"The outline of the calls. With a folder of the C programs (-c DIR) " +
			"your copy stands here."}
		head.Label = "an outline"
		return head
	}
	if s.alignment.HeadTo > 0 {
		spans := []span{{1, s.alignment.HeadTo}}
		head.Where, head.Chunks = s.c.where(spans), s.chunks(s.c, spans, nil, nil)
	}
	return head
}

func (s *sideBuilder) goHead() cell {
	head := cell{Side: "go", Row: 1, Label: "before the steps"}
	if s.cut.head.to > 0 {
		spans := []span{s.cut.head}
		head.Where, head.Chunks = s.g.where(spans), s.chunks(s.g, spans, nil, nil)
	}
	return head
}

func kernelHead() cell {
	return cell{Side: "kernel", Row: 1, Label: "the kernel", Say: []string{
		"What the system call sets going inside the operating system (figures: Linux), and what " +
			"Go asks for in its place.",
	}}
}

// name fills the badge and the heading of a row's cell.
func (s *sideBuilder) name(c *cell, rows ...book.Row) {
	var ids, titles []string
	for _, row := range rows {
		ids = append(ids, rowID(row))
		title := book.Steps[row.Step]
		if row.Extra > 0 {
			title = s.chapter.C.After(row.Step)[row.Extra-1].Name
		}
		titles = append(titles, title)
	}
	c.IDs, c.Label = strings.Join(ids, " "), strings.Join(titles, ", ")
	first, last := rows[0], rows[len(rows)-1]
	switch {
	case first.Extra > 0:
	case first.Step == last.Step:
		c.Number = strconv.Itoa(first.Step)
	default:
		c.Number = fmt.Sprintf("%d–%d", first.Step, last.Step)
	}
}

// cCell shows the C side of a row: code, outline, or what is missing.
func (s *sideBuilder) cCell(row book.Row) cell {
	c := cell{Side: "c"}
	s.name(&c, row)
	calls, passage := s.chapter.C.Calls(row), ""
	if row.Extra > 0 {
		if e := s.chapter.C.After(row.Step)[row.Extra-1]; e.Lines[0] > 0 {
			passage = book.Lines(e.Lines[0], e.Lines[1])
		}
	}
	var spans []span
	var marks []int
	for _, p := range s.alignment.Pieces {
		if p.Row == row {
			spans = append(spans, span{p.From, p.To})
			for _, call := range p.Calls {
				marks = append(marks, call.Line)
			}
		}
	}
	switch {
	case len(spans) > 0:
		c.Where, c.Chunks = s.c.where(spans), s.chunks(s.c, spans, marks, s.cOwner)
	case passage != "" && s.file != nil:
		c.Say = []string{passage + " of the original: they stand inside step 6, below."}
	case passage != "":
		c.Calls = []outlineCall{{"an index, modulo 3", passage}}
	case len(calls) == 0 && row.Extra > 0:
		c.Say = []string{"Nothing: " + s.chapter.C.File + " serves one client at a time."}
	case len(calls) == 0:
		c.Say = []string{"Missing: " + s.chapter.C.File + " does not call " + book.Steps[row.Step] +
			"."}
	default:
		if s.file != nil {
			c.Say = []string{"Not found on lines of its own in this copy. In the original:"}
		}
		c.Calls = outline(row, calls)
	}
	return c
}

// outline lists calls with their lines.
func outline(row book.Row, calls []book.Call) []outlineCall {
	var list []outlineCall
	for _, call := range calls {
		peer := ""
		if row.Extra == 0 {
			peer = callPeers[row.Step]
		}
		list = append(list, outlineCall{call.Name + "(" + peer + ")",
			fmt.Sprintf("line %d", call.Line)})
	}
	return list
}

// goCell shows the Go side of one row, or of several that Go folds.
func (s *sideBuilder) goCell(rows []book.Row) cell {
	c := cell{Side: "go", Span: len(rows)}
	s.name(&c, rows...)
	var spans []span
	for _, p := range s.cut.pieces {
		if slices.Contains(rows, p.rows[0]) {
			spans = append(spans, p.spans...)
		}
	}
	if len(spans) == 0 {
		c.Say = []string{"Nothing here."}
		if s.g.raw == nil {
			c.Say = []string{s.chapter.Dir + " has no main.go yet."}
		}
		return c
	}
	slices.SortFunc(spans, func(a, b span) int { return a.from - b.from })
	c.Where, c.Chunks = s.g.where(spans), s.chunks(s.g, spans, nil, s.goOwner)
	return c
}

func (s *sideBuilder) kernelCell(row book.Row) cell {
	c := cell{Side: "kernel"}
	s.name(&c, row)
	t := kernelFor(s.chapter.Dir, row)
	c.Say, c.Go = t.Does, t.Go
	return c
}

// cOwner names the row that a line of the C file belongs to.
func (s *sideBuilder) cOwner(line int) string {
	for _, p := range s.alignment.Pieces {
		if line >= p.From && line <= p.To {
			return rowTitle(p.Row)
		}
	}
	return ""
}

// goOwner names the row that a line of main.go belongs to.
func (s *sideBuilder) goOwner(line int) string {
	for _, p := range s.cut.pieces {
		for _, sp := range p.spans {
			if line >= sp.from && line <= sp.to {
				return rowTitle(p.rows[0])
			}
		}
	}
	return ""
}

func rowTitle(row book.Row) string {
	if row.Extra > 0 {
		return fmt.Sprintf("what follows step %d", row.Step)
	}
	return fmt.Sprintf("step %d", row.Step)
}

// trim takes blank lines off both ends of a span.
func (t listing) trim(s span) span {
	s.to = min(s.to, len(t.raw))
	for s.from < s.to && strings.TrimSpace(t.raw[s.from-1]) == "" {
		s.from++
	}
	for s.to > s.from && strings.TrimSpace(t.raw[s.to-1]) == "" {
		s.to--
	}
	return s
}

// where names the lines of spans: "lines 52–66", "lines 83–86, 91–95".
func (t listing) where(spans []span) string {
	var parts []string
	for _, s := range joined(spans) {
		s = t.trim(s)
		if s.from == s.to {
			parts = append(parts, strconv.Itoa(s.from))
		} else {
			parts = append(parts, fmt.Sprintf("%d–%d", s.from, s.to))
		}
	}
	if len(parts) == 1 && !strings.Contains(parts[0], "–") {
		return "line " + parts[0]
	}
	return "lines " + strings.Join(parts, ", ")
}

// joined makes one of spans that touch.
func joined(spans []span) []span {
	var all []span
	for _, s := range spans {
		if n := len(all); n > 0 && all[n-1].to+1 == s.from {
			all[n-1].to = s.to
		} else {
			all = append(all, s)
		}
	}
	return all
}

// chunks cuts lines out of a text, without the indentation they share and without
// blank lines at the ends. owner says whose the lines in a gap are.
func (s *sideBuilder) chunks(t listing, spans []span, marks []int, owner func(int) string) []chunk {
	spans = joined(spans)
	indent := commonIndent(t.raw, spans)
	var all []chunk
	last := 0
	for _, sp := range spans {
		trimmed := t.trim(sp)
		from, to := trimmed.from, trimmed.to
		if last > 0 && owner != nil {
			if who := owner(last + 1); who != "" && from > last+1 {
				all = append(all,
					chunk{Gap: fmt.Sprintf("%s: %s", t.where([]span{{last + 1, from - 1}}), who)})
			}
		}
		last = sp.to
		var c chunk
		for n := from; n <= to; n++ {
			raw := t.raw[n-1]
			c.Lines = append(c.Lines, codeLine{
				ID: fmt.Sprintf("%s-L%d", t.prefix, n), No: n, Call: slices.Contains(marks, n),
				Indent: min(max(columns(raw)-columns(indent), 0), maxIndent),
				HTML:   expandTabs(cutPrefix(t.html[n-1], indent, raw)),
			})
		}
		all = append(all, c)
	}
	return all
}

// commonIndent is the white space that all lines begin with.
func commonIndent(raw []string, spans []span) string {
	prefix, first := "", true
	for _, sp := range spans {
		for n := sp.from; n <= sp.to && n <= len(raw); n++ {
			l := raw[n-1]
			if strings.TrimSpace(l) == "" {
				continue
			}
			own := l[:len(l)-len(strings.TrimLeft(l, " \t"))]
			if first {
				prefix, first = own, false
			}
			for !strings.HasPrefix(own, prefix) {
				prefix = prefix[:len(prefix)-1]
			}
		}
	}
	return prefix
}

// tabColumns is the width of a tab in the side-by-side pages.
const tabColumns = 4

// columns is the width of the white space that a line begins with.
func columns(line string) int {
	n := 0
	for _, r := range line {
		switch r {
		case ' ':
			n++
		case '\t':
			n += tabColumns
		default:
			return n
		}
	}
	return n
}

// cutPrefix takes white space off a coloured line. It may be split over several
// elements.
func cutPrefix(line template.HTML, prefix, raw string) template.HTML {
	if !strings.HasPrefix(raw, prefix) {
		return line
	}
	var b strings.Builder
	rest, inTag := prefix, false
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case c == '<':
			inTag = true
		case c == '>' && inTag:
			inTag = false
		case !inTag && rest != "":
			if c != rest[0] {
				return line
			}
			rest = rest[1:]
			continue
		}
		b.WriteByte(c)
	}
	return template.HTML(b.String())
}
