package scenes

import (
	"fmt"
	"math/rand/v2"

	"reverseproxy/ch9_balancing_algorithms/choose"
	"reverseproxy/ch9_balancing_algorithms/simulate"
)

// byKey are the algorithms to which a request's key makes a difference.
var byKey = []string{"source-hash", "ring-hash", "rendezvous", "maglev", "jump-hash"}

// hashes shows how evenly keys are spread, and how many of them move when one of ten
// backends goes: that takes no time, so there is nothing to simulate.
func hashes(r *Report) {
	t := table{title: "10 backends, hashed keys: the greatest part, of the average; keys that " +
		"move when one goes",
		head: []string{"algorithm", "1 backend of 10", "one goes", "(least possible)"}}
	const keys = 100_000
	names := make([]string, 10)
	for i := range names {
		names[i] = fmt.Sprintf("127.0.0.1:%d", 8000+i)
	}
	for _, name := range byKey {
		g := choose.NewGroup(names, rand.New(rand.NewPCG(r.Seed, 1)))
		a := simulate.Named(name)(g)
		var before [keys]*choose.Backend
		parts := make([]int, len(names))
		for i := range before {
			before[i] = a.Pick(choose.Request{Key: choose.HashNumber(uint64(i))})
			parts[before[i].Index()]++
		}
		g.SetShares(func(b *choose.Backend) float64 {
			if b.Index() == 4 {
				return 0
			}
			return 1
		})
		most, moved := 0, 0
		for i, b := range before {
			most = max(most, parts[b.Index()])
			if a.Pick(choose.Request{Key: choose.HashNumber(uint64(i))}) != b {
				moved++
			}
		}
		t.rows = append(t.rows, []cell{text(name), text(fmt.Sprintf("%.3f", 10*float64(most)/keys)),
			text(fmt.Sprintf("%.1f %%", 100*float64(moved)/keys)),
			text(fmt.Sprintf("%.1f %%", 100*float64(parts[4])/keys))})
	}
	r.tables = append(r.tables, t)
}
