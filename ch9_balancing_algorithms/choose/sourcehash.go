package choose

// sourceHash sends each client to the backend that its address stands for: the rest
// of a division by the number of backends, each of which counts as often as it weighs
// (HAProxy's source with hash-type map-based, nginx's ip_hash).
//
// All weights are one line; the hash is a point of it. When a backend comes or goes
// the line has another length, so nearly all clients move: that is what the other
// hashing algorithms do better.
type sourceHash struct{ *Group }

func newSourceHash(g *Group) Algorithm { return sourceHash{g} }

func (a sourceHash) Pick(r Request) *Backend {
	var last *Backend
	at := unit(r.Key) * a.total
	for _, b := range a.Backends {
		if b.weight == 0 {
			continue
		}
		last = b
		if at -= b.weight; at < 0 {
			break
		}
	}
	return last
}
