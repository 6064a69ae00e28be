// Package anchor gives headings the names that links use.
package anchor

import (
	"fmt"
	"strings"
	"unicode"
)

// ID names a heading as GitHub does: lower case, punctuation dropped, blanks as
// hyphens, "-1" added to the second of the same name. used counts the names of a page.
func ID(heading string, used map[string]int) string {
	var b strings.Builder
	for _, r := range strings.ToLower(strings.TrimSpace(heading)) {
		switch {
		case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_', unicode.Is(unicode.Mn, r):
			b.WriteRune(r)
		case r == ' ':
			b.WriteByte('-')
		}
	}
	id := b.String()
	n := used[id]
	used[id]++
	if n > 0 {
		return fmt.Sprintf("%s-%d", id, n)
	}
	return id
}
