package main

import (
	"fmt"
	"strings"
)

// mend says how a failure of a peer goes away: by a setting that the
// configurations of the scoreboard do not have, or in a newer version. Each was
// tried with the suite.
type mend struct {
	who   string
	cases string // ids
	how   string
}

var mends = []mend{}

// mendOf returns what mends a case of a peer, as a sentence, or "".
func mendOf(who, id string) string {
	for _, m := range mends {
		if m.who == who && strings.Contains(" "+m.cases+" ", " "+id+" ") {
			return fmt.Sprintf(" *Mended by* %s.", m.how)
		}
	}
	return ""
}
