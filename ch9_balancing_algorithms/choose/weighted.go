package choose

// weightedRoundRobin is nginx's smooth weighted round robin
// (ngx_http_upstream_round_robin.c): in each turn all backends earn what they weigh;
// the one that has most is picked, and pays what all have earned. With weights of 5,
// 1 and 1 that is a a b a c a a, and not a a a a a b c.
//
// It is started at a random point of its cycle. If all began at its beginning, that
// is with the heavy backend, a thousand proxies that were restarted at the same time
// would send it their first requests together (envoy#31378).
type weightedRoundRobin struct{ *Group }

// longestCycle bounds the turns that are skipped at the start.
const longestCycle = 10_000

func newWeightedRoundRobin(g *Group) Algorithm {
	a := weightedRoundRobin{g}
	for range g.Random.IntN(min(max(1, int(g.total)), longestCycle)) {
		a.Pick(Request{})
	}
	return a
}

func (a weightedRoundRobin) Pick(Request) *Backend {
	var best *Backend
	for _, b := range a.Backends {
		if b.weight == 0 {
			continue
		}
		b.earned += b.weight
		if best == nil || b.earned > best.earned {
			best = b
		}
	}
	best.earned -= a.total
	return best
}
