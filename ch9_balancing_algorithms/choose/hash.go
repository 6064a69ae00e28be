package choose

// Hash returns a number for a text, the same one in every process, so that several
// proxies agree: FNV-1a (Fowler, Noll, Vo), and mix, because FNV's high bits alone
// say little of a short text. It is no defence against clients that choose their
// keys with care.
func Hash(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return mix(h)
}

// HashNumber is Hash, of a number.
func HashNumber(x uint64) uint64 { return mix(x) }

// mix has each bit of x change about half of the result's (the end of SplitMix64,
// G. Steele et al., Fast Splittable Pseudorandom Number Generators, OOPSLA 2014).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// unit turns a hash into a number of at least 0 and less than 1.
func unit(hash uint64) float64 { return float64(hash>>11) / (1 << 53) }

// manySteps is how far a key is led on from backends that do not take it. With every
// tenth backend left that has never failed to find one.
const manySteps = 1000

// leastBusy returns the backend with the fewest requests, of those that may be picked.
func leastBusy(all []*Backend) (best *Backend) {
	for _, b := range all {
		if b.weight > 0 && (best == nil || b.InFlight < best.InFlight) {
			best = b
		}
	}
	return best
}

// takes reports whether a backend takes a key that is its own. In its slow start it
// takes a part of its keys: first a few, then those and more, at last all. A backend
// that must not be picked takes none. The others' keys stay where they are.
func (b *Backend) takes(key uint64) bool {
	return b.weight >= b.Weight || unit(mix(key^b.hash))*b.Weight < b.weight
}
