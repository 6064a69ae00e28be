package live_test

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	cdpbrowser "github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/google/go-cmp/cmp"

	"reverseproxy/internal/book"
	webbrowser "reverseproxy/internal/browser"
	"reverseproxy/internal/live/browser"
	"reverseproxy/internal/narrate"
)

const (
	pageTimeout = 2 * time.Minute  // for the page to show what is waited for
	tabTimeout  = 10 * time.Minute // for all that is done with one tab
	root        = "../.."
)

// probes are the functions that the tests call in the page.
//
//go:embed testdata/probes.js
var probes string

// TestInBrowser drives the live page of every chapter in a real browser.
func TestInBrowser(t *testing.T) {
	path := browser.Find()
	if path == "" {
		missing(t, "Chromium is not installed (Debian: apt-get install chromium)")
	}
	if testing.Short() {
		t.Skip("starts a browser")
	}
	bin := t.TempDir()
	for _, chapter := range book.Chapters {
		if err := browser.Build(root, bin, chapter.Dir); err != nil {
			t.Fatal(err)
		}
	}
	window, cancel, err := browser.Start(context.Background(), path, 1280, 720)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cancel)
	b := &bench{window: window, bin: bin}
	for name, test := range map[string]func(*testing.T){ // those that need the machine
		"ManyRequests": b.testManyRequests,
		"ManyChildren": b.testManyChildren,
		"ManyKept":     b.testManyKept,
		"Runs":         b.testRuns,
	} {
		t.Run(name, test)
	}
	tests := map[string]func(*testing.T){
		"ch1":                b.testOneClient,
		"StopBackend":        b.testStopBackend,
		"BrokenClients":      b.testBrokenClients,
		"Recording":          b.testRecording,
		"PauseAndReplay":     b.testPauseAndReplay,
		"TwoViewers":         b.testTwoViewers,
		"SlowMotion":         b.testSlowMotion,
		"Layout":             b.testLayout,
		"OneClock":           b.testOneClock,
		"Requests":           b.testRequests,
		"Keys":               b.testKeys,
		"ReplayFromTheFirst": b.testReplayFromTheFirst,
		"NothingIsCovered":   b.testNothingIsCovered,
		"Contrast":           b.testContrast,
		"Kept":               b.testKept,
		"NoPool":             b.testNoPool,
		"Lane":               b.testLane,
		"Tries":              b.testTries,
		"Retried":            b.testRetried,
		"LongRun":            b.testLongRun,
		"KeepSending":        b.testKeepSending,
		"KeepSendingKept":    b.testKeepSendingKept,
		"Health":             b.testHealth,
		"Unwell":             b.testUnwell,
		"Algorithm":          b.testAlgorithm,
		"OneThread":          b.testOneThread,
	}
	for _, chapter := range book.Proxies() {
		tests[chapter.Short()] = func(t *testing.T) { b.testTenClients(t, chapter.Dir) }
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t)
		})
	}
}

// missing skips a test that cannot run here, but fails it where it must.
func missing(t *testing.T, reason string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(reason)
	}
	t.Skip(reason)
}

// bench holds what the tests share: a browser and the chapters' binaries.
type bench struct {
	window context.Context
	bin    string
}

// run starts a chapter with demo backends and its live page.
func (b *bench) run(t *testing.T, chapter string, flags ...string) *browser.Program {
	t.Helper()
	args := []string{"-listen", "127.0.0.1:0", "-watch", "127.0.0.1:0"}
	about, _ := book.Find(chapter)
	args = append(args, about.Demo()...)
	p, err := browser.Run(filepath.Join(b.bin, chapter), append(args, flags...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Stop(); err != nil {
			t.Errorf("%s ended with %v", chapter, err)
		}
	})
	return p
}

// tab is one tab of the browser. What it asks for and complains about is kept.
type tab struct {
	t   *testing.T
	ctx context.Context

	mu     sync.Mutex
	asked  []string // addresses of all requests
	errors []string // exceptions and console errors
}

