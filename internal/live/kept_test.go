package live_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"reverseproxy/internal/live"
	"reverseproxy/internal/live/browser"
	"reverseproxy/internal/narrate"
)

// synthetic starts a page without a proxy, whose events the test makes up.
func (b *bench) synthetic(t *testing.T, chapter string) (*tab, *narrate.Narrator, []string,
	*live.Server) {
	t.Helper()
	narrator := narrate.New(narrate.Off)
	backends := []string{"127.0.0.1:8000", "127.0.0.1:8001", "127.0.0.1:8002"}
	server, err := live.Start("127.0.0.1:0", live.Config{Chapter: chapter, Narrator: narrator,
		BackendAddrs: backends, Keeps: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	narrator.Attach(server.Sink)
	narrator.SlowMotion(20 * time.Millisecond) // so that the bars have a width
	o := b.open(t, "http://"+server.Addr()+"/")
	o.until(`document.querySelector("#status").dataset.status === "live" &&
		document.querySelectorAll(".card").length === 3`)
	return o, narrator, backends, server
}

// noFaults checks that in windows of usual sizes nothing is cut off or covered,
// and that texts have contrast in both themes.
func (o *tab) noFaults(t *testing.T) {
	t.Helper()
	for _, size := range [][2]int64{{1280, 720}, {1024, 768}, {500, 1560}, {1920, 1080}} {
		o.resize(size[0], size[1])
		probe := "[...covered(), ...crowded()]"
		if size[0] > 960 { // a narrower page scrolls
			probe = "[...layoutFaults(), ...covered(), ...crowded()]"
		}
		var faults []string
		o.evaluate("twoFrames().then(() => "+probe+")", &faults)
		for _, f := range faults {
			t.Errorf("%d×%d: %s", size[0], size[1], f)
		}
		var wide int64
		o.read(`document.documentElement.scrollWidth`, &wide)
		if wide > size[0] {
			t.Errorf("the page is %d pixels wide in a window of %d", wide, size[0])
		}
	}
	o.resize(1280, 720)
	for _, theme := range []string{"light", "dark"} {
		o.read(`document.documentElement.dataset.theme = "`+theme+`"`, nil)
		var faults []string
		o.evaluate("twoFrames().then(contrast)", &faults)
		for _, f := range faults {
			t.Errorf("%s: %s", theme, f)
		}
	}
}

// pools sums up what the narration tells of connections to backends.
type pools struct{ Made, Reused, Idle, InUse int }

func told(events []narrate.Event) (p pools) {
	for _, e := range events {
		switch {
		case e.Step == narrate.Connect && e.Reused:
			p.Reused, p.Idle, p.InUse = p.Reused+1, p.Idle-1, p.InUse+1
		case e.Step == narrate.Connect && e.Err == "":
			p.Made, p.InUse = p.Made+1, p.InUse+1
		case e.Kind != narrate.KindPool || e.Peer == "":
		case e.State == narrate.Kept:
			p.Idle, p.InUse = p.Idle+1, p.InUse-1
		case e.State == narrate.Dropped:
			p.Idle--
		default:
			p.InUse--
		}
	}
	return p
}

// shown waits until the page's cards sum up to what was told.
func (o *tab) shown(p pools) {
	o.t.Helper()
	o.until(fmt.Sprintf(`pooled("made") === %d && pooled("reused") === %d &&
		pooled("idle") === %d && pooled("inUse") === %d`, p.Made, p.Reused, p.Idle, p.InUse))
}

// testKept: six requests in a row on one connection to ch6, whose three backends
// get two each: the second goes over the connection of the first. A recording
// shows the same.
func (b *bench) testKept(t *testing.T) {
	p := b.run(t, "ch6_keep_alive", "-keepalive", "1")
	o := b.watch(t, p)
	seen := o.eachFrame("dotsAndLanes, sameConnection, covered")
	o.press("a")
	events := closed(t, p, 1)
	o.until(rowsDone(1) + " && " + counter("connections", 1) + " && " + counter("requests", 6) +
		" && " + counter("failed", 0))
	o.shown(told(events))
	if got := told(events); got != (pools{Made: 3, Reused: 3, Idle: 3}) {
		t.Errorf("the narration tells of %+v", got)
	}
	seen(t)
	same := func(o *tab) {
		t.Helper()
		o.resize(4000, 2400) // six requests have marks and numbers there, however long they take
		o.until(`marks("fresh") === 3 && marks("reused") === 3 && numbers() === "2 3 4 5 6"`)
		o.until(`results()[0].startsWith("6 requests · ")`)
		o.until(`document.querySelector('[data-step="10"]').textContent
			.includes("backend’s kept · client’s closed: it left")`)
		o.until(`document.querySelector('[data-step="6"]').textContent.includes("reused")`)
	}
	same(o)
	o.noFaults(t)
	same(b.open(t, "file://"+o.save()))

	o.press("t") // ten at once, which say close: more connections than may be idle
	events = closed(t, p, 11)
	o.until(counter("connections", 11))
	o.shown(told(events))
	o.until(`[...document.querySelectorAll(".pool")].some((n) =>
		n.title.includes("closed: enough are idle (-keepalive)"))`)
	o.until(`document.querySelector('[data-step="10"]').textContent
		.includes("client’s closed: it said close")`)
	o.noFaults(t)
	o.read(`document.documentElement.dataset.view = "flow"`, nil)
	var faults []string
	o.evaluate("twoFrames().then(() => [...layoutFaults(), ...crowded()])", &faults)
	for _, f := range faults {
		t.Errorf("the flow alone: %s", f)
	}
}

// testNoPool: a chapter that keeps no connection shows no pool, and no button
// for requests in a row.
func (b *bench) testNoPool(t *testing.T) {
	p := b.run(t, "ch5_load_balancer")
	o := b.watch(t, p)
	o.press("to")
	closed(t, p, 11)
	o.until(counter("connections", 11) + " && " + counter("inFlight", 0))
	var seen int
	o.read(`[...document.querySelectorAll('.pool, .card .ends, .mark, [data-shoot="row"], #budget')]
		.filter((n) => n.getClientRects().length > 0).length`, &seen)
	if seen != 0 {
		t.Errorf("%d elements of a pool or a budget are shown", seen)
	}
}

// testManyKept: connections that carry request after request, and thousands of
// them: the page keeps drawing and forgetting, says that it samples, and counts
// every one.
func (b *bench) testManyKept(t *testing.T) {
	p := b.run(t, "ch6_keep_alive", "-reuse", "always")
	o := b.watch(t, p)
	o.countFrames()
	began := time.Now()
	const few, each = 16, 500
	manyOnOne(t, p, few, each)
	const many, some = 1200, 4
	manyOnOne(t, p, many, some)
	o.keptDrawing(t, few*each+many*some, time.Since(began))
	const total = few*each + many*some
	o.until(`document.querySelector("#lanes-note").dataset.sampled === "true" || ` +
		counter("requests", total))
	o.until(counter("connections", few+many) + " && " + counter("requests", total) + " && " +
		counter("inFlight", 0) + " && " + counter("failed", 0))
	o.until(fmt.Sprintf(`pooled("made") + pooled("reused") === %d && pooled("inUse") === 0 &&
		pooled("idle") <= 3 * 256`, total))
	o.lostLittle(t)
	o.noFaults(t)

	// What a page remembers of a connection that stays open is bounded, in number
	// and in time; and one that was open before is told of twice and drawn once.
	var got struct{ Lanes, Requests, Steps, Idle, Later int }
	o.evaluate(`import('./store.js').then(({ Store }) => {
		const accept = { t: 1, kind: 'step', step: 4, conn: 7, peer: 'x', us: 0 };
		const store = new Store({ children: [], open: [accept] });
		store.add(accept);
		for (let n = 1; n <= 5000; n++) {
			const t = n * 1e4, request = n, conn = 7, us = 1;
			for (let step = 5; step <= 9; step++)
				store.add({ t, us, kind: 'step', step, conn, request });
			store.add({ t, us, kind: 'request', conn, request });
			store.add({ t, us, kind: 'idle', conn, request });
		}
		store.trim(5000e4);
		const [lane] = store.lanes;
		const got = { Lanes: store.lanes.length, Requests: lane.requests.length,
			Steps: lane.steps.length, Idle: lane.idle.length };
		store.trim(5000e4 + 70e6);
		return { ...got, Later: lane.requests.length + lane.steps.length + lane.idle.length };
	})`, &got)
	if got.Lanes != 1 || got.Requests != 400 || got.Steps != 1+5*400 || got.Idle > 401 ||
		got.Later > 2 {
		t.Errorf("the page remembers %+v", got)
	}
}

// testLane: what a lane is made of: requests that are not drawn leave a gap of
// their own, and a dot is at the backend that its request was at then.
func (b *bench) testLane(t *testing.T) {
	o, _, _, _ := b.synthetic(t, "ch6_keep_alive")
	var got struct {
		Phases   []string
		Backends []string
		Steps    []int // that are shown of the second try
	}
	o.evaluate(`import('./store.js').then(({ Store }) => {
		const store = new Store({ children: [], open: [] });
		const conn = 7, us = 1, step = (t, step, request, more) =>
			store.add({ t, us, kind: 'step', step, conn, request, ...more });
		step(10, 4, 0, { peer: 'x' });
		const exchange = (t, request, peer) => {
			step(t, 5, request);
			step(t + 10, 6, request, { peer });
			step(t + 20, 7, request);
		};
		exchange(100, 1, 'a');
		step(130, 8, 1, { status: 200 });
		store.add({ t: 131, us, kind: 'request', conn, request: 1 });
		store.add({ t: 140, us, kind: 'idle', conn, request: 1 });
		exchange(500, 2, 'b');
		store.add({ t: 550, us, kind: 'try', conn, request: 2, peer: 'b', state: 'again',
			text: '' });
		step(560, 6, 2, { peer: 'c', try: 2 });
		exchange(900, 5, 'a');
		step(1000, 10, 9);
		const [lane] = store.lanes;
		return { Phases: lane.phases().map((p) => p.phase),
			Backends: [121, 521, 561, 921].map((t) => lane.placeAt(t).backend),
			Steps: lane.stepsAt(570).map((s) => s.step) };
	})`, &got)
	phases := "reading connecting forwarding waiting idle reading connecting forwarding " +
		"connecting skipped reading connecting forwarding skipped"
	if strings.Join(got.Phases, " ") != phases {
		t.Errorf("phases %v, want %s", got.Phases, phases)
	}
	if want := []string{"a", "b", "c", "a"}; !slices.Equal(got.Backends, want) {
		t.Errorf("the dot is at %v, want %v", got.Backends, want)
	}
	if want := []int{4, 5, 6}; !slices.Equal(got.Steps, want) {
		t.Errorf("steps %v, want %v", got.Steps, want)
	}
}

// manyOnOne makes requests on so many connections at once, so many on each.
func manyOnOne(t *testing.T, p *browser.Program, clients, requests int) {
	t.Helper()
	var all sync.WaitGroup
	for range clients {
		all.Go(func() { // ends after its requests
			if err := inARow(p.Proxy, requests); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

// inARow makes requests on one connection.
func inARow(addr string, requests int) error {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	r := bufio.NewReader(c)
	for i := range requests {
		fmt.Fprintf(c, "GET /api/data HTTP/1.1\r\nHost: x\r\n\r\n")
		answer, err := http.ReadResponse(r, nil)
		if err != nil {
			return fmt.Errorf("request %d of %d: %w", i+1, requests, err)
		}
		if _, err := io.Copy(io.Discard, answer.Body); err != nil || answer.StatusCode != 200 {
			return fmt.Errorf("request %d of %d: %d, %v", i+1, requests, answer.StatusCode, err)
		}
	}
	return nil
}

// testLongRun: the page has room for what a run of days counts.
func (b *bench) testLongRun(t *testing.T) {
	for _, chapter := range []string{"ch7_timeouts_retries", "ch9_balancing_algorithms"} {
		o, n, backends, _ := b.synthetic(t, chapter)
		const first, requests = 1_234_560, 1_335_000
		n.Budget(12.5, 100)
		for i := range uint64(12) {
			conn, worker := first+i, fmt.Sprint("goroutine ", 44_654_800+i)
			step := func(step narrate.Step, e narrate.Event) {
				e.Kind, e.Step, e.Conn, e.Request = narrate.KindStep, step, conn, requests
				e.Worker = worker
				n.Emit(e)
			}
			n.Emit(narrate.Event{Kind: narrate.KindStep, Step: narrate.Accept, Conn: conn,
				Peer: fmt.Sprint("127.0.0.1:", 50_000+i)})
			step(narrate.ReadRequest, narrate.Event{Text: "GET /api/data"})
			step(narrate.Connect, narrate.Event{Peer: backends[i%3], Reused: i > 3})
			if i == 5 {
				n.Emit(narrate.Event{Kind: narrate.KindIdle, Conn: conn, Request: requests})
			}
			if i > 6 {
				continue
			}
			step(narrate.ForwardRequest, narrate.Event{})
			step(narrate.ReadResponse, narrate.Event{Status: 200, Elapsed: 12_345_000})
			step(narrate.SendResponse, narrate.Event{Status: 200})
			n.Emit(narrate.Event{Kind: narrate.KindPool, Conn: conn, Request: requests,
				Peer: backends[i%3], State: narrate.Kept})
		}
		for i := range 300 {
			n.Emit(narrate.Event{Kind: narrate.KindStep, Step: narrate.Connect,
				Peer: backends[i%3]})
			n.Emit(narrate.Event{Kind: narrate.KindPool, Peer: backends[i%3], State: narrate.Kept})
			for reason := range 5 {
				n.Emit(narrate.Event{Kind: narrate.KindPool, Peer: backends[i%3],
					State: narrate.Closed,
					Text:  fmt.Sprint("it has carried as many requests as it may: ", reason)})
			}
			n.Emit(narrate.Event{Kind: narrate.KindTry, Conn: first, State: narrate.Again,
				Text: "the next one goes to 127.0.0.1:8001"})
		}
		o.until(counter("requests", 12*requests) + ` && rows().length > 8`)
		o.noFaults(t)
		o.read(`document.documentElement.dataset.view = "flow"`, nil)
		var faults []string
		o.evaluate("twoFrames().then(() => [...layoutFaults(), ...crowded()])", &faults)
		for _, f := range faults {
			t.Errorf("the flow alone: %s", f)
		}
	}
}

// testTries: a request whose first two tries fail is seen to go to one backend
// after the other, and why; the bucket is as full as it was told to be.
func (b *bench) testTries(t *testing.T) {
	o, n, backends, _ := b.synthetic(t, "ch6_keep_alive")
	n.Budget(100, 100)
	o.until(`document.querySelector("#budget").dataset.level === "100"`)
	c := n.AcceptFrom("127.0.0.1:50000")
	c.Begin()
	c.Step(narrate.ReadRequest, narrate.Event{Text: "GET /"})
	for i, backend := range backends {
		c.Route(backend)
		c.Try(i + 1)
		switch i {
		case 0:
			c.Step(narrate.Connect, narrate.Event{Peer: backend, Err: "refused", Fault: "backend"})
			c.Tried(true, "the backend was not reached")
		case 1:
			c.Step(narrate.Connect, narrate.Event{Peer: backend})
			c.Step(narrate.ForwardRequest, narrate.Event{})
			c.Step(narrate.ReadResponse, narrate.Event{Err: "reset", Fault: "backend"})
			c.Pool(backend, narrate.Closed, "its request was given up")
			n.Budget(50, 100)
			c.Tried(true, "a GET may be sent twice")
		case 2:
			c.Step(narrate.Connect, narrate.Event{Peer: backend})
		}
	}
	// In the third try the steps of the second are not its own.
	o.until(`[7, 8, 9].map((n) => document.querySelector('[data-step="' + n + '"]').dataset.state)
		.join() === "now,pending,pending"`)
	c.Step(narrate.ForwardRequest, narrate.Event{})
	c.Step(narrate.ReadResponse, narrate.Event{Status: 200})
	c.Step(narrate.SendResponse, narrate.Event{Status: 200})
	c.Pool(backends[2], narrate.Kept, "")
	c.End(narrate.Event{Status: 200})
	c.Pool("", narrate.Closed, "it said close")
	c.Close(nil, false, 200)
	o.until(rowsDone(1) + " && " + counter("failed", 0))
	if got := results(o); !strings.HasPrefix(got, "200 · ") {
		t.Errorf("the request ended as %q", got)
	}
	var got string
	o.read("tries()", &got)
	if want := "try 1 → :8000 failed, tried again: the backend was not reached\n" +
		"try 2 → :8001 failed, tried again: a GET may be sent twice"; got != want {
		t.Errorf("the tries are shown as\n%s", got)
	}
	// Each try has its backend's colour, and a mark stands where another followed.
	o.press("----") // a minute: none has left the picture
	o.until(`[...document.querySelectorAll(".bar[data-phase]")].filter(shown)
		.map((n) => n.getAttribute("class").match(/\bb\d/)?.[0]).filter(Boolean).join(" ") ===
		"b0 b1 b1 b1 b2 b2 b2 b2"`)
	o.press("0")
	o.until(`[...document.querySelectorAll(".again")].filter(shown).length === 2`)
	o.until(`card(0).failures === "1" && card(1).failures === "1" && card(2).failures === "0"`)
	o.until(`document.querySelector("#budget").textContent
		.includes("retry budget 50 of 100 · 2 tried again · further tries withheld")`)
	replay := b.open(t, "file://"+o.save())
	replay.until(rowsDone(1) + ` && document.querySelector("#budget").dataset.level === "50"`)
	replay.until(`[...document.querySelectorAll(".again")].filter(shown).length === 2`)
	n.Budget(0, 100)
	o.until(`document.querySelector("#budget").dataset.level === "0"`)
	n.Budget(50.5, 100)
	o.until(`!document.querySelector("#budget").textContent.includes("withheld")`)
	n.Budget(12.5, 100)
	o.noFaults(t)

	// One whose connection ends before it has a backend says why, too.
	n.SlowMotion(0)
	refused := n.AcceptFrom("127.0.0.1:50009")
	refused.Begin()
	refused.Step(narrate.ReadRequest, narrate.Event{Text: "GET /"})
	refused.End(narrate.Event{Status: 400})
	refused.Pool("", narrate.Closed, "its request was malformed")
	refused.Close(nil, false, 400)
	o.until(`document.querySelector('[data-step="10"]').textContent
		.includes("client’s closed: its request was malformed")`)
	n.SlowMotion(20 * time.Millisecond)

	// One that is given up is failed, and says why.
	c = n.AcceptFrom("127.0.0.1:50001")
	c.Begin()
	c.Step(narrate.ReadRequest, narrate.Event{Text: "POST /"})
	c.Try(1)
	c.Step(narrate.Connect, narrate.Event{Peer: backends[0], Err: "reset", Fault: "backend"})
	c.Tried(false, "further tries are withheld: the budget is half empty")
	c.End(narrate.Event{Status: 502, Failed: true, Err: "reset"})
	c.Close(nil, false, 502)
	o.until(`document.querySelector('.row[data-conn="3"][data-end]') !== null && ` +
		counter("failed", 1))
	o.until(`tries() === "try 1 → :8000 failed, no further try: " +
		"further tries are withheld: the budget is half empty"`)
}

// testRetried: ch7 tries requests again whose backend is stopped, before they come
// or while it works on one; only the latter costs a token.
func (b *bench) testRetried(t *testing.T) {
	p := b.run(t, "ch7_timeouts_retries", "-retry-budget", "4")
	o := b.watch(t, p)
	o.press("2")
	o.until(`card(1).running === "false"`)
	o.press("t")
	events := closed(t, p, 10)
	o.until(rowsDone(10) + " && " + counter("failed", 0))
	refused := 0
	for _, e := range events {
		if e.Kind == narrate.KindTry && e.State == narrate.Again {
			refused++
		}
	}
	if refused < 3 {
		t.Errorf("%d requests were tried again, want a third of ten", refused)
	}
	o.until(fmt.Sprintf(`document.querySelector("#budget").textContent.includes("%d tried again")`,
		refused))
	o.until(fmt.Sprintf(`card(1).failures === "%d"`, refused))
	o.press("2")
	o.until(`card(1).running === "true"`)
	slow := make(chan error, 1)
	go func() { slow <- ask(p.Proxy, "/slow?ms=10000") }() // ends with its answer
	var busy int
	o.until(`[0, 1, 2].some((i) => card(i).inFlight === "1")`)
	o.read(`[0, 1, 2].findIndex((i) => card(i).inFlight === "1")`, &busy)
	o.press(fmt.Sprint(busy + 1))
	o.until(fmt.Sprintf(`card(%d).inFlight === "0" &&
		document.querySelector("#budget").dataset.level === "3"`, busy))
	if err := <-slow; err != nil {
		t.Error(err)
	}
	closed(t, p, 11)
	o.until(counter("connections", 11) + " && " + counter("failed", 0))
	o.until(`document.querySelector("#budget").dataset.level === "3.5"`)
	o.until(`document.querySelector("#steps").dataset.conn === "11" &&
		tries().startsWith("try 1 → :")`)
	o.noFaults(t)
}

// testHealth: how each backend is, the checks as they come, and the button that
// drains one.
func (b *bench) testHealth(t *testing.T) {
	o, n, backends, server := b.synthetic(t, "ch6_keep_alive")
	o.until(`document.querySelectorAll("[data-health]").length === 0 &&
		document.querySelectorAll("[data-drain]").length === 0`)
	seen := o.eachFrame("checksSeen, covered")
	states := []string{narrate.Up, narrate.GoingDown, narrate.Draining}
	for i, backend := range backends {
		n.Check(backend, 200, time.Millisecond, nil)
		n.Health(backend, states[i], fmt.Sprint("for reason ", i))
	}
	n.Check(backends[1], 0, time.Millisecond, errors.New("refused"))
	o.until(`[0, 1, 2].map((i) => card(i).health).join() === "up,going down,draining"`)
	o.until(`document.querySelector("#message").textContent ===
		"127.0.0.1:8002 is draining: for reason 2"`)
	o.until(`[...document.querySelectorAll(".check")].every((n) => !shown(n))`) // they pass
	o.passed(`(checksSeen(), window.checks.ok > 0 && window.checks.failed > 0)`, true)
	seen(t)
	n.Health("", "panic", "fewer than half are well")
	n.Queue(1)
	o.until(`document.querySelector("#budget").textContent
		.includes("panic · 1 waits for a backend") &&
		document.querySelector("#message").textContent === "fewer than half are well"`)
	n.Health("", "", "enough backends are well again")
	n.Queue(0)
	o.until(`document.querySelector("#budget").hidden`)
	type asked struct {
		Addr  string
		Drain bool
	}
	pressed := make(chan asked, 10)
	server.Drains(func(addr string, drain bool) error {
		pressed <- asked{addr, drain}
		return nil
	})
	o.until(`document.querySelectorAll("[data-drain]").length === 3`)
	o.click(`[data-drain="1"]`)
	o.click(`[data-drain="2"]`) // which is draining: that is ended
	for _, want := range []asked{{backends[1], true}, {backends[2], false}} {
		if got := <-pressed; got != want {
			t.Errorf("pressed was %v, want %v", got, want)
		}
	}
	o.noFaults(t)
	n.Health(backends[0], narrate.Down, "3 of 3 checks failed")
	o.until(`card(0).health === "down" && document.querySelector(
		'[data-index="0"] .state').title === "since 3 of 3 checks failed"`)
	o.until(`document.querySelector('[data-index="1"] .pool').title.startsWith(
		"going down: for reason 1; 1 of 2 checks failed")`)
	replay := b.open(t, "file://"+o.save())
	replay.until(`[0, 1, 2].map((i) => card(i).health).join() === "down,going down,draining"`)
	replay.until(`document.querySelectorAll("[data-drain]").length === 0`)
}

// testUnwell: ch8 finds out that a backend is stopped, and that it is well again;
// the page's button drains it.
func (b *bench) testUnwell(t *testing.T) {
	p := b.run(t, "ch8_health_checks", "-inter", "1s", "-fall", "2", "-rise", "1",
		"-slow-start", "0") // a check that is slow for once takes nobody out
	o := b.watch(t, p)
	o.until(`[0, 1, 2].every((i) => card(i).health === "up")`)
	o.press("2")
	o.until(`card(1).running === "false" && card(1).health === "down"`)
	o.press("t")
	closed(t, p, 10)
	o.until(rowsDone(10) + " && " + counter("failed", 0) + ` && card(1).requests === "0"`)
	o.noFaults(t)
	o.press("2")
	o.until(`card(1).running === "true" && card(1).health === "up"`)
	o.click(`[data-drain="1"]`)
	o.until(`card(1).health === "draining"`)
	o.press("t")
	closed(t, p, 20)
	o.until(counter("connections", 20) + " && " + counter("failed", 0) +
		` && card(1).requests === "0"`)
	o.click(`[data-drain="1"]`)
	o.until(`card(1).health === "up"`)
	o.press("t")
	closed(t, p, 30)
	o.until(`card(1).requests !== "0"`)
}

// testAlgorithm: in ch9 the page has a list of algorithms, which fits, and switches.
func (b *bench) testAlgorithm(t *testing.T) {
	p := b.run(t, "ch9_balancing_algorithms")
	o := b.watch(t, p)
	o.until(`document.querySelector("#algorithm").value === "round-robin" &&
		document.querySelector("#algorithm").options.length === 13`)
	o.press("t")
	closed(t, p, 10)
	o.until(rowsDone(10) + ` && card(1).requests !== "0"`)
	var choice bool
	o.read(`(() => {
		const list = document.querySelector("#algorithm");
		list.value = "source-hash";
		list.dispatchEvent(new Event("change"));
		return list.getBoundingClientRect().right <=
			list.parentNode.getBoundingClientRect().right;
	})()`, &choice)
	if !choice {
		t.Error("the list is wider than the proxy")
	}
	o.until(`document.querySelector("#algorithm").value === "source-hash" &&
		document.querySelector("#backends").textContent.split("–").length === 7`)
	o.press("t")
	closed(t, p, 20)
	o.until(`[0, 1, 2].filter((i) => Number(card(i).requests) >= 13).length === 1`)
	o.press("p") // many workers with long names, below the list
	o.until(`document.querySelectorAll("#workers li:not([hidden])").length === 6`)
	o.noFaults(t)
	o.press("p")
}

// testOneThread: a thread that serves several clients is one worker, and says how many
// they are.
func (b *bench) testOneThread(t *testing.T) {
	p := b.run(t, "ch10_event_loop")
	o := b.watch(t, p)
	o.press("p")
	o.until(`/^thread \d+: 8 clients$/.test([...document.querySelectorAll(
		"#workers li:not([hidden])")].map((n) => n.textContent).join())`)
	o.noFaults(t)
	o.press("p")
}

func results(o *tab) string {
	o.t.Helper()
	var list []string
	o.read("results()", &list)
	return strings.Join(list, "\n")
}
