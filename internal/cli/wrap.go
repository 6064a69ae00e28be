package cli

import (
	"strings"
	"unicode/utf8"
)

// columns is how wide a terminal is expected to be.
const columns = 80

// wrap breaks text at its spaces, so that no line is wider than a terminal. The
// first line begins at the column start, the further ones at indent.
func wrap(text string, start, indent int) string {
	var b strings.Builder
	at := start
	for i, word := range strings.Split(text, " ") {
		width := utf8.RuneCountInString(word)
		switch {
		case i == 0:
		case at+1+width > columns && at > indent:
			b.WriteString("\n" + strings.Repeat(" ", indent))
			at = indent
		default:
			b.WriteByte(' ')
			at++
		}
		b.WriteString(word)
		at += width
	}
	return b.String()
}
