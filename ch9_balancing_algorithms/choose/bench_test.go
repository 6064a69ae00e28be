package choose

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// BenchmarkPick measures a pick of each algorithm, under the balancer's lock, beside
// a second goroutine with -cpu 2. Each backend has some requests in flight.
func BenchmarkPick(b *testing.B) {
	for _, k := range Kinds {
		for _, n := range []int{10, 1000} {
			b.Run(fmt.Sprintf("%s/%d", k.Name, n), func(b *testing.B) {
				balancer := busyBalancer(k.Name, n)
				b.ReportAllocs()
				b.ResetTimer()
				b.RunParallel(func(pb *testing.PB) {
					r := Request{Key: rand.Uint64(), Cookie: Hash("127.0.0.1:8001")}
					for pb.Next() {
						r.Key = mix(r.Key)
						balancer.mu.Lock()
						balancer.algorithm.Pick(r)
						balancer.mu.Unlock()
					}
				})
			})
		}
	}
}

func busyBalancer(name string, n int) *Balancer {
	g := group(1, n)
	for range 3 * n {
		g.Begin(g.Backends[g.Random.IntN(n)], 0)
	}
	for _, b := range g.Backends {
		g.Begin(b, 0)
		g.End(b, 0, g.Random.Float64(), false)
	}
	balancer, err := NewBalancer(g, name)
	if err != nil {
		panic(err)
	}
	return balancer
}

// No pick allocates.
func TestAllocations(t *testing.T) {
	for _, k := range Kinds {
		balancer := busyBalancer(k.Name, 100)
		key := uint64(0)
		if n := testing.AllocsPerRun(1000, func() {
			key++
			b := balancer.Pick(Request{Key: mix(key), Cookie: mix(key)})
			balancer.End(b, 0, 1, false)
		}); n > 0 {
			t.Errorf("%s: %v allocations for a pick", k.Name, n)
		}
	}
}
