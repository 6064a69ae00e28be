package load

import (
	"bytes"
	"fmt"
	"net"
	"runtime"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"reverseproxy/internal/proc"
	"reverseproxy/scripts/bench/rawsock"
)

const (
	readSize   = 256 << 10             // bytes asked for at once
	maxHead    = 16 << 10              // bytes of a response head
	pause      = 10 * time.Millisecond // after a failed request, before the client's next
	firstOctet = 2                     // clients come from 127.0.0.2 ...
	sources    = 200                   // ... to 127.0.0.201: 200 × 28,000 ports
	idleBatch  = 4                     // silent connections opened at once
	maxPending = 256                   // silent connections waiting for their handshake
	patience   = 300 * time.Millisecond
)

type state uint8

const (
	closed     state = iota
	connecting       // the handshake is under way
	reading          // the request is written, the answer not whole
	standing         // between two requests of a kept connection
	silent           // an idle client's connection
)

type client struct {
	fd        int
	gen       int32
	state     state
	reused    bool   // the request went out on a kept connection
	head      []byte // response head, when it came in pieces
	headDone  bool
	toEOF     bool // the body ends with the connection
	willClose bool
	left      int64 // body bytes missing
	got       int64 // body bytes read

	wanted, began, connected, sent, arrived, first, done int64 // Now()
	retryAt                                              int64
}

type generator struct {
	job        Job
	res        *Result
	poll       *rawsock.Poller
	target     rawsock.Addr
	source     []rawsock.Addr
	nextSource int // source address of the next connection
	request    []byte
	buf        []byte
	evs        []rawsock.Event
	clients    []client
	busy       int   // clients with a request under way
	next       []int // closed loop: clients about to begin a request on a kept connection
	free       []int // rate mode: clients without
	queue      []int64
	pending    int   // silent connections without a finished handshake
	retry      int   // clients waiting for retryAt
	looked     int64 // when look last ran

	t0, from, until int64 // start of the job; counted time
}

// Run does the job on the calling goroutine's thread. When the idle
// connections stand it calls idle and goes on when that returns.
func Run(job Job, idle func(standing int)) (*Result, error) {
	runtime.LockOSThread()
	debug.SetGCPercent(-1) // a run allocates a few MB in all
	addr, err := net.ResolveTCPAddr("tcp4", job.Target)
	if err != nil {
		return nil, err
	}
	p, err := rawsock.NewPoller()
	if err != nil {
		return nil, err
	}
	g := &generator{job: job, poll: p, buf: make([]byte, readSize), evs: make([]rawsock.Event, 256),
		target:  rawsock.NewAddr([4]byte(addr.IP.To4()), addr.Port),
		clients: make([]client, job.Clients+job.Idle),
		res: &Result{Failures: map[string]int64{}, Latency: NewHistogram(),
			Sent: NewHistogram()}}
	for i := range sources {
		g.source = append(g.source, rawsock.NewAddr([4]byte{127, 0, 0, byte(firstOctet + i)}, 0))
	}
	g.format()
	if job.Idle > 0 {
		g.openIdle()
		idle(g.res.Idle)
	}
	switch {
	case job.Once:
		g.once()
	case job.Rate > 0:
		g.constantRate()
	default:
		g.closedLoop()
	}
	g.res.CPUNS = cpuTime()
	return g.res, nil
}

func (g *generator) format() {
	c := "close"
	if g.job.KeepAlive {
		c = "keep-alive"
	}
	g.request = fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: bench\r\n"+
		"Accept: */*\r\nConnection: %s\r\n\r\n", g.job.Path, g.job.Target, c)
}

func cpuTime() int64 {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return u.Utime.Nano() + u.Stime.Nano()
}

func ms(n int) int64 { return int64(n) * int64(time.Millisecond) }

