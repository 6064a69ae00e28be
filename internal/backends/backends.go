// Package backends runs the demo backends: small HTTP/1.1 servers for a proxy
// to stand in front of. They answer every request with something a student can
// recognise (/api/data names the backend) or a test can check to the last byte
// (/bytes), and they misbehave on request (/slow, /drop). See [Endpoints].
//
// No lesson is about them, so they are built on net/http's server.
package backends

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	readHeaderTimeout = 10 * time.Second // for a client to send its request head
	idleTimeout       = 60 * time.Second // for a kept connection without a request
	stallTimeout      = 5 * time.Minute  // for a body that stands still, either way
)

// Group is a set of demo backends in this process. Its methods may be called
// from several goroutines; backends are counted from 0 in the order of Start.
type Group struct {
	backends []*backend
	gate     sync.RWMutex // locked while the group is frozen
	shared   shared
}

// backend is one demo backend, running or stopped.
type backend struct {
	addr     string       // the real address, "host:port"
	port     string       // its name in every response
	requests atomic.Int64 // all requests since Start, over all restarts
	capacity int          // requests a second; 0: as many as come
	gate     *sync.RWMutex
	shared   *shared      // the group's
	leaving  atomic.Bool  // it says so to health checks
	latency  atomic.Int64 // nanoseconds before it answers a request that is no health check

	mu     sync.Mutex // guards what follows
	life   *life      // nil while stopped
	held   *os.File   // keeps its port meanwhile; or nil
	closed bool       // Close was called: no restart any more
}

// life is what a backend has from a start to the next stop.
type life struct {
	backend  *backend
	listener net.Listener
	server   *http.Server
	cancel   context.CancelFunc // ends every handler that waits
	served   chan struct{}      // closed when Serve has returned
	data     atomic.Int64       // requests for /api/data
	queue    *queue             // nil: none waits

	mu       sync.Mutex // guards stopped, and handlers.Add against handlers.Wait
	stopped  bool
	handlers sync.WaitGroup
}

// ListenError says why a backend could not take its address. Its text is one
// sentence that names the address and the cure.
type ListenError struct {
	Addr  string // as given, "host:port"
	InUse bool   // something else listens there already
	Err   error  // what net.Listen said
}

func (e *ListenError) Error() string {
	if e.InUse {
		return fmt.Sprintf("a demo backend cannot start because something already listens on %s, "+
			"perhaps demo backends started in another terminal: then leave out -demo", e.Addr)
	}
	cause := e.Err
	var op *net.OpError
	if errors.As(e.Err, &op) {
		cause = op.Err // without the address a second time
	}
	return fmt.Sprintf("a demo backend cannot listen on %s (%v): give an address of this machine "+
		"as host:port, for example 127.0.0.1:8000", e.Addr, cause)
}

// Unwrap returns what net.Listen said.
func (e *ListenError) Unwrap() error { return e.Err }

// Start starts one backend on each address ("host:port"; port 0 takes a free
// one). Either all run when it returns, or none; the error is a *ListenError.
// Close ends them.
func Start(addrs []string) (*Group, error) { return StartLimited(addrs, 0) }

// StartLimited is Start for backends that serve so many requests a second, each
// in the same time, one after another; 0 is as many as come. At least 200 wait
// their turn, the work of two seconds, and further ones get 503.
func StartLimited(addrs []string, perSecond int) (*Group, error) {
	g := &Group{}
	for _, addr := range addrs {
		listener, err := listen(nil, addr)
		if err != nil {
			g.Close()
			return nil, err
		}
		b := &backend{addr: listener.Addr().String(), capacity: perSecond, gate: &g.gate}
		_, b.port, _ = net.SplitHostPort(b.addr)
		b.shared = &g.shared
		b.life = b.start(listener)
		g.backends = append(g.backends, b)
	}
	return g, nil
}

// listen is Relisten with errors that name the cure.
func listen(held *os.File, addr string) (net.Listener, error) {
	listener, err := Relisten(held, addr)
	if err == nil {
		return listener, nil
	}
	return nil, &ListenError{Addr: addr, InUse: addressInUse(err), Err: err}
}

func addressInUse(err error) bool {
	const wsaeAddrInUse = syscall.Errno(10048) // Windows' number for EADDRINUSE
	return errors.Is(err, syscall.EADDRINUSE) ||
		runtime.GOOS == "windows" && errors.Is(err, wsaeAddrInUse)
}

