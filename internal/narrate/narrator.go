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
	Worker func() string // names the worker that calls it; nil: no name

	level  Level
	shows  func(conn uint64) bool // whether anybody sees a connection's worker; nil: yes
	mu     sync.Mutex             // one event at a time reaches the sinks
	sinks  []Sink
	slow   atomic.Int64 // pause after each step, nanoseconds
	lastID atomic.Uint64
	counts *Counts
	cut    atomic.Bool    // CutOff has counted what is open
	open   sync.WaitGroup // connections that this process accepted
}

// New returns a Narrator that tells as much as level says to the given sinks.
func New(level Level, sinks ...Sink) *Narrator {
	return &Narrator{level: level, sinks: sinks, counts: &Counts{}}
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

// SlowMotion sets the pause after each step of a connection; 0 ends it.
func (n *Narrator) SlowMotion(d time.Duration) { n.slow.Store(int64(d)) }

// Pause returns the pause after each step.
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

// WorkerNote reports that a worker (a child process) started or ended.
func (n *Narrator) WorkerNote(conn uint64, worker, text string) {
	if n.level == All {
		n.Emit(Event{Kind: KindWorker, Conn: conn, Worker: worker, Text: text})
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

	n      *Narrator
	worker string
	asked  bool      // the worker's name has been looked for
	start  time.Time // when the connection was accepted
	last   time.Time // when the step before ended
}

// Accept counts a new connection, narrates step 4 and returns its Conn.
func (n *Narrator) Accept(client net.Conn) *Conn {
	if n.level == Off {
		return n.AcceptFrom("")
	}
	return n.AcceptFrom(client.RemoteAddr().String())
}

// AcceptFrom is Accept for a program that has no net.Conn.
func (n *Narrator) AcceptFrom(peer string) *Conn {
	n.begin()
	c := &Conn{ID: n.lastID.Add(1), n: n}
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
	n.counts.begin()
}

// Resume continues a connection that another process accepted at the given
// time under the given number.
func (n *Narrator) Resume(id uint64, accepted time.Time) *Conn {
	n.begin()
	return &Conn{ID: id, n: n, start: accepted, last: accepted}
}

// AcceptedAt returns when the connection was accepted; zero if nobody listens.
func (c *Conn) AcceptedAt() time.Time { return c.start }

// On reports whether every step is told, so that details are worth collecting.
func (c *Conn) On() bool { return c.n.level == All }

// Step narrates that a step has happened. Of e, the fields Calls, Peer,
// Bytes, Status, Text, Err and Fault are used. In slow motion it then pauses.
func (c *Conn) Step(step Step, e Event) {
	if c.n.level != All {
		return
	}
	c.emit(step, e)
}

// Route narrates the choice of a backend.
func (c *Conn) Route(backend string) {
	if c.n.level != All {
		return
	}
	c.send(Event{Kind: KindRoute, Name: "route", Peer: backend})
}

// Body narrates that the request's body, of the given length, has reached the
// backend. Unlike the other methods it may be called beside them.
func (c *Conn) Body(bytes int64) {
	if c.n.level != All {
		return
	}
	c.n.Emit(Event{Kind: KindBody, Conn: c.ID, Name: "request body", Bytes: bytes,
		Elapsed: time.Since(c.start).Microseconds()})
}

// Close narrates step 10 and then counts the connection as done, so that the
// summary comes after it. err is what ended it early, or nil; failed says whether
// the client was left without the answer it asked for; status is what it was
// answered with, or 0.
func (c *Conn) Close(err error, failed bool, status int) {
	defer c.n.Done(failed)
	if c.n.level == Off {
		return
	}
	e := Event{Calls: "close", Status: status, Failed: failed}
	if err != nil {
		e.Err = err.Error()
	}
	c.emit(Close, e)
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
	e.Time = time.Now()
	e.Conn, e.Worker = c.ID, c.worker
	e.Text, e.Err = Clean(e.Text), Clean(e.Err)
	since := c.last
	if e.Step == Close {
		since = c.start
	}
	e.Elapsed = e.Time.Sub(since).Microseconds()
	c.last = e.Time
	c.n.Emit(e)
	if pause := c.n.Pause(); pause > 0 {
		time.Sleep(pause)
		c.last = time.Now()
	}
}
