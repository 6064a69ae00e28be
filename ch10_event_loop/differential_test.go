//go:build linux

package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"reverseproxy/ch2_basic_proxy/forward"
	"reverseproxy/internal/harness"
)

// go test ./ch10_event_loop -run Differential -differential 30m -timeout 0
var (
	differential = flag.Duration("differential", 0, "`time` for the comparison with ch6; "+
		"0: some hundred scripts")
	firstSeed = flag.Uint64("seed", 1, "`number` of the comparison's first script")
	oneSeed   = flag.Bool("one", false, "compare with that script only, and show what happened")
)

// ways are how the two programs are run, each with its own scripts.
var ways = []struct {
	slow  bool
	flags []string
}{
	{false, []string{"-reuse", "always"}},
	{false, []string{"-reuse", "safe"}},
	{false, []string{"-reuse", "never"}},
	{false, []string{"-reuse", "aggressive"}},
	{false, []string{"-keepalive", "0"}},
	{false, []string{"-keepalive-requests", "2", "-max-body", "5000", "-reuse", "always"}},
	{true, []string{"-request-timeout", "300ms", "-server-timeout", "400ms", "-idle-timeout",
		"350ms", "-keepalive-timeout", "450ms"}},
}

// tries is how often a script is played to each program at least, and triesTime how long,
// until both have shown the same: much hangs on what comes first, the more on a busy machine.
const (
	tries     = 8
	triesTime = time.Minute
)

// stall is how long nothing may come until the client takes it that nothing will.
const stall = 400 * time.Millisecond

// TestDifferential plays the same scripts to ch6 and to ch10, which must do the same:
// the client gets the same, the backend sees the same, on the same connections.
//
// What may differ: the time in Date, the program's name in Via, how a body is cut into
// chunks, how much of a message comes before a reset, how much is passed on of a body that
// is cut off, which fault of a malformed request is named, whether a body came whole with
// its header (then the request may be repeated), whether an answer that breaks off does so
// with FIN or RST, and when an idle connection is closed whose backend has sent FIN or
// something unasked: ch6 looks before the next use, ch10 is told at once. Or whose time is
// over: ch6 sweeps its pool now and then.
//
// What may not be, of either, in any try: that a message looks whole which was cut off.
func TestDifferential(t *testing.T) {
	t.Parallel()
	end := time.Now().Add(*differential)
	seeds := 140
	if testing.Short() {
		seeds = 35
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	var failed atomic.Int64
	played, chance := 0, map[uint64]bool{}
	for i := range ways {
		lane := newLane(t, i)
		all.Go(func() { // ends with its last script
			for n := 0; failed.Load() < 40; n++ {
				first := *firstSeed - *firstSeed%uint64(len(ways))
				seed := first + uint64(n*len(ways)+i)
				switch {
				case *oneSeed && seed != *firstSeed:
					return
				case *oneSeed:
				case *differential == 0 && n*len(ways) >= seeds,
					*differential > 0 && time.Now().After(end):
					return
				}
				again, same := lane.compare(t, seed)
				if !same {
					failed.Add(1)
				}
				mu.Lock()
				played++
				if again {
					chance[seed] = true
				}
				mu.Unlock()
				if *oneSeed {
					return
				}
			}
		})
	}
	all.Wait()
	t.Logf("%d scripts from seed %d on; %d were played more than once: %v", played, *firstSeed,
		len(chance), chance)
}

// A lane has one of each program, run in the same way.
type lane struct {
	way  int
	side [2]*stage
}

func newLane(t *testing.T, way int) *lane {
	l := &lane{way: way}
	for i, chapter := range []int{6, 10} {
		backend, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { backend.Close() })
		launch := harness.Launch{Model: harness.Chapter(chapter), Plain: *differential > 0}
		launch.Flags = append([]string{"-backends", backend.Addr().String(), "-log", "off"},
			ways[way].flags...)
		if f := os.Getenv("TRACE"); f != "" && *oneSeed {
			launch.Under = []string{"strace", "-f", "-tt", "-s", "60", "-o",
				fmt.Sprintf("%s.%d.%d", f, way, chapter)}
		}
		p := launch.Start(t)
		s := &stage{proxy: p.Addr, backend: backend, names: strings.NewReplacer(
			launch.Model.Dir, "proxy", backend.Addr().String(), "backend")}
		s.vague = strings.Contains(strings.Join(launch.Flags, " "), "-max-body")
		go s.accept() // ends with the listener
		l.side[i] = s
	}
	return l
}

