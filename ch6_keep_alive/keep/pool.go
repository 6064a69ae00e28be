package keep

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"reverseproxy/ch2_basic_proxy/forward"
	"reverseproxy/ch4_threaded/workers"
	"reverseproxy/internal/cli"
	"reverseproxy/internal/narrate"
)

// sweepPause is the time between two looks for idle connections whose time is
// over.
const sweepPause = 1 * time.Second

// hintMargin is how much earlier than it says a backend is taken to close an
// idle connection. A request that is sent just then would be lost.
const hintMargin = 1 * time.Second

// Pool keeps idle connections to backends. For each backend they lie on a stack:
// the one used last is taken first, so that those beyond what is needed grow old
// and go. An idle connection costs its descriptor and no goroutine.
type Pool struct {
	app      *cli.App
	slots    *workers.Slots
	clients  waiting       // those that keep a connection without using it
	size     int           // -keepalive
	requests int           // -keepalive-requests
	timeout  time.Duration // -keepalive-timeout
	age      time.Duration // -keepalive-time
	reuse    Reuse         // -reuse
	most     int           // connections that there are descriptors for

	mu       sync.Mutex
	idle     map[string][]idle // by the backend's address; the last is the one used last
	open     int               // connections, idle or not
	sweeping bool              // sweep will be called
	closed   bool
	fresh    int // connections made
	reused   int // requests that went over one of them again
}

// idle is an idle connection.
type idle struct {
	backend *forward.Backend
	owner   *forward.Client // whose it was; only that may have it with -reuse never
	since   time.Time
	until   time.Time // when it must be closed
}

// Get is step 6: it returns a connection to the backend at addr, an idle one if
// the request may go over one, otherwise a fresh one.
func (p *Pool) Get(addr string, r *forward.Request, log *narrate.Conn) (*forward.Backend, error) {
	if r.Tries > 0 { // an idle connection may have failed; the others may be as dead
		return p.connect(addr, r)
	}
	for {
		one, ok := p.take(addr, r.Client)
		switch {
		case !ok:
			return p.connect(addr, r)
		case time.Now().After(one.until):
			p.drop("its time was over", one)
		case !one.backend.Quiet():
			p.drop("the backend has closed it, or sent something unasked", one)
		default:
			p.mu.Lock()
			p.reused++
			p.mu.Unlock()
			log.Step(narrate.Connect, narrate.Event{Peer: addr, Reused: true})
			return one.backend, nil
		}
	}
}

// connect makes a fresh connection. Each client that is served has a descriptor
// set aside for its backend; idle connections live on those of clients that are
// not there, and make room first.
func (p *Pool) connect(addr string, r *forward.Request) (*forward.Backend, error) {
	p.mu.Lock()
	p.open++
	var spare []idle
	if p.open > p.most {
		spare = p.oldest()
	}
	p.mu.Unlock()
	p.drop("its descriptor was needed", spare...)

	b, err := forward.Connect(addr, r)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		p.open--
		return nil, err
	}
	p.fresh++
	if p.size > 0 {
		b.Connection = "" // HTTP/1.1 keeps connections unless one says close
	}
	return b, nil
}

// oldest takes the connection out that has been idle longest, if there is one.
func (p *Pool) oldest() []idle {
	oldest := ""
	for addr, all := range p.idle {
		if len(all) > 0 && (oldest == "" || all[0].since.Before(p.idle[oldest][0].since)) {
			oldest = addr
		}
	}
	if oldest == "" {
		return nil
	}
	one := p.idle[oldest][0]
	p.idle[oldest] = slices.Delete(p.idle[oldest], 0, 1)
	return []idle{one}
}

// take takes the idle connection that was used last off the stack, of those that
// the client's request may go over.
func (p *Pool) take(addr string, c *forward.Client) (one idle, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := p.idle[addr]
	for i := len(all) - 1; i >= 0; i-- {
		if one = all[i]; p.mayShare(one, c) {
			p.idle[addr] = slices.Delete(all, i, i+1)
			return one, true
		}
	}
	return idle{}, false
}

// mayShare reports whether the client's request may go over an idle connection
// (-reuse). Only a client that has had an answer on its connection may repeat by
// itself what is lost, so the first request is the one to be careful with.
func (p *Pool) mayShare(one idle, c *forward.Client) bool {
	switch p.reuse {
	case Never:
		return one.owner == c
	case Safe:
		return c.Requests > 1
	case Aggressive:
		return c.Requests > 1 || one.backend.Requests > 1
	}
	return true
}

