package choose

// sourceHash sends each client to the backend that its address stands for: the rest
// of a division by the number of backends, each of which counts as often as it weighs
// (HAProxy's source with hash-type map-based, nginx's ip_hash).
//
// When a backend comes or goes the divisor is another one, so nearly all clients move:
// that is what the other hashing algorithms do better.
type sourceHash struct{ *Group }

// rehashes is how often a client's address is hashed again while the backend does not
// take it.
const rehashes = 10

func newSourceHash(g *Group) Algorithm { return sourceHash{g} }

func (a sourceHash) Pick(r Request) *Backend {
	key := r.Key
	for range rehashes {
		rest := float64(key % uint64(a.whole))
		for _, b := range a.Backends {
			if b.weight == 0 {
				continue
			}
			if rest -= b.Weight; rest >= 0 {
				continue
			}
			if b.takes(r.Key) {
				return b
			}
			break
		}
		key = mix(key)
	}
	return leastBusy(a.Backends) // all that are left have their slow start
}
