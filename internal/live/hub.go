package live

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

const (
	tickBusy     = 50 * time.Millisecond // between two messages to viewers
	tickIdle     = time.Second           // between two looks at the counts without viewers
	quietTicks   = 10                    // ticks without news, then one is sent all the same
	snapshotGap  = 250_000               // microseconds between two kept snapshots
	maxViewers   = 32
	viewerQueue  = 48               // messages a viewer may lag behind, 2.4 s
	viewerWrite  = 20 * time.Second // a viewer that takes nothing for so long is dropped
	viewerBuffer = 64 << 10         // bytes of the kernel's send buffer for each viewer
)

// snapshot is the state of the counts at one time.
type snapshot struct {
	At     int64 `json:"t"`                // microseconds since the page's start
	SlowMS int64 `json:"slow"`             // pause after each step, milliseconds
	Drains bool  `json:"drains,omitempty"` // backends can be drained
	Steady int   `json:"steady,omitempty"` // requests a second that the page keeps sending

	Algorithm  string   `json:"algorithm,omitempty"`  // by which backends are chosen
	Algorithms []string `json:"algorithms,omitempty"` // by which they can be
	Counts
}

// tick is what every viewer is sent, many times a second.
type tick struct {
	snapshot
	Events []record  `json:"events"`
	Lost   *lostNote `json:"lost,omitempty"` // records overwritten before they were sent
}

// message is one server-sent event, encoded once for all viewers.
type message struct {
	bytes  []byte
	events uint64 // records in it
}

// viewer is one page that watches.
type viewer struct {
	number uint64 // from 1
	queue  chan message
	lost   atomic.Uint64 // records it was too slow for
}

// hub hands one stream of messages to all viewers.
type hub struct {
	col   *collector
	state func() snapshot // the counts now
	wake  chan struct{}   // a viewer has come
	done  chan struct{}   // closed at the end

	mu      sync.Mutex
	viewers map[*viewer]bool
	last    uint64     // number of the newest viewer
	at      cursor     // what viewers have been handed
	history []snapshot // of the last minute
	seen    uint64     // the collector's changes at the last snapshot
	quiet   int        // ticks since the last message
}

func newHub(col *collector, state func() snapshot) *hub {
	return &hub{col: col, state: state, wake: make(chan struct{}, 1), done: make(chan struct{}),
		viewers: make(map[*viewer]bool)}
}

// run pumps records to the viewers until end is called. Without viewers it
// wakes once a second; events never wake it.
func (h *hub) run() {
	timer := time.NewTimer(tickIdle)
	defer timer.Stop()
	for {
		select {
		case <-h.done:
			return
		case <-h.wake:
		case <-timer.C:
		}
		gap := tickIdle
		if h.pump() {
			gap = tickBusy
		}
		timer.Reset(gap)
	}
}

// pump hands everything new to the viewers and reports whether there are any.
func (h *hub) pump() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.state()
	h.keep(now)
	if len(h.viewers) == 0 {
		return false
	}
	t := tick{snapshot: now, Events: []record{}}
	var lost uint64
	if t.Events, lost = h.drain(); lost > 0 {
		t.Lost = h.col.lost(lost)
	}
	_, changed := h.col.snapshot()
	if len(t.Events) == 0 && changed == h.seen && h.quiet < quietTicks {
		h.quiet++
		return true
	}
	h.seen, h.quiet = changed, 0
	m := message{encode("tick", t), uint64(len(t.Events))}
	for v := range h.viewers {
		v.offer(m)
	}
	return true
}

// keep remembers a snapshot for replays, at most four a second.
func (h *hub) keep(now snapshot) {
	if n := len(h.history); n > 0 && now.At-h.history[n-1].At < snapshotGap {
		return
	}
	for len(h.history) > 0 && now.At-h.history[0].At > minute+snapshotGap {
		h.history = h.history[1:]
	}
	h.history = append(h.history, now)
}

// drain returns the records that viewers have not been handed yet.
func (h *hub) drain() (events []record, lost uint64) {
	events = []record{}
	end := h.col.end()
	for h.at.number < end.number {
		packed, next, missed := h.col.read(h.at, nil)
		for len(packed) > 0 {
			var r record
			r, packed = unpack(packed)
			events = append(events, r)
		}
		h.at = next
		lost += missed
	}
	return events, lost
}

// offer queues m for v without waiting; what does not fit is counted.
func (v *viewer) offer(m message) {
	select {
	case v.queue <- m:
	default:
		v.lost.Add(m.events)
	}
}

var errFull = errors.New("too many viewers")

// join adds a viewer. It gets every record from at on through its queue; what
// came before is for the caller to send.
func (h *hub) join() (v *viewer, at cursor, history []snapshot, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.viewers) == maxViewers {
		return nil, at, nil, errFull
	}
	if len(h.viewers) == 0 {
		h.at = h.col.end()
	}
	h.last++
	v = &viewer{number: h.last, queue: make(chan message, viewerQueue)}
	h.viewers[v] = true
	select {
	case h.wake <- struct{}{}:
	default:
	}
	return v, h.at, append([]snapshot(nil), h.history...), nil
}

// end hands out what is left and ends all streams. Call it once.
func (h *hub) end() {
	h.pump()
	close(h.done)
}