// compare plays a script to both programs. It reports whether that took several tries, and
// whether they have shown the same.
func (l *lane) compare(t *testing.T, seed uint64) (again, same bool) {
	var seen [2]map[string]bool
	var last [2]string
	began := time.Now()
	for try := 0; try < tries || time.Since(began) < triesTime; try++ {
		m := &maker{rand.New(rand.NewPCG(seed, 1)), ways[l.way].slow, l.side[0].vague}
		s := m.script()
		if *oneSeed && try == 0 {
			t.Log(s)
		}
		var both sync.WaitGroup
		for i := range l.side {
			both.Go(func() { // ends with it
				last[i] = l.side[i].play(s, time.Duration(min(1+try, tries)))
			})
		}
		both.Wait()
		for i, text := range last {
			if strings.Contains(text, lie) {
				t.Errorf("seed %d, %q: ch%d:\n%s", seed, ways[l.way].flags, []int{6, 10}[i], text)
				return try > 0, false
			}
			if seen[i] == nil {
				seen[i] = map[string]bool{}
			}
			seen[i][text] = true
		}
		for text := range seen[0] {
			if seen[1][text] {
				if *oneSeed {
					t.Log(text)
				}
				return try > 0, true
			}
		}
	}
	t.Errorf("seed %d, %q: ch6 (-, one of %d), ch10 (+, one of %d):\n%s", seed, ways[l.way].flags,
		len(seen[0]), len(seen[1]),
		cmp.Diff(strings.Split(last[0], "\n"), strings.Split(last[1], "\n")))
	if *oneSeed {
		for i := range seen {
			for text := range seen[i] {
				t.Logf("%s:\n%s", [...]string{"ch6", "ch10"}[i], text)
			}
		}
	}
	return true, false
}

// A stage is one program with the backend that is played to it.
type stage struct {
	proxy   string
	backend net.Listener
	names   *strings.Replacer
	vague   bool // bodies may be too long

	mu sync.Mutex

	now *performance
}

// A performance is one script, played to one program.
type performance struct {
	*script
	stage    *stage
	slower   time.Duration // factor
	mu       sync.Mutex
	changed  *sync.Cond
	arrivals int // requests that have come to the backend
	conns    []*backendConn
	client   transcript
	got      int // bytes that have come to the client
	changes  int
	end      string // of the client's connection
}

type backendConn struct {
	net.Conn
	transcript
	order []int // which of the script's requests it carries
	idle  bool  // it waits for a request
	over  bool  // it has sent FIN, or something unasked
	end   string
}

func (s *stage) accept() {
	for {
		conn, err := s.backend.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		p := s.now
		s.mu.Unlock()
		if p == nil {
			conn.Close()
			continue
		}
		b := &backendConn{Conn: conn, transcript: transcript{names: s.names}, idle: true}
		p.note(func() { p.conns = append(p.conns, b) })
		go p.answer(b) // ends when the connection is closed, at the latest at the script's end
	}
}

func (p *performance) note(f func()) {
	p.mu.Lock()
	f()
	p.changes++
	p.mu.Unlock()
	p.changed.Broadcast()
}

// await waits until something is so. It gives up, and returns false, when nothing has changed
// for so long.
func (p *performance) await(silence time.Duration, ok func() bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	over := false
	timer := time.AfterFunc(silence, func() {
		p.mu.Lock()
		over = true
		p.mu.Unlock()
		p.changed.Broadcast()
	})
	defer timer.Stop()
	for changes := p.changes; !ok() && !over; p.changed.Wait() {
		if p.changes != changes {
			changes = p.changes
			timer.Reset(silence)
		}
	}
	return ok()
}

