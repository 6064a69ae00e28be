// Package linediff compares two texts line by line with Myers' algorithm (An
// O(ND) Difference Algorithm and Its Variations, 1986) and writes the difference.
package linediff

import (
	"fmt"
	"slices"
	"strings"
)

// Kind says what happened to a line.
type Kind byte

// The three kinds of lines, as a unified diff marks them.
const (
	Same    Kind = ' '
	Deleted Kind = '-'
	Added   Kind = '+'
)

// Line is a line of the comparison. A is its number in the old text and B in the
// new one, counted from 1; the side that does not have the line is 0.
type Line struct {
	Kind Kind
	A, B int
	Text string
}

// Split cuts a text into lines without their ends. A text that does not end in a newline
// is treated as if it did.
func Split(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n")
}

// Compare returns all lines of both texts in order, deletions before additions,
// with as few of them as possible.
func Compare(a, b []string) []Line {
	// trace[d] holds, before round d, the furthest x reached on each diagonal k
	// (x lines of a taken, x-k of b); index k+offset.
	offset := len(a) + len(b) + 1
	furthest := make([]int, 2*offset+1)
	var trace [][]int
	for d := 0; ; d++ {
		trace = append(trace, slices.Clone(furthest))
		for k := -d; k <= d; k += 2 {
			x := 0
			if k == -d || (k != d && furthest[offset+k-1] < furthest[offset+k+1]) {
				x = furthest[offset+k+1]
			} else {
				x = furthest[offset+k-1] + 1
			}
			for x < len(a) && x-k < len(b) && a[x] == b[x-k] {
				x++
			}
			furthest[offset+k] = x
			if x >= len(a) && x-k >= len(b) {
				return backtrack(a, b, trace, offset)
			}
		}
	}
}

// backtrack walks the rounds of Compare from the last to the first and collects
// the lines that the shortest way goes through.
func backtrack(a, b []string, trace [][]int, offset int) []Line {
	var lines []Line
	x, y := len(a), len(b)
	for d := len(trace) - 1; d >= 0; d-- {
		k := x - y
		before := k - 1
		if k == -d || (k != d && trace[d][offset+k-1] < trace[d][offset+k+1]) {
			before = k + 1
		}
		startX := trace[d][offset+before]
		startY := startX - before
		for x > max(startX, 0) && y > max(startY, 0) {
			lines = append(lines, Line{Same, x, y, a[x-1]})
			x, y = x-1, y-1
		}
		if d == 0 {
			break
		}
		if x == startX {
			lines = append(lines, Line{Added, 0, y, b[y-1]})
		} else {
			lines = append(lines, Line{Deleted, x, 0, a[x-1]})
		}
		x, y = startX, startY
	}
	slices.Reverse(lines)
	return sortRuns(lines)
}

// sortRuns puts the deletions of each run of changes before its additions.
func sortRuns(lines []Line) []Line {
	for i := 0; i < len(lines); {
		if lines[i].Kind == Same {
			i++
			continue
		}
		end := i
		for end < len(lines) && lines[end].Kind != Same {
			end++
		}
		slices.SortStableFunc(lines[i:end], func(x, y Line) int {
			return int(y.Kind) - int(x.Kind) // '-' is 45, '+' is 43
		})
		i = end
	}
	return lines
}

// Count returns how many lines were deleted and how many added; their sum is the
// number of lines that start with < or > in the output of diff.
func Count(lines []Line) (deleted, added int) {
	for _, l := range lines {
		switch l.Kind {
		case Deleted:
			deleted++
		case Added:
			added++
		}
	}
	return deleted, added
}

// Hunks groups the changes with so many lines of context around them; groups
// that touch are joined.
func Hunks(lines []Line, context int) [][]Line {
	var hunks [][]Line
	end := 0 // where the last hunk ended
	for i, l := range lines {
		if l.Kind == Same {
			continue
		}
		from, to := max(i-context, 0), min(i+context+1, len(lines))
		if len(hunks) > 0 && from <= end {
			last := &hunks[len(hunks)-1]
			*last = append(*last, lines[end:max(to, end)]...)
		} else {
			hunks = append(hunks, slices.Clone(lines[from:to]))
		}
		end = max(to, end)
	}
	return hunks
}

// Unified writes a unified diff without time stamps, "" if the texts are equal.
func Unified(nameA, nameB string, a, b []string, context int) string {
	hunks := Hunks(Compare(a, b), context)
	if len(hunks) == 0 {
		return ""
	}
	var out strings.Builder
	fmt.Fprintf(&out, "--- %s\n+++ %s\n", nameA, nameB)
	for _, hunk := range hunks {
		out.WriteString(Header(hunk) + "\n")
		for _, l := range hunk {
			fmt.Fprintf(&out, "%c%s\n", l.Kind, l.Text)
		}
	}
	return out.String()
}

// Header writes the "@@ -1,2 +1,3 @@" line of a hunk.
func Header(hunk []Line) string {
	var startA, startB, countA, countB int
	for _, l := range hunk {
		if l.A > 0 {
			if startA == 0 {
				startA = l.A
			}
			countA++
		}
		if l.B > 0 {
			if startB == 0 {
				startB = l.B
			}
			countB++
		}
	}
	return fmt.Sprintf("@@ -%d,%d +%d,%d @@", startA, countA, startB, countB)
}