// Len returns the number of backends.
func (g *Group) Len() int { return len(g.backends) }

// Addrs returns the backends' real addresses ("host:port"), after a port 0 has
// become a port number. They stay the same over Stop and Restart.
func (g *Group) Addrs() []string {
	addrs := make([]string, len(g.backends))
	for i, b := range g.backends {
		addrs[i] = b.addr
	}
	return addrs
}

// Requests returns how many requests backend i has received since Start, of
// any kind and over all restarts; 0 if there is no such backend.
func (g *Group) Requests(i int) int64 {
	if b, err := g.at(i); err == nil {
		return b.requests.Load()
	}
	return 0
}

// Running reports whether backend i accepts connections.
func (g *Group) Running(i int) bool {
	b, err := g.at(i)
	if err != nil {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.life != nil
}

// Freeze makes all backends of limited capacity stand still: they take requests,
// and do nothing. Thaw lets them go on.
func (g *Group) Freeze() { g.gate.Lock() }

// Thaw takes Freeze back.
func (g *Group) Thaw() { g.gate.Unlock() }

// SetLatency has backend i take so much longer for each answer, but for those to
// health checks.
func (g *Group) SetLatency(i int, d time.Duration) {
	if b, err := g.at(i); err == nil {
		b.latency.Store(int64(d))
	}
}

// Stop ends backend i as if its process had been killed: new connections are
// refused, existing ones break, also in the middle of a response. When Stop
// returns, none of its handlers is left. It keeps its port, where the system allows that.
// Stopping a stopped backend does nothing.
func (g *Group) Stop(i int) error {
	b, err := g.at(i)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stop()
	return nil
}

// Restart starts backend i again on the same port; one that runs is stopped
// first. Its count for /api/data begins at 1 again. The error is a *ListenError
// if the port could not be kept, and another program has taken it.
func (g *Group) Restart(i int) error {
	b, err := g.at(i)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return fmt.Errorf("demo backend %s has been closed and stays so", b.addr)
	}
	b.stop()
	listener, err := listen(b.held, b.addr)
	if b.held = nil; err != nil {
		return err
	}
	b.life = b.start(listener)
	return nil
}

// Close stops all backends for good. It may be called more than once.
func (g *Group) Close() {
	for _, b := range g.backends {
		b.mu.Lock()
		b.closed = true
		b.stop()
		b.held.Close() // of nil it is an error, which is fine
		b.mu.Unlock()
	}
}

func (g *Group) at(i int) (*backend, error) {
	if i < 0 || i >= len(g.backends) {
		return nil, fmt.Errorf("there is no demo backend %d, only 0 to %d", i, len(g.backends)-1)
	}
	return g.backends[i], nil
}

// start begins a life of the backend on the listener, which it owns from now on.
func (b *backend) start(listener net.Listener) *life {
	ctx, cancel := context.WithCancel(context.Background())
	l := &life{backend: b, listener: listener, cancel: cancel, served: make(chan struct{})}
	if b.capacity > 0 {
		l.queue = newQueue(b.capacity, b.gate)
		go l.queue.work(ctx) // ends when stop cancels ctx
	}
	l.server = &http.Server{
		Handler:           l,
		ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout:       idleTimeout,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnState:         l.connState,
		ErrorLog:          log.New(io.Discard, "", 0), // a broken client is no news here
	}
	// Ends when stop closes the server.
	go func() {
		defer close(l.served)
		_ = l.server.Serve(listener)
	}()
	return l
}

// stop ends the backend's life, if it has one, and holds its port. The caller holds b.mu.
func (b *backend) stop() {
	l := b.life
	if l == nil {
		return
	}
	b.life = nil
	l.mu.Lock()
	l.stopped = true
	l.mu.Unlock()
	b.held = Hold(l.listener)
	_ = l.server.Close() // the listener, and every connection it knows
	l.cancel()
	<-l.served
	l.handlers.Wait()
}

// connState closes a connection that was accepted while the server was being
// closed: the server did not know it yet, and nobody else would close it.
func (l *life) connState(conn net.Conn, state http.ConnState) {
	if state == http.StateNew && l.isStopped() {
		_ = conn.Close()
	}
}

func (l *life) isStopped() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stopped
}

// enter counts a handler in, so that stop can wait for it to end. It returns
// false if the backend has been stopped.
func (l *life) enter() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped {
		return false
	}
	l.handlers.Add(1)
	return true
}