// rests reports whether what the backend has begun is at its end.
func (p *performance) rests() bool {
	for _, b := range p.conns {
		if b.end == "" && (!b.idle || b.raw || len(b.order) == 0) {
			return false
		}
	}
	return true
}

// play plays a script, and returns what was seen.
func (s *stage) play(script *script, slower time.Duration) string {
	p := &performance{script: script, stage: s, slower: slower}
	p.changed = sync.NewCond(&p.mu)
	p.client = transcript{names: s.names, methods: script.methods, answers: true}
	s.mu.Lock()
	s.now = p
	s.mu.Unlock()
	p.ask()
	p.await(3*time.Second, p.rests) // longer than its longest pause
	p.await(15*time.Millisecond*slower, func() bool { return false })
	s.mu.Lock()
	s.now = nil
	s.mu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	var text strings.Builder
	fmt.Fprintf(&text, "the client gets:\n%s", p.client.close(p.end))
	for i, b := range p.conns {
		end := b.end
		if b.over && !b.raw && end != "it closes" && end != "it resets" {
			end = "open or not"
		} else if end == "" && b.idle {
			end = "idle"
		} else if end == "" {
			end = "busy"
		}
		if p.end == "nothing more" && end != "it closes" && end != "it resets" {
			end = "given up, if it was seen" // ch6 does not, behind a full buffer
		}
		switch over := end == "reset" || end == "closed"; {
		case p.gone() && (over || end == "idle"):
			end = "idle or given up" // is the answer whole by then?
		case p.slow && b.idle && (over || end == "idle"):
			end = "idle or swept" // ch6 looks now and then
		case over && !(b.raw && p.client.raw):
			end = "closed or reset" // is something of the answer unread by then?
		}
		b.vague = s.vague || p.early || p.leaves != ends || p.torn
		fmt.Fprintf(&text, "the backend gets on connection %d, as %v:\n%s", i, b.order,
			b.close(end))
		b.Conn.Close()
	}
	return text.String()
}

func (p *performance) pause(d time.Duration) {
	if d < 100*time.Millisecond {
		d *= p.slower // a long one is for a timeout
	}
	time.Sleep(d)
}

// ask is the client.
func (p *performance) ask() {
	conn, err := net.Dial("tcp", p.stage.proxy)
	if err != nil {
		p.end = err.Error()
		return
	}
	c := conn.(*net.TCPConn)
	defer c.Close()
	read := make(chan bool)
	go func() { // ends with the connection
		defer close(read)
		b := make([]byte, 64<<10)
		for !p.deaf || p.got < p.after {
			n, err := c.Read(b)
			p.note(func() {
				p.got += n
				p.client.add(b[:n])
				if err != nil && p.end == "" {
					p.end = ended(c, p.got, err)
				}
			})
			if err != nil {
				return
			}
		}
	}()
	isOver := func() bool { return p.end != "" }
	send := func(b []byte) {
		c.SetWriteDeadline(time.Now().Add(stall * 4))
		c.Write(b)
	}
	var flood sync.WaitGroup
	for _, m := range p.script.client {
		p.pause(m.pause)
		send(m.data)
	}
	flood.Go(func() { // ends with the connection, at the latest
		if p.tunnels {
			// Behind what comes too early, ch6 does not see the client leave.
			if !p.await(stall, func() bool { return isOver() || p.client.raw }) {
				return
			}
		}
		p.flood.to(c)
	})
	patience := stall * p.slower
	if p.slow {
		patience = max(patience, 900*time.Millisecond)
	}
	switch p.leaves {
	case ends:
		c.CloseWrite()
	case resets:
		p.await(patience, func() bool { return isOver() || p.got >= p.after })
		if p.deaf {
			p.pause(20 * time.Millisecond) // until nothing more can be sent to it
		}
		c.SetLinger(0)
		c.Close()
	case resetsNow:
		p.await(patience, func() bool { return isOver() || p.arrivals > 0 })
		c.SetLinger(0)
		c.Close()
	case stays:
		p.await(patience, func() bool {
			return isOver() || p.client.messages >= p.requests && p.rests() || p.client.raw
		})
		p.mu.Lock()
		whole, raw, over := p.client.messages >= p.requests, p.client.raw, isOver()
		last := p.client.response.Close
		p.mu.Unlock()
		if raw {
			send(p.tunnel)
		} else if !whole && !p.alone && !over {
			c.SetLinger(0)
			c.Close()
			p.note(func() { p.end = "nothing more" })
		} else if whole && last {
			p.await(patience, isOver) // or its end and the next request are on the way at once
		} else if whole && !p.early && !p.torn {
			send([]byte("GET /once-more HTTP/1.1\r\nHost: kept.test\r\n\r\n"))
			p.await(patience, func() bool { return isOver() || p.client.messages > p.requests })
		}
		c.CloseWrite()
	}
	p.await(max(patience, 1500*time.Millisecond), isOver)
	c.Close()
	<-read
	flood.Wait()
	if p.early && p.client.messages > 0 {
		p.end = "open or not"
	}
	if p.gone() { // what it has got by then is chance
		p.end = "it resets"
		lied := strings.Contains(p.client.text.String(), lie)
		if p.client = (transcript{}); lied {
			p.client.text.WriteString(lie)
		}
	}
}

