//go:build linux

// Package loop serves thousands of connections with one thread, as nginx and
// HAProxy do. No call in it waits for a connection. The one call that waits,
// epoll_wait, waits for all of them at once, and returns those that can go on.
//
// What a goroutine keeps on its stack while it waits stands here in a Conn: how far
// it is (its State), what has come and is not used yet, what is to be sent and has
// not been taken, and until when it waits. The steps are methods of Conn with
// ch4's names. Each does as much as it can without waiting and reports whether it
// is done; if it is not, it is called again when there is more.
//
// Edge triggering (EPOLLET): a socket is registered once, for both directions, and
// the kernel tells of every change. What it has told is kept in the socket, until a
// read or a write meets EAGAIN.
package loop

import (
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"reverseproxy/ch2_basic_proxy/forward"
	"reverseproxy/ch2_basic_proxy/http1"
	"reverseproxy/internal/cli"
	"reverseproxy/internal/narrate"
)

// Sizes of what the loop holds once, for all connections, and how much it does at once.
// Small batches are better: with 512 events and 256 clients accepted at once, a request
// with a connection of its own cost 6 to 8 % more CPU time.
const (
	eventsAtOnce  = 64       // events that one epoll_wait returns at most
	scratchSize   = 64 << 10 // bytes of a body that are moved at once
	turnReads     = 4        // reads that a connection has until it is another one's turn
	acceptsAtOnce = 16       // clients that are accepted until others go on
	frameRoom     = 1024     // bytes that chunk sizes and a last chunk's beginning may add
)

const (
	stopGrace   = 50 * time.Millisecond  // for a client that has said nothing, after Stop
	acceptPause = 100 * time.Millisecond // after an accept that failed, until the next
	yieldEvery  = 5 * time.Millisecond   // half of what the Go runtime allows
)

// Loop is one thread's connections.
type Loop struct {
	settings *Settings
	use      *Techniques
	log      *narrate.Narrator
	accept   func(*Loop)
	begin    State // of a client that has been accepted
	end      State // of one that failed

	poll    int // epoll's descriptor
	wake    int // an eventfd: other goroutines wake the loop, in Stop and lookUp
	server  socket
	sockets []*socket // by descriptor
	events  []unix.EpollEvent
	timers  timers

	start time.Time
	now   time.Time     // when the events came that are being served
	nano  time.Duration // the same, since start

	yielded time.Duration // when the thread was last given back

	turn    int     // reads left in the turn of the connection that runs
	more    []*Conn // had more to do than their turn allowed
	accepts int     // clients accepted in this turn
	limit   int     // -max-conns, this loop's part of it
	room    int     // connections that there are descriptors for, to either side
	clients int     // connections that are open
	waiting list    // those that wait for their next request; the first has waited longest
	wanted  bool    // a place is needed, and nobody has made it free so far
	full    bool    // the listening socket is not looked at
	free    freeLists
	pool    pool
	in      [scratchSize]byte             // what read returns of a body
	out     [scratchSize + frameRoom]byte // what is to be written, whole

	date   string        // for responses that have none
	dateOf time.Duration // when it was made

	mu    sync.Mutex
	found []func() // what goes on after lookUp

	stop     atomic.Bool // Stop has been called
	stopping bool        // and the loop has taken note
}

// New returns a loop for the clients that come to server, a socket that listens and
// does not wait. accept is called when there are some; a client that it takes with
// Accept begins in begin, and one that fails ends in end.
func New(settings *Settings, server int, accept func(*Loop), begin, end State) (*Loop, error) {
	l := &Loop{settings: settings, use: settings.Use, log: settings.app.Log,
		accept: accept, begin: begin, end: end,
		start: time.Now(), events: make([]unix.EpollEvent, eventsAtOnce)}
	l.now = l.start
	l.free.size = settings.Buffer
	l.limit = max(settings.MaxConns/settings.Loops, 1)
	l.room = max(settings.app.FitDescriptors(math.MaxInt, 1)/settings.Loops, 2)
	l.free.morePipes = cli.Pipes() / settings.Loops
	l.pool.loop = l
	var err error
	if l.poll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, err
	}
	if l.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return nil, err
	}
	// The listening socket is level-triggered: it is told of again as long as
	// somebody is in the queue.
	l.server.init(l, server)
	for fd, s := range map[int]*socket{server: &l.server, l.wake: {fd: l.wake}} {
		l.note(fd, s)
		event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}
		if err := unix.EpollCtl(l.poll, unix.EPOLL_CTL_ADD, fd, &event); err != nil {
			return nil, err
		}
	}
	settings.loops = append(settings.loops, l)
	return l, nil
}

