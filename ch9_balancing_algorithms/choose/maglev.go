package choose

// maglev is Google's Maglev hashing (D. Eisenbud et al., Maglev: A Fast and Reliable
// Software Network Load Balancer, NSDI 2016). Each backend has an order of its own in
// which it would like the entries of a table; in turn each takes the next one that is
// free, until none is. So each has the same number of entries, give or take one, and a
// pick is one look into the table. A ring's parts differ far more.
//
// Weights are as in Envoy: the heaviest backend takes an entry in each round, one that
// weighs half of it in every second one.
type maglev struct {
	*Group
	table []*Backend
}

// maglevSize is how many entries the table has, a prime.
const maglevSize = 65_537

func newMaglev(g *Group) Algorithm { return newMaglevOf(g) }

func newMaglevOf(g *Group) *maglev {
	a := &maglev{g, make([]*Backend, maglevSize)}
	wishes := make([]wish, len(g.Backends))
	for i, b := range g.Backends {
		wishes[i] = wish{at: mix(b.hash) % maglevSize, skip: mix(^b.hash)%(maglevSize-1) + 1}
	}
	left := maglevSize
	for round := 1.0; ; round++ {
		for i, b := range g.Backends {
			w := &wishes[i]
			if round*b.Weight < w.due {
				continue
			}
			w.due += g.most
			for a.table[w.at] != nil {
				w.next()
			}
			a.table[w.at] = b
			if left--; left == 0 {
				return a
			}
		}
	}
}

// wish is an entry that a backend would like to have next.
type wish struct {
	at, skip uint64
	due      float64 // it has its turn when its weight times the round is so much
}

// next goes on: skip steps each time lead through the whole table, since its size is
// a prime.
func (w *wish) next() { w.at = (w.at + w.skip) % maglevSize }

func (a *maglev) Pick(r Request) *Backend {
	at := r.Key % maglevSize
	for range manySteps {
		if b := a.table[at]; b.takes(r.Key) {
			return b
		}
		// Neighbours in the table have nothing in common, so the keys of one that is
		// down are spread over all.
		if at++; at == maglevSize {
			at = 0
		}
	}
	return leastBusy(a.Backends) // hardly any are left
}
