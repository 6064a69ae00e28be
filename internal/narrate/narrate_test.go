package narrate

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fatih/color"
	"github.com/google/go-cmp/cmp"
)

func TestClean(t *testing.T) {
	for _, test := range []struct{ in, want string }{
		{"", ""},
		{"GET /api/data", "GET /api/data"},
		{"~ tilde is the last", "~ tilde is the last"},
		{"title \x1b]0;x\x07", `title \x1b]0;x\a`},
		{"one\r\ntwo\x00\x7f", `one\r\ntwo\x00\x7f`},
		{"C1 as UTF-8 \u009b2J", `C1 as UTF-8 \u009b2J`},
		{"C1 raw \x9b2J", `C1 raw \x9b2J`},
		{"grüezi", `gr\u00fcezi`},
		{strings.Repeat("a", 200), strings.Repeat("a", 200)},
		{strings.Repeat("a", 201), strings.Repeat("a", 200) + "..."},
	} {
		if diff := cmp.Diff(test.want, Clean(test.in)); diff != "" {
			t.Errorf("Clean(%q): want (-), got (+):\n%s", test.in, diff)
		}
	}
}

func FuzzClean(f *testing.F) {
	f.Add("GET /\x1b[2J")
	f.Add(strings.Repeat("\xff", 300))
	f.Fuzz(func(t *testing.T, s string) {
		got := Clean(s)
		if len(got) > 4*maxText+len("...") {
			t.Errorf("%d bytes of %d", len(got), len(s))
		}
		for i := range len(got) {
			if got[i] < ' ' || got[i] > '~' {
				t.Errorf("Clean(%q) = %q", s, got)
			}
		}
	})
}

