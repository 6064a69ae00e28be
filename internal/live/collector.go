package live

import (
	"slices"
	"sync"
	"time"

	"reverseproxy/internal/narrate"
)

// What is drawn is sampled, so that a page stays fluent and the last minute
// fits in memory. What is counted never is.
const (
	drawnPerSecond = 90.0   // connections a second that viewers are shown
	drawnBurst     = 260.0  // of which so many may come at once
	furtherPerSec  = 45.0   // further requests a second on those connections
	furtherBurst   = 130.0  // of which so many may come at once
	notesPerSecond = 60.0   // failures, problems and workers' notes a second
	notesBurst     = 300.0  // of which so many may come at once
	checksPerSec   = 20.0   // health checks a second, and idle connections that were closed
	checksBurst    = 40.0   // of which so many may come at once
	maxOpen        = 65_536 // connections tracked at once
	maxBackends    = 16
	maxTold        = 4096 // open connections that a new viewer is told of
	maxEnds        = 12   // reasons counted for each backend's connections
)

// collector turns events into counts and into the last minute's records.
type collector struct {
	start time.Time

	mu        sync.Mutex // held for microseconds only: the proxy waits for it
	ring      ring
	listening []record // steps 1–3 happen once and are shown for ever
	draws     bucket
	further   bucket
	notes     bucket
	checks    bucket

	conns    map[uint64]conn   // open connections
	workers  map[string]record // starts of the processes that run, if viewers were shown them
	idle     int               // connections that wait for another request
	counts   Counts
	backends []backend
	byAddr   map[string]int // index into backends
	pools    bool           // the program keeps connections to backends
	changed  uint64         // grows with every event

	// The page's own clients are always drawn. Their addresses are known only
	// after dialling, and by then the proxy may have accepted them already; so
	// while one of them is not matched, every connection is drawn.
	unmatched int               // clients dialling or waiting to be accepted
	waiting   map[string]bool   // addresses of those that have dialled
	accepted  map[string]uint64 // addresses accepted while unmatched > 0, with their connections
}

// conn is what the counts need to know about an open connection. The second
// half is about its request.
type conn struct {
	drawn    bool   // shown to viewers
	own      bool   // of one of the page's clients: each of its requests is shown
	shown    bool   // the latest request is
	peer     string // its client, if it is drawn
	at       int64  // when it was accepted
	idle     bool   // it waits for another request
	requests int    // how many have come
	serving  bool   // the latest has not ended

	us      int64 // sum of steps 6–9, without the pauses of slow motion
	backend int16 // index, or -1
	replied bool  // the backend has begun its response
	broken  bool  // the backend failed
}

// backend holds one backend's counts.
type backend struct {
	addr                         string
	requests, inFlight, failures int64
	latency                      histogram

	idle, inUse, made, reused int64
	ends                      []PoolEnd

	health HealthCount
}

// Counts are the totals of a run. They are exact at any load.
type Counts struct {
	Connections uint64         `json:"connections"` // accepted
	Requests    uint64         `json:"requests"`    // begun
	InFlight    int            `json:"inFlight"`    // connections that are served now
	Idle        int            `json:"idle"`        // connections that wait for another request
	MostAtOnce  int            `json:"mostAtOnce"`  // most in flight at once
	Failed      uint64         `json:"failed"`      // clients left without their answer
	Drawn       uint64         `json:"drawn"`       // of the accepted, how many viewers are shown
	Shown       uint64         `json:"shown"`       // of the requests, how many
	Retries     uint64         `json:"retries"`     // failed tries that another one followed
	Backends    []BackendCount `json:"backends"`

	Budget  *narrate.Budget `json:"budget,omitempty"`  // for retries; nil: there is none
	Mode    string          `json:"mode,omitempty"`    // how backends are chosen; "": as usual
	Waiting int             `json:"waiting,omitempty"` // requests that wait for a backend
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

	Pool   *PoolCount   `json:"pool,omitempty"`   // nil: its connections are not kept
	Health *HealthCount `json:"health,omitempty"` // nil: nobody looks for it
}

