package suite

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"regexp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"reverseproxy/internal/backends"
	"reverseproxy/internal/proc"
)

// Farm is the set of scripted backends of one proxy. It listens on each
// address and hands every request to the case whose token it carries.
type Farm struct {
	mu       sync.Mutex
	Backends []*Backend
	cases    map[string]*T
	closed   chan struct{}
}

// Backend is one listening address.
type Backend struct {
	farm  *Farm
	index int
	Addr  string

	mu       sync.Mutex
	ln       net.Listener
	held     *os.File // keeps the port while it does not listen; or nil
	conns    map[*stream]bool
	Accepted atomic.Int64
	Empty    atomic.Int64 // connections that ended without a byte
	Strays   atomic.Int64 // requests without a token
	Checked  atomic.Int64 // status for those, which may be health checks; 0: 200, -1: silence
}

// Bounds on what a proxy that has gone mad can ask for: connections that one
// backend holds at a time, and requests that one case is given.
const (
	maxConns  = 512
	maxServed = 2000
)

// tokenPattern finds the token of a case anywhere in a request.
var tokenPattern = regexp.MustCompile(`zq[0-9a-f]{6}n[0-9]+k`)

// NewFarm listens on the addresses; port 0 takes a free one.
func NewFarm(addrs []string) (*Farm, error) {
	f := &Farm{cases: map[string]*T{}, closed: make(chan struct{})}
	for i, a := range addrs {
		b := &Backend{farm: f, index: i, Addr: a, conns: map[*stream]bool{}}
		if err := b.Listen(); err != nil {
			f.Close()
			if h := proc.Holder(a); h > 0 {
				err = fmt.Errorf("%s listens there; stop it", named(h))
			}
			return nil, fmt.Errorf("cannot play the backend on %s: %w", a, err)
		}
		f.Backends = append(f.Backends, b)
	}
	return f, nil
}

// Addrs returns the addresses the backends listen on.
func (f *Farm) Addrs() []string {
	var out []string
	for _, b := range f.Backends {
		out = append(out, b.Addr)
	}
	return out
}

// Close ends the backends and their connections.
func (f *Farm) Close() {
	close(f.closed)
	for _, b := range f.Backends {
		for _, s := range b.shut() {
			s.close()
		}
		b.held.Close() // of nil it is an error, which is fine
	}
}

// register names the case that gets the requests with its token.
func (f *Farm) register(t *T) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cases[t.Token] = t
}

func (f *Farm) unregister(t *T) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.cases, t.Token)
}

func (f *Farm) find(token string) *T {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.cases[token]
}

// Listen starts (or starts again) to accept.
func (b *Backend) Listen() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	ln, err := backends.Relisten(b.held, b.Addr)
	if b.held = nil; err != nil {
		return err
	}
	b.ln = ln
	b.Addr = ln.Addr().String()
	// The accept loop ends when the listener is closed.
	go b.accept(ln)
	return nil
}

func (b *Backend) accept(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		b.Accepted.Add(1)
		b.mu.Lock()
		full := len(b.conns) >= maxConns
		b.mu.Unlock()
		if full {
			c.Close()
			continue
		}
		s := newStream(c)
		b.mu.Lock()
		b.conns[s] = true
		b.mu.Unlock()
		// Ends when the connection ends or the farm closes.
		go b.serve(s)
	}
}

// shut stops listening, keeps the port, and returns the connections that are left.
func (b *Backend) shut() []*stream {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ln != nil {
		b.held, b.ln = backends.Hold(b.ln), nil
	}
	return slices.Collect(maps.Keys(b.conns))
}

// Down has backends stop listening and end every connection, so that the proxy is
// refused from now on.
func (t *T) Down(backends ...*Backend) {
	var left []*stream
	for _, b := range backends {
		left = append(left, b.shut()...)
	}
	t.part(left, nil)
}

// endNotice is how long a proxy has to notice that a connection which it keeps has
// ended. A request that it sends before that is lost, and need not be sent again
// (RFC 9112 §9.3.1): so no request of the checker comes before that. One that ends such
// connections itself has noticedTime: it may be late, as others use the machine.
const (
	endNotice   = 100 * time.Millisecond
	noticedTime = time.Second
)

// part ends connections: those that the proxy may have kept for further requests, and
// others. It waits until the proxy has ended the kept ones too. One that looks at a
// connection only when it is to be used again does not: for that, the time is limited.
func (t *T) part(kept, others []*stream) {
	kept = slices.DeleteFunc(slices.Clone(kept), func(s *stream) bool {
		ended := s.Ended()
		if ended {
			s.close()
		}
		return ended
	})
	for _, s := range slices.Concat(kept, others) {
		s.CloseWrite()
	}
	if len(kept) > 0 {
		if over(t, t.Lab.notice(), kept) {
			t.Lab.lazy.Store(0)
		} else {
			t.Lab.lazy.Add(1)
		}
	}
	over(t, endNotice, others)
	for _, s := range slices.Concat(kept, others) {
		s.close()
	}
}

