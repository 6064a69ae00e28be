package cli

import (
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"

	"reverseproxy/internal/book"
)

// noFlag returns what to say of a flag that this chapter does not have: the one
// that was meant, or the chapter that has it.
func (a *App) noFlag(name string) error {
	text := fmt.Sprintf("%s has no flag -%s", a.Name, name)
	if near := a.nearest(name); near != "" {
		return fmt.Errorf("%s; did you mean -%s?", text, near)
	}
	for _, c := range book.Chapters {
		chooses := func(m book.Mode) bool { return m.Flags[0] == "-"+name }
		if c.Bound == "-"+name || slices.ContainsFunc(c.Modes, chooses) {
			return fmt.Errorf("%s; did you mean %s, which has it?", text, c.Dir)
		}
	}
	switch name {
	case "demo", "backend", "backends": // so this is ch1
		return fmt.Errorf("%s, because it forwards nothing; did you mean %s?",
			text, book.Proxies()[0].Dir)
	}
	return errors.New(text)
}

// nearest returns the flag whose name is most like name: up to two mistakes, or
// its beginning; "" if there is none.
func (a *App) nearest(name string) (near string) {
	least := min(2, len(name)-2) + 1
	a.Flags.VisitAll(func(f *flag.Flag) {
		n := mistakes(name, f.Name)
		if len(name) >= 3 && strings.HasPrefix(f.Name, name) {
			n = 1
		}
		if n < least {
			near, least = f.Name, n
		}
	})
	return near
}

// mistakes counts how many letters are to be added, left out, changed or
// swapped with the next to make one word of the other (optimal string alignment
// distance).
func mistakes(a, b string) int {
	// Row i holds the distances of a's first i letters to the beginnings of b.
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		for j := range rows[i] {
			if i == 0 || j == 0 {
				rows[i][j] = i + j
				continue
			}
			change := rows[i-1][j-1]
			if a[i-1] != b[j-1] {
				change++
			}
			rows[i][j] = min(change, rows[i-1][j]+1, rows[i][j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
