package choose

import "math"

// rendezvous lets the backends score for each key, and picks the best (D. Thaler, C.
// Ravishankar, A Name-Based Mapping Scheme for Rendezvous, 1996). When a backend
// goes, the second best of its keys are spread over all others. It needs no table, so
// weights may change at any time: each gets as many keys as its weight says (J.
// Resch, New Hashing Algorithms for Data Storage, 2015). But it looks at all backends.
type rendezvous struct{ *Group }

func newRendezvous(g *Group) Algorithm { return rendezvous{g} }

func (a rendezvous) Pick(r Request) *Backend {
	var best *Backend
	most := 0.0
	for _, b := range a.Backends {
		if b.weight == 0 {
			continue
		}
		score := -b.weight / math.Log(unit(mix(r.Key^b.hash)))
		if best == nil || score > most {
			best, most = b, score
		}
	}
	return best
}