// open opens a tab on an address, in a window of its own: what is hidden behind another draws
// no frames. At the test's end, a request to elsewhere or an error of the page's script fails
// the test.
func (b *bench) open(t *testing.T, address string) *tab {
	t.Helper()
	ctx, cancel, err := webbrowser.Window(b.window)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(ctx, tabTimeout)
	o := &tab{t: t, ctx: ctx}
	chromedp.ListenTarget(ctx, o.listen)
	if err := chromedp.Run(ctx, network.Enable(), log.Enable(), chromedp.Navigate(address),
		chromedp.Evaluate(probes, nil)); err != nil {
		t.Fatalf("open %s: %v", address, err)
	}
	home, _ := url.Parse(address)
	t.Cleanup(func() {
		stop()
		cancel()
		o.mu.Lock()
		defer o.mu.Unlock()
		for _, a := range o.asked {
			if u, err := url.Parse(a); err != nil || u.Scheme != home.Scheme ||
				u.Host != home.Host {
				t.Errorf("the page asked for %s", a)
			}
		}
		for _, e := range o.errors {
			t.Errorf("the page complains: %s", e)
		}
	})
	return o
}

func (o *tab) listen(event any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		o.asked = append(o.asked, e.Request.URL)
	case *runtime.EventExceptionThrown:
		o.errors = append(o.errors, e.ExceptionDetails.Error())
	case *log.EventEntryAdded:
		// After the program's end the page keeps asking for it.
		if e.Entry.Level == log.LevelError &&
			!strings.Contains(e.Entry.Text, "ERR_CONNECTION_REFUSED") &&
			!strings.Contains(e.Entry.Text, "ERR_INCOMPLETE_CHUNKED_ENCODING") {
			o.errors = append(o.errors, e.Entry.Text)
		}
	}
}

// watch opens the live page of p and waits until it is live.
func (b *bench) watch(t *testing.T, p *browser.Program) *tab {
	t.Helper()
	o := b.open(t, "http://"+p.Page+"/")
	o.until(`document.querySelector("#status").dataset.status === "live" &&
		document.querySelector("[data-counter=connections]").dataset.value !== undefined`)
	return o
}

// until waits until a JavaScript expression is true.
func (o *tab) until(expression string) {
	o.t.Helper()
	if err := chromedp.Run(o.ctx, webbrowser.Until(expression, pageTimeout)); err != nil {
		var shown string
		chromedp.Run(o.ctx, chromedp.Evaluate(`document.body.innerText.replace(/\s+/g, " ")`,
			&shown))
		o.t.Fatalf("not seen: %v\nThe page shows: %s", err, shown)
	}
}

// passed looks for what was true for a moment: it steps back in time, by half a second or, if
// fine, by 50 ms, until the expression is true, and then lets the page go on.
func (o *tab) passed(expression string, fine bool) {
	o.t.Helper()
	o.until(fmt.Sprintf(`(pressNow("ArrowLeft", %t), twoFrames().then(() => %s))`, fine,
		expression))
	o.read(`pressNow("Escape")`, nil)
	o.until(`document.documentElement.dataset.mode === "live"`)
}

// resize gives the page a window of another size.
func (o *tab) resize(width, height int64) {
	o.t.Helper()
	if err := chromedp.Run(o.ctx, chromedp.EmulateViewport(width, height)); err != nil {
		o.t.Fatal(err)
	}
	o.until(fmt.Sprintf("innerWidth === %d && innerHeight === %d", width, height))
}

// press presses keys one after another.
func (o *tab) press(keys string) {
	o.t.Helper()
	for _, key := range keys {
		if err := chromedp.Run(o.ctx, chromedp.KeyEvent(string(key))); err != nil {
			o.t.Fatal(err)
		}
	}
}

func (o *tab) click(selector string) {
	o.t.Helper()
	if err := chromedp.Run(o.ctx, chromedp.Click(selector, chromedp.NodeVisible)); err != nil {
		o.t.Fatalf("click %s: %v", selector, err)
	}
}

