// Package choose has the algorithms by which a proxy chooses one of its backends
// for a request: one a file, each with its source.
//
// An algorithm is a method that picks. What it knows of the backends is in a Group:
// weights, requests in flight, how long answers took. Time is passed in, chance
// comes from the group's generator, so a simulation runs the very same code. There
// is no lock in here but Balancer's, which is held for a pick and never while
// anything is waited for.
package choose

import (
	"errors"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
)

// Backend is one backend, and what is known of it.
type Backend struct {
	Name     string  // its address, host:port, which is what is hashed
	Weight   float64 // how much of the work it is to get, compared to others; at least 1
	InFlight int     // requests that it has in hand; only the group changes it

	index  int     // in the group
	hash   uint64  // of its name
	weight float64 // Weight times its share: what counts now; 0: it must not be picked
	load   float64 // InFlight by weight; infinite if it must not be picked
	earned float64 // see weightedRoundRobin
	decaying
}

// Group is all backends.
type Group struct {
	Backends []*Backend
	Random   *rand.Rand
	Timeout  float64 // seconds for which a failed try counts, at least

	usable   int     // backends that may be picked
	most     float64 // the greatest of all weights, shares apart
	total    float64 // of the weights that count now
	whole    float64 // of the weights of the backends that may be picked, shares apart
	inFlight int     // requests at all backends
	busy     []int   // busy[k]: how many backends have k requests in flight
	since    float64 // see scale
}

// Request is what a choice can depend on, beside the backends.
type Request struct {
	Now    float64 // seconds on any clock that does not go back
	Key    uint64  // the Hash of what chooses in the hashing algorithms, such as the URI
	Cookie uint64  // the Hash of the name that its sticky cookie stands for; 0: it has none
}

// An Algorithm picks a backend for a request, of those that have a weight now. There
// is at least one.
type Algorithm interface {
	Pick(r Request) *Backend
}

// Needs says what an algorithm of this package looks at beside the requests in flight:
// how many a backend got lately (Begin notes that), how long its answers took (Observe).
// A simulation leaves out what nobody looks at.
func Needs(a Algorithm) (picks, times bool) {
	switch a.(type) {
	case choices, sticky:
		return true, false
	case *leastTime, hotCold:
		return false, true
	}
	return false, false
}

// Kind is an algorithm's entry in the table of all.
type Kind struct {
	Name    string // as -algorithm takes it
	HAProxy string // HAProxy's name for it, or the nearest
	Nginx   string // nginx's
	About   string
	New     func(g *Group) Algorithm
}

// Kinds is the table of the algorithms; the first is the default.
var Kinds = []Kind{
	{"round-robin", "roundrobin", "(default)", "each in turn", newRoundRobin},
	{"weighted-round-robin", "roundrobin, weight", "weight=",
		"in turn, as often as the weights say", newWeightedRoundRobin},
	{"least-connections", "leastconn", "least_conn",
		"the one with the fewest requests in flight", newLeastConnections},
	{"random", "random(1)", "random", "any", newRandom},
	{"two-choices", "random(2)", "random two least_conn",
		"two at random, the less busy one of them", newTwoChoices},
	{"least-time", "-", "least_time (Plus)",
		"the one that will answer first, by its last answers", newLeastTime},
	{"hot-cold", "-", "-", "three at random, the fastest that is not too busy", newHotCold},
	{"source-hash", "source", "ip_hash", "by the client's address", newSourceHash},
	{"ring-hash", "hash-type consistent", "hash … consistent",
		"by -hash-key, on a ring, none with too many requests", newRing},
	{"rendezvous", "-", "-", "by -hash-key, the backend that scores highest", newRendezvous},
	{"maglev", "-", "-", "by -hash-key, from a table of equal parts", newMaglev},
	{"jump-hash", "-", "-", "by -hash-key, without a table", newJump},
	{"sticky-cookie", "cookie … insert", "sticky cookie", "the one that the client had before",
		newSticky},
}

// Find returns the algorithm of a name, or an error that lists all names.
func Find(name string) (Kind, error) {
	var names []string
	for _, k := range Kinds {
		if k.Name == name {
			return k, nil
		}
		names = append(names, k.Name)
	}
	return Kind{}, errors.New(strconv.Quote(name) + " is none of " + strings.Join(names, ", "))
}

// New returns the algorithm of a name, or Find's error.
func New(name string, g *Group) (Algorithm, error) {
	k, err := Find(name)
	if err != nil {
		return nil, err
	}
	return k.New(g), nil
}

// NewGroup returns a group of backends, all of weight 1.
func NewGroup(names []string, random *rand.Rand) *Group {
	g := &Group{Random: random, busy: []int{len(names)}}
	backends := make([]Backend, len(names)) // side by side, as a look at all goes
	for i, name := range names {
		backends[i] = Backend{Name: name, Weight: 1, index: i, hash: Hash(name)}
		g.Backends = append(g.Backends, &backends[i])
	}
	g.SetShares(func(*Backend) float64 { return 1 })
	return g
}

// SetShares says which part of its weight counts of each backend now: all of it (1),
// less in a slow start, nothing (0) if it must not be picked.
func (g *Group) SetShares(share func(*Backend) float64) {
	g.usable, g.most, g.total, g.whole = 0, 0, 0, 0
	for _, b := range g.Backends {
		b.weight = b.Weight * share(b)
		g.most = max(g.most, b.Weight)
		g.total += b.weight
		if b.weight > 0 {
			g.usable++
			g.whole += b.Weight
		}
		g.SetInFlight(b, b.InFlight)
	}
}

// Index returns the backend's place in its group.
func (b *Backend) Index() int { return b.index }

// SetInFlight sets how many requests a backend has in hand.
func (g *Group) SetInFlight(b *Backend, n int) {
	g.busy[b.InFlight]--
	for n >= len(g.busy) {
		g.busy = append(g.busy, 0)
	}
	g.busy[n]++
	g.inFlight += n - b.InFlight
	b.InFlight = n
	b.load = math.Inf(1)
	if b.weight > 0 {
		b.load = float64(n) / b.weight
	}
}

// Begin notes that a backend has got a request.
func (g *Group) Begin(b *Backend, now float64) {
	g.SetInFlight(b, b.InFlight+1)
	b.picks += g.scale(now)
}

// Done notes that a try is over.
func (g *Group) Done(b *Backend) { g.SetInFlight(b, b.InFlight-1) }

// Observe notes how many seconds a backend took to answer. Answers that are wrong
// come fast as a rule, so one that failed counts as if it had taken all the time that
// it had: otherwise a broken backend would look like the best.
func (g *Group) Observe(b *Backend, now, took float64, failed bool) {
	if failed {
		took = max(took, g.Timeout)
	}
	b.observe(took, g.scale(now))
}

// End is Done and Observe together, for a try whose end is its answer.
func (g *Group) End(b *Backend, now, took float64, failed bool) {
	g.Done(b)
	g.Observe(b, now, took, failed)
}
