package keep

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"reverseproxy/ch2_basic_proxy/forward"
	"reverseproxy/internal/cli"
	"reverseproxy/internal/narrate"
)

// sweepPause is the time between two looks for idle connections that have
// become too old.
const sweepPause = 1 * time.Second

// hintMargin is how much earlier than it says a backend is taken to close an
// idle connection. A request that is sent just then would be lost.
const hintMargin = 1 * time.Second

// Pool keeps idle connections to backends. For each backend they lie on a stack:
// the one used last is taken first, so that those beyond what is needed grow old
// and go. An idle connection costs its descriptor and no goroutine.
type Pool struct {
	settings *forward.Settings
	app      *cli.App
	size     int           // -keepalive
	requests int           // -keepalive-requests
	timeout  time.Duration // -keepalive-timeout
	age      time.Duration // -keepalive-time
	reuse    Reuse         // -reuse

	mu       sync.Mutex
	idle     map[string][]idle // by the backend's address; the last is the one used last
	sweeping bool              // sweep will be called
	closed   bool
	fresh    int // connections made
	reused   int // requests that went over one of them again
}

// idle is an idle connection.
type idle struct {
	backend *forward.Backend
	owner   *forward.Client // whose it was; only that may have it with -reuse never
	until   time.Time       // when it must be closed
}

// Get is step 6: it returns a connection to the backend at addr, an idle one if
// the client's request may go over one, otherwise a fresh one.
func (p *Pool) Get(addr string, c *forward.Client, log *narrate.Conn) (*forward.Backend, error) {
	for {
		b, reason := p.take(addr, c)
		if b == nil {
			return p.connect(addr, log)
		}
		if reason == "" && !b.Quiet() {
			reason = "the backend has closed it, or sent something unasked"
		}
		if reason != "" {
			b.Close()
			log.Pool(addr, narrate.Closed, reason)
			continue
		}
		log.Step(narrate.Connect, narrate.Event{Peer: addr, Reused: true})
		return b, nil
	}
}

// connect makes a fresh connection.
func (p *Pool) connect(addr string, log *narrate.Conn) (*forward.Backend, error) {
	b, err := forward.Connect(addr, p.settings, log)
	if err == nil {
		b.Connection = ""
		p.mu.Lock()
		p.fresh++
		p.mu.Unlock()
	}
	return b, err
}

// take takes the idle connection that was used last off the stack, if the
// client's request may go over it; reason says why it must be closed instead.
func (p *Pool) take(addr string, c *forward.Client) (b *forward.Backend, reason string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := p.idle[addr]
	for i := len(all) - 1; i >= 0; i-- {
		one := all[i]
		if !p.mayShare(one, c) {
			continue
		}
		p.idle[addr] = append(all[:i], all[i+1:]...)
		if time.Now().After(one.until) {
			return one.backend, "it was idle too long"
		}
		p.reused++
		return one.backend, ""
	}
	return nil, ""
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
func (p *Pool) Put(b *forward.Backend, c *forward.Client, log *narrate.Conn) {
	ok, reason := b.Reusable()
	until := time.Now().Add(p.timeout)
	if hint, said := b.Timeout(); said && hint < p.timeout {
		until = time.Now().Add(hint - hintMargin)
	}
	switch end := b.Since.Add(p.age); {
	case !ok:
	case b.Requests >= p.requests:
		reason = fmt.Sprintf("it has carried %d requests", b.Requests)
	case time.Now().After(end):
		reason = "it is too old"
	case time.Now().After(until):
		reason = "the backend would close it too soon"
	default:
		if end.Before(until) {
			until = end
		}
		reason = p.push(idle{b, c, until})
	}
	if reason != "" {
		b.Close()
		log.Pool(b.Addr, narrate.Closed, reason)
		return
	}
	log.Pool(b.Addr, narrate.Kept, "")
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
	}
	if p.idle == nil {
		p.idle = map[string][]idle{}
	}
	p.idle[addr] = append(p.idle[addr], one)
	if !p.sweeping {
		p.sweeping = true
		time.AfterFunc(sweepPause, p.sweep) // ends with the last idle connection
	}
	return ""
}

// sweep closes what has been idle too long, and looks again later.
func (p *Pool) sweep() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now, left := time.Now(), 0
	for addr, all := range p.idle {
		kept := all[:0]
		for _, one := range all {
			if now.After(one.until) {
				one.backend.Close()
			} else {
				kept = append(kept, one)
			}
		}
		clear(all[len(kept):])
		p.idle[addr] = kept
		left += len(kept)
	}
	if p.sweeping = left > 0 && !p.closed; p.sweeping {
		time.AfterFunc(sweepPause, p.sweep)
	}
}

// Spare closes the connection that has been idle longest, and reports whether
// there was one: it is called where a descriptor is missing.
func (p *Pool) Spare() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	oldest := ""
	for addr, all := range p.idle {
		if len(all) > 0 && (oldest == "" || all[0].until.Before(p.idle[oldest][0].until)) {
			oldest = addr
		}
	}
	if oldest == "" {
		return false
	}
	p.idle[oldest][0].backend.Close()
	p.idle[oldest] = p.idle[oldest][1:]
	return true
}

// Close closes all idle connections, and lets none be kept any more.
func (p *Pool) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for addr, all := range p.idle {
		for _, one := range all {
			one.backend.Close()
		}
		delete(p.idle, addr)
	}
}

// Leave closes the connections that only this client could have had.
func (p *Pool) Leave(c *forward.Client) {
	if p.reuse != Never {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for addr, all := range p.idle {
		kept := all[:0]
		for _, one := range all {
			if one.owner == c {
				one.backend.Close()
			} else {
				kept = append(kept, one)
			}
		}
		clear(all[len(kept):])
		p.idle[addr] = kept
	}
}

// Tally returns how many connections were made and used again, in a line for
// people.
func (p *Pool) Tally() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return fmt.Sprintf("Backend connections: %d made, used again %d times", p.fresh, p.reused)
}

// Again reports whether a request that failed with err is to be sent once more,
// over a fresh connection to the same backend. That is so if the backend closed
// an idle connection just when the request was written: no byte of an answer
// came, and either nothing had been sent, or the request may be processed twice
// (RFC 9112, section 9.3.1; RFC 9110, section 9.2.2).
func (p *Pool) Again(r *forward.Request, err error) bool {
	var e *forward.Error
	if !errors.As(err, &e) || !e.Stale || e.Answered {
		return false
	}
	ok, _ := r.Again()
	return ok && (!e.Sent || idempotent[string(r.Method)])
}

// idempotent are the methods that may be repeated without being asked (RFC 9110,
// section 9.2.2; QUERY is a safe method of its own RFC).
var idempotent = map[string]bool{
	"GET": true, "HEAD": true, "OPTIONS": true, "TRACE": true, "PUT": true, "DELETE": true, "QUERY": true,
}
