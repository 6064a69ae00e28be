package keep

import (
	"net"
	"sync"
	"sync/atomic"
	"time"

	"reverseproxy/ch2_basic_proxy/forward"
)

// waiting are the clients that wait for their next request, each since when.
type waiting struct {
	mu     sync.Mutex
	since  map[*forward.Client]time.Time
	wanted atomic.Bool // a place is needed, and nobody has made it free so far
}

func (w *waiting) begin(c *forward.Client) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.since == nil {
		w.since = map[*forward.Client]time.Time{}
	}
	w.since[c] = time.Now()
	if w.wanted.Swap(false) {
		c.EndWait()
	}
}

func (w *waiting) end(c *forward.Client) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.since, c)
}

// spare ends the wait of the client that has waited longest. If none waits, those
// that are answered are told that it was the last answer, until one leaves: a client
// that is not told might send its next request just when it is closed.
func (w *waiting) spare() {
	w.mu.Lock()
	defer w.mu.Unlock()
	var oldest *forward.Client
	for c, since := range w.since {
		if oldest == nil || since.Before(w.since[oldest]) {
			oldest = c
		}
	}
	w.wanted.Store(oldest == nil)
	if oldest != nil {
		delete(w.since, oldest) // once is enough
		oldest.EndWait()
	}
}

// Limit returns a listener that accepts as l does. When a client has to wait for
// a slot, one that keeps a connection without using it gives its own up.
func (p *Pool) Limit(l net.Listener) net.Listener { return &limited{l, p} }

type limited struct {
	net.Listener
	pool *Pool
}

// Accept makes room and then accepts.
func (l *limited) Accept() (net.Conn, error) {
	if l.pool.slots.Full() {
		l.pool.clients.spare()
	}
	return l.Listener.Accept()
}
