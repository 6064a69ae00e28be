package suite

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"reverseproxy/internal/proc"
)

// Timeouts are what the proxy under test is set to; 0 means unknown.
type Timeouts struct {
	Header  time.Duration // for a client to send its header
	Server  time.Duration // for a backend to begin its response
	Idle    time.Duration // for a body that stands still
	Connect time.Duration // for a backend to accept
}

// Lab is one proxy under test with its scripted backends.
type Lab struct {
	Farm     *Farm
	addr     string
	Proc     *Process // nil when the proxy already runs
	Timeouts Timeouts
	beside   bool // it is not the main one
	Serial   bool // serves one client at a time
	OneShot  bool // serves one client and exits
	Ejects   bool // takes misbehaving backends out of service
	Uneven   bool // does not give its backends their turns, and is not meant to
	Pools    bool // sends a backend more than one request over a connection

	spawn   func() (*Lab, error) // opens another one like it, if that is possible
	left    func() time.Duration // of the time for the whole run
	pulse   *pulse               // how busy the machine is, and the clock
	stalls  *atomic.Int64        // shared by the labs of one proxy
	doubts  *doubts              // failures to be looked at again, shared as well
	hurried atomic.Bool          // the first round of two: little patience
	lazy    *atomic.Int32        // how often it did not notice an end, in succession; shared, too
	first   time.Duration        // patience at first, 0 for patienceFirst
	slot    chan struct{}        // held by the client of a one-shot program

	mu       sync.Mutex
	used     bool     // the process has had a client
	restarts []string // case or reason of each restart after a death
	runs     int      // how often a one-shot program was started
	broken   error    // why the proxy cannot be started any more
	dropped  bool     // the proxy no longer answers: the rest is not run
	why      string
	deaths   []time.Time
}

// doubts are the failures that are looked at again at the end.
type doubts struct {
	mu   sync.Mutex
	list []doubtful
}

// Patience: how long a case waits for the next byte while nothing moves. A
// proxy that has stalled often gets less, so that the run ends in time.
const (
	patienceFirst  = 4 * time.Second
	patienceLater  = 1500 * time.Millisecond
	patienceLast   = 800 * time.Millisecond
	patienceHurry  = 400 * time.Millisecond
	stallsForgiven = 6
	stallsMany     = 24
)

func (l *Lab) patience() time.Duration {
	p := patienceFirst
	if l.first > 0 {
		p = l.first
	}
	switch n := l.stalls.Load(); {
	case l.hurried.Load() && n > 2:
		p = patienceHurry
	case n > stallsMany:
		p = patienceLast
	case n > stallsForgiven:
		p = patienceLater
	}
	return max(50*time.Millisecond, min(p, l.left()))
}

// fixedPort reports whether the proxy is started again and again on one port,
// perhaps without SO_REUSEADDR.
func (l *Lab) fixedPort() bool { return l.Proc != nil && l.Proc.ready == nil && !l.Proc.harmless }

// dialTime is how long a connection may take: a full queue makes the kernel
// try again after one second, after three and after seven.
const (
	dialTime   = 12 * time.Second
	besideTime = 2 * time.Second // for a client beside another
)

// dial connects to the proxy; right after a start it may need a moment.
func (l *Lab) dial(limit time.Duration) (net.Conn, error) {
	var last error
	tries := 20
	if l.OneShot {
		tries = 2 // it was started for this client, or serves another one
	}
	for i := 0; i < tries; i++ {
		c, err := net.DialTimeout("tcp", l.where(), min(l.pulse.scale(limit), max(l.patience(),
			l.left())))
		if err == nil {
			return c, nil
		}
		last = err
		if l.Proc == nil || !refused(err) {
			return nil, err
		}
		l.ensure()
		time.Sleep(25 * time.Millisecond)
	}
	return nil, last
}

// acquire makes sure that the proxy runs before a client connects. For a
// program that serves one client and exits it also waits for its turn; the
// function returned gives the turn back.
func (l *Lab) acquire(over func() bool, done <-chan struct{}) (release func()) {
	if l.Proc == nil {
		return func() {}
	}
	if !l.OneShot {
		l.ensure()
		l.mu.Lock()
		l.used = true
		l.mu.Unlock()
		return func() {}
	}
	select {
	case l.slot <- struct{}{}:
	case <-done:
		return func() {}
	}
	if !over() {
		l.renew()
	}
	var once sync.Once
	return func() { once.Do(func() { <-l.slot }) }
}

// renew starts a one-shot program for its next client.
func (l *Lab) renew() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.used {
		if !l.Proc.Wait(l.pulse.scale(400 * time.Millisecond)) {
			l.Proc.Kill()
		}
		l.startLocked()
	}
	l.used = true
}

