package csource

import (
	"fmt"
	"slices"
	"strings"

	"reverseproxy/internal/book"
)

// Piece is a run of lines that belongs to one row.
type Piece struct {
	Row      book.Row
	From, To int         // lines, counted from 1, both included
	Calls    []book.Call // with the lines where they stand in this file
}

// Alignment is a C file cut into rows.
type Alignment struct {
	Pieces []Piece  // in the order of the file
	HeadTo int      // lines 1 to HeadTo stand before the first piece
	Notes  []string // what differs from the file that the book was written for
}

// expectation is a call that the table says a file has.
type expectation struct {
	row  book.Row
	call book.Call
}

// match is an expectation and where it was found.
type match struct {
	expectation
	found Found
}

// maxCalls bounds the calls of a file that are looked at; the originals have about thirty.
const maxCalls = 400

// synonyms are calls that make the same step.
var synonyms = map[string]string{
	"recv": "read", "send": "write", "vfork": "fork", "accept4": "accept",
}

// Align cuts a file into the steps of its chapter, as far as its calls are found.
func Align(original *book.Original, f *File) Alignment {
	var a Alignment
	var calls []Found
	for _, c := range f.scan.Calls {
		if s, ok := synonyms[c.Name]; ok {
			c.Name = s
		}
		calls = append(calls, c)
	}
	wanted := map[string]bool{}
	first, second := expectations(original)
	for _, e := range append(slices.Clone(first), second...) {
		wanted[e.call.Name] = true
	}
	calls = slices.DeleteFunc(calls, func(c Found) bool { return !wanted[c.Name] })
	if len(calls) > maxCalls {
		a.Notes = append(a.Notes, fmt.Sprintf("it has %d socket calls, of which the first %d "+
			"were looked at", len(calls), maxCalls))
		calls = calls[:maxCalls]
	}
	matches, score := assign(append(slices.Clone(first), second...), calls)
	if other, s := assign(append(slices.Clone(second), first...), calls); s > score {
		matches = other
	}
	a.Notes = append(a.Notes, compare(original, f, matches)...)
	a.cut(f, matches)
	return a
}

// expectations lists the calls of a C program in the order they run:
// steps 1 to 4 with what follows them, and steps 5 to 10, which may stand in a
// function of their own.
func expectations(original *book.Original) (first, second []expectation) {
	for _, row := range original.Rows() {
		for _, call := range original.Calls(row) {
			if row.Step <= 4 {
				first = append(first, expectation{row, call})
			} else {
				second = append(second, expectation{row, call})
			}
		}
	}
	return first, second
}

// Points of assign: a call found is worth more than any number of lines moved.
const (
	foundPoints = 1000
	movedPoints = 100 // at most, for standing further from the call before than it should
)

// assign finds the expected calls among those of the file: as many as possible in
// the expected order, and of all ways to do so the one in which the distances
// between them change least.
func assign(expected []expectation, calls []Found) ([]match, int) {
	type cell struct{ score, i, j int } // the best way that ends here, and the cell before
	best := make([][]cell, len(expected))
	top := cell{0, -1, -1}
	for i, e := range expected {
		best[i] = make([]cell, len(calls))
		for j, c := range calls {
			best[i][j].score = -1
			if c.Name != e.call.Name {
				continue
			}
			moved := c.Line - e.call.Line
			best[i][j] = cell{foundPoints - min(abs(moved), movedPoints), -1, -1}
			for pi := range i {
				for pj := range j {
					before := best[pi][pj].score
					if before < 0 {
						continue
					}
					change := abs(moved - (calls[pj].Line - expected[pi].call.Line))
					if s := before + foundPoints - min(change, movedPoints); s > best[i][j].score {
						best[i][j] = cell{s, pi, pj}
					}
				}
			}
			if best[i][j].score > top.score {
				top = cell{best[i][j].score, i, j}
			}
		}
	}
	var matches []match
	for i, j := top.i, top.j; i >= 0; i, j = best[i][j].i, best[i][j].j {
		matches = append(matches, match{expected[i], calls[j]})
	}
	slices.Reverse(matches)
	return matches, top.score
}

func abs(n int) int { return max(n, -n) }

// compare says how a file differs from the one the book was written for.
func compare(original *book.Original, f *File, matches []match) (notes []string) {
	if n := len(f.Lines); n != original.Lines {
		notes = append(notes, fmt.Sprintf("it has %d lines, not %d", n, original.Lines))
	}
	var moved []string
	for _, m := range matches {
		if m.found.Line != m.call.Line {
			moved = append(moved,
				fmt.Sprintf("%s on line %d, not %d", m.call.Name, m.found.Line, m.call.Line))
		}
	}
	if len(moved) > 0 {
		notes = append(notes, "calls stand on other lines: "+strings.Join(moved, "; "))
	}
	first, second := expectations(original)
	for _, e := range append(first, second...) {
		if !slices.ContainsFunc(matches, func(m match) bool { return m.expectation == e }) {
			where := fmt.Sprintf("step %d", e.row.Step)
			if e.row.Extra > 0 {
				where = fmt.Sprintf("after step %d", e.row.Step)
			}
			notes = append(notes,
				fmt.Sprintf("%s (%s, line %d) was not found", e.call.Name, where, e.call.Line))
		}
	}
	return notes
}

// cut cuts the file between calls of different rows.
func (a *Alignment) cut(f *File, matches []match) {
	slices.SortStableFunc(matches, func(x, y match) int { return x.found.Line - y.found.Line })
	for i, m := range matches {
		call := book.Call{Name: m.call.Name, Line: m.found.Line}
		if i > 0 && matches[i-1].row == m.row && matches[i-1].found.Func == m.found.Func {
			last := &a.Pieces[len(a.Pieces)-1]
			last.Calls = append(last.Calls, call)
			continue
		}
		if i > 0 && matches[i-1].found.Line == m.found.Line {
			last := &a.Pieces[len(a.Pieces)-1]
			last.Calls = append(last.Calls, call)
			a.Notes = append(a.Notes, fmt.Sprintf("%s (step %d) stands on line %d together with "+
				"the step before", m.call.Name, m.row.Step, m.found.Line))
			continue
		}
		var start int
		switch {
		case i == 0 || matches[i-1].found.Func != m.found.Func:
			start = f.startOf(m.found)
		default:
			start = f.between(matches[i-1].found, m.found)
		}
		if n := len(a.Pieces); n > 0 {
			last := &a.Pieces[n-1]
			start = max(start, matches[i-1].found.Line+1)
			last.To = f.trim(start - 1)
		} else {
			a.HeadTo = start - 1
		}
		a.Pieces = append(a.Pieces,
			Piece{Row: m.row, From: start, To: start, Calls: []book.Call{call}})
	}
	if n := len(a.Pieces); n > 0 {
		a.Pieces[n-1].To = f.trim(len(f.Lines))
	} else {
		a.HeadTo = len(f.Lines)
	}
}
