package choose

import "math"

// leastConnections picks the backend with the fewest requests in hand for what it
// weighs (HAProxy's leastconn, nginx's least_conn; in the theory, join the shortest
// queue). Equals have their turns, as in nginx: if the first of them won, an idle farm
// would be one backend at work and others that wait.
type leastConnections struct{ *Group }

func newLeastConnections(g *Group) Algorithm { return leastConnections{g} }

func (a leastConnections) Pick(Request) *Backend {
	var best *Backend
	least, equals := math.Inf(1), 0
	for _, b := range a.Backends {
		if b.load < least {
			best, least, equals = b, b.load, 1
		} else if b.load == least {
			equals++
		}
	}
	if equals == 1 {
		return best
	}
	// Turns by weight, of the equals alone: see weightedRoundRobin.
	first := best.index
	best = nil
	all := 0.0
	for _, b := range a.Backends[first:] {
		if b.load != least {
			continue
		}
		b.earned += b.weight
		all += b.weight
		if best == nil || b.earned > best.earned {
			best = b
		}
	}
	best.earned -= all
	return best
}