// lazyAfter is how often in succession a proxy must not have noticed an end to be lazy.
const lazyAfter = 3

// notice is how long the proxy may take to notice the end of a connection.
func (l *Lab) notice() time.Duration {
	if l.lazy.Load() >= lazyAfter {
		return endNotice
	}
	return noticedTime
}

// over waits until all connections have ended, and reports whether they have.
func over(t *T, limit time.Duration, conns []*stream) bool {
	late, stop := t.Late(limit)
	defer stop()
	for _, s := range conns {
		select {
		case <-s.over:
		case <-late:
			return false
		}
	}
	return true
}

// open returns how many connections of the proxy are open.
func (b *Backend) open() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for s := range b.conns {
		if !s.Ended() {
			n++
		}
	}
	return n
}

// serve gives each request on a connection to its case, until the connection
// is released as closed.
func (b *Backend) serve(s *stream) {
	defer func() {
		s.close()
		b.mu.Lock()
		delete(b.conns, s)
		b.mu.Unlock()
	}()
	for number := 1; ; number++ {
		token, any := b.token(s)
		if !any {
			if number == 1 {
				b.Empty.Add(1)
			}
			return
		}
		t := b.farm.find(token)
		if t == nil {
			if token == "" {
				b.Strays.Add(1)
				status := int(b.Checked.Load())
				if status < 0 {
					s.Wait(time.Minute, b.farm.closed, func([]byte) bool { return false })
					return
				}
				s.conn.SetWriteDeadline(time.Now().Add(time.Second))
				s.conn.Write([]byte(Reply(cmp.Or(status, 200), "ok")))
			}
			return
		}
		if !b.hand(s, t, number) {
			return
		}
	}
}

// token waits for the next request and finds its token; any is false when no
// byte came. Health checks have no token.
func (b *Backend) token(s *stream) (token string, any bool) {
	s.Wait(time.Hour, b.farm.closed, func(p []byte) bool { return len(p) > 0 })
	if n, _ := s.State(); n == 0 {
		return "", false
	}
	s.Wait(2*time.Second, b.farm.closed, func(p []byte) bool {
		if m := tokenPattern.Find(p[:min(len(p), 256<<10)]); m != nil {
			token = string(m)
			return true
		}
		return HeadEnd(p) >= 0 || len(p) >= readAhead
	})
	return token, true
}

// hand gives the stream to the case and waits for it back; it reports whether
// the connection stays open for a next request.
func (b *Backend) hand(s *stream, t *T, number int) bool {
	s.newTapes()
	x := &Exchange{Reader: Reader{s, t}, Backend: b.index, Number: number,
		back: make(chan bool, 1)}
	if !t.take(x) {
		return false
	}
	return <-x.back
}

// take adds an exchange to the case, unless the case is over.
func (t *T) take(x *Exchange) bool {
	t.mu.Lock()
	if t.ended || len(t.served) >= maxServed {
		t.mu.Unlock()
		return false
	}
	t.served = append(t.served, x)
	n := len(t.served)
	t.mu.Unlock()
	label := "backend"
	if len(t.Lab.Farm.Backends) > 1 {
		label = "backend " + itoa(x.Backend+1)
	}
	t.wired(fmt.Sprintf("%s, request %d", label, n), x.stream)
	select {
	case t.incoming <- x:
		return true
	case <-t.Done:
		return false
	}
}

// Exchange is one request at a backend with the connection it came on.
type Exchange struct {
	Reader
	Backend int // index of the backend
	Number  int // of the request on its connection, from 1
	back    chan bool
	once    sync.Once
}

// Request reads the whole request.
func (x *Exchange) Request() *Request { return x.request() }

// Close sends a FIN, reads what the proxy still sends, and closes.
func (x *Exchange) Close() {
	x.once.Do(func() {
		x.CloseWrite()
		// Ends when the proxy closes, the case ends, or after two seconds.
		go func() {
			until := time.Now().Add(2 * time.Second)
			for time.Now().Before(until) {
				n, err := x.State()
				x.stream.Take(n)
				if err != nil {
					break
				}
				x.stream.Wait(time.Until(until), x.t.Done,
					func(p []byte) bool { return len(p) > 0 })
				select {
				case <-x.t.Done:
					until = time.Now()
				default:
				}
			}
			x.back <- false
		}()
	})
}