// span sets the counted time: now, plus the warm-up, plus the run.
func (g *generator) span() {
	g.t0 = rawsock.Now()
	g.from = g.t0 + ms(g.job.WarmupMS)
	g.until = g.from + ms(g.job.RunMS)
	g.res.ElapsedNS = g.until - g.from
}

// closedLoop keeps every client busy until the time is over, then waits for
// the answers that are still on their way: cutting them off would hide
// exactly the slow ones.
func (g *generator) closedLoop() {
	g.span()
	for i := range g.job.Clients {
		g.begin(i, rawsock.Now())
	}
	for now := g.t0; now < g.until || g.busy > 0; now = rawsock.Now() {
		g.step(10 * time.Millisecond)
	}
}

// once sends one request a client, all at the same moment.
func (g *generator) once() {
	g.t0 = rawsock.Now()
	g.from, g.until = g.t0, g.t0 // no client begins a second one
	for i := range g.job.Clients {
		g.begin(i, g.t0)
	}
	for g.busy > 0 {
		g.step(10 * time.Millisecond)
	}
	g.res.ElapsedNS = rawsock.Now() - g.t0
	g.res.Requests = g.res.AllAnswers
	for i := range g.clients[:g.job.Clients] {
		c := &g.clients[i]
		g.res.Timeline = append(g.res.Timeline, Timeline{g.since(c.began), g.since(c.connected),
			g.since(c.arrived), g.since(c.first), g.since(c.done)})
	}
}

func (g *generator) since(t int64) int64 {
	if t == 0 {
		return -1
	}
	return (t - g.t0) / 1000
}

// constantRate begins a request whenever the schedule says so, whether or not
// earlier ones are answered. One that finds no free client waits in the
// queue, and its latency counts from the scheduled time all the same: no
// coordinated omission.
func (g *generator) constantRate() {
	tick, err := newTicker(g.poll)
	if err != nil {
		g.res.Failures[err.Error()]++
		return
	}
	defer tick.close()
	for i := g.job.Clients - 1; i >= 0; i-- {
		g.free = append(g.free, i)
	}
	g.span()
	every := int64(float64(time.Second) / g.job.Rate)
	due := g.t0
	for now := g.t0; ; now = rawsock.Now() {
		for ; due <= now && due < g.until; due += every {
			g.queue = append(g.queue, due)
		}
		g.drainQueue()
		if due >= g.until && g.busy == 0 && len(g.queue) == 0 {
			return
		}
		if len(g.queue) > 0 && now > g.until+ms(g.job.TimeoutMS) { // what never got a client
			g.res.Failures["not sent in time"] += int64(len(g.queue))
			g.queue = nil
		}
		if due < g.until {
			tick.at(due)
		}
		g.step(10 * time.Millisecond)
	}
}

func (g *generator) drainQueue() {
	n := 0
	for ; n < len(g.queue) && len(g.free) > 0; n++ {
		i := g.free[len(g.free)-1]
		g.free = g.free[:len(g.free)-1]
		g.begin(i, g.queue[n])
	}
	g.queue = g.queue[:copy(g.queue, g.queue[n:])]
}

// step waits for events, handles them, and looks after timeouts and retries.
func (g *generator) step(d time.Duration) {
	n := g.poll.Wait(g.evs, d)
	for _, ev := range g.evs[:n] {
		if ev.Fd < 0 {
			continue // the ticker
		}
		c := &g.clients[ev.Fd]
		if c.gen == ev.Pad && c.state != closed {
			g.event(int(ev.Fd), c, ev.Events)
		}
	}
	now := rawsock.Now()
	if now >= g.lookAt() {
		g.look(now)
	}
	g.goOn()
}

func (g *generator) lookAt() int64 {
	if g.retry > 0 || g.busy > 0 {
		return g.looked + int64(pause)
	}
	return g.looked + int64(time.Second)
}

