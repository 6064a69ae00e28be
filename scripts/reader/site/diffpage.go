package site

import (
	"html/template"
	"strings"

	"reverseproxy/internal/book/linediff"
)

// diffPage is what the template "diff" shows.
type diffView struct {
	A, B           string // directories
	Deleted, Added int
	Rows           []diffRow
	Up             string
	AllURL         []navDiff
	Here           string
}

// diffRow is a line of both files side by side. A side without a line has No 0.
type diffRow struct {
	Class  string // "same", "changed"; "far" for unchanged lines away from changes
	ANo    int
	A      template.HTML
	AClass string
	AIn    int // columns of indentation
	BNo    int
	B      template.HTML
	BClass string
	BIn    int
	Skip   int // how many far rows this one stands for, "… 24 unchanged lines"
}

// nearLines is how many unchanged lines are shown around a change.
const nearLines = 3

// diffPage makes the page of the difference between two chapters' main.go.
func (b *builder) diffPage(d navDiff) {
	a, errA := b.read(d.A + "/main.go")
	c, errC := b.read(d.B + "/main.go")
	if errA != nil || errC != nil {
		b.problem("%s: cannot read both main.go", d.URL)
		return
	}
	linesA, linesB := linediff.Split(string(a)), linediff.Split(string(c))
	lines := linediff.Compare(linesA, linesB)
	v := diffView{A: d.A, B: d.B, Up: "../", AllURL: b.nav.Diffs, Here: d.URL}
	v.Deleted, v.Added = linediff.Count(lines)
	v.Rows = diffRows(lines, highlight("go", string(a)), highlight("go", string(c)))
	for i := range v.Rows {
		r := &v.Rows[i]
		r.A, r.AIn = expandTabs(r.A), indentOf(linesA, r.ANo)
		r.B, r.BIn = expandTabs(r.B), indentOf(linesB, r.BNo)
	}
	var pages []navPage
	for _, n := range b.nav.Diffs {
		pages = append(pages, navPage{Title: short(n.A) + " → " + short(n.B), URL: n.URL})
	}
	prev, next := around(pages, d.URL)
	b.page(d.URL, "diff", "From "+d.A+" to "+d.B, b.render("diff.html", v), prev, next)
}

// short is "ch4" for "ch4_threaded".
func short(dir string) string {
	name, _, _ := strings.Cut(dir, "_")
	return name
}

// diffRows puts deletions and the additions behind them beside each other.
func diffRows(lines []linediff.Line, a, b []template.HTML) []diffRow {
	near := make([]bool, len(lines))
	for i, l := range lines {
		// A change makes the lines around it near.
		for j := max(i-nearLines, 0); l.Kind != linediff.Same &&
			j <= min(i+nearLines, len(lines)-1); j++ {
			near[j] = true
		}
	}
	for i := 1; i+1 < len(lines); i++ { // hiding a single line gains nothing
		near[i] = near[i] || near[i-1] && near[i+1]
	}
	var rows []diffRow
	for i := 0; i < len(lines); {
		if lines[i].Kind == linediff.Same {
			row := diffRow{Class: "same", ANo: lines[i].A, A: at(a, lines[i].A), BNo: lines[i].B,
				B: at(b, lines[i].B)}
			if !near[i] {
				row.Class = "same far"
				if i == 0 || near[i-1] {
					n := i
					for n < len(lines) && !near[n] {
						n++
					}
					rows = append(rows, diffRow{Class: "hidden", Skip: n - i})
				}
			}
			rows = append(rows, row)
			i++
			continue
		}
		del, add := i, i
		for add < len(lines) && lines[add].Kind == linediff.Deleted {
			add++
		}
		end := add
		for end < len(lines) && lines[end].Kind == linediff.Added {
			end++
		}
		for n := range max(add-del, end-add) {
			row := diffRow{Class: "changed"}
			if del+n < add {
				row.ANo, row.AClass = lines[del+n].A, "deleted"
				row.A = at(a, row.ANo)
			}
			if add+n < end {
				row.BNo, row.BClass = lines[add+n].B, "added"
				row.B = at(b, row.BNo)
			}
			rows = append(rows, row)
		}
		i = end
	}
	return rows
}

func indentOf(lines []string, n int) int {
	if n < 1 {
		return 0
	}
	return min(columns(lines[n-1]), maxIndent)
}

func at(lines []template.HTML, n int) template.HTML {
	if n < 1 || n > len(lines) {
		return ""
	}
	return lines[n-1]
}
