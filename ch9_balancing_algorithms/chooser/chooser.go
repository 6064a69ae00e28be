// Package chooser has a proxy choose its backends by an algorithm of package choose.
//
// What may be chosen at all, package health says: who is down, draining, or has
// enough in hand is not among the backends that it offers, nor is one that this
// request has tried. What the algorithm needs to know, a Choice tells it: when a
// try begins and ends, how long the answer took, what failed.
package chooser

import (
	"math/rand/v2"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"reverseproxy/ch2_basic_proxy/forward"
	"reverseproxy/ch8_health_checks/health"
	"reverseproxy/ch9_balancing_algorithms/choose"
	"reverseproxy/internal/cli"
	"reverseproxy/internal/live"
	"reverseproxy/internal/narrate"
)

// Chooser chooses the backends of all requests.
type Chooser struct {
	*limits
	app      *cli.App
	settings *forward.Settings
	farm     *health.Farm
	balancer *choose.Balancer
	backends []*choose.Backend // in the order of -backends
	began    time.Time
	cookies  atomic.Bool // sticky-cookie is in use, or was

	// The rest is the farm's turns', which come one at a time.
	offered []*health.Backend // last
	slow    bool              // some of them had less than their full share
}

// Watch makes the algorithm ready, when the backends' addresses are known, and begins
// to watch them.
func (c *Chooser) Watch() {
	group := choose.NewGroup(c.app.Backends, rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())))
	group.Timeout = c.settings.Server.Seconds()
	for i, weight := range c.weights {
		group.Backends[i].Weight = float64(weight)
	}
	group.SetShares(func(*choose.Backend) float64 { return 1 })
	balancer, err := choose.NewBalancer(group, c.algorithm)
	if err != nil {
		c.app.Fatal(err)
	}
	c.backends, c.balancer, c.began = group.Backends, balancer, time.Now()
	c.cookies.Store(c.algorithm == sticky)
	c.farm.Turns = c.turn
	c.farm.Watch()
	var names []string
	for _, k := range choose.Kinds {
		names = append(names, k.Name)
	}
	c.app.Balances(live.Balancing{Names: names, Using: balancer.Algorithm, Use: c.Use})
}

// Use goes on with another algorithm, from the next choice on.
func (c *Chooser) Use(algorithm string) error {
	if algorithm == sticky {
		c.cookies.Store(true)
	}
	return c.balancer.Use(algorithm)
}

// turn is the farm's Turns: it says which of the backends that it offers gets the
// request, which that one has in hand from now on.
func (c *Chooser) turn(r *forward.Request, offered []*health.Backend) *health.Backend {
	// As a rule it offers the same list as before, and nothing is to be told anew.
	same := len(offered) == len(c.offered) && &offered[0] == &c.offered[0]
	if !same || c.slow {
		c.offer(offered)
	}
	picked := c.balancer.Pick(c.about(r))
	return c.offered[c.place(picked)]
}

// offer tells the algorithm which backends may be picked, and the share of each.
func (c *Chooser) offer(backends []*health.Backend) {
	c.offered, c.slow = backends, false
	c.balancer.SetShares(func(b *choose.Backend) float64 {
		i := c.place(b)
		if i < 0 {
			return 0
		}
		share := backends[i].Share()
		c.slow = c.slow || share < 1
		return share
	})
}

// place returns the index of a backend among those that are offered, or -1.
func (c *Chooser) place(b *choose.Backend) int {
	// Most often all are offered, in the same order.
	if i := b.Index(); i < len(c.offered) && c.offered[i].Addr == b.Name {
		return i
	}
	return slices.IndexFunc(c.offered, func(h *health.Backend) bool { return h.Addr == b.Name })
}

// find returns the backend of an address.
func (c *Chooser) find(addr string) *choose.Backend {
	for _, b := range c.backends {
		if b.Name == addr {
			return b
		}
	}
	return nil
}

// now is the time, as the algorithms take it.
func (c *Chooser) now() float64 { return time.Since(c.began).Seconds() }

// about says what an algorithm may want to know of a request.
func (c *Chooser) about(r *forward.Request) choose.Request {
	about := choose.Request{Now: c.now()}
	switch c.balancer.Algorithm() {
	case "source-hash":
		about.Key = choose.Hash(r.Client.Address())
	case "ring-hash", "rendezvous", "maglev", "jump-hash":
		about.Key = c.key(r)
	case sticky:
		about.Cookie = cookie(r)
	}
	return about
}

// key is -hash-key's. Requests that lack the field are spread at random: together they
// would all be one backend's.
func (c *Chooser) key(r *forward.Request) uint64 {
	switch {
	case c.hashKey == bySource:
		return choose.Hash(r.Client.Address())
	case c.hashKey == byURI:
		return choose.Hash(string(r.Target))
	}
	value := r.Get(c.field)
	if value == nil {
		return rand.Uint64()
	}
	return choose.Hash(string(value))
}

// Choice chooses the backends of one request, one for each try: it is retry's Chooser.
type Choice struct {
	chooser *Chooser
	request *forward.Request
	log     *narrate.Conn
	cookie  uint64 // the one that came
	backend *choose.Backend
	began   float64         // when that was chosen
	failed  *choose.Backend // its failure has been noted; nil: none has
}

// Begin begins to choose for a request.
func (c *Chooser) Begin(r *forward.Request, log *narrate.Conn) *Choice {
	return &Choice{chooser: c, request: r, log: log}
}

// Choose is retry's.
func (c *Choice) Choose(r *forward.Request, tried []string) (addr string, err error) {
	addr, err = c.chooser.farm.Choose(r, tried)
	if err != nil {
		return "", err
	}
	c.backend, c.began = c.chooser.find(addr), c.chooser.now()
	if c.chooser.cookies.Load() {
		c.takeCookie()
	}
	return addr, nil
}

// Release is retry's.
func (c *Choice) Release(addr string) {
	c.chooser.balancer.Done(c.chooser.find(addr))
	c.chooser.farm.Release(addr)
}

// Answer takes the header of the answer, and how long it took. In it the client may get
// a cookie.
func (c *Choice) Answer(response *forward.Response) {
	now := c.chooser.now()
	failed := response.Status >= http.StatusInternalServerError
	if failed {
		c.failed = c.backend
	}
	c.chooser.balancer.Observe(c.backend, now, now-c.began, failed)
	if c.chooser.balancer.Algorithm() == sticky {
		c.setCookie(&response.Response)
	}
}

// Report takes what became of a try. Only what is the backend's fault counts, and
// that as an answer that took all the time it had. The next try may have been chosen
// by now.
func (c *Choice) Report(addr string, err error) {
	c.chooser.farm.Report(addr, c.request, err)
	b := c.chooser.find(addr)
	if b != c.failed && health.Fault(c.request, err) {
		c.chooser.balancer.Observe(b, c.chooser.now(), 0, true)
	}
}
