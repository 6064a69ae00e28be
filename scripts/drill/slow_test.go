package main

import (
	"sync"
	"testing"
)

// By turns a third of the requests waits for the slow backend, longer and longer. Who
// looks at queues or times gives it less.
func TestSlow(t *testing.T) {
	fullSpeed(t)
	results := map[string]*slowResult{}
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, name := range []string{"round-robin", "two-choices", "least-time"} {
		all.Go(func() { // ends with its drill
			s := chapter("ch9_balancing_algorithms", "-algorithm", name)
			r, err := new(slow).run(t.Context(), s)
			mu.Lock()
			defer mu.Unlock()
			if results[name] = r; err != nil {
				t.Error(err)
			}
		})
	}
	if all.Wait(); t.Failed() {
		return
	}
	turns := results["round-robin"]
	for name, r := range results {
		t.Logf("%s: %+v", name, *r)
		if r != turns && (r.Lost > 0 || 2*r.P99 > turns.P99 || 2*r.Shares[2] > turns.Shares[2]) {
			t.Errorf("%s: %+v; in turn %+v", name, *r, *turns)
		}
	}
}