// read evaluates a JavaScript expression into v.
func (o *tab) read(expression string, v any) {
	o.t.Helper()
	if err := chromedp.Run(o.ctx, chromedp.Evaluate(expression, v)); err != nil {
		o.t.Fatalf("%s: %v", expression, err)
	}
}

// lane is one row of the page.
type lane struct {
	Conn, Worker, Backend, Status, Failed string
	Start, Accepted, End                  string
	Child                                 []string // from, to
	Phases                                []string
}

// lanes returns the rows that the page shows.
func (o *tab) lanes() []lane {
	o.t.Helper()
	var lanes []lane
	o.read("lanes()", &lanes)
	return lanes
}

func rowsDone(n int) string { return fmt.Sprintf("rowsDone() >= %d", n) }

func counter(name string, n int) string { return fmt.Sprintf("counted(%q) === %d", name, n) }

// closed waits until so many connections are closed and returns the narration.
func closed(t *testing.T, p *browser.Program, n int) []narrate.Event {
	t.Helper()
	events, err := p.Wait(pageTimeout, func(events []narrate.Event) bool {
		return len(steps(events, narrate.Close)) >= n
	})
	if err != nil {
		t.Fatalf("%d connections did not close: %v", n, err)
	}
	return events
}

// steps returns the events of one step.
func steps(events []narrate.Event, step narrate.Step) []narrate.Event {
	var found []narrate.Event
	for _, e := range events {
		if e.Kind == narrate.KindStep && e.Step == step {
			found = append(found, e)
		}
	}
	return found
}

// expected returns the lanes as the narration tells them.
func expected(events []narrate.Event) map[string]lane {
	lanes := make(map[string]lane)
	for _, e := range events {
		if e.Conn == 0 || e.Kind == narrate.KindWorker {
			continue
		}
		id := fmt.Sprint(e.Conn)
		l := lanes[id]
		l.Conn = id
		if e.Worker != "" {
			l.Worker = e.Worker
		}
		if e.Kind == narrate.KindRoute || e.Step == narrate.Connect {
			l.Backend = e.Peer
		}
		if e.Status != 0 {
			l.Status = fmt.Sprint(e.Status)
		}
		if e.Failed {
			l.Failed = "true"
		}
		lanes[id] = l
	}
	return lanes
}

// compare compares the page's lanes with the narration.
func compare(t *testing.T, o *tab, events []narrate.Event) []lane {
	t.Helper()
	want := expected(events)
	lanes := o.lanes()
	for _, got := range lanes {
		full := got
		got.Start, got.Accepted, got.End, got.Child, got.Phases = "", "", "", nil, nil
		if diff := cmp.Diff(want[got.Conn], got); diff != "" {
			t.Errorf("lane (-narrated +shown):\n%s%+v", diff, full)
		}
	}
	return lanes
}

// compareSteps selects a connection and compares its steps with the narration.
func compareSteps(t *testing.T, o *tab, events []narrate.Event, conn uint64) {
	t.Helper()
	o.read(fmt.Sprintf(`document.querySelector('.row[data-conn="%d"]')
		.dispatchEvent(new MouseEvent('click', {bubbles: true}))`, conn), nil)
	o.until(fmt.Sprintf(`document.querySelector('#steps').dataset.conn === "%d"`, conn))
	type step struct{ Step, State, Us, Calls string }
	var got, want []step
	o.read(`[...document.querySelectorAll('[data-step]:not([hidden]):not([data-state="pending"])')]
		.map(({ dataset: d }) =>
			({ Step: d.step, State: d.state, Us: d.us ?? '', Calls: d.calls ?? '' }))`, &got)
	for _, e := range events {
		if e.Kind != narrate.KindStep || e.Conn != conn && e.Conn != 0 {
			continue
		}
		s := step{fmt.Sprint(int(e.Step)), "done", fmt.Sprint(e.Elapsed), e.Calls}
		if e.Step <= narrate.Listen {
			s.State = "once"
		}
		if e.Err != "" {
			s.State = "failed"
		}
		want = append(want, s)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("steps of connection %d (-narrated +shown):\n%s", conn, diff)
	}
}

