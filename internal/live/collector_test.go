package live

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"reverseproxy/internal/narrate"
)

const testBackend = "127.0.0.1:8000"

// fakeConn is a client that exists only as an address.
type fakeConn struct {
	net.Conn
	addr net.Addr
}

func (c fakeConn) RemoteAddr() net.Addr { return c.addr }

func clientAt(port int) fakeConn {
	return fakeConn{addr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}}
}

// serve narrates a connection that goes well.
func serve(n *narrate.Narrator, port int, backend string) {
	c := n.Accept(clientAt(port))
	exchange(c, backend)
	c.Close(nil, false, 200)
}

// exchange narrates a request that goes well.
func exchange(c *narrate.Conn, backend string) {
	c.Begin()
	c.Step(narrate.ReadRequest, narrate.Event{Calls: "read", Bytes: 84, Text: "GET /api/data"})
	c.Step(narrate.Connect, narrate.Event{Calls: "socket, connect", Peer: backend})
	c.Step(narrate.ForwardRequest, narrate.Event{Calls: "write", Bytes: 200})
	c.Step(narrate.ReadResponse, narrate.Event{Calls: "read", Bytes: 145, Status: 200, Text: "OK"})
	c.Step(narrate.SendResponse, narrate.Event{Calls: "write", Bytes: 219, Status: 200})
	c.End(narrate.Event{Status: 200, Bytes: 219})
}

func newTestCollector() (*collector, *narrate.Narrator) {
	c := newCollector(time.Now(), []string{testBackend, "127.0.0.1:8001"})
	n := narrate.New(narrate.Off)
	n.Attach(c.sink)
	return c, n
}