// HealthCount says how a backend is.
type HealthCount struct {
	State  string `json:"state"` // narrate.Up to narrate.Draining
	Why    string `json:"why"`
	At     int64  `json:"t"`      // since when; microseconds since the page's start
	Checks int64  `json:"checks"` // made
	Failed int64  `json:"failed"` // of them
}

// PoolCount says what became of the connections to a backend.
type PoolCount struct {
	Idle   int64     `json:"idle"`   // now, each waits for a request
	InUse  int64     `json:"inUse"`  // now, each carries one
	Made   int64     `json:"made"`   // by step 6
	Reused int64     `json:"reused"` // times that step 6 took an idle one instead
	Ends   []PoolEnd `json:"ends"`   // of those that are closed
}

// PoolEnd is why connections to a backend were closed.
type PoolEnd struct {
	State string `json:"state"` // narrate.Closed: after a request; Dropped: while idle
	Why   string `json:"why"`
	Count int64  `json:"n"`
	At    int64  `json:"t"` // the latest; microseconds since the page's start
}

// timeAnew forgets how long the backends' answers have taken.
func (c *collector) timeAnew() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.backends {
		c.backends[i].latency = histogram{}
	}
}

func newCollector(start time.Time, backends []string) *collector {
	c := &collector{
		start:    start,
		conns:    make(map[uint64]conn),
		workers:  make(map[string]record),
		byAddr:   make(map[string]int),
		waiting:  make(map[string]bool),
		accepted: make(map[string]uint64),
		draws:    bucket{rate: drawnPerSecond, burst: drawnBurst, tokens: drawnBurst},
		further:  bucket{rate: furtherPerSec, burst: furtherBurst, tokens: furtherBurst},
		notes:    bucket{rate: notesPerSecond, burst: notesBurst, tokens: notesBurst},
		checks:   bucket{rate: checksPerSec, burst: checksBurst, tokens: checksBurst},
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
	if c.count(&e, at) {
		r := recordOf(&e, at)
		c.ring.add(&r)
	}
}

// recordOf returns an event as viewers get it.
func recordOf(e *narrate.Event, at int64) record {
	return record{At: at, Kind: e.Kind, Conn: e.Conn, Request: e.Request, Try: e.Try,
		Reused: e.Reused,
		Step:   int(e.Step), Status: e.Status, Bytes: e.Bytes, Elapsed: e.Elapsed, Worker: e.Worker,
		State: e.State, Calls: e.Calls, Peer: e.Peer, Text: e.Text, Err: e.Err, Fault: e.Fault,
		Failed: e.Failed}
}

// count counts an event and reports whether to draw it.
func (c *collector) count(e *narrate.Event, at int64) bool {
	switch {
	case e.Kind == narrate.KindWorker:
		return c.worker(e, at)
	case e.Kind == narrate.KindStep && e.Step <= narrate.Listen:
		if len(c.listening) < 3 {
			c.listening = append(c.listening, recordOf(e, at))
		}
		return false
	case e.Kind == narrate.KindStep && e.Step == narrate.Accept:
		return c.accept(e, at)
	case e.Kind == narrate.KindProblem:
		return c.notes.take(at)
	case e.Kind == narrate.KindHealth || e.Kind == narrate.KindCheck:
		return c.looked(e, at)
	case e.Kind == narrate.KindQueue:
		c.counts.Waiting = e.Waiting
		return false
	case e.Kind == narrate.KindBudget:
		c.counts.Budget = e.Budget
		return false
	case e.Kind == narrate.KindTry && e.State == narrate.Again:
		c.counts.Retries++
	case e.Kind == narrate.KindPool && e.Peer != "":
		c.pooled(e, at)
		if e.State == narrate.Dropped {
			return c.checks.take(at)
		}
	case e.Step == narrate.Connect && e.Err == "":
		c.connected(e)
	}
	k, open := c.conns[e.Conn]
	if open {
		c.happened(&k, e, at)
		if e.Step == narrate.Close {
			delete(c.conns, e.Conn)
		} else {
			c.conns[e.Conn] = k
		}
	}
	// Of a connection that is not drawn its failure is told all the same, once.
	over := e.Kind == narrate.KindRequest || e.Step == narrate.Close && e.Request == 0
	ends := e.Step == narrate.Close || e.Kind == narrate.KindPool && e.Peer == ""
	if k.drawn && (k.shown || ends) {
		return true
	}
	return over && e.Failed && c.notes.take(at)
}

// connected counts a connection to a backend that a request goes over.
func (c *collector) connected(e *narrate.Event) {
	i := c.backendOf(e.Peer)
	if i < 0 {
		return
	}
	b := &c.backends[i]
	b.inUse++
	if e.Reused {
		b.reused++
		b.idle--
	} else {
		b.made++
	}
}

// looked keeps how a backend is, and counts the looks at it.
func (c *collector) looked(e *narrate.Event, at int64) bool {
	if e.Kind == narrate.KindHealth && e.Peer == "" { // that of them all
		c.counts.Mode = e.State
		return c.notes.take(at)
	}
	i := c.backendOf(e.Peer)
	if i < 0 {
		return false
	}
	h := &c.backends[i].health
	if e.Kind == narrate.KindHealth {
		h.State, h.Why, h.At = e.State, e.Text, at
		return c.notes.take(at)
	}
	h.Checks++
	if e.Err != "" {
		h.Failed++
	}
	return c.checks.take(at)
}

// pooled counts what becomes of a connection to a backend. Another client may have
// taken it before it is told that it is kept, so that less than none are idle
// for a moment.
func (c *collector) pooled(e *narrate.Event, at int64) {
	i := c.backendOf(e.Peer)
	if i < 0 {
		return
	}
	c.pools = true
	b := &c.backends[i]
	switch e.State {
	case narrate.Kept:
		b.inUse--
		b.idle++
		return
	case narrate.Dropped:
		b.idle--
	default:
		b.inUse--
	}
	why := e.Text
	for j := range b.ends {
		last := j == maxEnds-1 // counts all the reasons that have no place
		if end := &b.ends[j]; end.State == e.State && end.Why == why || last {
			end.Count++
			end.At = at
			return
		}
	}
	if len(b.ends) == maxEnds-1 {
		why = "other reasons"
	}
	b.ends = append(b.ends, PoolEnd{State: e.State, Why: why, Count: 1, At: at})
}

// happened counts what an open connection did.
func (c *collector) happened(k *conn, e *narrate.Event, at int64) {
	if idle := e.Kind == narrate.KindIdle; idle != k.idle {
		k.idle = idle
		if idle {
			c.idle++
		} else {
			c.idle--
		}
		c.most()
	}
	if e.Request > k.requests {
		c.counts.Requests += uint64(e.Request - k.requests)
		// The first is drawn if the connection is.
		k.shown = k.drawn && (k.requests == 0 || k.own || c.further.take(at))
		if k.shown {
			c.counts.Shown++
		}
		k.requests, k.serving = e.Request, true
	}
	switch {
	case e.Kind == narrate.KindRoute || e.Step == narrate.Connect:
		c.choose(k, e)
	case e.Step == narrate.ReadResponse:
		k.replied = e.Err == ""
	}
	if e.Step >= narrate.Connect && e.Step <= narrate.SendResponse {
		k.us += e.Elapsed
		c.judge(k, e)
	}
	if e.Kind != narrate.KindRequest && e.Step != narrate.Close {
		return
	}
	c.leave(k)
	if e.Failed && (k.serving || k.requests == 0) {
		c.counts.Failed++
	}
	k.serving = false
}

// worker decides about the start of a process: it is drawn if its connection is.
// Its end is drawn if its start was, so that no process lives on on the page.
func (c *collector) worker(e *narrate.Event, at int64) bool {
	if e.State != narrate.Started {
		_, drawn := c.workers[e.Worker]
		delete(c.workers, e.Worker)
		return drawn
	}
	drawn := c.conns[e.Conn].drawn
	if e.Conn == 0 { // it serves many
		drawn = len(c.workers) < maxOpen && c.notes.take(at)
	}
	if drawn {
		c.workers[e.Worker] = recordOf(e, at)
	}
	return drawn
}

// accept counts a new connection and decides whether to draw it.
func (c *collector) accept(e *narrate.Event, at int64) bool {
	c.counts.Connections++
	if len(c.conns) >= maxOpen {
		return false
	}
	k := conn{backend: -1, at: at}
	k.drawn = c.draws.take(at)
	if c.unmatched > 0 {
		k.drawn = true
		if c.waiting[e.Peer] {
			k.own = true
			c.matched(e.Peer)
		} else {
			c.accepted[e.Peer] = e.Conn
		}
	}
	k.shown = k.drawn
	if k.drawn {
		c.counts.Drawn++
		k.peer = e.Peer
	}
	c.conns[e.Conn] = k
	c.most()
	return k.drawn
}

func (c *collector) most() {
	c.counts.MostAtOnce = max(c.counts.MostAtOnce, len(c.conns)-c.idle)
}

// choose books the request on the backend that a route or a step 6 names. A
// second step 6 to the same backend is another try: it counts anew.
func (c *collector) choose(k *conn, e *narrate.Event) {
	i := c.backendOf(e.Peer)
	if i < 0 || int(k.backend) == i && !k.broken {
		return
	}
	c.leave(k)
	k.backend = int16(i)
	c.backends[i].requests++
	c.backends[i].inFlight++
}

// leave ends what the connection had to do with a backend.
func (c *collector) leave(k *conn) {
	if k.backend >= 0 {
		c.backends[k.backend].inFlight--
	}
	k.backend, k.us, k.replied, k.broken = -1, 0, false, false
}

// judge books a step's failure or success on the request's backend. That a
// client left is not its fault.
func (c *collector) judge(k *conn, e *narrate.Event) {
	if k.backend < 0 || k.broken {
		return
	}
	b := &c.backends[k.backend]
	switch {
	case e.Err != "" && e.Fault == "backend":
		b.failures++
		k.broken = true
	case e.Err == "" && e.Step == narrate.SendResponse && k.replied:
		b.latency.add(k.us)
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
	counts.InFlight, counts.Idle = len(c.conns)-c.idle, c.idle
	counts.Backends = make([]BackendCount, len(c.backends))
	for i := range c.backends {
		b := &c.backends[i]
		counts.Backends[i] = BackendCount{Addr: b.addr, Running: true, Requests: b.requests,
			InFlight: b.inFlight, Failures: b.failures,
			P50: b.latency.percentile(0.50), P99: b.latency.percentile(0.99)}
		if h := b.health; h != (HealthCount{}) {
			counts.Backends[i].Health = &h
		}
		if c.pools {
			counts.Backends[i].Pool = &PoolCount{Idle: max(b.idle, 0), InUse: max(b.inUse, 0),
				Made: b.made, Reused: b.reused, Ends: append([]PoolEnd{}, b.ends...)}
		}
	}
	return counts, c.changed
}

// lost returns a note that says what viewers are shown of what goes on now.
func (c *collector) lost(events uint64) *lostNote {
	c.mu.Lock()
	defer c.mu.Unlock()
	note := &lostNote{Events: events, Open: []uint64{}, Workers: []string{}}
	for id, k := range c.conns {
		if k.drawn {
			note.Open = append(note.Open, id)
		}
	}
	for name := range c.workers {
		note.Workers = append(note.Workers, name)
	}
	return note
}

// open returns the step 4 of the connections that are open and drawn, and that
// they are idle, if they are. The ring may have lost it long ago.
func (c *collector) open() []record {
	c.mu.Lock()
	defer c.mu.Unlock()
	var drawn []uint64
	for id, k := range c.conns {
		if k.drawn {
			drawn = append(drawn, id)
		}
	}
	slices.Sort(drawn)
	all := []record{}
	for _, id := range drawn[max(0, len(drawn)-maxTold):] {
		k := c.conns[id]
		all = append(all, record{At: k.at, Kind: narrate.KindStep, Conn: id,
			Step: int(narrate.Accept), Peer: k.peer})
		if k.idle {
			all = append(all, record{At: k.at, Kind: narrate.KindIdle, Conn: id,
				Request: k.requests})
		}
	}
	return all
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
	id, accepted := c.accepted[addr]
	if k, open := c.conns[id]; open && accepted {
		k.own = true
		c.conns[id] = k
	}
	if addr == "" || accepted {
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