// ensure starts the proxy again when it has died.
func (l *Lab) ensure() {
	if l.Proc == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken != nil || !l.Proc.Ended() {
		return
	}
	if !l.OneShot {
		l.deaths = append(l.deaths, time.Now())
		l.restarts = append(l.restarts, l.Proc.LastWords())
	}
	l.startLocked()
}

func (l *Lab) startLocked() {
	l.runs++
	l.used = false
	if err := l.Proc.start(l.pulse); err != nil {
		l.broken = err
		return
	}
	l.addr = l.Proc.addr // a program on port 0 has another one now
}

// where returns the address of the proxy.
func (l *Lab) where() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.addr
}

// restart kills a proxy that no longer answers and starts it again.
func (l *Lab) restart(why string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken != nil {
		return
	}
	l.Proc.Kill()
	l.deaths = append(l.deaths, time.Now())
	l.restarts = append(l.restarts, why)
	l.startLocked()
}

// Refresh starts a proxy anew that takes backends out of service when they
// misbehave: so no case suffers from the one before. It reports whether it did.
func (l *Lab) Refresh() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken != nil || l.Proc == nil || !l.Ejects {
		return false
	}
	l.Proc.Kill()
	l.startLocked()
	return true
}

// renewed starts a program anew that goes on by itself; that is no accident.
func (l *Lab) renewed() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken != nil || l.Proc == nil || l.OneShot || l.Proc.Ended() {
		return // what has ended is started, and noted, before its next client
	}
	l.Proc.Kill()
	l.startLocked()
}

// OutTime is longer than a proxy leaves a backend out of service that has failed, unless
// told otherwise (nginx: fail_timeout, 10 s).
const OutTime = 11 * time.Second

// probeEjection finds out whether the proxy takes a backend out of service
// that has broken a few exchanges. What the proxy thinks of its backends after that, no
// case is to meet: it may have noted the failures although it still uses all of them, or
// again, on a busy machine.
func (l *Lab) probeEjection() {
	if l.OneShot {
		return
	}
	l.Ejects = l.ejects()
	if l.Refresh() {
		return
	}
	if !l.fixedPort() { // there, a program might not get its port again
		l.renewed()
	}
	if l.Ejects {
		left := l.pulse.span(OutTime)
		for l.Healthy(2*time.Second) != nil && left() > 0 {
			time.Sleep(50 * time.Millisecond)
		}
	}
}

// ejects breaks exchanges, and reports whether some backend gets no requests after that.
func (l *Lab) ejects() (yes bool) {
	n := len(l.Farm.Backends)
	var used []int // what each backend gets while all are well
	l.runOnce(&Case{ID: "probe", Run: func(t *T) { used = t.Spread(6*n, 1) }}, nil)
	l.runOnce(&Case{ID: "probe", Run: func(t *T) {
		for i := 0; i < 6*n; i++ {
			c := t.Dial()
			c.Send(t.Req("POST", "break/"+itoa(i), "x")) // a hash may choose by the URI
			if x := t.Accept(c); x != nil {
				x.Request()
				x.Close()
			}
			c.AwaitEnd(200 * time.Millisecond)
			c.Close()
		}
		for x := t.Pending(); x != nil; x = t.Pending() {
			x.Close()
		}
		for i, k := range t.Spread(6*n, 1) {
			yes = yes || k == 0 && used != nil && used[i] > 0
		}
		yes = yes || t.Failed()
	}}, nil)
	return yes
}

// probePool finds out whether the proxy uses connections to backends again: for
// a client that keeps its own, and that has asked each backend once.
func (l *Lab) probePool() {
	if l.OneShot {
		return
	}
	var again, hangs atomic.Bool
	probe := &Case{ID: "probe", Run: func(t *T) {
		t.Serve(func(x *Exchange) {
			x.Request()
			if x.Number > 1 {
				again.Store(true)
			}
			x.Send(Kept(200, "ok"))
			x.Keep()
		})
		var c *Client
		for range 2 * len(l.Farm.Backends) {
			if c == nil || c.Ended() {
				c = t.Dial()
			}
			c.Send(t.Get("pool", "Connection: keep-alive"))
			r := c.Final("GET")
			if r.Problem != "" && !c.Ended() {
				hangs.Store(true)
				return
			}
			if r.Problem != "" || r.Names("Connection", "close") {
				c.Close()
				c = nil
			}
		}
	}}
	for range 3 {
		began := time.Now()
		hangs.Store(false)
		l.runOnce(probe, nil)
		if !hangs.Load() || again.Load() || !l.pulse.busySince(began) {
			break
		}
	}
	l.Pools = again.Load()
}

// DiedSince reports whether the process died or was restarted after t.
func (l *Lab) DiedSince(t time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.Proc == nil || l.OneShot {
		return false
	}
	if l.Proc.Ended() {
		return true
	}
	return len(l.deaths) > 0 && l.deaths[len(l.deaths)-1].After(t)
}

// besideProbe is how long a second client's request may take to its backend, while the
// backend thinks about the first one's.
const besideProbe = 700 * time.Millisecond

