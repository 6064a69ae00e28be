package site

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strings"

	"reverseproxy/scripts/docscheck/steps"
	"reverseproxy/scripts/reader/csource"
)

// span is a run of lines, counted from 1, both ends included.
type span struct{ from, to int }

// goPiece is what a chapter's main.go has for one row, or for several when a Go
// call folds them.
type goPiece struct {
	rows  []csource.Row // in the order of the page
	spans []span        // in the order of the file
}

// goCut is a main.go cut into rows. Every line is in exactly one place, blank ones
// between the pieces left out.
type goCut struct {
	head   span // what stands before the functions with steps: header, imports, types
	pieces []goPiece
	rest   []span // functions without steps, further down
}

// chapterRows lists the rows of a chapter's page in order.
func chapterRows(chapter steps.Chapter) []csource.Row {
	var rows []csource.Row
	for _, s := range chapter.Steps {
		rows = append(rows, csource.Row{Step: s.Number})
		for i := range chapter.Extra(s.Number) {
			rows = append(rows, csource.Row{Step: s.Number, Extra: i + 1})
		}
	}
	return rows
}

// cutGo cuts a chapter's main.go.
func cutGo(chapter steps.Chapter, src []byte) (goCut, error) {
	sections, err := steps.ParseAll(chapter.Dir+"/main.go", src)
	if err != nil {
		return goCut{}, err
	}
	decls, err := declarations(src)
	if err != nil {
		return goCut{}, err
	}
	var cut goCut
	total := strings.Count(string(src), "\n")
	headEnd := total
	for _, d := range decls {
		inside := slices.Collect(func(yield func(steps.Section) bool) {
			for _, s := range sections {
				if s.From >= d.from && s.To <= d.to && !yield(s) {
					return
				}
			}
		})
		switch {
		case len(inside) > 0:
			headEnd = min(headEnd, d.from-1)
			cut.pieces = append(cut.pieces, cutFunc(chapter, d, inside)...)
		case len(cut.pieces) > 0:
			cut.rest = append(cut.rest, d)
		}
	}
	cut.head = span{1, headEnd}
	slices.SortStableFunc(cut.pieces, func(a, b goPiece) int { return compareRows(a.rows[0], b.rows[0]) })
	return cut, nil
}

func compareRows(a, b csource.Row) int {
	if a.Step != b.Step {
		return a.Step - b.Step
	}
	return a.Extra - b.Extra
}

// declarations returns the lines of a file's declarations with their comments.
func declarations(src []byte) ([]span, error) {
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, "", src, parser.ParseComments)
	if err != nil {
		return nil, err
	}
	var spans []span
	for _, decl := range file.Decls {
		start := decl.Pos()
		switch d := decl.(type) {
		case *ast.FuncDecl:
			if d.Doc != nil {
				start = d.Doc.Pos()
			}
		case *ast.GenDecl:
			if d.Doc != nil {
				start = d.Doc.Pos()
			}
		}
		spans = append(spans, span{files.Position(start).Line, files.Position(decl.End()).Line})
	}
	return spans, nil
}

// cutFunc cuts a function that holds steps. Its opening goes with the first of its
// rows, what follows a step with that step.
func cutFunc(chapter steps.Chapter, fn span, sections []steps.Section) []goPiece {
	pieces := make([]goPiece, len(sections))
	first := 0
	for i, s := range sections {
		end := fn.to
		if i+1 < len(sections) {
			end = sections[i+1].From - 1
		}
		before := csource.Row{}
		if i > 0 {
			before = pieces[i-1].rows[len(pieces[i-1].rows)-1]
		}
		pieces[i] = goPiece{rows: sectionRows(chapter, s, before), spans: []span{{s.From, end}}}
		if compareRows(pieces[i].rows[0], pieces[first].rows[0]) < 0 {
			first = i
		}
	}
	if opening := (span{fn.from, sections[0].From - 1}); opening.to >= opening.from {
		pieces[first].spans = append([]span{opening}, pieces[first].spans...)
	}
	return pieces
}

// sectionRows finds the rows of a section: its numbers and the things between
// steps that its comment names. One that names nothing goes with the thing after
// the row before it, or with that row itself.
func sectionRows(chapter steps.Chapter, s steps.Section, before csource.Row) []csource.Row {
	var rows []csource.Row
	for _, row := range chapterRows(chapter) {
		if row.Extra == 0 && row.Step >= s.First && row.Step <= s.Last && s.First > 0 {
			rows = append(rows, row)
		}
		if row.Extra > 0 && names(chapter.Extra(row.Step)[row.Extra-1], s.C) {
			rows = append(rows, row)
		}
	}
	if len(rows) > 0 {
		return rows
	}
	next := csource.Row{Step: before.Step, Extra: before.Extra + 1}
	if len(s.C) == 0 && slices.Contains(chapterRows(chapter), next) {
		return []csource.Row{next}
	}
	for row, step := range chapter.Steps { // a comment that names a step's call only
		if slices.ContainsFunc(step.Calls, func(c steps.Call) bool { return slices.Contains(s.C, c) }) {
			return []csource.Row{{Step: row + 1}}
		}
	}
	if before.Step == 0 {
		before.Step = 1
	}
	return []csource.Row{before}
}

// names says whether a comment names one of the calls of an extra, or its passage.
func names(e steps.Extra, said []steps.Call) bool {
	for _, c := range e.Calls {
		if slices.Contains(said, c) || e.Last > 0 && slices.Contains(said, steps.Call{Name: "lines", Line: c.Line}) {
			return true
		}
	}
	return false
}

// rowID is the name of a row in the page: "4", or "4a" for the first thing after it.
func rowID(row csource.Row) string {
	if row.Extra == 0 {
		return fmt.Sprint(row.Step)
	}
	return fmt.Sprintf("%d%c", row.Step, 'a'+row.Extra-1)
}