// Put is step 10: it keeps the connection, if that can carry another request and
// there is room for it, and closes it otherwise.
func (p *Pool) Put(b *forward.Backend, r *forward.Request, log *narrate.Conn) {
	ok, reason := b.Reusable()
	now := time.Now()
	end := b.Since.Add(p.age)
	until := now.Add(p.timeout)
	if hint, said := b.Timeout(); said {
		until = earlier(until, now.Add(hint-hintMargin))
	}
	switch {
	case !ok:
	case b.Requests >= p.requests:
		reason = "it has carried as many requests as it may (-keepalive-requests)"
	case !end.After(now):
		reason = "it is too old (-keepalive-time)"
	case !until.After(now):
		reason = "the backend will close it too soon (Keep-Alive)"
	default:
		reason = p.push(idle{b, r.Client, now, earlier(until, end)})
	}
	if reason == "" {
		log.Pool(b.Addr, narrate.Kept, "")
		return
	}
	p.close(b)
	log.Pool(b.Addr, narrate.Closed, reason)
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// push puts a connection on its backend's stack. It returns why it did not, or "".
func (p *Pool) push(one idle) (reason string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	addr := one.backend.Addr
	switch {
	case p.closed:
		return "the proxy ends"
	case len(p.idle[addr]) >= p.size:
		return "enough are idle (-keepalive)"
	case p.idle == nil:
		p.idle = map[string][]idle{}
	}
	p.idle[addr] = append(p.idle[addr], one)
	p.sweepLater()
	return ""
}

// sweep closes what has been idle too long. It is called again as long as
// something is idle.
func (p *Pool) sweep() {
	now := time.Now()
	p.drop("its time was over", p.remove(func(one idle) bool { return now.After(one.until) })...)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sweeping = false
	for _, all := range p.idle {
		if len(all) > 0 {
			p.sweepLater()
		}
	}
}

// sweepLater has sweep called, unless it will be.
func (p *Pool) sweepLater() {
	if !p.sweeping {
		p.sweeping = true
		time.AfterFunc(min(sweepPause, p.timeout), p.sweep)
	}
}

// remove takes those out of the pool that which picks.
func (p *Pool) remove(which func(idle) bool) (removed []idle) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for addr, all := range p.idle {
		p.idle[addr] = slices.DeleteFunc(all, func(one idle) bool {
			out := which(one)
			if out {
				removed = append(removed, one)
			}
			return out
		})
	}
	return removed
}

// drop closes idle connections, which are in the pool no more, and says why.
func (p *Pool) drop(why string, all ...idle) {
	for _, one := range all {
		p.close(one.backend)
		p.app.Log.Emit(narrate.Event{Kind: narrate.KindPool, Name: "pool", Peer: one.backend.Addr,
			State: narrate.Dropped, Text: why})
	}
}

func (p *Pool) close(b *forward.Backend) {
	b.Close()
	p.mu.Lock()
	p.open--
	p.mu.Unlock()
}

// Close closes all idle connections, and lets none be kept any more.
func (p *Pool) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.drop("the proxy ends", p.remove(func(idle) bool { return true })...)
}

// CloseIdle closes the idle connections to the backend at addr, which is draining.
func (p *Pool) CloseIdle(addr string) {
	p.drop("its backend is draining", p.remove(func(one idle) bool {
		return one.backend.Addr == addr
	})...)
}

// Leave closes the connections that only this client could have had.
func (p *Pool) Leave(c *forward.Client) {
	if p.reuse == Never {
		p.drop("its client has left", p.remove(func(one idle) bool { return one.owner == c })...)
	}
}

// Tally returns how many connections were made and used again, in a line for
// people.
func (p *Pool) Tally() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return fmt.Sprintf("Backend connections: %d made; used again: %d", p.fresh, p.reused)
}

// Again reports whether a request that failed with err is to be sent once more,
// over a fresh connection to the same backend. That is so if the backend closed
// an idle connection just when the request was written: no byte of an answer
// came, and either nothing had been sent, or the request may be processed twice
// (RFC 9112, section 9.3.1; RFC 9110, section 9.2.2).
func (p *Pool) Again(r *forward.Request, err error, log *narrate.Conn) bool {
	if err == nil {
		return false
	}
	var e *forward.Error
	if !errors.As(err, &e) || !e.Stale || e.Answered {
		return false
	}
	if ok, _ := r.Again(); !ok || e.Sent && !Idempotent(r) {
		return false
	}
	log.Again()
	return true
}

// Idempotent reports whether a request may be processed twice as well as once, so
// that it may be repeated without being asked (RFC 9110, section 9.2.2; QUERY is
// a safe method of its own RFC).
func Idempotent(r *forward.Request) bool {
	switch string(r.Method) {
	case "GET", "HEAD", "OPTIONS", "TRACE", "QUERY", "PUT", "DELETE":
		return true
	}
	return false
}