func TestCounts(t *testing.T) {
	c, n := newTestCollector()
	for i := range 3 {
		serve(n, 50000+i, testBackend)
	}
	refused := n.Accept(clientAt(50010))
	refused.Begin()
	refused.Step(narrate.ReadRequest, narrate.Event{Bytes: 84})
	refused.Route("127.0.0.1:8001")
	refused.Step(narrate.Connect, narrate.Event{Peer: "127.0.0.1:8001", Err: "refused",
		Fault: "backend"})
	refused.Close(errors.New("refused"), true, 502)

	left := n.Accept(clientAt(50011)) // the client's failure, not the backend's
	left.Begin()
	left.Step(narrate.Connect, narrate.Event{Peer: testBackend})
	left.Step(narrate.ReadResponse, narrate.Event{Err: "502 is only a text", Fault: "client"})
	left.Close(errors.New("502 is only a text"), true, 0)

	broken := n.Accept(clientAt(50012)) // the backend's, in the middle of its response
	broken.Begin()
	broken.Step(narrate.Connect, narrate.Event{Peer: testBackend})
	broken.Step(narrate.ReadResponse, narrate.Event{Status: 200})
	broken.Step(narrate.SendResponse, narrate.Event{Status: 200, Err: "broke off",
		Fault: "backend"})
	broken.Close(errors.New("broke off"), true, 200)

	scanner := n.Accept(clientAt(50013)) // came and went: no failure
	scanner.Close(errors.New("the client left without a request"), false, 0)
	silent := n.Accept(clientAt(50014))
	silent.Close(errors.New("too slow"), true, 408)

	kept := n.Accept(clientAt(50015)) // two requests, a second try, then silence
	exchange(kept, testBackend)
	kept.Idle(true)
	kept.Begin()
	kept.Try(1)
	kept.Step(narrate.Connect, narrate.Event{Peer: "127.0.0.1:8001", Err: "refused",
		Fault: "backend"})
	kept.Try(2)
	kept.Step(narrate.Connect, narrate.Event{Peer: testBackend, Reused: true})
	kept.End(narrate.Event{Status: 200})
	kept.Idle(true)

	open := n.Accept(clientAt(50016))
	open.Begin()
	open.Step(narrate.Connect, narrate.Event{Peer: testBackend})

	got, _ := c.snapshot()
	for i := range got.Backends {
		got.Backends[i].P50, got.Backends[i].P99 = 0, 0
	}
	want := Counts{Connections: 10, Requests: 9, InFlight: 1, Idle: 1, MostAtOnce: 1, Failed: 4,
		Drawn: 10, Shown: 9, Backends: []BackendCount{
			{Addr: testBackend, Running: true, Requests: 8, InFlight: 1, Failures: 1},
			{Addr: "127.0.0.1:8001", Running: true, Requests: 2, Failures: 2},
		}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
}

// TestSampling checks that under load the drawn connections are a sample, each
// drawn whole, while the counts stay exact.
func TestSampling(t *testing.T) {
	began := time.Now()
	c, n := newTestCollector()
	const total = 5000
	for i := range total {
		serve(n, 1024+i, testBackend)
	}
	took := time.Since(began).Seconds() + 1
	counts, _ := c.snapshot()
	if counts.Connections != total || counts.Backends[0].Requests != total {
		t.Errorf("counted %d connections, %d requests, want %d", counts.Connections,
			counts.Backends[0].Requests, total)
	}
	most := min(drawnBurst+took*drawnPerSecond, total)
	if n := float64(counts.Drawn); n < drawnBurst || n > most {
		t.Errorf("%d connections are drawn, want about %.0f", counts.Drawn, drawnBurst)
	}
	steps := make(map[uint64]int)
	c.walk(cursor{}, c.end(), func(batch []record) {
		for _, r := range batch {
			steps[r.Conn]++
		}
	})
	if len(steps) != int(counts.Drawn) {
		t.Errorf("%d connections have events, want %d", len(steps), counts.Drawn)
	}
	for conn, n := range steps {
		if n != 8 {
			t.Errorf("connection %d has %d events, want all 8", conn, n)
		}
	}
}

// TestRequestsAreSampled: of connections that carry request after request, all of
// which are drawn, some requests are, each whole; and none of the page's own
// client's is left out, whoever knows its address first.
func TestRequestsAreSampled(t *testing.T) {
	c, n := newTestCollector()
	c.further = bucket{burst: 10, tokens: 10}
	keep := n.Accept(clientAt(50000))
	c.dial()
	first := n.Accept(clientAt(50001)) // before its client knows
	c.dialled("127.0.0.1:50001")
	c.dial()
	c.dialled("127.0.0.1:50002")
	second := n.Accept(clientAt(50002))
	const total = 1000
	for range total {
		for _, conn := range []*narrate.Conn{keep, first, second} {
			exchange(conn, testBackend)
			conn.Pool(testBackend, narrate.Kept, "")
			conn.Idle(true)
		}
	}
	for _, conn := range []*narrate.Conn{keep, first, second} {
		conn.Pool("", narrate.Closed, "it left")
		conn.Close(nil, false, 200)
	}
	events := make(map[uint64]map[int]int) // by connection and request
	c.walk(cursor{}, c.end(), func(batch []record) {
		for _, r := range batch {
			if events[r.Conn] == nil {
				events[r.Conn] = make(map[int]int)
			}
			events[r.Conn][r.Request]++
		}
	})
	for id, most := range map[uint64]int{1: 11, 2: total, 3: total} {
		drawn := 0
		for request, n := range events[id] {
			switch {
			case request == 0: // step 4
			case request == total && (n == 2 || n == 10): // the end, with or without the request
			case n != 8:
				t.Errorf("of request %d.%d %d events are drawn, want all 8", id, request, n)
			default:
				drawn++
			}
		}
		if drawn > most || drawn < most-5 {
			t.Errorf("of connection %d %d requests are drawn, want about %d", id, drawn, most)
		}
	}
	if got, _ := c.snapshot(); got.Requests != 3*total || got.Shown < 2*total ||
		got.Shown > 2*total+11 {
		t.Errorf("%d requests, of which %d are shown", got.Requests, got.Shown)
	}
}

// TestPools: each backend's connections, and why they ended.
func TestPools(t *testing.T) {
	c, n := newTestCollector()
	var other = "127.0.0.1:8001"
	serve(n, 50000, testBackend)
	if got, _ := c.snapshot(); got.Backends[0].Pool != nil {
		t.Error("a program without pools has one")
	}
	one, two := n.Accept(clientAt(50001)), n.Accept(clientAt(50002))
	for _, conn := range []*narrate.Conn{one, two} {
		conn.Begin()
		conn.Step(narrate.Connect, narrate.Event{Peer: other})
	}
	one.Pool(other, narrate.Kept, "")
	two.Pool(other, narrate.Closed, "it said close")
	one.Begin()
	one.Step(narrate.Connect, narrate.Event{Peer: other, Reused: true})
	two.Begin()
	two.Step(narrate.Connect, narrate.Event{Peer: other, Err: "refused"})
	pool := func() *PoolCount {
		got, _ := c.snapshot()
		p := got.Backends[1].Pool
		for i := range p.Ends {
			p.Ends[i].At = 0
		}
		return p
	}
	ends := []PoolEnd{{narrate.Closed, "it said close", 1, 0}}
	if diff := cmp.Diff(&PoolCount{InUse: 1, Made: 2, Reused: 1, Ends: ends}, pool()); diff != "" {
		t.Errorf("one in use (-want +got):\n%s", diff)
	}
	one.Pool(other, narrate.Kept, "")
	if diff := cmp.Diff(&PoolCount{Idle: 1, Made: 2, Reused: 1, Ends: ends}, pool()); diff != "" {
		t.Errorf("one idle (-want +got):\n%s", diff)
	}
	// One that is taken before it is told that it is kept.
	two.Step(narrate.Connect, narrate.Event{Peer: other, Reused: true})
	two.Begin()
	two.Step(narrate.Connect, narrate.Event{Peer: other, Reused: true})
	if p := pool(); p.Idle != 0 || p.InUse != 2 {
		t.Errorf("%d idle, %d in use, want 0 and 2", p.Idle, p.InUse)
	}
	for i := range 1000 { // thousands, and as many reasons
		n.Emit(narrate.Event{Kind: narrate.KindPool, Peer: other, State: narrate.Kept})
		n.Emit(narrate.Event{Kind: narrate.KindPool, Peer: other, State: narrate.Dropped,
			Text: fmt.Sprint("reason ", i)})
	}
	all, p := int64(0), pool()
	for _, end := range p.Ends {
		all += end.Count
	}
	if len(p.Ends) != maxEnds || all != 1001 || p.Ends[maxEnds-1].Why != "other reasons" {
		t.Errorf("%d ends for %d reasons: %v", all, len(p.Ends), p.Ends)
	}
}

// TestTriesAndBudget: tries are counted, and how full the bucket is.
func TestTriesAndBudget(t *testing.T) {
	c, n := newTestCollector()
	if got, _ := c.snapshot(); got.Budget != nil {
		t.Error("a program without a budget has one")
	}
	conn := n.Accept(clientAt(50000))
	conn.Begin()
	conn.Route(testBackend)
	conn.Tried(true, "it was not reached")
	conn.Tried(false, "the budget is spent")
	n.Budget(100, 100)
	n.Budget(0, 100)
	got, _ := c.snapshot()
	if got.Retries != 1 || got.Budget == nil || *got.Budget != (narrate.Budget{Full: 100}) {
		t.Errorf("%d retries, budget %v", got.Retries, got.Budget)
	}
}

// TestLongOpen: connections that are open for longer than the ring reaches back
// are told to a viewer that comes then; at most so many.
func TestLongOpen(t *testing.T) {
	c, n := newTestCollector()
	first, second := n.Accept(clientAt(50000)), n.Accept(clientAt(50001))
	first.Begin()
	exchange(second, testBackend)
	second.Idle(true)
	for i := range 50_000 {
		c.draws.tokens = 300 // draw everything: the ring must go round
		serve(n, 1024+i%40000, testBackend)
	}
	var got []string
	for _, r := range c.open() {
		if r.At < 0 || r.At > c.now() {
			t.Errorf("%+v happened at %d", r, r.At)
		}
		got = append(got, fmt.Sprintf("%s %d.%d %d %s", r.Kind, r.Conn, r.Request, r.Step, r.Peer))
	}
	want := []string{"step 1.0 4 127.0.0.1:50000", "step 2.0 4 127.0.0.1:50001", "idle 2.1 0 "}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("open (-want +got):\n%s", diff)
	}
	c.draws.tokens, c.draws.burst = 1e6, 1e6
	for i := range 2 * maxTold {
		n.Accept(clientAt(1024 + i))
	}
	if all := c.open(); len(all) > 2*maxTold || all[len(all)-1].Conn != c.counts.Connections {
		t.Errorf("told of %d, the newest is %d of %d", len(all), all[len(all)-1].Conn,
			c.counts.Connections)
	}
}

