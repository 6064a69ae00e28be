// Package linediff compares two texts line by line and writes the difference.
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
	// common[i][j] is how many lines a[i:] and b[j:] have in common at most.
	common := make([][]int32, len(a)+1)
	for i := range common {
		common[i] = make([]int32, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if common[i][j] = max(common[i+1][j], common[i][j+1]); a[i] == b[j] {
				common[i][j] = common[i+1][j+1] + 1
			}
		}
	}
	var lines, added []Line
	for i, j := 0, 0; i < len(a) || j < len(b); {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			lines = append(append(lines, added...), Line{Same, i + 1, j + 1, a[i]})
			i, j, added = i+1, j+1, nil
		case i < len(a) && (j == len(b) || common[i+1][j] >= common[i][j+1]):
			lines = append(lines, Line{Deleted, i + 1, 0, a[i]})
			i++
		default:
			added = append(added, Line{Added, 0, j + 1, b[j]})
			j++
		}
		if i == len(a) && j == len(b) {
			lines = append(lines, added...)
		}
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
