package health

import (
	"fmt"
	"strings"

	"reverseproxy/ch2_basic_proxy/forward"
)

// inTurn gives each usable backend its turn. Skipping over a list would give a
// dead backend's turns to its neighbour; here they go to all others evenly: each
// gets what it has earned by its share, and who has most is next (nginx's smooth
// weighted round robin).
func inTurn(_ *forward.Request, usable []*Backend) *Backend {
	var next *Backend
	all := 0.0
	for _, b := range usable {
		share := b.Share()
		b.earned += share
		all += share
		if next == nil || b.earned > next.earned {
			next = b
		}
	}
	next.earned -= all
	return next
}

// Tally returns how often each backend had its turn, in a line for people.
func (f *Farm) Tally() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	parts := make([]string, len(f.backends))
	for i, b := range f.backends {
		parts[i] = fmt.Sprintf("%s %d", b.Addr, b.turns)
	}
	return "Turns: " + strings.Join(parts, ", ")
}