// ended says how a connection ended of which so many bytes have been read.
func ended(c net.Conn, got int, err error) string {
	reset := errors.Is(err, syscall.ECONNRESET)
	if raw, e := c.(*net.TCPConn).SyscallConn(); e == nil && err == io.EOF {
		raw.Control(func(fd uintptr) { reset = forward.EndedByReset(int(fd), int64(got)) })
	}
	switch {
	case reset:
		return "reset"
	case errors.Is(err, net.ErrClosed), errors.Is(err, os.ErrDeadlineExceeded):
		return "open"
	}
	return "closed"
}

// answer is the backend on one of its connections.
func (p *performance) answer(b *backendConn) {
	defer b.Conn.Close()
	in, got := make([]byte, 64<<10), 0
	// read reads until ok, and reports whether the connection goes on.
	read := func(ok func() bool) bool {
		for {
			p.mu.Lock()
			done := ok()
			p.mu.Unlock()
			if done {
				return true
			}
			n, err := b.Read(in)
			got += n
			p.note(func() {
				b.add(in[:n])
				if err != nil && b.end == "" {
					b.end = ended(b.Conn, got, err)
				}
			})
			if err != nil {
				return false
			}
		}
	}
	for n := 1; ; n++ {
		p.note(func() { b.idle = true })
		if !read(func() bool { return b.headers >= n }) {
			return
		}
		a := answered{reads: -1, then: "keep",
			moves: []move{{0, []byte("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmore")}}}
		number := 0
		p.note(func() {
			b.idle = false
			number = p.arrivals
			b.order = append(b.order, number)
			if number < len(p.answers) {
				a = p.answers[number]
			}
			p.arrivals++
		})
		whole := func() bool { return b.messages >= n || b.raw }
		if !read(func() bool { return whole() || a.reads >= 0 && b.size >= int64(a.reads) }) {
			return
		}
		for _, m := range a.moves {
			p.pause(m.pause)
			if _, err := b.Write(m.data); err != nil {
				break
			}
		}
		a.flood.to(b)
		p.pause(a.last)
		if a.switches {
			p.note(func() { b.raw, b.size, b.sum = true, 0, 0; b.transcript.add(nil) })
		}
		p.note(func() { b.over = b.over || a.unasked || a.then == "half" })
		switch a.then {
		case "reset":
			b.Conn.(*net.TCPConn).SetLinger(0)
			p.note(func() { b.end = "it resets"; b.pending, b.inBody, b.raw = nil, false, false })
			return
		case "close":
			if a.reads >= 0 {
				p.note(func() { b.pending, b.inBody, b.raw = nil, false, false })
			}
			p.note(func() { b.end = "it closes" })
			return
		case "half":
			b.Conn.(*net.TCPConn).CloseWrite()
			p.note(func() { b.idle = true })
			read(func() bool { return false })
			return
		}
		if !read(whole) {
			return
		}
	}
}
