package site

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strings"

	"reverseproxy/internal/book"
	"reverseproxy/internal/book/steps"
)

// span is a run of lines, counted from 1, both ends included.
type span struct{ from, to int }

// goPiece is what a chapter's main.go has for one row, or for several when a Go
// call folds them.
type goPiece struct {
	rows  []book.Row // in the order of the page
	spans []span     // in the order of the file
}

// goCut is a main.go cut into rows. Every line is in exactly one place, blank ones
// between the pieces left out.
type goCut struct {
	head   span // what stands before the functions with steps: header, imports, types
	pieces []goPiece
	rest   []span // functions without steps, further down
}

// cutGo cuts a chapter's main.go.
func cutGo(chapter book.Chapter, src []byte) (goCut, error) {
	sections, err := steps.Parse(chapter.Dir+"/main.go", src, chapter.C)
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
			cut.pieces = append(cut.pieces, cutFunc(d, inside)...)
		case len(cut.pieces) > 0:
			cut.rest = append(cut.rest, d)
		}
	}
	cut.head = span{1, headEnd}
	slices.SortStableFunc(cut.pieces,
		func(a, b goPiece) int { return compareRows(a.rows[0], b.rows[0]) })
	return cut, nil
}

func compareRows(a, b book.Row) int {
	if a.Step != b.Step {
		return a.Step - b.Step
	}
	return a.Extra - b.Extra
}

// declarations returns the lines of a file's declarations with their comments, also those
// that stand alone before one.
func declarations(src []byte) ([]span, error) {
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, "", src, parser.ParseComments)
	if err != nil {
		return nil, err
	}
	var spans []span
	last := file.Name.End()
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
		from := files.Position(start).Line
		for _, c := range file.Comments {
			if c.Pos() > last && c.Pos() < start {
				from = min(from, files.Position(c.Pos()).Line)
			}
		}
		last = decl.End()
		spans = append(spans, span{from, files.Position(last).Line})
	}
	return spans, nil
}

// cutFunc cuts a function that holds steps. Its opening goes with the first of its
// rows, what follows a step with that step.
func cutFunc(fn span, sections []steps.Section) []goPiece {
	pieces := make([]goPiece, len(sections))
	first := 0
	for i, s := range sections {
		end := fn.to
		if i+1 < len(sections) {
			end = sections[i+1].From - 1
		}
		pieces[i] = goPiece{rows: s.Rows, spans: []span{{s.From, end}}}
		if compareRows(pieces[i].rows[0], pieces[first].rows[0]) < 0 {
			first = i
		}
	}
	if opening := (span{fn.from, sections[0].From - 1}); opening.to >= opening.from {
		pieces[first].spans = append([]span{opening}, pieces[first].spans...)
	}
	return pieces
}

// rowID is the name of a row in the page: "4", or "4a" for the first thing after it.
func rowID(row book.Row) string {
	if row.Extra == 0 {
		return fmt.Sprint(row.Step)
	}
	return fmt.Sprintf("%d%c", row.Step, 'a'+row.Extra-1)
}