// TestTextLines holds the lines of the terminal against their events.
func TestTextLines(t *testing.T) {
	step := func(s Step, e Event) Event {
		e.Kind, e.Step, e.Name, e.Conn = KindStep, s, s.String(), 7
		return e
	}
	for _, test := range []struct {
		event Event
		want  string
	}{
		{Event{Kind: KindStep, Step: Bind, Name: "bind", Calls: "bind", Peer: "127.0.0.1:8080",
			Text: "inside net.Listen"},
			"      2 ✅ Bound to 127.0.0.1:8080 (bind, inside net.Listen)\n"},
		{step(Accept, Event{Peer: "127.0.0.1:5000"}),
			"#7    4 ✅ Accepted a connection from 127.0.0.1:5000\n"},
		{step(ReadRequest, Event{Bytes: 84, Text: "GET /", Worker: "goroutine 9"}),
			"#7    5 📦 Received 84 bytes: GET / [goroutine 9]\n"},
		{step(ForwardRequest, Event{Bytes: 90}),
			"#7    7 📤 Forwarded the request to the backend (90 bytes)\n"},
		{step(SendResponse, Event{Bytes: 120}),
			"#7    9 📤 Sent the response to the client (120 bytes)\n"},
		{step(Close, Event{Status: 200, Elapsed: 850}),
			"#7   10 🔒 Connection closed after 850 µs, answered with 200\n"},
		{step(Close, Event{Elapsed: 12345, Err: "the client left", Failed: true}),
			"#7   10 🔒 Connection closed after 12.3 ms: the client left\n"},
		{Event{Kind: KindRoute, Conn: 123456, Peer: "127.0.0.1:8001"},
			"#123456   ➡️  Routing to backend 127.0.0.1:8001\n"},
		{Event{Kind: KindWorker, Conn: 7, Worker: "child 99", Text: "started"},
			"#7      👷 child 99 started\n"},
		{step(Accept, Event{}), "#7    4 ✅ Accepted a connection\n"},
		{step(ReadRequest, Event{Request: 1, Bytes: 84}), "#7    5 📦 Received 84 bytes\n"},
		{step(ReadRequest, Event{Bytes: 1}), "#7    5 📦 Received 1 byte\n"},
		{step(ReadRequest, Event{Request: 2, Bytes: 84}), "#7.2  5 📦 Received 84 bytes\n"},
		{step(Connect, Event{Request: 2, Try: 1, Peer: "b:1", Calls: "connect",
			Text: "inside net.Dial"}), "#7.2  6 ✅ Connected to b:1 (connect, inside net.Dial)\n"},
		{step(Connect, Event{Request: 2, Try: 2, Peer: "b:1", Calls: "connect",
			Text: "inside net.Dial"}), "#7.2  6 ✅ Connected to b:1 [try 2]\n"},
		{step(Connect, Event{Request: 2, Peer: "b:1", Reused: true}), "#7.2  6 ✅ Reused an idle " +
			"connection to b:1\n"},
		{step(Close, Event{Request: 3, Status: 200, Elapsed: 850}), "#7   10 🔒 Connection closed " +
			"after 850 µs, 3 requests\n"},
		{Event{Kind: KindRequest, Conn: 7, Request: 1, Status: 200}, ""},
		{Event{Kind: KindIdle, Conn: 7, Request: 2, Status: 200},
			"#7.2    💤 Answered with 200, waiting for another request\n"},
		{Event{Kind: KindTry, Conn: 7, Request: 2, Try: 1, Peer: "b:1", State: Again,
			Text: "no byte was sent"},
			"#7.2    🔁 Try 1 (b:1) failed, trying again: no byte was sent\n"},
		{Event{Kind: KindTry, Conn: 7, State: GivenUp, Text: "it is a POST"},
			"#7      🔁 Try 1 failed, no further try: it is a POST\n"},
		{Event{Kind: KindBudget, Budget: &Budget{50.5, 100}},
			"        🪙 Retry budget: 50.5 of 100 tokens\n"},
		{Event{Kind: KindBudget, Budget: &Budget{50, 100}},
			"        🪙 Retry budget: 50 of 100 tokens, no further tries until it is above 50\n"},
		{Event{Kind: KindHealth, Peer: "b:1", State: Down, Text: "3 checks failed"},
			"        💔 Backend b:1 is down: 3 checks failed\n"},
		{Event{Kind: KindHealth, Peer: "b:1", State: GoingUp, Text: "1 of 2 checks passed"},
			"        💛 Backend b:1 is going up: 1 of 2 checks passed\n"},
		{Event{Kind: KindHealth, State: "panic", Text: "fewer than half are well"},
			"        🚦 fewer than half are well\n"},
		{Event{Kind: KindQueue, Waiting: 3}, "        ⏳ Requests that wait for a backend: 3\n"},
		{Event{Kind: KindCheck, Peer: "b:1", Status: 200, Elapsed: 850}, ""},
		{Event{Kind: KindProblem, Err: "Accept failed"}, "❌ Accept failed\n"},
		{Event{Kind: KindReady, Listen: "127.0.0.1:8080"}, ""},
		{Event{Kind: KindSummary, Summary: &Summary{}}, ""},
	} {
		var b bytes.Buffer
		Text(&b)(test.event)
		if diff := cmp.Diff(test.want, b.String()); diff != "" {
			t.Errorf("%+v: want (-), got (+):\n%s", test.event, diff)
		}
	}
	var b bytes.Buffer
	Text(&b)(step(Connect, Event{Peer: "127.0.0.1:8000", Err: "refused"}))
	if got := b.String(); !strings.Contains(got, "❌") || !strings.HasSuffix(got, ": refused\n") ||
		strings.Contains(got, "Connected") {
		t.Errorf("a failed step: %q", got)
	}
}

func TestTextHasColoursOnlyOnATerminal(t *testing.T) {
	defer func(was bool) { color.NoColor = was }(color.NoColor)
	e := Event{Kind: KindStep, Step: Accept, Conn: 1, Peer: "127.0.0.1:5000"}
	for _, no := range []bool{true, false} {
		color.NoColor = no
		var b bytes.Buffer
		Text(&b)(e)
		if coloured := strings.Contains(b.String(), "\x1b["); coloured == no {
			t.Errorf("NoColor %t: %q", no, b.String())
		}
	}
}

