package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// What clients and backends do in the drill -pool.
const (
	backendsOfPool = 3
	leaveShare     = 0.005 // of the requests: their clients leave
	breathTime     = 200 * time.Millisecond
	strayAfter     = 50 * time.Millisecond  // of an idle connection
	onTheWay       = 100 * time.Millisecond // from one socket to another, on a busy machine
	idleTime       = 5 * time.Second        // that proxies keep clients' connections
	leastReuse     = 10                     // requests a backend connection
)

// pool is one run of the drill -pool. Each request has a number and each answer
// must have it too, in its header and in each line of its body. Some go wrong,
// and what may follow from that is known beforehand; nothing else may.
type pool struct {
	requests, clients int
	share             float64       // of the requests that go wrong
	breathEvery       int           // requests, after which nobody asks for a while
	idle              time.Duration // that the proxy keeps clients' connections

	next   atomic.Int64   // number of the request before the next one
	seen   []atomic.Int32 // by number: how often a backend got it
	breath sync.RWMutex

	mu       sync.Mutex
	sent     map[string]int // faults, by name
	left     int            // clients
	excuses  map[int][]excuse
	resets   []span // when idle connections were reset
	failed   []failure
	problems map[string][]string // by kind
}

// excuse is what a backend has done to a request that came over a connection
// which it was closing, or had just spoken on unasked.
type excuse struct {
	kind string
	at   time.Time // a request that the client sent later could have known; zero: none could
}

type span struct{ from, to time.Time }

// failure is a request that did not get what it should have.
type failure struct {
	q *query
	o outcome
	span
}

// plan is what the pool's drill has in mind for a connection.
type plan struct {
	idle  string        // what the backend does when the connection has been idle
	after time.Duration // for so long
	next  string        // how it ends when the next request comes
	ends  string        // why no other request may come
}

// poolResult is what a run has shown.
type poolResult struct {
	Name        string         `json:"name"`
	Requests    int            `json:"requests"`
	Seconds     float64        `json:"seconds"`
	Faults      map[string]int `json:"faults"`
	Left        int            `json:"clients_that_left"`
	Connections int64          `json:"backend_connections"`
	PerConn     float64        `json:"requests_per_backend_connection"`
	Excused     map[string]int `json:"excused"` // by what excuses them
	Problems    map[string]int `json:"problems"`
	Examples    []string       `json:"examples"`
}

// The kinds of problems.
const (
	foreign = "bytes that are not the request's own"
	lostGet = "requests lost that could be sent again"
	lost    = "POSTs lost without need"
	twice   = "POSTs processed twice"
	reused  = "connections reused that may not be"
	garbled = "requests garbled on their way"
	leaked  = "leaks"
)

var kinds = []string{foreign, lostGet, lost, twice, reused, garbled, leaked}

func (p *pool) complain(kind, format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.problems[kind] = append(p.problems[kind], fmt.Sprintf(format, args...))
}

// query makes up request number id: always the same one.
func (p *pool) query(id int) *query {
	rng := rand.New(rand.NewPCG(1, uint64(id)))
	q := &query{id: id, method: "GET", shape: shapes[rng.IntN(len(shapes))],
		size: 1 + rng.IntN(1500)}
	if rng.IntN(2) == 0 { // half have the usual shape
		q.shape = "length"
	}
	if rng.IntN(2) == 0 {
		q.method, q.body = "POST", rng.IntN(1000)
	}
	switch x := rng.Float64(); {
	case x < p.share:
		q.fault = faults[rng.IntN(len(faults))]
		if q.fault.shape != "" {
			q.shape = q.fault.shape
		}
		if q.fault.method != "" {
			q.method = q.fault.method
		}
		if q.method == "POST" {
			q.body = 2 + rng.IntN(32<<10)
		}
		q.size += 100
	case x < p.share+leaveShare:
		q.leave = leaves[rng.IntN(len(leaves))]
		q.method, q.body = "POST", 1000+rng.IntN(64<<10)
		q.shape, q.size, q.wait = "length", 1000+rng.IntN(256<<10), 3*time.Millisecond
	}
	switch {
	case q.shape != "head":
	case q.fault != nil && q.fault.method != "":
		q.shape = "length"
	default:
		q.method = "HEAD"
	}
	if q.method != "POST" {
		q.body = 0
	}
	return q
}

// run drills one proxy.
func (p *pool) run(ctx context.Context, s *subject, say progress) (*poolResult, error) {
	p.seen = make([]atomic.Int32, p.requests+1)
	p.sent, p.excuses, p.problems = map[string]int{}, map[int][]excuse{}, map[string][]string{}
	servers, err := farm(s.addrs(backendsOfPool), p)
	if err != nil {
		return nil, err
	}
	defer killAll(servers)
	proxy, err := s.start(ctx, addrsOf(servers), "-log", "off", "-reuse", "always",
		"-check", "off", "-max-fails", "0", // its faults are no backend's illness
		"-keepalive-timeout", p.idle.String())
	if err != nil {
		return nil, err
	}
	defer proxy.stop()

	before, began := proxy.sockets(), time.Now()
	done := make(chan struct{})
	go func() { // ends with the clients
		for tick := time.NewTicker(time.Second); ; {
			select {
			case <-tick.C:
				n := min(int(p.next.Load()), p.requests)
				say("%s: %d of %d requests", s.Name, n, p.requests)
			case <-done:
				tick.Stop()
				return
			}
		}
	}()
	var wg sync.WaitGroup
	for range p.clients {
		wg.Go(func() { p.client(ctx, proxy.addr) }) // ends after the last request
	}
	wg.Wait()
	close(done)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	r := &poolResult{Name: s.Name, Requests: p.requests, Seconds: time.Since(began).Seconds(),
		Excused: map[string]int{}, Problems: map[string]int{}}
	p.lookForLeaks(proxy, before)
	proxy.stop()
	killAll(servers)
	p.judge(r, servers)
	return r, nil
}

