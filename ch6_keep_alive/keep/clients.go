package keep

import (
	"net"
	"sync"
	"time"

	"reverseproxy/ch2_basic_proxy/forward"
)

// waiting are the clients that wait for their next request, each since when.
type waiting struct {
	mu     sync.Mutex
	since  map[*forward.Client]time.Time
	wanted bool // the next one that comes is to go
}

func (w *waiting) begin(c *forward.Client) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.since == nil {
		w.since = map[*forward.Client]time.Time{}
	}
	w.since[c] = time.Now()
	if w.wanted {
		w.wanted = false
		c.EndWait()
	}
}

func (w *waiting) end(c *forward.Client) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.since, c)
}

// spare ends the wait of the client that has waited longest, or of the one that
// will wait next.
func (w *waiting) spare() {
	w.mu.Lock()
	defer w.mu.Unlock()
	var oldest *forward.Client
	for c, since := range w.since {
		if oldest == nil || since.Before(w.since[oldest]) {
			oldest = c
		}
	}
	if w.wanted = oldest == nil; !w.wanted {
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
