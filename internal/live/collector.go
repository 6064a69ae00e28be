package live

import (
	"strings"
	"sync"
	"time"

	"reverseproxy/internal/narrate"
)

// What is drawn is sampled, so that a page stays fluent and the last minute
// fits in memory. What is counted never is.
const (
	drawnPerSecond = 90.0   // connections a second that viewers are shown
	drawnBurst     = 260.0  // of which so many may come at once
	notesPerSecond = 60.0   // failures, problems and workers' notes a second
	notesBurst     = 300.0  // of which so many may come at once
	maxOpen        = 65_536 // connections tracked at once
	maxBackends    = 16
)

// collector turns events into counts and into the last minute's records.
type collector struct {
	start time.Time

	mu        sync.Mutex // held for microseconds only: the proxy waits for it
	ring      ring
	listening []record // steps 1–3 happen once and are shown for ever
	draws     bucket
	notes     bucket

	conns    map[uint64]conn // open connections
	counts   Counts
	backends []backend
	byAddr   map[string]int // index into backends
	changed  uint64         // grows with every event

	// The page's own clients are always drawn. Their addresses are known only
	// after dialling, and by then the proxy may have accepted them already; so
	// while one of them is not matched, every connection is drawn.
	unmatched int             // clients dialling or waiting to be accepted
	waiting   map[string]bool // addresses of those that have dialled
	accepted  map[string]bool // addresses accepted while unmatched > 0
}

// conn is what the counts need to know about an open connection.
type conn struct {
	us      int64 // sum of steps 6–9, without the pauses of slow motion
	backend int16 // index, or -1
	drawn   bool  // shown to viewers
	replied bool  // the backend has begun its response
	broken  bool  // the backend failed
}

// backend holds one backend's counts.
type backend struct {
	addr                         string
	requests, inFlight, failures int64
	latency                      histogram
}

// Counts are the totals of a run. They are exact at any load.
type Counts struct {
	Connections uint64         `json:"connections"` // accepted
	InFlight    int            `json:"inFlight"`    // open now
	MostAtOnce  int            `json:"mostAtOnce"`  // most open at once
	Failed      uint64         `json:"failed"`      // closed with an error
	Drawn       uint64         `json:"drawn"`       // of the accepted, how many viewers are shown
	Backends    []BackendCount `json:"backends"`
}

// BackendCount are one backend's counts. P50 and P99 are percentiles of the
// microseconds from the start of connecting to the response's last byte.
type BackendCount struct {
	Addr     string `json:"addr"`
	Running  bool   `json:"running"` // false only for a demo backend that was stopped
	Requests int64  `json:"requests"`
	InFlight int64  `json:"inFlight"`
	Failures int64  `json:"failures"` // refused, broke off or too slow
	P50      int64  `json:"p50"`
	P99      int64  `json:"p99"`
}

func newCollector(start time.Time, backends []string) *collector {
	c := &collector{
		start:    start,
		conns:    make(map[uint64]conn),
		byAddr:   make(map[string]int),
		waiting:  make(map[string]bool),
		accepted: make(map[string]bool),
		draws:    bucket{rate: drawnPerSecond, burst: drawnBurst, tokens: drawnBurst},
		notes:    bucket{rate: notesPerSecond, burst: notesBurst, tokens: notesBurst},
	}
	for _, addr := range backends {
		c.backendOf(addr)
	}
	return c
}

// now returns microseconds since the start.
func (c *collector) now() int64 { return time.Since(c.start).Microseconds() }

// sink takes one event: it counts it and keeps it if it is to be drawn.
func (c *collector) sink(e narrate.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changed++
	at := e.Time.Sub(c.start).Microseconds()
	keep := false
	switch e.Kind {
	case narrate.KindStep:
		keep = c.step(&e, at)
	case narrate.KindRoute:
		keep = c.route(&e)
	case narrate.KindBody:
		keep = c.conns[e.Conn].drawn
	case narrate.KindWorker, narrate.KindProblem:
		keep = c.notes.take(at)
	}
	if !keep && e.Err != "" {
		keep = c.notes.take(at)
	}
	if keep {
		c.ring.add(&record{At: at, Kind: e.Kind, Conn: e.Conn, Step: int(e.Step), Status: e.Status,
			Bytes: e.Bytes, Elapsed: e.Elapsed, Worker: e.Worker, Calls: e.Calls, Peer: e.Peer,
			Text: e.Text, Err: e.Err, Failed: e.Failed})
	}
}

// step counts a step and reports whether to draw it.
func (c *collector) step(e *narrate.Event, at int64) bool {
	if e.Step <= narrate.Listen {
		if len(c.listening) < 3 {
			c.listening = append(c.listening, record{At: at, Kind: e.Kind, Step: int(e.Step),
				Calls: e.Calls, Peer: e.Peer, Text: e.Text, Err: e.Err})
		}
		return false
	}
	if e.Step == narrate.Accept {
		return c.accept(e, at)
	}
	k, open := c.conns[e.Conn]
	if !open {
		return false
	}
	switch e.Step {
	case narrate.Connect:
		c.choose(&k, e.Peer)
	case narrate.ReadResponse:
		k.replied = e.Err == ""
	}
	if e.Step >= narrate.Connect && e.Step <= narrate.SendResponse {
		k.us += e.Elapsed
	}
	if k.backend >= 0 {
		c.judge(&k, e)
	}
	if e.Step == narrate.Close {
		c.close(e.Conn, k, e.Failed)
		return k.drawn
	}
	c.conns[e.Conn] = k
	return k.drawn
}