// interval is when a connection was served, in microseconds.
type interval struct{ from, to int }

func served(t *testing.T, lanes []lane) []interval {
	t.Helper()
	var list []interval
	for _, l := range lanes {
		var i interval
		if _, err := fmt.Sscan(l.Accepted, &i.from); err != nil {
			t.Fatalf("lane %+v was not accepted", l)
		}
		fmt.Sscan(l.End, &i.to)
		list = append(list, i)
	}
	slices.SortFunc(list, func(a, b interval) int { return a.from - b.from })
	return list
}

// testOneClient: ch1 serves one client and ends; the page keeps what it saw.
func (b *bench) testOneClient(t *testing.T) {
	p := b.run(t, "ch1_base")
	o := b.watch(t, p)
	o.press("o")
	events := closed(t, p, 1)
	o.until(`document.querySelector("#status").dataset.status === "ended"`)
	o.until(rowsDone(1))
	compare(t, o, events)
	var states string
	o.read(`[...document.querySelectorAll('[data-step]:not([hidden])')]
		.map((li) => li.dataset.step + li.dataset.state).join(" ")`, &states)
	if want := "1once 2once 3once 4done 5done 10done"; states != want {
		t.Errorf("steps are %s, want %s", states, want)
	}
}

// testTenClients fires ten requests from the page and compares lanes, counters
// and steps with the narration.
func (b *bench) testTenClients(t *testing.T, chapter string) {
	p := b.run(t, chapter)
	o := b.watch(t, p)
	o.click(`[data-shoot="ten"]`)
	events := closed(t, p, 10)
	o.until(rowsDone(10) + " && " + counter("connections", 10) + " && " + counter("inFlight", 0) +
		" && " + counter("failed", 0))
	lanes := compare(t, o, events)
	if len(lanes) != 10 {
		t.Fatalf("%d lanes, want 10", len(lanes))
	}
	compareSteps(t, o, events, 10)
	requests := make(map[string]int)
	for _, e := range steps(events, narrate.Connect) {
		requests[e.Peer]++
	}
	for addr, n := range requests {
		o.until(fmt.Sprintf(`backendIs(%q, { requests: "%d", inFlight: "0", failures: "0",
			running: "true" })`, addr, n))
	}
	all := served(t, lanes)
	switch chapter {
	case "ch2_basic_proxy": // the staircase: each begins when the one before has ended
		for i := 1; i < len(all); i++ {
			if all[i].from < all[i-1].to {
				t.Errorf("client %d was accepted at %d, before the one before was done at %d", i,
					all[i].from, all[i-1].to)
			}
		}
		// The time beside a lane is the client's, the wait included; the first may wait, too.
		o.until(`results().filter((r) => / · [\d.]+ m?s, waited [\d.]+$/.test(r)).length >= 9`)
		waiting := 0
		for _, l := range lanes {
			waiting += strings.Count(strings.Join(l.Phases, " "), "backlog")
		}
		if waiting < 9 {
			t.Errorf("%d clients are seen waiting in the backlog, want at least 9", waiting)
		}
	default: // the wall: side by side, however slowly a busy machine has them begin
		last := slices.MaxFunc(all, func(a, b interval) int { return a.to - b.to })
		together, busy := last.to-all[0].from, 0
		for _, i := range all {
			busy += i.to - i.from
		}
		if busy < 2*together { // one after the other it would be once
			t.Errorf("%d µs of serving in %d µs: %+v", busy, together, all)
		}
	}
	if chapter == "ch3_process_model" {
		b.testChildren(t, o, p)
	}
}