// probe finds out whether the proxy serves two clients at once: while the
// backend holds back the answer of the first, a second one must get through.
func (l *Lab) probe() error {
	l.Serial = false
	run := func(t *T) {
		first := t.Dial()
		first.Send(t.Get("first"))
		x := t.Accept(first)
		if x == nil {
			panic(stop{})
		}
		second := t.DialBeside()
		second.Send(t.Get("second"))
		y := t.AcceptWithin(besideProbe)
		l.Serial = y == nil
		for _, e := range []*Exchange{x, y} {
			if e != nil {
				e.Request()
				e.Send(Reply(200, "ok"))
				e.Close()
			}
		}
		first.AwaitEnd(time.Second)
	}
	for range 3 { // what a busy machine makes slow is not one client at a time
		began := time.Now()
		l.runOnce(&Case{ID: "probe", Run: run}, nil)
		if !l.Serial || !l.pulse.busySince(began) || l.Proc != nil && l.Proc.Ended() {
			break
		}
	}
	l.probeEnd()
	return l.broken
}

// probeEnd finds out whether the program ends after it has served a client.
func (l *Lab) probeEnd() {
	if l.Proc == nil {
		return
	}
	// One that does not listen any more is about to end.
	left := l.pulse.span(3 * time.Second)
	for !l.Proc.Wait(l.pulse.scale(300 * time.Millisecond)) {
		if proc.Listening(l.addr) || left() <= 0 {
			return
		}
	}
	l.OneShot = true
	l.Serial = true
	l.mu.Lock()
	l.restarts = nil // those were no accidents
	l.used = true
	l.mu.Unlock()
}

// Pending is a request that a backend already has; nil when there is none.
func (t *T) Pending() *Exchange {
	select {
	case x := <-t.incoming:
		return x
	default:
		return nil
	}
}

// AcceptWithin waits up to d for the next request at a backend; nil when none comes.
func (t *T) AcceptWithin(d time.Duration) *Exchange {
	late, stop := t.Late(d)
	defer stop()
	select {
	case x := <-t.incoming:
		return x
	case <-late:
	case <-t.Done:
	}
	return nil
}

// alive asks for one small page; any answer will do.
func (l *Lab) alive(within time.Duration) error { return l.ask(within, false) }

// Healthy asks for one small page and wants it.
func (l *Lab) Healthy(within time.Duration) error { return l.ask(within, true) }

func (l *Lab) ask(within time.Duration, strict bool) error {
	if l.broken != nil {
		return l.broken
	}
	var problem error
	r := l.runOnce(&Case{ID: "alive", Run: func(t *T) {
		t.SetSlow(within)
		t.Answer(Reply(200, "ok"))
		r := t.Do(t.Get("alive"), "GET")
		if r.Status == 0 || strict && r.Status != 200 {
			problem = fmt.Errorf("a plain GET got status %d; %s", r.Status, r.Problem)
		}
	}}, nil)
	if problem == nil && r.Outcome == Failed {
		problem = errors.New(r.Problems[0])
	}
	return problem
}

// History is how often a one-shot program was started, and why others had to be
// started again.
func (l *Lab) History() (runs int, accidents []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.runs, slices.Clone(l.restarts)
}

// Single reports whether there can be no other proxy like this one.
func (l *Lab) Single() bool { return l.spawn == nil }

// deathNote says how the process ended last.
func (l *Lab) deathNote() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.Proc.Ended() {
		return l.Proc.LastWords()
	}
	if n := len(l.restarts); n > 0 {
		return l.restarts[n-1]
	}
	return ""
}

// Close stops what the lab started.
func (l *Lab) Close() {
	if l.Proc != nil {
		l.Proc.stop()
	}
	l.Farm.Close()
}

// Spread sends n requests from so many clients at once and counts where they
// arrive.
func (t *T) Spread(n, clients int) []int {
	counts := make([]int, len(t.Lab.Farm.Backends))
	var mu sync.Mutex
	t.Serve(func(x *Exchange) {
		x.Request()
		mu.Lock()
		counts[x.Backend]++
		mu.Unlock()
		x.Send(Reply(200, "ok"))
	})
	var wg sync.WaitGroup
	for i := 0; i < clients; i++ {
		wg.Add(1)
		// Ends with its last answer.
		go func() {
			defer wg.Done()
			defer t.Catch()
			for j := 0; j < n/clients; j++ {
				t.Whole(t.Do(t.Get("n/"+itoa(i)+"/"+itoa(j)), "GET"), 200)
			}
		}()
	}
	wg.Wait()
	mu.Lock()
	defer mu.Unlock()
	return append([]int(nil), counts...)
}

// Open returns how many connections to backends are open.
func (l *Lab) Open() int {
	n := 0
	for _, b := range l.Farm.Backends {
		n += b.open()
	}
	return n
}