// accept counts a new connection and decides whether to draw it.
func (c *collector) accept(e *narrate.Event, at int64) bool {
	c.counts.Connections++
	if len(c.conns) >= maxOpen {
		return false
	}
	k := conn{backend: -1}
	k.drawn = c.draws.take(at)
	if c.unmatched > 0 {
		k.drawn = true
		if c.waiting[e.Peer] {
			c.matched(e.Peer)
		} else {
			c.accepted[e.Peer] = true
		}
	}
	if k.drawn {
		c.counts.Drawn++
	}
	c.conns[e.Conn] = k
	c.counts.MostAtOnce = max(c.counts.MostAtOnce, len(c.conns))
	return k.drawn
}

// route counts the choice of a backend.
func (c *collector) route(e *narrate.Event) bool {
	k, open := c.conns[e.Conn]
	if open {
		c.choose(&k, e.Peer)
		c.conns[e.Conn] = k
	}
	return k.drawn
}

// choose books the request on the backend at addr, once.
func (c *collector) choose(k *conn, addr string) {
	i := c.backendOf(addr)
	if i < 0 || int(k.backend) == i {
		return
	}
	if k.backend >= 0 { // another try, on another backend
		c.backends[k.backend].inFlight--
	}
	k.backend, k.us, k.broken = int16(i), 0, false
	c.backends[i].requests++
	c.backends[i].inFlight++
}

// judge books a step's failure or success on the connection's backend.
func (c *collector) judge(k *conn, e *narrate.Event) {
	b := &c.backends[k.backend]
	switch {
	case k.broken || e.Step > narrate.SendResponse:
	case backendFault(e.Err):
		b.failures++
		k.broken = true
	case e.Err == "" && e.Step == narrate.SendResponse && k.replied:
		b.latency.add(k.us)
	}
}

// backendFault reports whether a step's error is the backend's doing. Such
// errors begin with the status that tells the client so: 502 when the backend
// refused or broke, 504 when it was too slow. A client that left is not its fault.
func backendFault(err string) bool {
	return strings.HasPrefix(err, "502 ") || strings.HasPrefix(err, "504 ")
}

// close books the end of a connection.
func (c *collector) close(id uint64, k conn, failed bool) {
	delete(c.conns, id)
	if failed {
		c.counts.Failed++
	}
	if k.backend >= 0 {
		c.backends[k.backend].inFlight--
	}
}

// backendOf returns the index of the backend at addr, adding it if it is new;
// -1 when there are too many.
func (c *collector) backendOf(addr string) int {
	if i, ok := c.byAddr[addr]; ok {
		return i
	}
	if addr == "" || len(c.backends) == maxBackends {
		return -1
	}
	c.byAddr[addr] = len(c.backends)
	c.backends = append(c.backends, backend{addr: addr})
	return len(c.backends) - 1
}

// snapshot returns the counts and a number that grows with every event.
func (c *collector) snapshot() (Counts, uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	counts := c.counts
	counts.InFlight = len(c.conns)
	counts.Backends = make([]BackendCount, len(c.backends))
	for i := range c.backends {
		b := &c.backends[i]
		counts.Backends[i] = BackendCount{Addr: b.addr, Running: true, Requests: b.requests,
			InFlight: b.inFlight, Failures: b.failures,
			P50: b.latency.percentile(0.50), P99: b.latency.percentile(0.99)}
	}
	return counts, c.changed
}

// openDrawn returns the numbers of the open connections that are drawn.
func (c *collector) openDrawn() []uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	open := []uint64{}
	for id, k := range c.conns {
		if k.drawn {
			open = append(open, id)
		}
	}
	return open
}

// client keeps a record of what one of the page's own clients did.
func (c *collector) client(r record) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changed++
	r.Kind, r.At = kindClient, c.now()
	c.ring.add(&r)
}

// dial announces that one of the page's own clients is about to connect.
func (c *collector) dial() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unmatched++
}

// dialled tells the client's own address, "" if the dial failed.
func (c *collector) dialled(addr string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if addr == "" || c.accepted[addr] {
		c.matched(addr)
		return
	}
	c.waiting[addr] = true
}

// gone forgets a client that is done, in case it was never accepted.
func (c *collector) gone(addr string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting[addr] {
		c.matched(addr)
	}
}

func (c *collector) matched(addr string) {
	delete(c.waiting, addr)
	delete(c.accepted, addr)
	if c.unmatched--; c.unmatched == 0 {
		clear(c.accepted)
	}
}

// read copies packed records, as ring.next does.
func (c *collector) read(from cursor, buf []byte) ([]byte, cursor, uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ring.next(from, buf)
}

// end returns the place after the newest record.
func (c *collector) end() cursor {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ring.end()
}

// bucket is a token bucket: rate a second, at most burst at once. Its clock is
// the events' own, so that it costs no system call.
type bucket struct {
	rate, burst, tokens float64
	last                int64 // microseconds
}

// take reports whether one more may pass at the given time.
func (b *bucket) take(at int64) bool {
	if at > b.last {
		b.tokens = min(b.burst, b.tokens+b.rate*float64(at-b.last)/1e6)
		b.last = at
	}
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// shows reports whether an open connection is drawn.
func (c *collector) shows(conn uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.conns[conn].drawn
}