// testChildren: each connection has a child whose start and reaping are shown.
func (b *bench) testChildren(t *testing.T, o *tab, p *browser.Program) {
	if _, err := p.Wait(pageTimeout, func(events []narrate.Event) bool {
		reaped := 0
		for _, e := range events {
			if e.Kind == narrate.KindWorker && e.State == narrate.Exited {
				reaped++
			}
		}
		return reaped == 10
	}); err != nil {
		t.Fatal(err)
	}
	o.until(`document.querySelectorAll('.child[data-to]').length === 10`)
	o.until(`document.querySelector('#legend').textContent.includes('starting a process')`)
	for _, l := range o.lanes() {
		if len(l.Child) != 2 || !strings.HasPrefix(l.Worker, "child ") ||
			!slices.Contains(l.Phases, "starting") {
			t.Errorf("connection %s: worker %q, life %v, %v", l.Conn, l.Worker, l.Child, l.Phases)
		}
	}
}

// testStopBackend stops a backend from the page: its failures appear, and end
// when it is started again.
func (b *bench) testStopBackend(t *testing.T) {
	p := b.run(t, "ch5_load_balancer")
	o := b.watch(t, p)
	o.click(`[data-backend-index="1"]`)
	o.until(`card(1).running === "false"`)
	o.press("t")
	events := closed(t, p, 10)
	o.until(rowsDone(10))
	refused := 0
	for _, e := range steps(events, narrate.Close) {
		if e.Failed {
			refused++
		}
	}
	if refused < 3 {
		t.Fatalf("%d requests failed, want a third of ten", refused)
	}
	o.until(fmt.Sprintf(`card(1).failures === "%d"`, refused))
	o.until(counter("failed", refused))
	compare(t, o, events)
	for _, l := range o.lanes() {
		if l.Failed == "true" {
			var conn uint64
			fmt.Sscan(l.Conn, &conn)
			compareSteps(t, o, events, conn)
			break
		}
	}
	o.press("2")
	o.until(`card(1).running === "true"`)
	o.press("t")
	closed(t, p, 20)
	o.until(counter("connections", 20) + " && " + counter("failed", refused))
}

// testBrokenClients: each kind of broken client is shown as what it is.
func (b *bench) testBrokenClients(t *testing.T) {
	p := b.run(t, "ch4_threaded", "-request-timeout", "5s")
	o := b.watch(t, p)
	o.press("ihlkb")
	events := closed(t, p, 5)
	o.until(counter("connections", 5) + " && " + rowsDone(5))
	compare(t, o, events)
	timeouts := 0
	for _, e := range steps(events, narrate.Close) {
		if e.Status == http.StatusRequestTimeout {
			timeouts++
		}
	}
	if timeouts == 0 {
		t.Error("the silent client was not answered with 408")
	}
	// Of the backend's failures only the one that broke off is its own.
	o.until(`card(0).failures === "1"`)
}

// testRecording saves a recording and replays it without the program.
func (b *bench) testRecording(t *testing.T) {
	p := b.run(t, "ch4_threaded")
	o := b.watch(t, p)
	o.press("t")
	events := closed(t, p, 10)
	o.until(rowsDone(10))
	file := o.save()
	replay := b.open(t, "file://"+file)
	replay.until(`document.querySelector("#status").dataset.status === "recording"`)
	replay.until(rowsDone(10) + " && " + counter("connections", 10))
	if diff := cmp.Diff(byConn(compare(t, replay, events)), byConn(o.lanes())); diff != "" {
		t.Errorf("lanes (-replayed +live):\n%s", diff)
	}
	compareSteps(t, replay, events, 7)
	var buttons int
	replay.read(`[...document.querySelectorAll('[data-shoot]')]
		.filter((b) => b.offsetParent !== null).length`, &buttons)
	if buttons != 0 {
		t.Errorf("the recording shows %d buttons that send requests", buttons)
	}
	// Once more from the start, so slowly that a busy browser is asked in time.
	replay.press("fff")
	replay.until(`document.querySelector("#speed").textContent === "0.1×"`)
	replay.press("r")
	replay.until(`document.documentElement.dataset.mode === "replay"`)
	replay.until(`document.documentElement.dataset.mode === "paused"`)
}

