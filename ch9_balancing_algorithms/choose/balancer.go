package choose

import "sync"

// Balancer is a group and its algorithm for many goroutines at once.
type Balancer struct {
	mu        sync.Mutex
	group     *Group
	name      string
	algorithm Algorithm
}

// NewBalancer returns a Balancer with an algorithm of Kinds.
func NewBalancer(g *Group, name string) (*Balancer, error) {
	b := &Balancer{group: g}
	return b, b.Use(name)
}

// Use goes on with another algorithm. What is known of the backends is kept, and
// requests in flight stay where they are.
func (b *Balancer) Use(name string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	algorithm, err := New(name, b.group)
	if err == nil {
		b.name, b.algorithm = name, algorithm
	}
	return err
}

// Pick picks a backend, which has one more request in flight from now on. End must
// follow.
func (b *Balancer) Pick(r Request) *Backend {
	b.mu.Lock()
	defer b.mu.Unlock()
	picked := b.algorithm.Pick(r)
	b.group.Begin(picked, r.Now)
	return picked
}

// End ends what Pick began: see Group.End.
func (b *Balancer) End(backend *Backend, now, took float64, failed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.group.End(backend, now, took, failed)
}

// Done notes that a try is over.
func (b *Balancer) Done(backend *Backend) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.group.Done(backend)
}

// Observe notes how long an answer took: see Group.Observe.
func (b *Balancer) Observe(backend *Backend, now, took float64, failed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.group.Observe(backend, now, took, failed)
}

// SetShares is Group's.
func (b *Balancer) SetShares(share func(*Backend) float64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.group.SetShares(share)
}

// Algorithm returns the name of the algorithm in use.
func (b *Balancer) Algorithm() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.name
}
