package narrate

import (
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Level says how much a Narrator tells.
type Level int

// The levels. Off is free: no event is even built.
const (
	Off Level = iota // nothing
	All              // every step
)

// Sink takes events, one at a time. It must not keep the caller waiting.
type Sink func(Event)

// Narrator hands the events of one program to its sinks and keeps the counts
// of the summary. Its methods may be called from any goroutine.
type Narrator struct {
	Worker   func() string // names the worker that calls it; nil: no name
	Unpaused bool          // slow motion may keep nobody waiting: see Conn.Due

	level  Level
	shows  func(conn uint64) bool // whether anybody sees a connection's worker; nil: yes
	mu     sync.Mutex             // one event at a time reaches the sinks
	sinks  []Sink
	slow   atomic.Int64 // pause between steps, nanoseconds
	lastID atomic.Uint64
	open   sync.WaitGroup // connections that this process accepted

	counting sync.Mutex // guards what follows
	totals   Totals
	counted  func(Totals)  // told of each change; nil: nobody
	include  func() Totals // what others have counted; nil: nothing
	cut      bool          // CutOff has counted what was open
}

// New returns a Narrator that tells as much as level says to the given sinks.
func New(level Level, sinks ...Sink) *Narrator {
	return &Narrator{level: level, sinks: sinks}
}

// Attach adds a sink; every event goes to it too. Call it before the first event.
func (n *Narrator) Attach(s Sink) {
	n.sinks = append(n.sinks, s)
	n.level = All
}

// AttachSample adds a sink that shows only some connections: those for which
// shows is true once it has been given their step 4. If it is the only sink, the
// workers of the others are not named, which takes ten times as long as the
// rest of an event. Call it before the first event.
func (n *Narrator) AttachSample(s Sink, shows func(conn uint64) bool) {
	if len(n.sinks) == 0 {
		n.shows = shows
	}
	n.Attach(s)
}

// Level returns how much n tells.
func (n *Narrator) Level() Level { return n.level }

// SlowMotion sets the pause between the steps of a connection; 0 ends it.
func (n *Narrator) SlowMotion(d time.Duration) { n.slow.Store(int64(d)) }

// Pause returns the pause between the steps of a connection.
func (n *Narrator) Pause() time.Duration { return time.Duration(n.slow.Load()) }

// Emit hands an event to every sink, now.
func (n *Narrator) Emit(e Event) {
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range n.sinks {
		s(e)
	}
}

// Problem reports a failure that belongs to no single connection, such as a
// failed accept.
func (n *Narrator) Problem(format string, args ...any) {
	if n.level == All {
		n.Emit(Event{Kind: KindProblem, Err: fmt.Sprintf(format, args...)})
	}
}

// WorkerNote reports that a worker (a child process) has Started or Exited, and
// says so in words.
func (n *Narrator) WorkerNote(conn uint64, worker, state, text string) {
	if n.level == All {
		n.Emit(Event{Kind: KindWorker, Conn: conn, Worker: worker, State: state, Text: text})
	}
}

// Budget reports that the retry budget has so many of its tokens left.
func (n *Narrator) Budget(level, full float64) {
	if n.level == All {
		n.Emit(Event{Kind: KindBudget, Name: "budget", Budget: &Budget{level, full}})
	}
}

// Health reports that a backend is in another state than before, Up to Draining,
// and what caused that.
func (n *Narrator) Health(backend, state, cause string) {
	if n.level == All {
		n.Emit(Event{Kind: KindHealth, Name: "health", Peer: backend, State: state,
			Text: Clean(cause)})
	}
}

// Check reports a health check's result: what the backend answered with, or 0,
// and what was wrong with that, or nil.
func (n *Narrator) Check(backend string, status int, took time.Duration, err error) {
	if n.level != All {
		return
	}
	e := Event{Kind: KindCheck, Name: "check", Peer: backend, Status: status,
		Elapsed: took.Microseconds()}
	if err != nil {
		e.Err, e.Fault = Clean(err.Error()), "backend"
	}
	n.Emit(e)
}

// Queue reports that so many requests wait until a backend may have another one.
func (n *Narrator) Queue(waiting int) {
	if n.level == All {
		n.Emit(Event{Kind: KindQueue, Name: "queue", Waiting: waiting})
	}
}

// Listening narrates steps 1–3. net.Listen makes all three system calls
// before it returns, so they are told together, once they have succeeded.
func (n *Narrator) Listening(addr net.Addr) {
	if n.level != All {
		return
	}
	for step := Socket; step <= Listen; step++ {
		n.Emit(Event{Kind: KindStep, Step: step, Name: step.String(),
			Calls: step.String(), Text: "inside net.Listen", Peer: addr.String()})
	}
}

// Start narrates one of the steps 1–3 for a program that makes the calls
// itself; addr is the listening address, if it is known by then.
func (n *Narrator) Start(step Step, addr string) {
	if n.level != All {
		return
	}
	n.Emit(Event{Kind: KindStep, Step: step, Name: step.String(), Calls: step.String(), Peer: addr})
	time.Sleep(n.Pause())
}

// Conn tells one connection's steps. Only one goroutine may use it at a time.
type Conn struct {
	ID uint64

	n        *Narrator
	worker   string
	asked    bool      // the worker's name has been looked for
	start    time.Time // when the connection was accepted
	last     time.Time // when the step before ended
	due      time.Time // slow motion: the next step is not told before
	happened time.Time // when it happened, if it is told later
	request  int       // number of the request, 0 before the first
	try      int       // of that request
	backend  string    // of that try; known only if somebody listens
	serving  bool      // it has begun and not ended
	owed     bool      // and is counted as Owed, or the whole connection is
	idle     bool      // the connection waits for the next one
	began    time.Time // when the request began
	status   int       // what the request before was answered with
}

// Accept counts a new connection, narrates step 4 and returns its Conn.
func (n *Narrator) Accept(client net.Conn) *Conn {
	// A client that reset its connection in the queue may have no address.
	if addr := client.RemoteAddr(); n.level != Off && addr != nil {
		return n.AcceptFrom(addr.String())
	}
	return n.AcceptFrom("")
}

// AcceptFrom is Accept for a program that has no net.Conn; peer may be "".
func (n *Narrator) AcceptFrom(peer string) *Conn {
	n.begin()
	c := &Conn{ID: n.lastID.Add(1), n: n, owed: true}
	if n.level == Off {
		return c
	}
	c.start = time.Now()
	c.last = c.start
	c.emit(Accept, Event{Calls: "accept", Peer: peer})
	return c
}

func (n *Narrator) begin() {
	n.open.Add(1)
	n.count(Totals{Connections: 1, Open: 1, Owed: 1})
}

// Resume continues a connection that another process accepted at the given
// time under the given number. Until now it was not read: its first step begins
// here.
func (n *Narrator) Resume(id uint64, accepted time.Time) *Conn {
	n.begin()
	return &Conn{ID: id, n: n, owed: true, start: accepted, last: time.Now(),
		due: accepted.Add(n.Pause())}
}

// Due returns the time before which slow motion has no further step told, or the zero
// time. It is for a program with Unpaused.
func (c *Conn) Due() time.Time { return c.due }

// Happened says that the step that is told next has happened now.
func (c *Conn) Happened() {
	if c.n.level != Off {
		c.happened = time.Now()
	}
}

// AcceptedAt returns when the connection was accepted; zero if nobody listens.
func (c *Conn) AcceptedAt() time.Time { return c.start }

// On reports whether every step is told, so that details are worth collecting.
func (c *Conn) On() bool { return c.n.level == All }

// Begin counts a request: its first byte has come. Events carry its number.
func (c *Conn) Begin() {
	c.Idle(false)
	c.request++
	c.n.count(Totals{Requests: 1, Owed: one(!c.owed)})
	c.try, c.backend, c.serving, c.owed = 0, "", true, true
	if c.n.level == Off {
		return
	}
	c.began = time.Now()
	if c.request > 1 { // before it there was a silence that is nobody's step
		c.last = c.began
	}
}

// Try says that the events to come are the n-th try's, from 1.
func (c *Conn) Try(n int) { c.try = n }

// Again says that the events to come are those of one more try.
func (c *Conn) Again() { c.try = max(c.try, 1) + 1 }

// End narrates that the request is over, and counts it as failed if it is. Of
// e, the fields Status, Bytes, Failed, Err and Fault are used.
func (c *Conn) End(e Event) {
	if !c.serving {
		return
	}
	c.serving, c.owed = false, false
	c.n.count(Totals{Owed: -1, Failed: one(e.Failed)})
	if c.n.level != All {
		return
	}
	e.Kind, e.Step, e.Name = KindRequest, 0, "request"
	e.Time, e.Conn, e.Worker = time.Now(), c.ID, c.worker
	e.Request, e.Try, e.Err = c.request, c.try, Clean(e.Err)
	c.try = 0
	e.Elapsed = e.Time.Sub(c.began).Microseconds()
	c.status = e.Status
	c.n.Emit(e)
}

// Idle narrates that the connection begins to wait for its next request, which
// is not in flight, or ends to.
func (c *Conn) Idle(idle bool) {
	if idle == c.idle {
		return
	}
	c.idle = idle
	c.n.count(Totals{Open: 1 - 2*one(idle)})
	if idle && c.n.level == All {
		c.send(Event{Kind: KindIdle, Name: "idle", Status: c.status})
	}
}

// Pool narrates what becomes of a connection after a request, Kept or Closed, and
// why: of one to a backend, or, if that is "", of the client's.
func (c *Conn) Pool(backend, state, why string) {
	if c.n.level != All {
		return
	}
	c.send(Event{Kind: KindPool, Name: "pool", Peer: backend, State: state, Text: why})
}

// Tried narrates that a try has failed, at the backend that was named last:
// whether there will be another, and why or why not. Not inlined, as Route.
//
//go:noinline
func (c *Conn) Tried(again bool, why string) {
	if c.n.level != All {
		return
	}
	e := Event{Kind: KindTry, Name: "try", Peer: c.backend, State: GivenUp, Text: why}
	if again {
		e.State = Again
	}
	c.send(e)
}

// Cookie narrates that a client does not get the backend that its cookie names, and
// why. Not inlined, as Route.
//
//go:noinline
func (c *Conn) Cookie(why string) {
	if c.n.level == All {
		c.send(Event{Kind: KindCookie, Name: "cookie", Text: Clean(why)})
	}
}

// Step narrates that a step has happened. Of e, the fields Calls, Peer, Reused,
// Bytes, Status, Text, Err and Fault are used.
func (c *Conn) Step(step Step, e Event) {
	if c.n.level != All {
		return
	}
	if step == Connect && e.Peer != "" {
		c.backend = e.Peer
	}
	c.emit(step, e)
}

// Route narrates the choice of a backend. Inlined, its Event would lie on the
// stack of the goroutine that waits for a client, and double it.
//
//go:noinline
func (c *Conn) Route(backend string) {
	if c.n.level != All {
		return
	}
	c.backend = backend
	c.send(Event{Kind: KindRoute, Name: "route", Peer: backend})
}

// Body narrates that the request's body, of the given length, has reached the
// backend. It may be called beside the other methods, except Begin and Try.
func (c *Conn) Body(bytes int64) {
	if c.n.level != All {
		return
	}
	c.n.Emit(Event{Kind: KindBody, Conn: c.ID, Request: c.request, Try: c.try, Name: "request body",
		Bytes: bytes, Elapsed: time.Since(c.start).Microseconds()})
}

// Close narrates step 10 and then counts the connection as done, so that the
// summary comes after it. err is what ended it early, or nil; failed says whether
// the client was left without the answer it asked for; status is what it was
// answered with, or 0. A request that has begun and not ended ends with it; a
// failure counts here only if there was no request to count it for.
func (c *Conn) Close(err error, failed bool, status int) {
	e := Event{Calls: "close", Status: status, Failed: failed}
	if err != nil && c.n.level != Off {
		e.Err = err.Error()
	}
	c.End(Event{Status: status, Failed: failed, Err: e.Err})
	defer func() {
		c.n.count(Totals{Open: -one(!c.idle), Owed: -one(c.owed), Failed: one(c.owed && failed)})
		c.n.open.Done()
	}()
	if c.n.level != Off {
		c.emit(Close, e)
	}
}

func (c *Conn) emit(step Step, e Event) {
	e.Kind, e.Step, e.Name = KindStep, step, step.String()
	c.send(e)
}

func (c *Conn) send(e Event) {
	if !c.asked && e.Step != Accept && c.n.Worker != nil {
		c.asked = true
		if c.n.shows == nil || c.n.shows(c.ID) {
			c.worker = c.n.Worker()
		}
	}
	since := c.last
	if e.Step == Close {
		since = c.start
	}
	e.Time = time.Now()
	e.Elapsed = e.Time.Sub(since).Microseconds()
	if !c.happened.IsZero() {
		e.Elapsed, c.happened = c.happened.Sub(since).Microseconds(), time.Time{}
	}
	if wait := c.due.Sub(e.Time); wait > 0 && !c.due.IsZero() && !c.n.Unpaused {
		time.Sleep(wait)
		e.Time = time.Now()
	}
	e.Conn, e.Request, e.Worker = c.ID, c.request, c.worker
	if e.Step != Close {
		e.Try = c.try
	}
	e.Text, e.Err = Clean(e.Text), Clean(e.Err)
	c.last = e.Time
	c.n.Emit(e)
	if pause := c.n.Pause(); pause > 0 {
		c.pause(e, pause)
	}
}

// pause is slow motion: it lets some time pass between one step and the next.
// After two steps it may not wait here. Step 4 is told by the goroutine that
// accepts, and the next client would wait with it. Step 7 sets the backend to
// work, whose time would pass unseen in the pause. After those the next step
// happens at once, and is told when the pause is over.
func (c *Conn) pause(e Event, pause time.Duration) {
	switch {
	case e.Step == Close: // there is no next step
	case e.Step == Accept, e.Step == ForwardRequest:
		c.due = e.Time.Add(pause)
	case c.n.Unpaused:
		c.due = e.Time.Add(pause)
		c.last = c.due
	default:
		time.Sleep(pause)
		c.last = time.Now()
	}
}