func TestJSONRoundTrip(t *testing.T) {
	want := []Event{
		{Time: time.Unix(1_700_000_000, 123456789).UTC(), Kind: KindStep, Conn: 3,
			Worker: "child 4", Step: ReadRequest,
			Name: "read request", Calls: "read", Peer: "127.0.0.1:1", Bytes: 84, Elapsed: 212,
			Status: 200, Text: `a "quote"`, Err: "e", Failed: true},
		{Time: time.Unix(1, 0).UTC(), Kind: KindReady, Listen: "127.0.0.1:8080",
			Backends: []string{"127.0.0.1:8000"}},
		{Time: time.Unix(2, 0).UTC(), Kind: KindSummary, Summary: &Summary{Connections: 5,
			Failed: 1, MostAtOnce: 2, CPUSeconds: 0.25, PeakMemory: 1 << 20}},
		{Time: time.Unix(3, 0).UTC(), Kind: KindBudget, Budget: &Budget{0, 100}},
	}
	var b bytes.Buffer
	sink := JSON(&b)
	for _, e := range want {
		sink(e)
	}
	lines := strings.SplitAfter(b.String(), "\n")
	if len(lines) != len(want)+1 || lines[len(want)] != "" {
		t.Fatalf("%d events are not as many lines: %q", len(want), b.String())
	}
	var got []Event
	for _, line := range lines[:len(want)] {
		var e Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		got = append(got, e)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want (-), got (+):\n%s", diff)
	}
	for _, name := range []string{`"time":"2023-`, `"event":"step"`, `"conn":3`, `"step":5`,
		`"elapsed_us":212`, `"error":"e"`} {
		if !strings.Contains(lines[0], name) {
			t.Errorf("%s lacks %s", lines[0], name)
		}
	}
	if !strings.Contains(lines[3], `"level":0,"full":100`) {
		t.Errorf("an empty bucket is told as %s", lines[3])
	}
	if strings.Contains(lines[0], `"level"`) || strings.Contains(lines[0], `"full"`) {
		t.Errorf("%s tells of a bucket", lines[0])
	}
}

// collect returns a Narrator and its events.
func collect(level Level) (*Narrator, func() []Event) {
	var events []Event
	return New(level, func(e Event) { events = append(events, e) }),
		func() []Event { return events }
}

func TestStepsOfAConnection(t *testing.T) {
	n, events := collect(All)
	n.Worker = func() string { return "worker 1" }
	c := n.AcceptFrom("127.0.0.1:5000")
	c.Step(ReadRequest, Event{Calls: "read", Bytes: 10, Text: "GET /\x1b[2J"})
	c.Route("127.0.0.1:8001")
	c.Step(Connect, Event{Calls: "socket, connect", Err: "refused\x07"})
	c.Close(errors.New("502"), true, 502)
	var got []Event
	for _, e := range events() {
		if e.Time.IsZero() || e.Elapsed < 0 {
			t.Errorf("time %v, elapsed %d", e.Time, e.Elapsed)
		}
		e.Time, e.Elapsed = time.Time{}, 0
		got = append(got, e)
	}
	want := []Event{
		{Kind: KindStep, Conn: 1, Step: Accept, Name: "accept", Calls: "accept",
			Peer: "127.0.0.1:5000"},
		{Kind: KindStep, Conn: 1, Worker: "worker 1", Step: ReadRequest, Name: "read request",
			Calls: "read", Bytes: 10, Text: `GET /\x1b[2J`},
		{Kind: KindRoute, Conn: 1, Worker: "worker 1", Name: "route", Peer: "127.0.0.1:8001"},
		{Kind: KindStep, Conn: 1, Worker: "worker 1", Step: Connect, Name: "connect",
			Calls: "socket, connect", Err: `refused\a`},
		{Kind: KindStep, Conn: 1, Worker: "worker 1", Step: Close, Name: "close", Calls: "close",
			Status: 502, Err: "502", Failed: true},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want (-), got (+):\n%s", diff)
	}
}