// TestHealth: how a backend is and was found to be; also of thousands of checks
// only so many are drawn.
func TestHealth(t *testing.T) {
	began := time.Now()
	c, n := newTestCollector()
	n.Health(testBackend, narrate.GoingDown, "1 of 3 checks failed")
	n.Health(testBackend, narrate.Down, "3 of 3 checks failed")
	for i := range 5000 {
		var err error
		if i%10 == 0 {
			err = errors.New("refused")
		}
		n.Check(testBackend, 0, time.Millisecond, err)
	}
	n.Health("", "panic", "fewer than half are well")
	n.Queue(7)
	got, _ := c.snapshot()
	if got.Mode != "panic" || got.Waiting != 7 {
		t.Errorf("mode %q, %d waiting", got.Mode, got.Waiting)
	}
	if got.Backends[1].Health != nil {
		t.Errorf("the other backend is %+v", got.Backends[1].Health)
	}
	got.Backends[0].Health.At = 0
	want := &HealthCount{State: narrate.Down, Why: "3 of 3 checks failed", Checks: 5000,
		Failed: 500}
	if diff := cmp.Diff(want, got.Backends[0].Health); diff != "" {
		t.Errorf("health (-want +got):\n%s", diff)
	}
	took := time.Since(began).Seconds() + 1
	kinds := make(map[string]int)
	c.walk(cursor{}, c.end(), func(batch []record) {
		for _, r := range batch {
			kinds[r.Kind]++
		}
	})
	if drawn := float64(kinds[narrate.KindCheck]); kinds[narrate.KindHealth] != 3 ||
		drawn < checksBurst || drawn > checksBurst+took*checksPerSec {
		t.Errorf("drawn are %v", kinds)
	}
}

