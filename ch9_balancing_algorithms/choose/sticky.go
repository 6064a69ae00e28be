package choose

// sticky sends a client to the backend that it had before, which a cookie names
// (HAProxy's cookie … insert, nginx's sticky cookie). New clients, and those whose
// backend is gone, are spread by two choices. A backend keeps its clients even when it
// has too many of them, and one that is new gets none of the old ones.
type sticky struct {
	*Group
	others Algorithm
}

func newSticky(g *Group) Algorithm { return sticky{g, newTwoChoices(g)} }

func (a sticky) Pick(r Request) *Backend {
	if r.Cookie != 0 {
		for _, b := range a.Backends {
			if b.hash == r.Cookie && b.weight > 0 {
				return b
			}
		}
	}
	return a.others.Pick(r)
}
