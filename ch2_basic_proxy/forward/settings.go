// Package forward carries one HTTP/1.1 message from one connection to another
// as a reverse proxy must: it reads strictly, forwards what the other side
// needs to know, and never holds a whole body in memory.
//
// Its functions are the steps 5–10 of every chapter, and say whom they read
// from and write to:
//
//	client := forward.NewClient(conn, settings, log)
//	request, err := forward.ReadRequest(client)              // 5
//	backend, err := forward.Connect(addr, request)           // 6
//	err = request.Write(backend)                             // 7
//	response, err := forward.ReadResponse(backend, request)  // 8
//	err = response.Write(client)                             // 9
//	backend.Close(); client.Close(&err)                      // 10
//
// Three things live for different times: a Client as long as its connection, a
// Backend as long as its own, and between them a Request, which may be written
// to one backend after another. What runs beside the steps, the rest of a body
// and the watch for a client that leaves, belongs to one Request on one Backend
// and ends with it: see try.
//
// What a message looks like is package http1's concern.
package forward

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"reverseproxy/internal/cli"
)

// Settings are what all connections of a proxy have in common. A limit of 0
// means none, except that of the timeouts, which must be positive.
type Settings struct {
	Name    string        // the proxy's name in Via
	Connect time.Duration // for a backend to accept the connection
	Request time.Duration // for a client to send its header
	Server  time.Duration // for a backend to begin its response
	Idle    time.Duration // for a body or a tunnel that stands still
	MaxBody int64         // bytes of a request's body

	stopping atomic.Bool
	mu       sync.Mutex
	waiting  *Client // the first of the clients that have nothing in hand
}

// Flags registers the flags that set the limits, with HAProxy's and nginx's
// usual values as defaults, and has app check them.
func Flags(app *cli.App) *Settings {
	s, fs := &Settings{Name: app.Name}, app.Flags
	app.Check(s.Check)
	app.OnStop(s.Stop)
	fs.DurationVar(&s.Connect, "connect-timeout", 5*time.Second,
		"`time` a backend has to accept a connection (504 after it)")
	fs.DurationVar(&s.Request, "request-timeout", 10*time.Second,
		"`time` a client has to send its header (408 after it)")
	fs.DurationVar(&s.Server, "server-timeout", 15*time.Second,
		"`time` a backend has to begin its response (504 after it)")
	fs.DurationVar(&s.Idle, "idle-timeout", 60*time.Second,
		"`time` a body or a WebSocket may stand still")
	fs.Int64Var(&s.MaxBody, "max-body", 0,
		"largest request body in `bytes` (413 above it); 0 means any")
	return s
}

// Check returns an error that names the flag with an unusable value.
func (s *Settings) Check() error {
	for name, d := range map[string]time.Duration{
		"connect-timeout": s.Connect, "request-timeout": s.Request,
		"server-timeout": s.Server, "idle-timeout": s.Idle,
	} {
		if d <= 0 {
			return errors.New("-" + name + " must be more than 0, such as 10s")
		}
	}
	if s.MaxBody < 0 {
		return errors.New("-max-body must not be negative")
	}
	return nil
}

// stopGrace is how long a client that has said nothing may still say something
// after Stop: its request may be on its way.
const stopGrace = 50 * time.Millisecond

// Stop ends the wait for clients that have nothing in hand: those that have
// connected and are silent, and those that have been answered and linger.
func (s *Settings) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopping.Store(true)
	for c := s.waiting; c != nil; c = c.next {
		c.SetReadDeadline(time.Now().Add(stopGrace))
	}
}

// wait notes that a client has nothing in hand from now on, and reports whether
// Stop has been called. It is cheap, because thousands may wait.
func (s *Settings) wait(c *Client) (stopped bool) {
	s.mu.Lock()
	c.previous, c.next = nil, s.waiting
	if c.next != nil {
		c.next.previous = c
	}
	s.waiting = c
	stopped = s.stopping.Load()
	s.mu.Unlock()
	return stopped
}

// waited ends what wait began.
func (s *Settings) waited(c *Client) {
	s.mu.Lock()
	if c.previous != nil {
		c.previous.next = c.next
	} else {
		s.waiting = c.next
	}
	if c.next != nil {
		c.next.previous = c.previous
	}
	s.mu.Unlock()
}