// save presses the key that saves a recording and returns the file's name.
func (o *tab) save() string {
	o.t.Helper()
	dir := o.t.TempDir()
	saved := make(chan string, 1)
	chromedp.ListenTarget(o.ctx, func(event any) {
		e, ok := event.(*cdpbrowser.EventDownloadProgress)
		if ok && e.State == cdpbrowser.DownloadProgressStateCompleted {
			saved <- e.GUID
		}
	})
	allow := cdpbrowser.SetDownloadBehavior(cdpbrowser.SetDownloadBehaviorBehaviorAllowAndName).
		WithDownloadPath(dir).WithEventsEnabled(true).
		WithBrowserContextID(chromedp.FromContext(o.ctx).BrowserContextID)
	if err := chromedp.Run(o.ctx, allow); err != nil {
		o.t.Fatal(err)
	}
	o.press("w")
	select {
	case name := <-saved:
		file := filepath.Join(dir, "recording.html")
		if err := os.Rename(filepath.Join(dir, name), file); err != nil {
			o.t.Fatal(err)
		}
		return file
	case <-time.After(pageTimeout):
		o.t.Fatal("the recording was not saved")
		return ""
	}
}

// byConn makes lanes comparable: the sorting of equals may differ.
func byConn(lanes []lane) map[string]lane {
	m := make(map[string]lane)
	for _, l := range lanes {
		l.Phases = nil // too thin to be drawn at one zoom, not at another
		m[l.Conn] = l
	}
	return m
}

// testPauseAndReplay: a paused page stands still while the program goes on; a
// replay shows the past and then the present.
func (b *bench) testPauseAndReplay(t *testing.T) {
	p := b.run(t, "ch4_threaded")
	o := b.watch(t, p)
	o.press("o")
	closed(t, p, 1)
	o.until(counter("connections", 1) + " && " + rowsDone(1))
	o.press(" ")
	o.until(`document.documentElement.dataset.mode === "paused"`)
	o.press("o")
	closed(t, p, 2)
	o.read("eachFrame()", nil)
	o.until("window.watch.frames >= 20")
	var shown string
	o.read(`document.querySelector('[data-counter="connections"]').dataset.value`, &shown)
	if shown != "1" {
		t.Errorf("the paused page shows %s connections, want 1", shown)
	}
	o.press("r")
	o.until(`document.documentElement.dataset.mode === "replay"`)
	o.press("\u001b")
	o.until(`document.documentElement.dataset.mode === "live"`)
	o.until(counter("connections", 2))
}

// testTwoViewers: two pages agree, also one that came later.
func (b *bench) testTwoViewers(t *testing.T) {
	p := b.run(t, "ch5_load_balancer")
	first := b.watch(t, p)
	first.press("t")
	events := closed(t, p, 10)
	second := b.watch(t, p)
	for _, o := range []*tab{first, second} {
		o.until(rowsDone(10) + " && " + counter("connections", 10) + " && " +
			counter("inFlight", 0))
	}
	if diff := cmp.Diff(byConn(compare(t, first, events)),
		byConn(compare(t, second, events))); diff != "" {
		t.Errorf("lanes (-first +second):\n%s", diff)
	}
	const cards = `[...document.querySelectorAll('article[data-backend]')].map((n) => n.innerText)`
	var a, z []string
	first.read(cards, &a)
	second.read(cards, &z)
	if diff := cmp.Diff(a, z); diff != "" || len(a) != 3 {
		t.Errorf("backends (-first +second):\n%s", diff)
	}
}

// testSlowMotion: the page's list sets the pause, and every page shows it.
func (b *bench) testSlowMotion(t *testing.T) {
	p := b.run(t, "ch4_threaded")
	o, other := b.watch(t, p), b.watch(t, p)
	o.press("mm") // 100 ms
	other.until(`document.querySelector("#slow").value === "100"`)
	o.press("o")
	events := closed(t, p, 1)
	if e := steps(events, narrate.Close)[0]; e.Elapsed < 500_000 {
		t.Errorf("the connection took %d µs, want at least 500,000 with pauses of 100 ms",
			e.Elapsed)
	}
	o.until(rowsDone(1))
	compareSteps(t, o, events, 1)
}