// look ends requests that take too long and begins those that were put off.
func (g *generator) look(now int64) {
	g.looked = now
	limit := ms(g.job.TimeoutMS)
	for i := range g.clients[:g.job.Clients] {
		c := &g.clients[i]
		switch {
		case (c.state == connecting || c.state == reading) && now-c.began > limit:
			g.fail(i, c, "timeout", nil)
		case c.retryAt != 0 && now >= c.retryAt:
			c.retryAt = 0
			g.retry--
			g.again(i, now)
		}
	}
}

// begin sends client i's next request, on its kept connection if it has one.
func (g *generator) begin(i int, wanted int64) {
	c := &g.clients[i]
	g.busy++
	now := rawsock.Now()
	kept := c.state == standing
	*c = client{fd: c.fd, gen: c.gen, head: c.head[:0], state: c.state, reused: kept,
		wanted: wanted, began: now}
	if kept {
		c.connected = now
		g.send(i, c)
		return
	}
	if err := g.connect(i, c); err != nil {
		g.fail(i, c, "connect", err)
	}
}

func (g *generator) connect(i int, c *client) error {
	fd, err := rawsock.Socket()
	if err != nil {
		return err
	}
	c.fd = fd
	c.gen = (c.gen + 1) & 0x3fffffff
	c.state = connecting
	g.res.Connects++
	_ = rawsock.SetInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	if !g.job.OneSource {
		_ = rawsock.SetInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
		if err := rawsock.Bind(fd, &g.source[g.nextSource]); err != nil {
			return err
		}
		g.nextSource = (g.nextSource + 1) % len(g.source)
	}
	if err := rawsock.Connect(fd, &g.target); err != nil {
		return err
	}
	return g.poll.Add(fd, rawsock.In|rawsock.Out|rawsock.End|rawsock.Edge, int32(i), c.gen)
}

func (g *generator) send(i int, c *client) {
	c.state = reading
	c.sent = rawsock.Now()
	n, err := rawsock.Write(c.fd, g.request)
	if err != nil || n < len(g.request) {
		g.fail(i, c, "write", err)
	}
}

// event handles what epoll reports for a client: first that its connection
// stands, then that bytes or the end of the stream have come.
func (g *generator) event(i int, c *client, bits uint32) {
	switch c.state {
	case connecting:
		if bits&(rawsock.Err|rawsock.Hup) != 0 {
			g.fail(i, c, "connect", rawsock.Error(c.fd))
			return
		}
		if bits&rawsock.Out == 0 {
			return
		}
		c.connected = rawsock.Now()
		g.send(i, c)
	case reading:
		if bits&(rawsock.In|rawsock.Err|rawsock.Hup) != 0 {
			g.read(i, c, bits&(rawsock.End|rawsock.Err|rawsock.Hup) != 0)
		}
	case standing, silent:
		if bits&(rawsock.In|rawsock.Err|rawsock.Hup) != 0 {
			if c.state == silent {
				g.res.Failures["idle connection ended"]++
			}
			g.shut(c) // the proxy closed it between two requests
		}
	}
}

func (g *generator) shut(c *client) {
	if c.fd > 0 {
		rawsock.Close(c.fd)
	}
	c.fd, c.state = 0, closed
}

// read takes what has come. The registration is edge-triggered: a read that
// did not fill the buffer has emptied the socket, and only then it stops,
// unless the end of the stream, which is no byte, is known to have come too.
func (g *generator) read(i int, c *client, ended bool) {
	for {
		n, err := rawsock.Read(c.fd, g.buf)
		if err == unix.EAGAIN {
			return
		}
		if err != nil {
			g.fail(i, c, "read", err)
			return
		}
		if n == 0 {
			g.end(i, c)
			return
		}
		if c.first == 0 {
			c.first = rawsock.Now()
		}
		why := g.take(c, g.buf[:n])
		if why != "" {
			g.fail(i, c, why, nil)
			return
		}
		if c.headDone && !c.toEOF && c.left == 0 {
			g.finish(i, c)
			return
		}
		if n < len(g.buf) && !ended {
			return
		}
	}
}