func (h *hub) leave(v *viewer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.viewers, v)
}

// watches reports whether the viewer of that number is there.
func (h *hub) watches(number uint64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for v := range h.viewers {
		if v.number == number {
			return true
		}
	}
	return false
}

// count returns how many viewers there are.
func (h *hub) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.viewers)
}

// encode returns data as a server-sent event.
func encode(name string, data any) []byte {
	body, err := json.Marshal(data)
	if err != nil {
		body = []byte("null") // nothing that is sent can fail to encode
	}
	return fmt.Appendf(nil, "event: %s\ndata: %s\n\n", name, body)
}

// lastMinute hands the records of the last minute before the given place to
// each, in batches, and with them the older records of connections that were
// still open in that minute.
func (c *collector) lastMinute(until cursor, each func([]record)) {
	cut := c.now() - minute
	alive := make(map[uint64]bool)
	for _, id := range c.lost(0).Open {
		alive[id] = true
	}
	c.mu.Lock()
	oldest, recent := c.ring.since(0), c.ring.since(cut)
	c.mu.Unlock()
	c.walk(recent, until, func(batch []record) {
		for i := range batch {
			if batch[i].At >= cut {
				alive[batch[i].Conn] = true
			}
		}
	})
	delete(alive, 0) // the number of what belongs to no connection
	c.walk(oldest, until, func(batch []record) {
		kept := batch[:0]
		for i := range batch {
			if batch[i].At >= cut || alive[batch[i].Conn] {
				kept = append(kept, batch[i])
			}
		}
		if len(kept) > 0 {
			each(kept)
		}
	})
}

// walk hands the records from one place to another to each, a segment at a
// time, so that the lock is never held for long.
func (c *collector) walk(from, until cursor, each func([]record)) {
	var packed []byte
	for from.number < until.number {
		packed, from, _ = c.read(from, packed[:0])
		batch := make([]record, 0, 1024)
		for rest := packed; len(rest) > 0; {
			var r record
			r, rest = unpack(rest)
			batch = append(batch, r)
		}
		if over := int64(from.number) - int64(until.number); over > 0 {
			batch = batch[:max(0, len(batch)-int(over))]
		}
		if len(batch) == 0 {
			return
		}
		each(batch)
	}
}

// hello opens every stream: what does not change while the program runs.
type hello struct {
	Chapter   string   `json:"chapter"`
	Workers   string   `json:"workers"`
	Proxy     string   `json:"proxy"`     // the proxy's address, "" until it listens
	Single    bool     `json:"single"`    // one goroutine serves all clients, one at a time
	RawCalls  bool     `json:"rawCalls"`  // the program makes the socket calls itself
	Forwards  bool     `json:"forwards"`  // it has a backend
	Keeps     bool     `json:"keeps"`     // it keeps connections for further requests
	Demo      bool     `json:"demo"`      // the backends can be stopped and started
	Token     string   `json:"token"`     // for actions; empty in a recording
	Viewer    uint64   `json:"viewer"`    // its number; 0 in a recording
	StartedAt int64    `json:"startedAt"` // milliseconds since 1970
	Now       int64    `json:"now"`       // microseconds since the page's start
	Listening []record `json:"listening"` // steps 1–3
	Children  []record `json:"children"`  // starts of the processes that run
	Open      []record `json:"open"`      // steps 4 of the connections that are open
}

// lostNote tells a viewer what it was too slow for, and what goes on all the same.
type lostNote struct {
	Events  uint64   `json:"events"`
	Open    []uint64 `json:"open"`    // connections that are open now
	Workers []string `json:"workers"` // processes that run now
}

// stream serves /events: what there is, the last minute, then all that comes.
func (s *Server) stream(w http.ResponseWriter, r *http.Request) {
	v, at, history, err := s.hub.join()
	if err != nil {
		http.Error(w, fmt.Sprintf("%d viewers are watching already", maxViewers),
			http.StatusServiceUnavailable)
		return
	}
	defer func() {
		s.hub.leave(v)
		s.shots.left(v.number)
	}()
	w.Header().Set("Content-Type", "text/event-stream")
	out := &eventWriter{w: w, rc: http.NewResponseController(w)}
	out.write(encode("hello", s.hello(s.token, v.number)))
	out.write(encode("history", history))
	s.col.lastMinute(at, func(batch []record) { out.write(encode("events", batch)) })
	for out.err == nil {
		select {
		case m := <-v.queue:
			out.write(m.bytes)
		case <-r.Context().Done():
			return
		case <-s.hub.done:
			for len(v.queue) > 0 {
				m := <-v.queue
				out.write(m.bytes)
			}
			out.write(encode("end", nil))
			return
		}
		if lost := v.lost.Swap(0); lost > 0 {
			out.write(encode("lost", s.col.lost(lost)))
		}
	}
}

// eventWriter writes server-sent events until one fails.
type eventWriter struct {
	w   http.ResponseWriter
	rc  *http.ResponseController
	err error
}

func (o *eventWriter) write(b []byte) {
	if o.err != nil {
		return
	}
	o.rc.SetWriteDeadline(time.Now().Add(viewerWrite))
	if _, o.err = o.w.Write(b); o.err == nil {
		o.err = o.rc.Flush()
	}
}