// TestTriesAndBackends: a failed try names the backend that it went to, whether
// that was chosen or connected to, and not that of the request before.
func TestTriesAndBackends(t *testing.T) {
	n, events := collect(All)
	c := n.AcceptFrom("")
	c.Begin()
	c.Route("b:1")
	c.Try(1)
	c.Step(Connect, Event{Err: "refused"})
	c.Tried(true, "it was not reached")
	c.Try(2)
	c.Step(Connect, Event{Peer: "b:2"})
	c.Tried(false, "bytes were sent\x1b[2J")
	c.End(Event{Failed: true})
	c.Begin()
	c.Tried(false, "")
	n.Budget(0, 10)
	n.Health("b:1", Down, "3 checks failed\r")
	n.Check("b:1", 500, 3*time.Millisecond, errors.New("500\a"))
	n.Check("b:2", 200, time.Second, nil)
	var got []Event
	for _, e := range events() {
		if e.Kind == KindStep || e.Kind == KindRoute || e.Kind == KindRequest {
			continue
		}
		if e.Time.IsZero() {
			t.Errorf("%+v has no time", e)
		}
		if e.Time = (time.Time{}); e.Kind != KindCheck {
			e.Elapsed = 0
		}
		got = append(got, e)
	}
	want := []Event{
		{Kind: KindTry, Name: "try", Conn: 1, Request: 1, Try: 1, Peer: "b:1", State: Again,
			Text: "it was not reached"},
		{Kind: KindTry, Name: "try", Conn: 1, Request: 1, Try: 2, Peer: "b:2", State: GivenUp,
			Text: `bytes were sent\x1b[2J`},
		{Kind: KindTry, Name: "try", Conn: 1, Request: 2, State: GivenUp},
		{Kind: KindBudget, Name: "budget", Budget: &Budget{0, 10}},
		{Kind: KindHealth, Name: "health", Peer: "b:1", State: Down, Text: `3 checks failed\r`},
		{Kind: KindCheck, Name: "check", Peer: "b:1", Status: 500, Elapsed: 3000, Err: `500\a`,
			Fault: "backend"},
		{Kind: KindCheck, Name: "check", Peer: "b:2", Status: 200, Elapsed: 1_000_000},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want (-), got (+):\n%s", diff)
	}
}

func TestBudgetIsLowFromHalfOn(t *testing.T) {
	for level, want := range map[float64]bool{0: true, 49.5: true, 50: true, 50.5: false,
		100: false} {
		if got := (Budget{level, 100}).Low(); got != want {
			t.Errorf("%v of 100: low %t", level, got)
		}
	}
}

func TestListening(t *testing.T) {
	n, events := collect(All)
	n.Listening(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8080})
	var got []string
	for _, e := range events() {
		got = append(got, e.Name+" "+e.Peer)
	}
	if diff := cmp.Diff([]string{"socket 127.0.0.1:8080", "bind 127.0.0.1:8080",
		"listen 127.0.0.1:8080"}, got); diff != "" {
		t.Errorf("want (-), got (+):\n%s", diff)
	}
}

func TestElapsedCountsFromTheStepBefore(t *testing.T) {
	n, events := collect(All)
	c := n.AcceptFrom("x")
	time.Sleep(20 * time.Millisecond) // the time that is measured
	c.Step(ReadRequest, Event{})
	c.Step(Connect, Event{})
	c.Close(nil, false, 200)
	e := events()
	if e[1].Elapsed < 20_000 || e[3].Elapsed < e[1].Elapsed+e[2].Elapsed {
		t.Errorf("read request %d µs, connect %d µs, in all %d µs", e[1].Elapsed, e[2].Elapsed,
			e[3].Elapsed)
	}
}

func TestElapsed(t *testing.T) {
	for us, want := range map[int64]string{0: "0 µs", 999: "999 µs", 1000: "1.0 ms",
		12345: "12.3 ms", 2_500_000: "2.50 s"} {
		if got := Elapsed(us); got != want {
			t.Errorf("%d: %q, want %q", us, got, want)
		}
	}
}

// TestOffCostsNothing: with nobody to tell, no event is built.
func TestOffCostsNothing(t *testing.T) {
	n := New(Off, func(Event) { t.Error("an event was told") })
	n.Worker = func() string { t.Error("a worker was asked for its name"); return "" }
	c := n.AcceptFrom("")
	allocs := testing.AllocsPerRun(100, func() {
		c.Step(ReadRequest, Event{Calls: "read", Bytes: 10})
		c.Route("127.0.0.1:8000")
		c.Body(100)
		n.Problem("nothing")
		n.WorkerNote(1, "child 1", Started, "started")
		c.Begin()
		c.Try(1)
		c.End(Event{Status: 200})
		c.Idle(true)
		c.Pool("127.0.0.1:8000", Closed, "it is too old")
		c.Tried(true, "no byte was sent")
		n.Budget(50, 100)
		n.Health("127.0.0.1:8000", Down, "3 checks failed")
		n.Check("127.0.0.1:8000", 0, time.Second, io.EOF)
	})
	if allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
	c.Close(nil, false, 200)
	if s := n.Summary(); s.Connections != 1 || s.Failed != 0 || s.MostAtOnce != 1 {
		t.Errorf("but it is counted: %+v", s)
	}
}