// Reset breaks the connection with a RST.
func (x *Exchange) Reset() {
	x.once.Do(func() {
		x.stream.reset()
		x.back <- false
	})
}

// Noticed waits until the proxy ends a connection on which something has come while it
// was idle, or has had the time to notice. What it does behind a reset is not seen.
func (x *Exchange) Noticed() {
	limit := endNotice // for bytes that nobody has asked for
	if x.finished.Load() {
		limit = x.t.Lab.notice()
	}
	over(x.t, limit, []*stream{x.stream})
	if _, err := x.State(); errors.Is(err, net.ErrClosed) {
		late, _ := x.t.Late(x.t.Lab.notice())
		<-late
	}
}

// Keep leaves the connection open for the proxy's next request.
func (x *Exchange) Keep() {
	x.once.Do(func() { x.back <- true })
}

// Lend is Keep for a connection that no further case may meet: it is closed at
// the end of this one.
func (x *Exchange) Lend() {
	x.once.Do(func() {
		x.t.mu.Lock()
		x.t.lent = append(x.t.lent, x.stream)
		x.t.mu.Unlock()
		x.back <- true
	})
}

// finish ends an exchange at the end of its case. One that has not been
// answered is, so that the proxy does not take the backend for broken. open says that
// the connection is still to be ended, and then to be given back.
func (x *Exchange) finish() (open bool) {
	x.once.Do(func() {
		if x.out.size() == 0 && !x.Ended() {
			x.conn.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
			x.conn.Write([]byte(Reply(200, "the case is over")))
			x.CloseWrite()
			x.Wait(100*time.Millisecond, nil, func([]byte) bool { return false })
		}
		open = true
	})
	return open
}

// Drop closes the connection at the end of the case.
func (x *Exchange) Drop() {
	x.once.Do(func() {
		x.stream.close()
		x.back <- false
	})
}

// behindTime is how much later than the proxy's own answer a request may be at a backend.
const behindTime = 15 * time.Millisecond

// Accept waits for the case's next request at a backend. It returns nil when
// none comes, or when one of the clients given gets an answer before it.
func (t *T) Accept(watch ...*Client) *Exchange {
	left := t.Span(t.Patience())
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	var behind func() time.Duration // what is left since a client was answered
	for {
		select {
		case x := <-t.incoming:
			return x
		case <-t.Done:
			return nil
		case <-tick.C:
			if left() <= 0 {
				t.NoteStall()
				return nil
			}
			if behind == nil && slices.ContainsFunc(watch, (*Client).answered) {
				behind = t.Span(behindTime)
			}
			if behind != nil && behind() <= 0 {
				return nil
			}
		}
	}
}

// answered reports whether a final answer or the end of the connection came.
func (c *Client) answered() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return true
	}
	return len(c.buf) >= 10 && c.buf[9] != '1'
}

// Expect is Accept that fails the case when no request comes.
func (t *T) Expect(c *Client) *Exchange {
	x := t.Accept(c)
	if x != nil {
		return x
	}
	if n, _ := c.State(); n > 0 {
		r := c.Final("GET")
		t.Fatalf("the request did not reach the backend; the client got %s", Visible(r.Start, 100))
	}
	_, err := c.State()
	t.Fatalf("the request did not reach the backend; the client's connection %s", HowEnded(err))
	return nil
}

// Serve answers every request of the case by handler, each in a goroutine of
// its own; they end with the case.
func (t *T) Serve(handler func(x *Exchange)) { t.ServeUntil(nil, handler) }

// ServeUntil is Serve that ends earlier, so that another handler can follow.
func (t *T) ServeUntil(stop <-chan struct{}, handler func(x *Exchange)) {
	go func() {
		for {
			select {
			case <-t.Done:
				return
			case <-stop:
				return
			case x := <-t.incoming:
				go func() {
					defer t.Catch()
					handler(x)
					x.Close()
				}()
			}
		}
	}()
}

// Answer answers every request of the case with the same bytes.
func (t *T) Answer(reply string) {
	t.Serve(func(x *Exchange) {
		x.Request()
		x.Send(reply)
	})
}

// Catch ends a goroutine that Fatalf or Skip has left; it goes with defer.
func (t *T) Catch() {
	if r := recover(); r != nil {
		if _, ok := r.(stop); !ok {
			panic(r)
		}
		t.cut()
	}
}

// cut closes what the case has open, so that its other goroutines wake up.
func (t *T) cut() {
	t.mu.Lock()
	clients, served := append([]*Client(nil), t.clients...), append([]*Exchange(nil), t.served...)
	t.mu.Unlock()
	for _, c := range clients {
		c.close()
	}
	for _, x := range served {
		x.Drop()
	}
}
