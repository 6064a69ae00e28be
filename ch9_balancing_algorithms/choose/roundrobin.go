package choose

// roundRobin gives each backend its turn, whatever it weighs.
//
// After a turn comes the one that follows the backend that had it, not the next
// number of a counter: with a counter, and a step onward over those that are down,
// the neighbour of a dead backend would get its turns beside its own.
//
// It begins with the first backend, in each proxy: many that are restarted together
// all send it their first request. weightedRoundRobin does not.
type roundRobin struct {
	*Group
	last int // index of the backend that had its turn
}

func newRoundRobin(g *Group) Algorithm { return &roundRobin{g, len(g.Backends) - 1} }

func (a *roundRobin) Pick(Request) *Backend {
	for {
		a.last++
		if a.last == len(a.Backends) {
			a.last = 0
		}
		b := a.Backends[a.last]
		// In its slow start a backend lets some of its turns pass.
		if b.weight >= b.Weight || a.Random.Float64()*b.Weight < b.weight {
			return b
		}
	}
}