// TestOwnClientsAreDrawn checks that a button's client is drawn even while the
// sample is exhausted, whether the proxy accepts it before or after the client
// knows its own address.
func TestOwnClientsAreDrawn(t *testing.T) {
	c, n := newTestCollector()
	drawn := func() uint64 { counts, _ := c.snapshot(); return counts.Drawn }
	for i := range 1000 {
		serve(n, 1024+i, testBackend)
	}
	c.draws.rate, c.draws.tokens = 0, 0
	before := drawn()
	c.dial()
	serve(n, 40000, testBackend)
	c.dialled("127.0.0.1:40000")
	c.dial()
	c.dialled("127.0.0.1:40001")
	serve(n, 40001, testBackend)
	if got := drawn() - before; got != 2 {
		t.Errorf("%d of 2 own clients were drawn", got)
	}
	c.dial()
	c.dialled("")
	c.dial()
	c.dialled("127.0.0.1:40002")
	c.gone("127.0.0.1:40002")
	if c.unmatched != 0 || len(c.accepted) != 0 || len(c.waiting) != 0 {
		t.Errorf("left over: %d clients, accepted %v, waiting %v", c.unmatched, c.accepted,
			c.waiting)
	}
	serve(n, 40003, testBackend)
	if got := drawn() - before; got != 2 {
		t.Errorf("a stranger was drawn though the sample is exhausted")
	}
}

