package choose

// hotCold is the rule of Prequal (B. Wydrowski et al., Load is not what you should
// balance, NSDI 2024), on what the proxy itself knows, without probes. It draws three
// backends. Those that have more requests in hand than most are hot. If some are
// cold, the fastest of them is picked, otherwise the hot one that has fewest.
//
// It draws three of them, each time others: what a proxy knows of the fastest of all is
// old, and many proxies that look at all find the same one.
type hotCold struct {
	*Group
	n int // backends to draw; all of them, if it is not less
}

// Of Prequal's rule.
const (
	sample      = 3    // backends
	hotQuantile = 0.84 // of the requests in flight at each backend
)

func newHotCold(g *Group) Algorithm { return NewHotCold(g, sample) }

// NewHotCold returns the algorithm with another sample: n backends.
func NewHotCold(g *Group, n int) Algorithm { return hotCold{g, n} }

func (a hotCold) Pick(Request) *Backend {
	hot := a.quantile(hotQuantile)
	best := a.draw()
	if a.n >= len(a.Backends) {
		for _, b := range a.Backends {
			if b.weight > 0 && b.better(best, hot) {
				best = b
			}
		}
		return best
	}
	for range a.n - 1 {
		if b := a.drawOther(best); b.better(best, hot) {
			best = b
		}
	}
	return best
}

// better reports whether b is to be preferred to c, where hot is how many requests
// make a backend hot.
func (b *Backend) better(c *Backend, hot int) bool {
	bHot, cHot := b.InFlight >= hot, c.InFlight >= hot
	switch {
	case bHot != cHot:
		return cHot
	case bHot:
		return b.InFlight < c.InFlight
	}
	return b.estimate < c.estimate
}

// quantile returns how many requests a backend has in flight at least that is not
// among the given part of those that have fewest; but 1 at least.
func (g *Group) quantile(part float64) int {
	fewer := 0
	for k, n := range g.busy {
		if fewer += n; float64(fewer) >= part*float64(len(g.Backends)) {
			return max(k, 1)
		}
	}
	return len(g.busy)
}
