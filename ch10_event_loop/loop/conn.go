//go:build linux

package loop

import (
	"errors"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"reverseproxy/ch2_basic_proxy/forward"
	"reverseproxy/ch2_basic_proxy/http1"
	"reverseproxy/internal/narrate"
)

// A State is what a connection does next: a step. It does what can be done without
// waiting and returns the step that follows, or nil if it is not done.
type State func(*Conn) State

// Conn is a client's connection, with the request in hand and the connection to the
// backend that answers it. It takes the place of ch4's goroutine.
type Conn struct {
	loop  *Loop
	log   *narrate.Conn
	state State

	client   socket
	peer     netip.AddrPort // the client's address
	addr     string         // the same, for X-Forwarded-For
	since    time.Duration  // when it was accepted, since the loop's start
	requests int            // requests that have been read from it, or waited for
	before   int64          // bytes sent to it before this request

	x       *exchange // the request in hand; nil: none has begun
	route   string    // the backend that was chosen for it
	backend *backend  // nil: no connection so far
	failure error     // what it ended with

	begun   bool          // the first byte of the request has come
	tunnels bool          // both sides speak another protocol now
	given   bool          // the request was given up beside the steps
	ending  bool          // it is in the last state
	final   finalStep     // how far that is
	until   time.Duration // when it ends, if the client lingers

	again          bool  // it is in the loop's list of those that had more to do
	waits          bool  // for its next request: it is in the loop's list of those
	unwanted       bool  // its place is needed: the wait ends
	previous, next *Conn // its neighbours in that list
}

// An exchange is one request with its response.
type exchange struct {
	request  http1.Request
	response http1.Response
	up, down transfer // what is not sent yet of their bodies

	// The request, as it comes from the client.
	parsed  bool   // request is one
	refused bool   // it is none, or cannot be told where it ends
	head    bool   // it is a HEAD request, as far as it has come
	body    []byte // as much of a body of known length as came with the header
	taken   bool   // more of the body has been read from the connection
	read    bool   // it has been read to its end, or there is none
	upload  upload // what is done with what comes beside the steps

	// Its way to the backend.
	tries     int  // how often it has been written
	forwarded bool // step 7 has begun
	owed      bool // a part of its body was still to come when the try began
	complete  bool // it has been sent to its end

	// The response, as it comes from the backend.
	began      time.Duration // when it was first waited for
	responding bool          // its first byte has come
	interims   int           // interim responses so far
	heard      bool          // its header has come, or failed to
	err        error         // with this error

	// Its way to the client.
	sending  bool          // its header has been written
	answered int           // its status; 0: the client has seen nothing of it
	marked   bool          // the client can tell its end from the connection's
	closing  bool          // the client is told "close" with it
	whole    bool          // it has been written to its end
	halfBy   time.Duration // until when a client that has sent FIN is waited for

	// After 101.
	lastByte           time.Duration // when a byte last came into the tunnel or left it
	upEnded, downEnded bool          // which of its directions have ended
}

// upload says what is done with what comes from the client while the backend works.
type upload uint8

const (
	nothing  upload = iota // it waits in the kernel
	sending                // it is the body's, and sent on
	watching               // it waits, but not if the client leaves
)

// Begin returns the state in which a request begins.
func (c *Conn) Begin() State { return c.loop.begin }

// run has a connection go on, from state to state, until it would have to wait.
func (c *Conn) run() {
	defer c.recover()
	c.loop.turn = turnReads
	for c.client.fd >= 0 && (c.awaiting() || !c.resting()) {
		if !c.ending {
			c.beside()
		}
		if c.failure != nil && !c.ending {
			c.ending, c.state = true, c.loop.end
		}
		next := c.state(c)
		switch {
		case next != nil:
			c.state = next
		case c.x != nil && c.x.upload == watching && !c.ending && c.failure == nil:
			// The watch may have begun just now, and the client have left before.
			if c.watch(); c.failure == nil {
				return
			}
		case c.failure == nil || c.ending:
			return
		}
	}
}

// recover turns a panic into a failure of this connection alone. Call it by defer.
func (c *Conn) recover() {
	p := recover()
	if p == nil {
		return
	}
	failed := c.ending
	c.failure = forward.PanicError(p)
	if c.ending, c.state = true, c.loop.end; failed {
		c.close()
		return
	}
	c.run()
}

// fail ends the request with an error. It returns false: the step is not done.
func (c *Conn) fail(err error) bool {
	if c.failure == nil {
		c.failure = err
	}
	if c.tunnels && c.backend != nil {
		// The backend has left HTTP. Both are to see that something broke, no regular end.
		c.client.setReset(true)
		c.backend.setReset(true)
	}
	return false
}

// resting reports whether slow motion has the connection wait.
func (c *Conn) resting() bool {
	due := c.log.Due()
	if due.IsZero() || c.tunnels {
		return false
	}
	left := due.Sub(c.loop.now)
	if left <= 0 {
		return false
	}
	c.client.restBy = c.loop.nano + left
	c.loop.timers.set(&c.client)
	return true
}

// awaiting reports whether a backend is at work, whose time is not to pass unseen.
func (c *Conn) awaiting() bool { return c.x != nil && c.x.forwarded && !c.x.sending && !c.ending }