func TestSummaryCounts(t *testing.T) {
	n := New(Off)
	var together, all sync.WaitGroup
	together.Add(10)
	for i := range 50 {
		all.Go(func() { // ends when its connection is closed
			if i >= 10 { // the first ten are open at once, the others after them
				together.Wait()
			}
			c := n.AcceptFrom("")
			if i < 10 {
				together.Done()
				together.Wait()
			}
			c.Close(nil, i%5 == 0, 0)
		})
	}
	all.Wait()
	n.Drain()
	s := n.Summary()
	if s.Connections != 50 || s.Failed != 10 || s.MostAtOnce < 10 || s.MostAtOnce > 50 ||
		n.InFlight() != 0 {
		t.Errorf("%+v, %d in flight", s, n.InFlight())
	}
	if runtime.GOOS == "linux" && (s.PeakMemory < 1<<20 || s.PeakMemory > 1<<32) {
		t.Errorf("peak memory of %d bytes", s.PeakMemory)
	}
}

func TestSummaryLine(t *testing.T) {
	for want, s := range map[string]Summary{
		"Summary: 12 connections, 31 requests, 0 failed, at most 3 at once,\n         CPU 0.050 " +
			"s, peak memory 14.2 MB": {
			Connections: 12, Requests: 31, MostAtOnce: 3, CPUSeconds: 0.05, PeakMemory: 14_200_000},
		"Summary: 1 connection, 1 request, 1 failed, at most 1 at once,\n         CPU 0.000 s, " +
			"peak memory 0.0 MB": {
			Connections: 1, Requests: 1, Failed: 1, MostAtOnce: 1},
		"Summary: 0 connections, 0 requests, 0 failed, at most 0 at once,\n         CPU 0.000 s, " +
			"peak memory 0.0 MB": {},
	} {
		if got := s.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestSlowMotion: the pause lies between two steps and is not the time of
// either. Whoever accepts is not held up, and what a backend takes is seen.
func TestSlowMotion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const pause, backend = 100 * time.Millisecond, 60 * time.Millisecond
		n, events := collect(All)
		n.SlowMotion(pause)
		began := time.Now()
		c := n.AcceptFrom("x")
		if d := time.Since(began); d >= pause {
			t.Errorf("accepting took %v", d)
		}
		c.Begin()
		c.Step(ReadRequest, Event{})
		c.Route("b")
		c.Step(Connect, Event{})
		c.Step(ForwardRequest, Event{})
		time.Sleep(backend) // the backend at work
		c.Step(ReadResponse, Event{})
		c.Step(SendResponse, Event{})
		c.End(Event{Status: 200})
		c.Close(nil, false, 200)
		e := events()
		for i := 1; i < len(e); i++ {
			if e[i].Kind == KindRequest || i > 1 && e[i-1].Kind == KindRequest {
				continue // no step: step 9 is over, nothing of it is left to see
			}
			if d := e[i].Time.Sub(e[i-1].Time); d < pause {
				t.Errorf("step %d was told %v after the one before", e[i].Step, d)
			}
			if us := e[i].Elapsed; e[i].Step != ReadResponse && us >= pause.Microseconds()/2 {
				t.Errorf("step %d took %d µs: the pause counts", e[i].Step, us)
			}
		}
		if us := e[5].Elapsed; e[5].Step != ReadResponse || us < backend.Microseconds() ||
			us >= pause.Microseconds() {
			t.Errorf("a backend of %v is shown as %d µs", backend, us)
		}
	})
}

