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

// Pool keeps idle connections to backends. For each backend they lie on a stack:
// the one used last is taken first, so that those beyond what is needed grow old
// and go. An idle connection costs its descriptor and no goroutine.
type Pool struct {
	*Limits
	app     *cli.App
	slots   *workers.Slots
	clients waiting     // those that keep a connection without using it
	last    func() bool // is the place of a client that is answered needed?
	most    int         // connections that there are descriptors for

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
	if p.Size > 0 {
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
		if one = all[i]; p.MayShare(c.Requests, one.backend.Requests, one.owner == c) {
			p.idle[addr] = slices.Delete(all, i, i+1)
			return one, true
		}
	}
	return idle{}, false
}

// Put is step 10: it keeps the connection, if that can carry another request and
// there is room for it, and closes it otherwise.
func (p *Pool) Put(b *forward.Backend, r *forward.Request, log *narrate.Conn) {
	ok, reason := b.Reusable()
	if ok {
		now := time.Now()
		hint, said := b.Timeout()
		var until time.Time
		if until, reason = p.Until(now, b.Since, b.Requests, hint, said); reason == "" {
			reason = p.push(idle{b, r.Client, now, until})
		}
	}
	if reason == "" {
		log.Pool(b.Addr, narrate.Kept, "")
		return
	}
	p.close(b)
	log.Pool(b.Addr, narrate.Closed, reason)
}

// push puts a connection on its backend's stack. It returns why it did not, or "".
func (p *Pool) push(one idle) (reason string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	addr := one.backend.Addr
	switch {
	case p.closed:
		return "the proxy ends"
	case len(p.idle[addr]) >= p.Size:
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
		time.AfterFunc(min(sweepPause, p.Timeout), p.sweep)
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

// Leave closes the connections that only this client could have had. Its place will
// be free.
func (p *Pool) Leave(c *forward.Client) {
	p.clients.wanted.Store(false)
	if p.Reuse == Never {
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

// Again reports whether a request that failed with err is to be sent once more; see
// RaceLost. Its body must still be there.
func (p *Pool) Again(r *forward.Request, err error, log *narrate.Conn) bool {
	if err == nil {
		return false // and nothing is allocated
	}
	var e *forward.Error
	if !errors.As(err, &e) || !RaceLost(e, r.Method) {
		return false
	}
	if ok, _ := r.Again(); !ok {
		return false
	}
	log.Again()
	return true
}
