package choose

// leastTime picks the backend where a request will be answered first, as far as its
// last answers tell: peak EWMA (Finagle's PeakEwma.scala). The cost of a backend is
// its estimate times the requests that it would have in hand.
//
// The estimates decay at every read, not only at an answer: a backend that was slow
// once gets no requests, so it gives no answers, and without that it would never be
// asked again.
type leastTime struct {
	*Group
	last int // index of the backend that was picked
}

func newLeastTime(g *Group) Algorithm { return &leastTime{g, -1} }

func (a *leastTime) Pick(Request) *Backend {
	var best *Backend
	least := 0.0
	look := func(b *Backend) {
		if b.weight == 0 {
			return
		}
		if cost := b.cost() / b.weight; best == nil || cost < least {
			best, least = b, cost
		}
	}
	for _, b := range a.Backends[a.last+1:] {
		look(b)
	}
	for _, b := range a.Backends[:a.last+1] {
		look(b)
	}
	a.last = best.index
	return best
}

// unknown is the cost of a request at a backend that has never answered.
const unknown = 1e200

// cost is what a request would cost at the backend. Of one that never answered
// nothing is known: it gets a request. But while that is pending it must not look
// free, or it would get all others, too.
func (b *Backend) cost() float64 {
	if !b.known {
		return unknown * float64(b.InFlight)
	}
	return b.estimate * float64(b.InFlight+1)
}
