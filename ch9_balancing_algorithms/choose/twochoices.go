package choose

// twoChoices draws two backends, and picks the one that is less busy for what it
// weighs (M. Mitzenmacher, The Power of Two Choices in Randomized Load Balancing,
// IEEE TPDS 12(10), 2001; HAProxy's default since 2025).
//
// They are two different ones: two draws of the same would give it a request though
// the other is free (caddy#7873). Where they are equally busy, which on an idle farm
// is always, the one that got fewer requests lately is picked; otherwise chance alone
// would decide, as in random (HAProxy b6bdb2553).
type twoChoices struct{ *Group }

func newTwoChoices(g *Group) Algorithm { return twoChoices{g} }

func (a twoChoices) Pick(Request) *Backend {
	one := a.draw()
	two := a.drawOther(one)
	if two.load < one.load || two.load == one.load && two.picks/two.weight < one.picks/one.weight {
		return two
	}
	return one
}