// TestChildrenStartAndEnd: whatever is sampled, a process whose start viewers
// are shown has its end shown, and what is remembered for it is bounded.
func TestChildrenStartAndEnd(t *testing.T) {
	c, n := newTestCollector()
	starts, ends := make(map[string]int), make(map[string]int)
	const total = 5000
	for i := range total {
		conn := n.Accept(clientAt(1024 + i))
		name := fmt.Sprint("child ", i)
		n.WorkerNote(conn.ID, name, narrate.Started, "started")
		conn.Close(nil, false, 200)
		n.WorkerNote(conn.ID, name, narrate.Exited, "exited and was reaped: exit status 0")
	}
	n.WorkerNote(0, "standing", narrate.Started, "started")
	c.walk(cursor{}, c.end(), func(batch []record) {
		for _, r := range batch {
			switch r.State {
			case narrate.Started:
				starts[r.Worker]++
			case narrate.Exited:
				ends[r.Worker]++
			}
		}
	})
	delete(starts, "standing")
	if counts, _ := c.snapshot(); len(starts) != int(counts.Drawn) {
		t.Errorf("%d starts are shown of %d connections", len(starts), counts.Drawn)
	}
	if diff := cmp.Diff(starts, ends); diff != "" {
		t.Errorf("processes (-started +ended):\n%s", diff)
	}
	if workers := c.lost(0).Workers; len(workers) != 1 {
		t.Errorf("%d processes are held to be running: %v", len(workers), workers)
	}
}

func TestRingKeepsTheNewest(t *testing.T) {
	var g ring
	const total = 200_000 // far more than fit
	start := g.end()
	for i := range total {
		g.add(&record{At: int64(i), Kind: narrate.KindStep, Conn: uint64(i),
			Worker: "goroutine 1234", Text: "GET /slow?ms=200"})
	}
	var got []uint64
	at, lost := start, uint64(0)
	for {
		packed, next, missed := g.next(at, nil)
		lost += missed
		if len(packed) == 0 {
			break
		}
		for len(packed) > 0 {
			var r record
			r, packed = unpack(packed)
			got = append(got, r.Conn)
		}
		at = next
	}
	if lost == 0 || lost+uint64(len(got)) != total {
		t.Fatalf("%d read and %d lost, want %d together and some lost", len(got), lost, total)
	}
	for i, n := range got {
		if n != lost+uint64(i) {
			t.Fatalf("record %d is number %d, want %d", i, n, lost+uint64(i))
		}
	}
	if len(g.segments) > maxSegments {
		t.Errorf("the ring has %d segments, want at most %d", len(g.segments), maxSegments)
	}
}

func TestPackUnpack(t *testing.T) {
	long := strings.Repeat("x", 5000)
	for _, want := range []record{
		{Kind: narrate.KindStep},
		{At: 1 << 40, Kind: kindClient, Conn: 1 << 50, Shot: 7, Step: 10, Status: 502,
			Bytes: 1 << 34, Elapsed: 1 << 33,
			Request: 3, Try: 2, Reused: true, Failed: true, Fault: "backend", Worker: "child 4711",
			State: narrate.Exited, Name: "ten", Calls: "socket, connect", Peer: "[::1]:8080",
			Text: "Ä\x00\"", Err: "502 Bad Gateway"},
		{Kind: narrate.KindPool, Conn: 7, State: narrate.Kept},
		{Kind: narrate.KindHealth, Peer: testBackend, State: narrate.Down, Text: "refused"},
		{Kind: narrate.KindCheck, Peer: testBackend, Err: "refused"},
		{Kind: narrate.KindTry, Conn: 7, State: narrate.GivenUp, Text: "it is a POST"},
		{Kind: narrate.KindProblem, Err: long},
	} {
		packed := want.pack(nil)
		if len(packed) > maxRecord {
			t.Errorf("packed into %d bytes, want at most %d", len(packed), maxRecord)
		}
		got, rest := unpack(append(packed, "rest"...))
		want.Err = want.Err[:min(len(want.Err), maxString)]
		if diff := cmp.Diff(want, got); diff != "" || string(rest) != "rest" {
			t.Errorf("rest %q, difference:\n%s", rest, diff)
		}
	}
}