// end handles the end of the stream: of a body without a length it is the
// proper one.
func (g *generator) end(i int, c *client) {
	switch {
	case c.headDone && c.toEOF && (g.job.Body < 0 || c.got == g.job.Body):
		c.willClose = true
		g.finish(i, c)
	case c.got > 0 || c.headDone:
		g.fail(i, c, "answer cut short", nil)
	case c.reused: // closed just before our request came: a fresh connection
		wanted := c.wanted
		g.shut(c)
		g.busy--
		g.begin(i, wanted)
	default:
		g.fail(i, c, "closed without an answer", nil)
	}
}

// take adds the bytes to the head or counts them as body; a non-empty return
// names what is wrong with the answer.
func (g *generator) take(c *client, b []byte) string {
	if !c.headDone {
		whole := b
		if len(c.head) > 0 {
			c.head = append(c.head, b...)
			whole = c.head
		}
		end := bytes.Index(whole, []byte("\r\n\r\n"))
		if end < 0 {
			if len(whole) > maxHead {
				return "head too long"
			}
			if len(c.head) == 0 {
				c.head = append(c.head, b...)
			}
			return ""
		}
		if why := g.parse(c, whole[:end+2]); why != "" {
			return why
		}
		b = whole[end+4:]
	}
	c.got += int64(len(b))
	if !c.toEOF {
		c.left -= int64(len(b))
		if c.left < 0 {
			return "bytes after the answer"
		}
	}
	return ""
}

// parse reads the status and the three fields that matter here.
func (g *generator) parse(c *client, head []byte) string {
	c.headDone = true
	if len(head) < 13 || string(head[:7]) != "HTTP/1." {
		return "no HTTP answer"
	}
	if s := string(head[9:12]); s != "200" {
		return "status " + s
	}
	c.willClose = head[7] == '0' || !g.job.KeepAlive
	length := int64(-1)
	_, fields, _ := bytes.Cut(head, []byte("\r\n"))
	for len(fields) > 0 {
		var f []byte
		f, fields, _ = bytes.Cut(fields, []byte("\r\n"))
		name, value, _ := bytes.Cut(f, []byte(":"))
		value = bytes.TrimSpace(value)
		switch {
		case len(name) == 14 && bytes.EqualFold(name, []byte("content-length")):
			length, _ = strconv.ParseInt(string(value), 10, 64)
		case len(name) == 10 && bytes.EqualFold(name, []byte("connection")):
			c.willClose = c.willClose || bytes.EqualFold(value, []byte("close"))
		case len(name) == 9 && bytes.EqualFold(name, []byte("x-arrived")):
			c.arrived, _ = strconv.ParseInt(string(value), 10, 64)
		}
	}
	c.left, c.toEOF = length, length < 0
	if length >= 0 && g.job.Body >= 0 && length != g.job.Body {
		return "wrong length"
	}
	return ""
}

// finish counts a whole answer and lets the client go on.
func (g *generator) finish(i int, c *client) {
	c.done = rawsock.Now()
	g.busy--
	g.res.AllAnswers++
	g.res.Bytes += c.got
	// In a closed loop an answer counts when it came within the counted time; the
	// latency also of those that were still on their way at its end. At a constant
	// rate a request counts when it was due within the counted time.
	counts := c.done >= g.from && c.done < g.until
	if g.job.Rate > 0 {
		counts = c.wanted >= g.from
	}
	if counts {
		g.res.Requests++
	}
	if counts || g.job.Rate == 0 && c.done >= g.from {
		g.res.Latency.Record(c.done - c.wanted)
		g.res.Sent.Record(c.done - c.sent)
	}
	if c.willClose {
		g.shut(c)
	} else {
		c.state = standing
	}
	g.again(i, c.done)
}

