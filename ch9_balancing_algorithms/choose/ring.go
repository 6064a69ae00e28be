package choose

import (
	"cmp"
	"math"
	"slices"
	"sort"
)

// ring is consistent hashing (D. Karger et al., STOC 1997) with bounded loads (V.
// Mirrokni, M. Thorup, M. Zadimoghaddam, SODA 2018; HAProxy's hash-balance-factor).
// Each backend has many points on a ring. A key belongs to the first point from its
// own place on; so when a backend goes, only its keys move, each to the next point.
//
// A backend that has more than 1.25 times its part of the requests in flight is
// passed over. So a key that everybody asks for cannot bring its backend down.
type ring struct {
	*Group
	points []point // in their order on the ring
}

type point struct {
	at      uint64
	backend *Backend
}

const (
	pointsPerUnit = 160  // of weight, as in ketama and nginx
	boundedLoad   = 1.25 // times the average
)

func newRing(g *Group) Algorithm { return newRingOf(g, pointsPerUnit) }

func newRingOf(g *Group, perUnit float64) *ring {
	a := &ring{Group: g}
	for _, b := range g.Backends {
		for i := range int(math.Ceil(b.Weight * perUnit)) {
			a.points = append(a.points, point{mix(b.hash + uint64(i)), b})
		}
	}
	slices.SortFunc(a.points, func(p, q point) int { return cmp.Compare(p.at, q.at) })
	return a
}

func (a *ring) Pick(r Request) *Backend {
	i := sort.Search(len(a.points), func(i int) bool { return a.points[i].at >= r.Key })
	for range manySteps {
		if i == len(a.points) {
			i = 0 // the ring closes
		}
		if b := a.points[i].backend; b.takes(r.Key) && !a.full(b) {
			return b
		}
		i++
	}
	return leastBusy(a.Backends) // hardly any are left
}

// full reports whether a backend would have more than its bounded load with one more
// request. Not all backends that may be picked can be full.
func (g *Group) full(b *Backend) bool {
	most := math.Ceil(boundedLoad * float64(g.inFlight+1) * b.weight / g.total)
	return float64(b.InFlight+1) > most
}
