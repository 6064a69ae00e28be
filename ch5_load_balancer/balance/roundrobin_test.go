package balance

import (
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestInTurn(t *testing.T) {
	r := NewRoundRobin([]string{"a:1", "b:2", "c:3"})
	var got []string
	for range 7 {
		got = append(got, r.Next())
	}
	if diff := cmp.Diff("a:1 b:2 c:3 a:1 b:2 c:3 a:1", strings.Join(got, " ")); diff != "" {
		t.Errorf("want (-), got (+):\n%s", diff)
	}
	if diff := cmp.Diff("Turns: a:1 3, b:2 2, c:3 2", r.Tally()); diff != "" {
		t.Errorf("want (-), got (+):\n%s", diff)
	}
}

func TestOneBackend(t *testing.T) {
	r := NewRoundRobin([]string{"a:1"})
	if got := r.Next() + r.Next(); got != "a:1a:1" {
		t.Errorf("%q", got)
	}
}

func TestEvenFromManyGoroutines(t *testing.T) {
	const each = 1000
	r := NewRoundRobin([]string{"a:1", "b:2", "c:3"})
	counts := map[string]int{}
	var mu sync.Mutex
	var all sync.WaitGroup
	for range 30 {
		all.Go(func() { // ends after its turns
			mine := map[string]int{}
			for range each {
				mine[r.Next()]++
			}
			mu.Lock()
			defer mu.Unlock()
			for addr, n := range mine {
				counts[addr] += n
			}
		})
	}
	all.Wait()
	if diff := cmp.Diff(map[string]int{"a:1": 10 * each, "b:2": 10 * each, "c:3": 10 * each},
		counts); diff != "" {
		t.Errorf("want (-), got (+):\n%s", diff)
	}
}