// again begins the client's next request, if there is one to begin.
func (g *generator) again(i int, now int64) {
	switch {
	case g.job.Rate > 0:
		g.free = append(g.free, i)
	case now >= g.until:
	case g.clients[i].state == standing:
		g.next = append(g.next, i)
	default:
		g.begin(i, now)
	}
}

// goOn begins the next requests on kept connections. All events at hand are
// read first, as wrk does it: what a client waits for while the generator
// reads other clients' answers is not the proxy's time.
func (g *generator) goOn() {
	for _, i := range g.next {
		g.begin(i, rawsock.Now())
	}
	g.next = g.next[:0]
}

func (g *generator) fail(i int, c *client, kind string, err error) {
	if e, ok := err.(syscall.Errno); ok {
		kind += ": " + e.Error()
	}
	g.res.Failures[kind]++
	if kind == "timeout" && rawsock.Now() >= g.from { // at least that long
		g.res.Latency.Record(rawsock.Now() - c.wanted)
	}
	g.shut(c)
	g.busy--
	c.retryAt = rawsock.Now() + int64(pause)
	g.retry++
}

// openIdle opens the silent connections. It goes no faster than the proxy
// accepts: a connection that finds the accept queue full looks established to
// the client while the proxy knows nothing of it. When the queue does not get
// shorter for a while, as behind a proxy that serves one client at a time, or
// half the time is over, it goes on regardless.
func (g *generator) openIdle() {
	start := rawsock.Now()
	limit := start + ms(g.job.IdleMS)
	opened, blind, seen, last := 0, false, start, 0
	for now := start; now < limit && (opened < g.job.Idle || g.pending > 0); now = rawsock.Now() {
		batch := idleBatch
		q := g.queued()
		if q < last || q == 0 {
			seen = now
		}
		blind = blind || now-seen > int64(patience) || now > start+ms(g.job.IdleMS)/2
		if last = q; q > 0 && !blind {
			batch = 0
		}
		for ; batch > 0 && opened < g.job.Idle && g.pending < maxPending; batch-- {
			i := g.job.Clients + opened
			opened++
			if err := g.connect(i, &g.clients[i]); err != nil {
				g.res.Failures["idle connect: "+err.Error()]++
				g.shut(&g.clients[i])
				continue
			}
			g.pending++
		}
		d := time.Duration(0)
		if batch == idleBatch || blind {
			d = time.Millisecond
		}
		n := g.poll.Wait(g.evs, d)
		for _, ev := range g.evs[:n] {
			g.idleEvent(ev)
		}
	}
	for i := range g.clients[g.job.Clients:] { // handshakes that were not finished in time
		if c := &g.clients[g.job.Clients+i]; c.state == connecting {
			g.shut(c)
		}
	}
	g.res.Connects = 0
}

func (g *generator) queued() int {
	n, _, err := proc.Queue(g.target.Port())
	if err != nil {
		return 0
	}
	return n
}

func (g *generator) idleEvent(ev rawsock.Event) {
	c := &g.clients[ev.Fd]
	switch {
	case c.gen != ev.Pad || c.state == closed:
	case c.state != connecting:
		g.event(int(ev.Fd), c, ev.Events)
	case ev.Events&(rawsock.Err|rawsock.Hup) != 0:
		g.pending--
		g.res.Failures["idle connect"]++
		g.shut(c)
	default:
		g.pending--
		c.state = silent
		g.res.Idle++
	}
}

// ticker wakes Wait at a time given in nanoseconds; epoll's own timeout knows
// milliseconds only.
type ticker struct{ fd int }

func newTicker(p *rawsock.Poller) (*ticker, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	return &ticker{fd}, p.Add(fd, rawsock.In|rawsock.Edge, -1, 0)
}

func (t *ticker) at(ns int64) {
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(ns)}
	_ = unix.TimerfdSettime(t.fd, unix.TFD_TIMER_ABSTIME, &spec, nil)
}

func (t *ticker) close() { _ = unix.Close(t.fd) }