// Stop has the loop end: it accepts who is in the queue, closes the listening
// socket, and answers the requests that are in hand. Any goroutine may call it.
func (l *Loop) Stop() {
	l.stop.Store(true)
	unix.Write(l.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
}

// Run serves until Stop has been called and the last client has left.
func (l *Loop) Run() {
	for !l.stopping || l.clients > 0 {
		n := l.wait()
		l.tick()
		l.yield()
		for _, e := range l.events[:n] {
			l.told(e)
		}
		for _, e := range l.events[:n] {
			l.serve(e)
		}
		for _, s := range l.timers.due(l.nano) {
			l.late(s)
		}
		l.goOn()
		if l.stop.Load() && !l.stopping {
			l.beginStop()
		}
	}
}

// wait waits until something has happened, or the next deadline; not at all if a
// connection has more to do.
func (l *Loop) wait() int {
	l.tick() // serving may have taken long
	timeout := l.timers.wait(l.nano)
	if len(l.more) > 0 {
		timeout = 0
	}
	n, err := unix.EpollWait(l.poll, l.events, timeout)
	if err != nil { // EINTR: a signal
		return 0
	}
	return n
}

// tick looks at the clock, once for all that is served now.
func (l *Loop) tick() {
	l.now = time.Now()
	l.nano = l.now.Sub(l.start)
}

// yield gives the thread back for a moment. A goroutine that runs for 10 ms without
// that is taken for one that keeps others from running, and the thread of the Go runtime
// that watches for such goroutines (sysmon) is awake far more often.
func (l *Loop) yield() {
	if l.use.Yield && l.nano-l.yielded >= yieldEvery {
		runtime.Gosched()
		l.yielded = l.nano
	}
}

// told notes an event. What has come in the same moment is known of all sockets before
// one is served: to a request, an idle connection's end may matter that comes behind it.
func (l *Loop) told(e unix.EpollEvent) {
	const broken = unix.EPOLLERR | unix.EPOLLHUP
	if s := l.socket(e); s != nil {
		s.readable = s.readable || e.Events&(unix.EPOLLIN|unix.EPOLLRDHUP|broken) != 0
		s.writable = s.writable || e.Events&(unix.EPOLLOUT|broken) != 0
		s.ended = s.ended || e.Events&(unix.EPOLLRDHUP|broken) != 0
		s.urgent = s.urgent || e.Events&unix.EPOLLPRI != 0
		s.broken = s.broken || e.Events&broken != 0
	}
}

// socket returns the socket that an event is about; nil: it was closed a moment ago.
func (l *Loop) socket(e unix.EpollEvent) *socket {
	if s := l.sockets[e.Fd]; s != nil && s.generation == e.Pad {
		return s
	}
	return nil
}

// serve has the connection go on that an event is about.
func (l *Loop) serve(e unix.EpollEvent) {
	s := l.socket(e)
	switch {
	case s == nil:
	case s == &l.server:
		if l.accepts = 0; !l.stopping {
			l.accept(l)
		}
	case s.conn != nil:
		s.conn.run()
	case s.backend != nil:
		l.pool.usable(s.backend)
	case s.fd == l.wake:
		l.woken()
	}
}

// late does what is to be done when a socket's deadline has passed.
func (l *Loop) late(s *socket) {
	switch {
	case s == &l.server:
		s.by(0)
		l.listenAgain()
	case s.conn != nil:
		// epoll_wait may not have told of what came just now: it is looked for once more.
		s.readable = s.readable || s.late()
		s.conn.run()
	case s.backend != nil:
		l.pool.usable(s.backend)
	}
}

// goOn gives a turn to those that had more to do.
func (l *Loop) goOn() {
	again := l.more
	l.more = nil
	for _, c := range again {
		c.again = false
		c.run()
	}
	if l.more == nil {
		l.more = again[:0]
	}
}

// beginStop takes note of Stop.
func (l *Loop) beginStop() {
	l.accepts = 0
	for !l.atLimit() && l.Accept() {
		l.accepts = 0
	}
	l.stopping = true
	l.forget(&l.server)
	unix.Close(l.server.fd)
	l.pool.close()
	l.tick() // what was to be done before may have taken a while
	for _, s := range l.sockets {
		if s != nil && s.conn != nil && s == &s.conn.client {
			s.conn.lastChance()
		}
	}
}

// note makes a socket known by its descriptor.
func (l *Loop) note(fd int, s *socket) {
	for len(l.sockets) <= fd {
		l.sockets = append(l.sockets, nil)
	}
	l.sockets[fd] = s
}

// register has the kernel tell of a socket's changes, in both directions.
func (l *Loop) register(s *socket) error {
	l.note(s.fd, s)
	l.free.generation++
	s.generation = l.free.generation
	return unix.EpollCtl(l.poll, unix.EPOLL_CTL_ADD, s.fd, &unix.EpollEvent{
		Events: unix.EPOLLIN | unix.EPOLLPRI | unix.EPOLLOUT | unix.EPOLLRDHUP |
			unix.EPOLLET&0xffffffff,
		Fd: int32(s.fd), Pad: s.generation})
}

// forget makes a socket unknown, which is about to be closed: that takes it out of
// epoll's set.
func (l *Loop) forget(s *socket) {
	l.timers.remove(s)
	l.sockets[s.fd] = nil
}

// freeLists keep what one connection needs no more, for the next.
type freeLists struct {
	generation int32
	size       int // bytes of a buffer
	buffers    [][]byte
	exchanges  []*exchange
	pipes      []*pipe
	morePipes  int // that may be made; see cli.Pipes
}

// buffer returns a buffer for what comes on a socket.
func (f *freeLists) buffer() []byte {
	if n := len(f.buffers); n > 0 {
		b := f.buffers[n-1]
		f.buffers = f.buffers[:n-1]
		return b
	}
	return make([]byte, f.size)
}

// giveBack takes a buffer back. One that has grown is left to the garbage collector.
func (f *freeLists) giveBack(b []byte) {
	if len(b) == f.size {
		f.buffers = append(f.buffers, b)
	}
}

func (f *freeLists) exchange() *exchange {
	if n := len(f.exchanges); n > 0 {
		x := f.exchanges[n-1]
		f.exchanges = f.exchanges[:n-1]
		return x
	}
	x := &exchange{}
	x.request.Fields = make([]http1.Field, 0, usualFields)
	x.response.Fields = make([]http1.Field, 0, usualFields)
	return x
}

// giveBackExchange takes an exchange back, with room for fields, but without those that are
// slices of headers: a large header's buffer is the garbage collector's. So is the room
// that many fields took.
func (f *freeLists) giveBackExchange(x *exchange) {
	request, response := x.request.Fields, x.response.Fields
	if max(cap(request), cap(response)) > mostFields {
		return
	}
	if x.interims > 0 || x.tries > 1 { // one that came before may have had more fields
		response = response[:cap(response)]
	}
	clear(request)
	clear(response)
	*x = exchange{}
	x.request.Fields, x.response.Fields = request[:0], response[:0]
	f.exchanges = append(f.exchanges, x)
}

// today returns the time as Date has it, made once a second.
func (l *Loop) today() string {
	if l.date == "" || l.nano-l.dateOf >= time.Second {
		l.date, l.dateOf = forward.Date(), l.nano.Truncate(time.Second)
	}
	return l.date
}