// client asks one request after another.
func (p *pool) client(ctx context.Context, addr string) {
	c := &client{addr: addr, patience: tooLong, idle: p.idle}
	defer c.close()
	for ctx.Err() == nil {
		id := int(p.next.Add(1))
		if id > p.requests {
			return
		}
		if id%p.breathEvery == 0 { // all connections are idle for a while
			p.breath.Lock()
			time.Sleep(breathTime)
			p.breath.Unlock()
		}
		q := p.query(id)
		p.breath.RLock()
		began := time.Now()
		o := c.ask(q)
		p.breath.RUnlock()
		if q.fault != nil || q.leave != "" || !q.fulfilled(o) {
			p.note(failure{q, o, span{began, time.Now()}})
		}
	}
}

// fulfilled reports whether the client got what it should get.
func (q *query) fulfilled(o outcome) bool {
	switch {
	case o.foreign != "":
		return false
	case q.leave != "":
		return true
	case q.fault != nil && q.fault.cut:
		return o.err != nil && o.status == q.statusOf() || o.status == http.StatusBadGateway
	}
	return o.err == nil && o.status == q.statusOf()
}

func (p *pool) note(f failure) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if f.q.fault != nil {
		p.sent[f.q.fault.name]++
	}
	if f.q.leave != "" {
		p.left++
	}
	if !f.q.fulfilled(f.o) {
		p.failed = append(p.failed, f)
	}
}

// await waits for the next request, and does what is planned for the time
// between two.
func (p *pool) await(c *session) error {
	if c.plan.idle == "" {
		return nil // ReadRequest waits
	}
	c.SetReadDeadline(time.Now().Add(c.plan.after))
	_, err := c.r.Peek(1)
	c.SetReadDeadline(time.Time{})
	if err == nil || !isTimeout(err) {
		return err
	}
	switch c.plan.idle {
	case "rst":
		r := span{from: time.Now()}
		reset(c.TCPConn)
		r.to = time.Now()
		p.mu.Lock()
		p.resets = append(p.resets, r)
		p.mu.Unlock()
		return io.EOF
	case "408":
		io.WriteString(c, "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n"+
			"Content-Length: 0\r\n\r\n")
		c.CloseWrite()
	case "stray":
		io.WriteString(c, stray)
	default:
		c.CloseWrite()
	}
	p.late(c, c.plan.idle, time.Now())
	return io.EOF
}

// late reads what still comes: the proxy may have written it just then.
func (p *pool) late(c *session, kind string, at time.Time) {
	c.SetReadDeadline(time.Now().Add(tooLong))
	for {
		r, err := http.ReadRequest(c.r)
		if err != nil {
			return
		}
		q, err := p.receive(r)
		if q != nil {
			p.excuse(q, kind, at)
		}
		if err != nil {
			return
		}
		if kind == "stray" { // that one has its answer, and another one would have none
			c.CloseWrite()
			kind, at = "fin", time.Now()
		}
	}
}

func (p *pool) excuse(q *query, kind string, at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.excuses[q.id] = append(p.excuses[q.id], excuse{kind, at})
}

// receive reads a request to its end; if that does not come, it returns what it
// knows of it with the error.
func (p *pool) receive(r *http.Request) (*query, error) {
	q, err := parse(r)
	if err != nil || q.id < 1 || q.id > p.requests {
		p.complain(garbled, "a backend got %s %.80q (%v)", r.Method, r.RequestURI, err)
		return nil, io.EOF
	}
	if q.fault == nil || q.fault.answer == nil || r.ContentLength <= 0 {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return q, err // the client has left
		}
		if !bytes.Equal(body, content(q.id, q.body)) {
			p.complain(garbled, "request %d came with another body", q.id)
		}
	}
	p.seen[q.id].Add(1) // from here on it counts as processed
	return q, nil
}

func (p *pool) answer(c *session, r *http.Request) error {
	q, err := p.receive(r)
	if err != nil {
		return err
	}
	if c.plan.ends != "" {
		p.complain(reused, "request %d came over a connection that %s", q.id, c.plan.ends)
	}
	switch c.plan.next {
	case "next-rst":
		p.excuse(q, c.plan.next, time.Time{})
		reset(c.TCPConn)
		return io.EOF
	case "next-fin":
		p.excuse(q, c.plan.next, time.Time{})
		return io.EOF
	}
	how := usual
	if f := q.fault; f != nil {
		if f.answer != nil {
			how = f.answer
		}
		c.plan.intend(f, q.id)
	}
	return how(c, q, r)
}

// intend adds what follows from a fault.
func (p *plan) intend(f *fault, id int) {
	if f.ends != "" {
		p.ends = f.ends
	}
	switch {
	case strings.HasPrefix(f.idle, "next-"):
		p.next = f.idle
	case f.idle == "stray":
		p.idle, p.after = f.idle, strayAfter
	case f.idle == "timeout":
		p.idle, p.after = f.idle, time.Second // as it says
	case f.idle != "": // at once, soon, later
		pauses := []time.Duration{10 * time.Microsecond, time.Millisecond, 5 * time.Millisecond,
			20 * time.Millisecond}
		p.idle, p.after = f.idle, pauses[id%len(pauses)]
	}
}

func (p *pool) garbage(c *session, err error) {
	if !brokeOff(err) {
		p.complain(garbled, "a backend got what is no request: %v", err)
	}
}
