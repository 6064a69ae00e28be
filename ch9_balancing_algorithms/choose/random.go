package choose

// random picks any backend, each as probable as its weight says. It needs to know
// nothing and remembers nothing, so any number of proxies can do it side by side.
type random struct{ *Group }

func newRandom(g *Group) Algorithm { return random{g} }

func (a random) Pick(Request) *Backend { return a.draw() }

// manyThrows is how often the dice are thrown before all backends are looked at.
const manyThrows = 100

// draw returns a backend at random. One that is lighter than the heaviest counts
// only sometimes, otherwise the dice are thrown again: that needs no table, which
// each change of a weight would make out of date.
func (g *Group) draw() *Backend {
	for range manyThrows {
		b := g.Backends[g.Random.IntN(len(g.Backends))]
		if b.weight >= g.most || g.Random.Float64()*g.most < b.weight {
			return b
		}
	}
	var last *Backend // few are left, or one outweighs all others
	x := g.Random.Float64() * g.total
	for _, b := range g.Backends {
		if b.weight == 0 {
			continue
		}
		last = b
		if x -= b.weight; x < 0 {
			break
		}
	}
	return last
}

// drawOther returns another backend than a at random, or a if there is none.
func (g *Group) drawOther(a *Backend) *Backend {
	for range manyThrows {
		if b := g.draw(); b != a || g.usable == 1 {
			return b
		}
	}
	return a // it outweighs the others by far
}