// TestLastMinute checks that a replay holds the last minute whole: nothing
// older, but for connections that were still open in it.
func TestLastMinute(t *testing.T) {
	c := newCollector(time.Now().Add(-10*time.Minute), nil)
	at := func(ago time.Duration, conn uint64, step narrate.Step) {
		c.sink(narrate.Event{Time: time.Now().Add(-ago), Kind: narrate.KindStep, Conn: conn,
			Step: step})
	}
	at(5*time.Minute, 1, narrate.Accept) // long gone
	at(5*time.Minute, 1, narrate.Close)
	at(4*time.Minute, 2, narrate.Accept)      // still open
	at(3*time.Minute, 3, narrate.Accept)      // closed in the last minute
	at(2*time.Minute, 3, narrate.ReadRequest) //
	at(30*time.Second, 3, narrate.Close)
	at(20*time.Second, 4, narrate.Accept)
	var got []string
	c.lastMinute(c.end(), func(batch []record) {
		for _, r := range batch {
			got = append(got, fmt.Sprintf("%d/%d", r.Conn, r.Step))
		}
	})
	want := []string{"2/4", "3/4", "3/5", "3/10", "4/4"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("connection/step (-want +got):\n%s", diff)
	}
}

func TestPercentiles(t *testing.T) {
	var h histogram
	if h.percentile(0.5) != 0 {
		t.Error("an empty histogram must say 0")
	}
	values := make([]int64, 0, 10_000)
	for i := range 10_000 {
		values = append(values, int64(i+1)*20) // 20 µs to 200 ms
	}
	rand.Shuffle(len(values), func(i, j int) { values[i], values[j] = values[j], values[i] })
	for _, v := range values {
		h.add(v)
	}
	for p, want := range map[float64]float64{0.5: 100_000, 0.99: 198_000, 0.1: 20_000} {
		if got := float64(h.percentile(p)); got < want*0.93 || got > want*1.07 {
			t.Errorf("percentile %v is %v, want %v within 7 %%", p, got, want)
		}
	}
	var same histogram
	for range 10 {
		same.add(200_800)
	}
	if p := same.percentile(0.5); p > 200_800 {
		t.Errorf("the median is %d µs though none took longer than 200,800", p)
	}
	h.add(1 << 62) // far above the last bucket
	for us := range int64(1 << 20) {
		if bucketOf(us) > bucketOf(us+1) {
			t.Fatalf("buckets do not grow at %d", us)
		}
	}
}

// BenchmarkSink measures what a connection costs the proxy while nobody
// watches: eight events, of which the drawn are packed.
func BenchmarkSink(b *testing.B) {
	for _, drawn := range []bool{false, true} {
		b.Run(fmt.Sprintf("drawn=%v", drawn), func(b *testing.B) {
			c, _ := newTestCollector()
			c.draws = bucket{}
			if drawn {
				c.draws = bucket{tokens: 1e18, burst: 1e18}
			}
			events := oneConnection()
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				for j := range events {
					events[j].Conn = uint64(i)
					c.sink(events[j])
				}
			}
		})
	}
}

// BenchmarkNarration measures the same connection with everything that the
// chapters do for it: the clock, the worker's name, the cleaned texts.
func BenchmarkNarration(b *testing.B) {
	for _, level := range []string{"off", "watched"} {
		b.Run(level, func(b *testing.B) {
			n := narrate.New(narrate.Off)
			n.Worker = narrate.Goroutine
			if level == "watched" {
				c, _ := newTestCollector()
				n.Attach(c.sink)
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				serve(n, 1024+i%60000, testBackend)
			}
		})
	}
}

// oneConnection returns the events of a connection.
func oneConnection() []narrate.Event {
	var events []narrate.Event
	n := narrate.New(narrate.All, func(e narrate.Event) { events = append(events, e) })
	n.Worker = func() string { return "goroutine 1234" }
	serve(n, 50000, testBackend)
	return events
}