// TestSlowMotionHoldsNobodyUp: ten connections accepted by one goroutine go
// through their steps side by side.
func TestSlowMotionHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const pause = 50 * time.Millisecond
		n := New(All)
		n.SlowMotion(pause)
		began := time.Now()
		for range 10 {
			c := n.AcceptFrom("x")
			go func() { // ends with its connection
				c.Begin()
				c.Step(ReadRequest, Event{})
				c.Close(nil, false, 200)
			}()
		}
		n.Drain()
		if d := time.Since(began); d > 6*pause {
			t.Errorf("ten connections of two pauses each took %v", d)
		}
	})
}

// TestRequests: events say which request, which try and which connection of the
// backend's they belong to, and the summary counts requests.
func TestRequests(t *testing.T) {
	n, events := collect(All)
	c := n.AcceptFrom("127.0.0.1:5000")
	c.Begin()
	c.Step(ReadRequest, Event{Bytes: 80})
	c.Try(1)
	c.Step(Connect, Event{Peer: "b1", Err: "refused", Fault: "backend"})
	c.Try(2)
	c.Step(Connect, Event{Peer: "b2"})
	c.Step(SendResponse, Event{Bytes: 120})
	c.End(Event{Status: 200, Bytes: 120})
	c.Idle(true)
	if n.InFlight() != 0 {
		t.Errorf("%d in flight while the connection is idle", n.InFlight())
	}
	c.Begin()
	if n.InFlight() != 1 {
		t.Errorf("%d in flight, want 1", n.InFlight())
	}
	if cut := n.CutOff(); cut != 1 {
		t.Errorf("%d are cut off, want 1", cut)
	}
	c.Step(ReadRequest, Event{Bytes: 81})
	c.Step(Connect, Event{Peer: "b2", Reused: true})
	c.Close(errors.New("the client left"), true, 0) // ends the request, too
	c.End(Event{})                                  // which is over already

	type seen struct {
		What         string
		Request, Try int
		Reused       bool
		Status       int
		Bytes        int64
		Failed       bool
		Err, Fault   string
	}
	var got []seen
	for _, e := range events() {
		got = append(got, seen{e.Name, e.Request, e.Try, e.Reused, e.Status, e.Bytes, e.Failed,
			e.Err, e.Fault})
	}
	want := []seen{
		{What: "accept"},
		{What: "read request", Request: 1, Bytes: 80},
		{What: "connect", Request: 1, Try: 1, Err: "refused", Fault: "backend"},
		{What: "connect", Request: 1, Try: 2},
		{What: "send response", Request: 1, Try: 2, Bytes: 120},
		{What: "request", Request: 1, Try: 2, Status: 200, Bytes: 120},
		{What: "idle", Request: 1, Status: 200},
		{What: "read request", Request: 2, Bytes: 81},
		{What: "connect", Request: 2, Reused: true},
		{What: "request", Request: 2, Failed: true, Err: "the client left"},
		{What: "close", Request: 2, Failed: true, Err: "the client left"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want (-), got (+):\n%s", diff)
	}
	if s := n.Summary(); s.Connections != 1 || s.Requests != 2 || s.Failed != 1 ||
		s.MostAtOnce != 1 {
		t.Errorf("%+v: the failure was counted by CutOff, and counts once", s)
	}
}

// TestFailuresCountOnce: a failure is its request's; only without one is it the
// connection's.
func TestFailuresCountOnce(t *testing.T) {
	for _, test := range []struct {
		name     string
		do       func(*Conn)
		requests int64
		failed   int64
	}{
		{"answered", func(c *Conn) { c.Begin(); c.End(Event{}); c.Close(nil, false, 200) }, 1, 0},
		{"failed", func(c *Conn) { c.Begin(); c.End(Event{Failed: true}); c.Close(nil, true, 502) },
			1, 1},
		{"not ended", func(c *Conn) { c.Begin(); c.Close(nil, true, 502) }, 1, 1},
		{"silent", func(c *Conn) { c.Close(nil, true, 408) }, 0, 1},
		{"left", func(c *Conn) { c.Close(nil, false, 0) }, 0, 0},
		{"idle, then gone", func(c *Conn) {
			c.Begin()
			c.End(Event{})
			c.Idle(true)
			c.Close(nil,
				true, 0)
		}, 1, 0},
		{"the second of two", func(c *Conn) {
			c.Begin()
			c.End(Event{})
			c.Begin()
			c.Close(nil,
				true, 502)
		}, 2, 1},
	} {
		for _, level := range []Level{Off, All} {
			n := New(level)
			test.do(n.AcceptFrom("x"))
			if s := n.Summary(); s.Requests != test.requests || s.Failed != test.failed ||
				n.InFlight() != 0 {
				t.Errorf("%s: %+v, %d in flight", test.name, s, n.InFlight())
			}
		}
	}
}

// nowhere is a connection that was reset before it was accepted: it has no
// address.
type nowhere struct{ net.Conn }

func (nowhere) RemoteAddr() net.Addr { return nil }

func TestAcceptOfAConnectionWithoutAddress(t *testing.T) {
	n, events := collect(All)
	n.Accept(nowhere{}).Close(nil, false, 0)
	if e := events(); e[0].Step != Accept || e[0].Peer != "" {
		t.Errorf("%+v", e[0])
	}
}

func TestStepNames(t *testing.T) {
	var got []string
	for s := Step(0); s <= Close+1; s++ {
		got = append(got, s.String())
	}
	want := []string{"", "socket", "bind", "listen", "accept", "read request", "connect",
		"forward request",
		"read response", "send response", "close", ""}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want (-), got (+):\n%s", diff)
	}
}

