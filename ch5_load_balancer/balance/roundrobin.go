// Package balance spreads connections over several backends.
package balance

import (
	"fmt"
	"strings"
	"sync"
)

// RoundRobin gives each backend its turn, in the order of the list. The C
// program keeps the index in a static variable, which only one thread may
// touch; here a mutex makes "take this one and advance" a single act, so that
// 30 clients at once are still spread 10/10/10 over three backends.
type RoundRobin struct {
	mu       sync.Mutex
	backends []string // addresses, host:port
	turns    []uint64 // how often each had its turn
	next     int      // index of the backend whose turn it is
}

// NewRoundRobin returns a RoundRobin over the given addresses, at least one.
func NewRoundRobin(backends []string) *RoundRobin {
	return &RoundRobin{backends: backends, turns: make([]uint64, len(backends))}
}

// Next returns the address of the backend whose turn it is, and advances.
func (r *RoundRobin) Next() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := r.next
	r.next = (i + 1) % len(r.backends)
	r.turns[i]++
	return r.backends[i]
}

// Tally returns how often each backend had its turn, in a line for people.
func (r *RoundRobin) Tally() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	parts := make([]string, len(r.backends))
	for i, addr := range r.backends {
		parts[i] = fmt.Sprintf("%s %d", addr, r.turns[i])
	}
	return "Turns: " + strings.Join(parts, ", ")
}