// testManyRequests: under a thousand requests a second the page keeps drawing,
// says that it samples, and counts every one.
func (b *bench) testManyRequests(t *testing.T) {
	p := b.run(t, "ch4_threaded")
	o := b.watch(t, p)
	o.countFrames()
	seen := o.eachFrame("sameConnection")
	const total, clients = 3000, 8
	began := time.Now()
	var all sync.WaitGroup
	for range clients {
		all.Go(func() { // ends after its share of the requests
			for range total / clients {
				if err := once(p.Proxy); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	took := time.Since(began)
	o.keptDrawing(t, total, took)
	// A machine that is busy with other things may be too slow for a sample.
	if took < total/(2*drawnPerSecond)*time.Second {
		o.passed(`document.querySelector("#lanes-note").dataset.sampled === "true"`, false)
	}
	o.until(counter("connections", total) + " && " + counter("inFlight", 0) + " && " +
		counter("failed", 0))
	o.until(fmt.Sprintf(`card(0).requests === "%d"`, total))
	seen(t)
	o.lostLittle(t)
}

// drawnPerSecond is how many connections a second the page draws, if more come.
const drawnPerSecond = 90

// countFrames begins to count the frames that the page draws.
func (o *tab) countFrames() {
	o.t.Helper()
	o.read(`window.frames_ = 0, (function f() { window.frames_++; requestAnimationFrame(f); })()`,
		nil)
}

// keptDrawing fails the test if the page stood still while so many requests were made. A
// machine that is busy with other things draws less in a second, and makes fewer requests.
func (o *tab) keptDrawing(t *testing.T, requests int, took time.Duration) {
	t.Helper()
	var frames int
	o.read(`window.frames_`, &frames)
	t.Logf("%d requests and %d frames in %v", requests, frames, took)
	if frames < 10 {
		t.Errorf("%d frames while there were %d requests", frames, requests)
	}
}

// mostLost is what a page may lose of its events when the machine stops it for some seconds:
// about three of those that it gets in a second under load. One that is too slow for them
// loses on and on.
const mostLost = 3 * 8 * drawnPerSecond

func (o *tab) lostLittle(t *testing.T) {
	t.Helper()
	var lost int
	o.read(`Number(document.querySelector("#status").dataset.lost)`, &lost)
	if lost > mostLost {
		t.Errorf("the page lost %d events", lost)
	}
}

// once makes one request on a connection of its own.
func once(addr string) error { return ask(addr, "/api/data") }

// ask is one request on a connection of its own.
func ask(addr, path string) error {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", path)
	answer, err := io.ReadAll(c)
	if err == nil && !strings.HasPrefix(string(answer), "HTTP/1.1 200") {
		err = fmt.Errorf("answer %q", answer)
	}
	return err
}

// testLayout: at 1280×720, and larger, nothing is cut off or lies over another.
func (b *bench) testLayout(t *testing.T) {
	p := b.run(t, "ch5_load_balancer")
	o := b.watch(t, p)
	o.press("2t")
	closed(t, p, 10)
	o.until(rowsDone(10) + ` && card(1).running === "false"`)
	for _, size := range [][2]int64{{1280, 720}, {1366, 768}, {1920, 1080}, {1024, 768}} {
		o.resize(size[0], size[1])
		var faults []string
		o.evaluate("twoFrames().then(layoutFaults)", &faults)
		for _, f := range faults {
			t.Errorf("%d×%d: %s", size[0], size[1], f)
		}
	}
	var names struct{ Chapter, Listen string }
	o.read(`({ Chapter: document.querySelector("#chapter").textContent,
		Listen: document.querySelector("#proxy-addr").textContent })`, &names)
	want, _ := json.Marshal(struct{ Chapter, Listen string }{"ch5_load_balancer", p.Proxy})
	if got, _ := json.Marshal(names); string(got) != string(want) {
		t.Errorf("the page names %s, want %s", got, want)
	}
}
