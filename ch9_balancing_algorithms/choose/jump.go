package choose

// jump is jump consistent hashing (J. Lamping, E. Veach, A Fast, Minimal Memory,
// Consistent Hash Algorithm, 2014): no table at all, and the parts are equal. But
// backends are numbers for it, and only the last one can leave without moving the
// keys of others. That suits parts of a database, which are never down for long. It
// suits no proxy: here, a key whose backend is down is hashed once more.
//
// Weights count as that many numbers for one backend.
type jump struct {
	*Group
	numbers []*Backend
}

func newJump(g *Group) Algorithm {
	a := &jump{Group: g}
	for _, b := range g.Backends {
		for range max(1, int(b.Weight)) {
			a.numbers = append(a.numbers, b)
		}
	}
	return a
}

func (a *jump) Pick(r Request) *Backend {
	key := r.Key
	for range manySteps {
		if b := a.numbers[jumpTo(key, len(a.numbers))]; b.takes(r.Key) {
			return b
		}
		key = mix(key)
	}
	return leastBusy(a.Backends) // hardly any are left
}

// jumpTo returns a number of 0 to n-1. Had there been fewer of them, the key would
// have jumped from one to the next as they became more: to the new one with a chance
// of 1 in how many there are then. Most of these it does not jump to, so it computes
// where the next jump goes.
func jumpTo(key uint64, n int) int {
	at, next := 0, 0
	for next < n {
		at = next
		key = key*2862933555777941757 + 1
		next = int(float64(at+1) * (1 << 31) / float64(key>>33+1))
	}
	return at
}
