package site

import (
	"fmt"
	"strings"

	"reverseproxy/internal/book"
)

// Sides says what stands side by side on the chapter's page.
func (c navChapter) Sides() string {
	if c.C == nil {
		return fmt.Sprintf("ch%d | ch%d", c.Beside, c.Number)
	}
	return "C | Go"
}

// tenSteps stands for a C program where there is none: the steps, and nothing between them.
var tenSteps = &book.Original{}

// beside makes the page of a chapter without a C original beside an earlier chapter: both
// in Go, by the ten steps.
func (b *builder) beside(c navChapter) {
	if c.Side == "" {
		return
	}
	other := b.nav.Chapters[c.Beside-1]
	p := sidePage{Chapter: c, Left: "Go", CFile: other.Dir + "/main.go", HasC: true, Agrees: true,
		Up: "../", Diff: c.Diff}
	left, lines, err := b.goSide(other, "c")
	if err != nil {
		b.problem("%s: %v", c.Side, err)
		return
	}
	right, _, err := b.goSide(c, "go")
	if err != nil {
		b.problem("%s: %v", c.Side, err)
		return
	}
	p.CLines = fmt.Sprintf("%d lines", lines)
	p.Cells = besideCells(left, right)
	b.sidePage(p)
}

// goSide cuts a chapter's main.go by the ten steps. The prefix is of the lines' ids.
func (b *builder) goSide(c navChapter, prefix string) (*sideBuilder, int, error) {
	src, err := b.read(c.Dir + "/main.go")
	if err != nil {
		return nil, 0, err
	}
	chapter := c.Chapter
	chapter.C = tenSteps
	cut, err := cutGo(chapter, src)
	lines := strings.Split(strings.TrimSuffix(string(src), "\n"), "\n")
	return &sideBuilder{chapter: chapter, cut: cut, g: newListing(prefix, "go", lines)}, len(lines),
		err
}

// besideCells sets two Go programs side by side. The left one takes the place of C.
func besideCells(left, right *sideBuilder) []cell {
	all := []cell{left.goHead(), right.goHead(), kernelHead()}
	all[0].Side = "c"
	rows := right.rows()
	leftSpans, rightSpans := left.goSpans(rows), right.goSpans(rows)
	for i, row := range rows {
		grid := i + 2
		if n := leftSpans[i]; n > 0 {
			c := left.goCell(rows[i : i+n])
			c.Side, c.Row, c.Anchor = "c", grid, "step-"+rowID(row)
			all = append(all, c)
		}
		if n := rightSpans[i]; n > 0 {
			g := right.goCell(rows[i : i+n])
			g.Row = grid
			all = append(all, g)
		}
		k := right.kernelCell(row)
		k.Row = grid
		all = append(all, k)
	}
	for i := range all {
		all[i].Span = max(all[i].Span, 1)
	}
	return all
}