// myTurn reports whether the connection may read once more before others go on, and
// counts it.
func (l *Loop) myTurn(c *Conn) bool {
	if l.turn--; l.turn >= 0 {
		return true
	}
	if c != nil && !c.again {
		c.again = true
		l.more = append(l.more, c)
	}
	return false
}

// beside does what a goroutine of its own does in ch4: it sends the rest of the
// request's body while the response is awaited, and watches whether the client leaves.
func (c *Conn) beside() {
	x := c.x
	if x == nil {
		return
	}
	turn := c.loop.turn
	switch x.upload {
	case sending:
		c.sendBody()
	case watching:
		c.watch()
	}
	c.loop.turn = turn // an upload without pause leaves the response its reads
}

// sendBody sends the rest of the request's body, and starts the server timeout.
func (c *Conn) sendBody() {
	x, b := c.x, c.backend
	x.taken = true
	err := x.up.run()
	switch {
	case err == nil:
		x.read = true
		c.beginWatch()
		c.log.Body(b.sent)
		c.await(true)
	case err == errWait:
		// A backend that takes nothing more may have answered.
	case x.up.writes && err == errLate:
		c.giveUp(forward.ErrNotTaken)
	case x.up.writes:
		x.upload = nothing
		c.await(false) // it does not want the rest; perhaps it has answered
	default:
		c.giveUp(forward.RequestError(err))
	}
}

// await starts the server timeout, unless the response has already begun.
func (c *Conn) await(complete bool) {
	x := c.x
	x.complete = complete
	x.owed = x.owed && !complete
	if !x.responding {
		c.backend.within(c.loop.settings.Server)
	}
}

// beginWatch begins to look whether the client leaves. Each step in which a backend is
// awaited gives one that has sent FIN its second anew.
func (c *Conn) beginWatch() { c.x.upload, c.x.halfBy = watching, 0 }

// watch looks whether the client has left. One that has sent FIN may only have
// nothing more to say (nc -N); TCP does not tell which. It is taken to be gone after a
// second in which there was nothing to send to it.
func (c *Conn) watch() {
	s, x, l := &c.client, c.x, c.loop
	switch {
	case c.tunnels:
	case s.broken:
		c.giveUp(forward.ClientGone(unix.ECONNRESET))
	case !s.ended:
	case x.halfBy == 0 || c.writing():
		x.halfBy = l.nano + forward.HalfCloseGrace
		s.by(x.halfBy)
	case l.nano < max(x.halfBy, s.sentAt+forward.HalfCloseGrace):
		s.by(max(x.halfBy, s.sentAt+forward.HalfCloseGrace))
	default:
		c.giveUp(forward.ErrHalfClosed)
	}
}

// writing reports whether something waits for the client to take it.
func (c *Conn) writing() bool {
	return len(c.client.out) > 0 || c.x.down.pipe != nil && c.x.down.pipe.held > 0
}

// giveUp ends the request because of what happened beside the steps.
func (c *Conn) giveUp(err *forward.Error) {
	c.given = true
	step := narrate.Connect
	switch x := c.x; {
	case x.sending:
		step = narrate.SendResponse
	case x.forwarded && x.upload != nothing:
		step = narrate.ReadResponse
	}
	c.stepFailed(step, c.failed(err), narrate.Event{})
}

// Route notes the backend at addr (host:port) as the one that was chosen.
func (c *Conn) Route(addr string) {
	c.route = addr
	c.log.Route(addr)
}

// failed returns e with what had happened by then.
func (c *Conn) failed(failure *forward.Error) *forward.Error {
	e := *failure // errors that are variables are shared
	if x := c.x; x != nil {
		e.Owed, e.Answered = x.owed, x.answered != 0
	}
	if b := c.backend; b != nil && !b.connecting {
		e.Sent = b.sent > 0
		e.Stale = b.requests > 1 && !b.heard && e.Broken
	}
	return &e
}

// stepFailed narrates that a step has failed, and ends the request.
func (c *Conn) stepFailed(step narrate.Step, err error, e narrate.Event) bool {
	if c.log.On() {
		e.Err, e.Fault = err.Error(), forward.Fault(err)
		c.log.Step(step, e)
	}
	return c.fail(err)
}

// address returns the client's address as other hosts may know it: without the port,
// and without the zone of an IPv6 address.
func (c *Conn) address() string {
	if c.addr == "" {
		c.addr = c.peer.Addr().Unmap().WithZone("").String()
	}
	return c.addr
}

// hop is what this proxy says of the client's connection; see forward.Client.
func (c *Conn) hop() http1.Hop {
	h, x, l := http1.Hop{Via: c.loop.settings.Name}, c.x, c.loop
	switch {
	case x == nil || !x.parsed || x.refused, x.request.Close,
		x.request.Minor == 0 && !x.request.KeepAlive, l.stop.Load(), l.wanted, c.unwanted,
		l.settings.Keep.Last(c.requests-1, l.nano-c.since):
		h.Connection = "close"
	case x.request.Minor == 0:
		h.Connection = "keep-alive"
	}
	return h
}

var errNoRequest error = forward.ErrNoRequest

// asError returns err as a *forward.Error, or nil.
func asError(err error) *forward.Error {
	if err == nil {
		return nil // and nothing is allocated
	}
	var e *forward.Error
	if errors.As(err, &e) {
		return e
	}
	return nil
}
