package choose

// choices draws some backends, two as a rule, and picks the one that is least busy for
// what it weighs (M. Mitzenmacher, The Power of Two Choices in Randomized Load
// Balancing, IEEE TPDS 12(10), 2001; HAProxy's default since 2025).
//
// They are two different ones: two draws of the same would give it a request though
// the other is free (caddy#7873). Where they are equally busy, which on an idle farm
// is always, the one that got fewer requests lately is picked; otherwise chance alone
// would decide, as in random (HAProxy b6bdb2553).
type choices struct {
	*Group
	n int // backends to draw
}

func newTwoChoices(g *Group) Algorithm { return NewChoices(g, 2) }

// NewChoices returns the algorithm that draws n backends.
func NewChoices(g *Group, n int) Algorithm { return choices{g, n} }

func (a choices) Pick(Request) *Backend {
	best := a.draw()
	for range a.n - 1 {
		b := a.drawOther(best)
		if b.load < best.load ||
			b.load == best.load && b.picks/b.weight < best.picks/best.weight {
			best = b
		}
	}
	return best
}