func TestGoroutineNames(t *testing.T) {
	names := make(chan string)
	go func() { names <- Goroutine() }() // ends when its name is read
	if got := <-names; !regexp.MustCompile(`^goroutine \d+$`).MatchString(got) {
		t.Errorf("%q", got)
	}
}

func TestManySinksAndGoroutines(t *testing.T) {
	var first, second int // the race detector watches that only one sink runs at a time
	n := New(All, func(Event) { first++ })
	n.Attach(func(Event) { second++ })
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() { // ends with its connection
			c := n.AcceptFrom("x")
			c.Step(ReadRequest, Event{})
			c.Close(nil, false, 200)
		})
	}
	all.Wait()
	if first != 60 || second != 60 {
		t.Errorf("%d and %d events, want 60 each", first, second)
	}
}

// TestClosedComesBeforeTheSummary: whoever waits for the connections to end
// does not overtake their last line.
func TestClosedComesBeforeTheSummary(t *testing.T) {
	n := New(All)
	drained := make(chan struct{})
	n.Attach(func(e Event) {
		if e.Step != Close {
			return
		}
		select {
		case <-drained:
			t.Error("the connection counted as done before its step 10 was told")
		case <-time.After(50 * time.Millisecond): // enough for a goroutine that is ready
		}
	})
	c := n.AcceptFrom("127.0.0.1:1")
	go func() { // ends with the connection
		n.Drain()
		close(drained)
	}()
	c.Close(nil, false, 200)
	<-drained
}

// TestCutOff: who is cut off counts as failed, and once.
func TestCutOff(t *testing.T) {
	n := New(Off)
	done, open := n.AcceptFrom(""), n.AcceptFrom("")
	n.AcceptFrom("")
	done.Close(nil, false, 200)
	if k := n.CutOff(); k != 2 {
		t.Errorf("%d cut off, want 2", k)
	}
	open.Close(errors.New("killed"), true, 0) // its end comes after all
	if s := n.Summary(); s.Connections != 3 || s.Failed != 2 {
		t.Errorf("%d connections, %d failed, want 3 and 2", s.Connections, s.Failed)
	}
}

// A connection that waits for its next request is not in flight, and to close it
// does not make it so.
func TestIdleIsNotInFlight(t *testing.T) {
	n := New(Off)
	idle := n.AcceptFrom("")
	idle.Begin()
	idle.End(Event{})
	idle.Idle(true)
	if got := n.InFlight(); got != 0 {
		t.Errorf("%d in flight, the only one is idle", got)
	}
	busy := n.AcceptFrom("")
	busy.Begin()
	idle.Close(nil, false, 0)
	if got := n.InFlight(); got != 1 {
		t.Errorf("%d in flight, want the busy one", got)
	}
	busy.Close(nil, false, 200)
	if s := n.Summary(); s.MostAtOnce != 1 || n.InFlight() != 0 {
		t.Errorf("%+v, %d in flight", s, n.InFlight())
	}
}
