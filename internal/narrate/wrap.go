package narrate

import (
	"strings"
	"unicode/utf8"
)

// Columns is how wide a terminal is expected to be.
const Columns = 80

// Wrap breaks text at its spaces, so that no line is wider than a terminal. The
// first line begins at the column start, the further ones at indent. Of a word
// that is wider than a line, what does not fit goes on in the next.
func Wrap(text string, start, indent int) string {
	if line, rest, more := strings.Cut(text, "\n"); more {
		return Wrap(line, start, indent) + "\n" + Wrap(rest, 0, indent)
	}
	var b strings.Builder
	at := start
	newLine := func() {
		b.WriteString("\n" + strings.Repeat(" ", indent))
		at = indent
	}
	for i, word := range strings.Split(text, " ") {
		width := utf8.RuneCountInString(word)
		switch {
		case i == 0:
		case at+1+width > Columns:
			newLine()
		default:
			b.WriteByte(' ')
			at++
		}
		for _, r := range word {
			if at == Columns {
				newLine()
			}
			b.WriteRune(r)
			at++
		}
	}
	return b.String()
}
