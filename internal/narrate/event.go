// Package narrate tells what a proxy does while it does it: one event for
// each of the ten steps. The terminal, a JSON log and the live page are all
// written from the same events.
package narrate

import (
	"strconv"
	"time"
)

// Step is one of the ten steps that every chapter goes through, in the order
// of the C programs.
type Step int

// The ten steps. 1–3 happen once, 4–10 for every connection.
const (
	Socket         Step = 1 + iota // create the listening socket
	Bind                           // give it an address
	Listen                         // let clients queue up
	Accept                         // take one client out of the queue
	ReadRequest                    // read the request's header
	Connect                        // connect to the backend
	ForwardRequest                 // write the request to the backend
	ReadResponse                   // read the response's header
	SendResponse                   // write the response to the client
	Close                          // clean up: close both sockets
)

var stepNames = [...]string{"", "socket", "bind", "listen", "accept", "read request",
	"connect", "forward request", "read response", "send response", "close"}

// String returns the step's name as events carry it, "read request" for 5.
func (s Step) String() string {
	if s < 1 || int(s) >= len(stepNames) {
		return ""
	}
	return stepNames[s]
}

// The kinds of event.
const (
	KindStep    = "step"    // one of the ten steps happened
	KindRoute   = "route"   // a backend was chosen (between steps 5 and 6)
	KindBody    = "body"    // the request's body has reached the backend
	KindRequest = "request" // a request is over, answered or not
	KindIdle    = "idle"    // the connection waits for its next request
	KindPool    = "pool"    // a connection is kept for another request, or is not
	KindTry     = "try"     // a try at a request has failed; another follows, or none
	KindCookie  = "cookie"  // a client's cookie names a backend that it does not get
	KindBudget  = "budget"  // the retry budget has changed
	KindHealth  = "health"  // a backend is in another state than before
	KindCheck   = "check"   // a backend was asked whether it is well
	KindQueue   = "queue"   // more or fewer requests wait for a backend
	KindWorker  = "worker"  // a child process started or ended
	KindProblem = "problem" // something failed that belongs to no connection
	KindReady   = "ready"   // the proxy listens
	KindWatch   = "watch"   // the live page listens
	KindSummary = "summary" // the run is over
)

// The states of a worker that is a process.
const (
	Started = "started"
	Exited  = "exited"
)

// The states of a connection that could carry another request.
const (
	Kept    = "kept"
	Closed  = "closed"
	Dropped = "dropped" // it had been kept, and was idle when it was closed
)

// What follows a try that has failed.
const (
	Again   = "again"
	GivenUp = "given up"
)

// The states of a backend's health, in HAProxy's words.
const (
	Up        = "up"
	GoingDown = "going down" // a check has failed, not yet as many as it takes
	Down      = "down"
	GoingUp   = "going up" // a check has passed, not yet as many as it takes
	Draining  = "draining" // it gets no new requests, and ends those it has
)

// Budget is how much of a bucket of tokens is left. Both are told together: an
// empty bucket is something else than none.
type Budget struct {
	Level float64 `json:"level"` // tokens that are in it
	Full  float64 `json:"full"`  // tokens that it holds
}

// Low reports whether further tries are withheld, as in gRPC: at half of its
// tokens, or below.
func (b Budget) Low() bool { return b.Level <= b.Full/2 }

// Event is one thing that happened. Strings that came from the network are
// already made safe (see Clean) when they reach an Event.
//
// Elapsed counts a step from the end of the step before, without the pauses of
// slow motion; the end of a request from its first byte; Close from Accept. For
// Close, Request is how many requests there were.
type Event struct {
	Time     time.Time `json:"time"`
	Kind     string    `json:"event"`
	Conn     uint64    `json:"conn,omitempty"`     // number of the connection, from 1
	Request  int       `json:"request,omitempty"`  // number of the request on it, from 1
	Try      int       `json:"try,omitempty"`      // number of the try at it; 0: the only one
	Worker   string    `json:"worker,omitempty"`   // who did it: "goroutine 21", "child 4711"
	State    string    `json:"state,omitempty"`    // of the worker, connection, try or backend
	Step     Step      `json:"step,omitempty"`     // 1–10
	Name     string    `json:"name,omitempty"`     // the step's name
	Calls    string    `json:"calls,omitempty"`    // the system calls behind it, in order
	Peer     string    `json:"peer,omitempty"`     // the other end's address
	Reused   bool      `json:"reused,omitempty"`   // Connect: an idle connection was taken
	Bytes    int64     `json:"bytes,omitempty"`    // bytes moved by this step or request
	Elapsed  int64     `json:"elapsed_us"`         // microseconds, see below
	Status   int       `json:"status,omitempty"`   // HTTP status of the response
	Text     string    `json:"text,omitempty"`     // for people
	Err      string    `json:"error,omitempty"`    // what went wrong
	Fault    string    `json:"fault,omitempty"`    // whose Err is: "client", "backend", "proxy"
	Failed   bool      `json:"failed,omitempty"`   // the client is left without its answer
	Waiting  int       `json:"waiting,omitempty"`  // queue: how many requests are in it
	Listen   string    `json:"listen,omitempty"`   // ready, watch: the address
	Backends []string  `json:"backends,omitempty"` // ready: the backends' addresses
	*Budget            // budget: level and full; nil for other kinds
	Summary  *Summary  `json:"summary,omitempty"` // summary: the figures
}

// maxText is how many bytes of somebody else's text an event keeps.
const maxText = 200 // bytes

// Clean makes text from the network safe to print: everything outside
// printable ASCII is escaped as in a Go string (ESC becomes \x1b), so that no
// terminal takes it for a command, and what is longer than 200 bytes is cut.
func Clean(s string) string {
	cut := len(s) > maxText
	if cut {
		s = s[:maxText]
	}
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] > '~' {
			quoted := strconv.QuoteToASCII(s)
			s = quoted[1 : len(quoted)-1]
			break
		}
	}
	if cut {
		s += "..."
	}
	return s
}
