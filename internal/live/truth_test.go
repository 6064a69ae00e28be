package live_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/google/go-cmp/cmp"

	"reverseproxy/internal/live"
	"reverseproxy/internal/narrate"
)

// eachFrame calls the named probes in each frame that the page draws; what is
// returned ends that and reports the faults they found.
func (o *tab) eachFrame(probes string) func(*testing.T) {
	o.t.Helper()
	o.read("eachFrame("+probes+")", nil)
	return func(t *testing.T) {
		t.Helper()
		o.until("window.watch.frames >= 10") // a busy machine draws few in the time of a request
		var got struct{ Faults []string }
		o.read("ended()", &got)
		for _, f := range got.Faults {
			t.Error(f)
		}
	}
}

// testOneClock: dots, lanes and figures show the same moment, at full speed and
// in slow motion, in which nobody waits for anybody else's pause.
func (b *bench) testOneClock(t *testing.T) {
	const pause = 300_000 // microseconds
	for _, chapter := range []string{"ch2_basic_proxy", "ch4_threaded", "ch3_process_model"} {
		for _, flags := range [][]string{nil, {"-slow-motion", "300ms"}} {
			t.Run(strings.Join(append([]string{chapter}, flags...), " "), func(t *testing.T) {
				t.Parallel()
				p := b.run(t, chapter, flags...)
				o := b.watch(t, p)
				seen, also := o.eachFrame("dotsAndLanes, sameConnection"), 10
				if flags != nil && chapter == "ch2_basic_proxy" {
					also = 2 // each takes seconds
				}
				o.press("t")
				events := closed(t, p, also)
				o.until(rowsDone(also))
				seen(t)
				// Step 7 may be told when the backend has been at work for some time.
				took := make(map[uint64]int64)
				for _, e := range slices.Concat(steps(events, narrate.ForwardRequest),
					steps(events, narrate.ReadResponse)) {
					took[e.Conn] += e.Elapsed
				}
				for conn, us := range took {
					if us < 199_000 {
						t.Errorf("#%d: a backend of 200 ms is shown as %d µs", conn, us)
					}
				}
				if chapter == "ch2_basic_proxy" {
					return
				}
				all := served(t, o.lanes())
				// Each stands a pause after the one before, if whoever accepts took part in them.
				gaps := []int{}
				for i := range all[1:] {
					gaps = append(gaps, all[i+1].from-all[i].from)
				}
				if flags != nil && slices.Min(gaps) >= pause {
					t.Errorf("accepted %v µs after one another: a staircase", gaps)
				}
			})
		}
	}
}

// testManyChildren: of more processes than are drawn none lives on on the page,
// nor of those whose ends a page was too slow for.
func (b *bench) testManyChildren(t *testing.T) {
	p := b.run(t, "ch3_process_model")
	o := b.watch(t, p)
	const total = 420 // more than the burst of drawn connections and of notes
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() { // ends after its share of the requests
			for range total / 4 {
				if err := once(p.Proxy); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	o.until(counter("connections", total) + " && " + counter("inFlight", 0))
	o.until(`[...document.querySelectorAll('#workers li')].every((li) => li.hidden)`)
	var alive []string
	o.evaluate(`import('./store.js').then(({ Store }) => {
		const kind = 'worker', state = 'started';
		const started = (worker, conn, t = 2) => ({ kind, state, worker, conn, t });
		const store = new Store({ open: [], children: [started('standing', 0, 1)] });
		const start = (worker, conn) => store.add(started(worker, conn));
		start('standing 2'); start('child 1', 7); start('child 2', 8);
		store.missed({ events: 9, open: [8], workers: ['standing', 'standing 2', 'child 2'] });
		return store.workers.filter((w) => w.to === Infinity).map((w) => w.worker);
	})`, &alive)
	if diff := cmp.Diff([]string{"standing", "standing 2", "child 2"}, alive); diff != "" {
		t.Errorf("processes alive (-program +page):\n%s", diff)
	}
}

// evaluate is read for an expression that gives a promise.
func (o *tab) evaluate(expression string, v any) {
	o.t.Helper()
	wait := func(p *runtime.EvaluateParams) *runtime.EvaluateParams {
		return p.WithAwaitPromise(true)
	}
	if err := chromedp.Run(o.ctx, chromedp.Evaluate(expression, v, wait)); err != nil {
		o.t.Fatalf("%s: %v", expression, err)
	}
}

// testRequests: a lane is a connection, with bars for each of its requests; and
// a chapter is shown by what the server says about it, not by its name.
func (b *bench) testRequests(t *testing.T) {
	narrator := narrate.New(narrate.Off)
	backends := []string{"127.0.0.1:8000", "127.0.0.1:8001"}
	server, err := live.Start("127.0.0.1:0", live.Config{Chapter: "ch10_a_name_as_long_as_ch9s",
		Narrator:     narrator,
		BackendAddrs: backends, Workers: "one thread, epoll"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	narrator.Attach(server.Sink)
	narrator.SlowMotion(20 * time.Millisecond) // so that the bars have a width
	o := b.open(t, "http://"+server.Addr()+"/")
	o.until(`document.querySelector("#status").dataset.status === "live"`)
	c := narrator.AcceptFrom("127.0.0.1:50000")
	for i := range 3 {
		c.Begin()
		c.Step(narrate.ReadRequest, narrate.Event{Text: fmt.Sprint("GET /", i+1)})
		if i == 2 {
			c.Try(1)
			c.Step(narrate.Connect, narrate.Event{Peer: backends[1], Err: "refused",
				Fault: "backend"})
			c.Try(2)
		}
		c.Step(narrate.Connect, narrate.Event{Peer: backends[0], Reused: i > 0})
		c.Step(narrate.ForwardRequest, narrate.Event{})
		c.Step(narrate.ReadResponse, narrate.Event{Status: 200})
		c.Step(narrate.SendResponse, narrate.Event{Status: 200})
		c.End(narrate.Event{Status: 200})
		c.Idle(true)
	}
	o.until(counter("idle", 1) + " && " + counter("inFlight", 0) + " && " + counter("requests", 3))
	o.until(`rows().length === 1 && rows()[0].getAttribute('data-requests') === '3'`)
	o.until(`results()[0].startsWith('3 requests · ')`) // none of them failed
	o.until(`document.querySelector('#steps-request').textContent.startsWith('request 3: GET /3')`)
	o.until(`document.querySelector('[data-step="6"]').textContent.includes('reused, try 2')`)
	// The page has room for the counts, and an idle connection is nobody's step.
	var faults []string
	o.read("[...layoutFaults(), ...covered()]", &faults)
	for _, f := range faults {
		t.Error(f)
	}
	o.until(`document.querySelector('[data-state="now"]') === null`)
	c.Close(nil, false, 200)
	o.until(rowsDone(1) + " && " + counter("connections", 1) + " && " + counter("failed", 0))
	one := "reading connecting forwarding waiting sending "
	want := one + "idle " + one + "idle " + strings.Replace(one, "connecting",
		"connecting connecting", 1) + "idle"
	o.press("----") // a minute: no bar has left the picture
	o.until(fmt.Sprintf(`lanes()[0].Phases.join(" ") === %q`, want))
	o.until(`card(1).failures === "1"`)
	var hidden int
	o.read(`document.querySelectorAll('[data-step][hidden]').length`, &hidden)
	if hidden != 0 {
		t.Errorf("%d steps are hidden: ch10 is taken for ch1", hidden)
	}
}

// testKeys: no press of a key is lost, however fast, wherever the focus is.
func (b *bench) testKeys(t *testing.T) {
	p := b.run(t, "ch4_threaded")
	o, other := b.watch(t, p), b.watch(t, p)
	o.read(`for (let i = 0; i < 4; i++) pressNow('m')`, nil)
	other.until(`document.querySelector("#slow").value === "500"`)
	o.until(`document.querySelector("#slow").value === "500"`)
	o.read(`document.querySelector("#slow").focus()`, nil)
	o.press("mm")
	other.until(`document.querySelector("#slow").value === "2000"`)
	o.press("m")
	other.until(`document.querySelector("#slow").value === "0"`)
}

// testReplayFromTheFirst: a replay does not begin with a time in which nothing
// happened.
func (b *bench) testReplayFromTheFirst(t *testing.T) {
	p := b.run(t, "ch4_threaded")
	o := b.watch(t, p)
	o.until(`performance.now() > 4000`) // the time in which nothing happens
	pressed := time.Now()
	o.press("o")
	closed(t, p, 1)
	o.until(rowsDone(1))
	var behind float64
	o.evaluate(`(pressNow('r'), twoFrames().then(() => -document.querySelector('#time').value))`,
		&behind)
	if ago := time.Since(pressed).Seconds(); behind > ago+2 {
		t.Errorf("the replay begins %.1f s ago, the first connection came %.1f s ago", behind, ago)
	}
}

// testNothingIsCovered: no text is cut and no dot lies on a text, also with the
// longest texts there are.
func (b *bench) testNothingIsCovered(t *testing.T) {
	for _, c := range []struct {
		chapter, keys string
		flags         []string
	}{
		{"ch2_basic_proxy", "t", nil},
		{"ch3_process_model", "tt", []string{"-slow-motion", "100ms"}},
		{"ch4_threaded", "ttt", []string{"-slow-motion", "100ms"}},
		{"ch5_load_balancer", "2tt", []string{"-slow-motion", "100ms"}},
		{"ch6_keep_alive", "tt", []string{"-slow-motion", "100ms", "-keepalive", "2"}},
	} {
		t.Run(c.chapter, func(t *testing.T) {
			t.Parallel()
			p := b.run(t, c.chapter, c.flags...)
			for i, width := range []int64{1280, 500} {
				o := b.watch(t, p)
				o.resize(width, 720)
				seen := o.eachFrame("covered")
				o.press(c.keys)
				n := 10 * (i + 1) * strings.Count(c.keys, "t")
				closed(t, p, n)
				o.until(counter("connections", n) + " && " + counter("inFlight", 0))
				o.read(`document.querySelector('.row.failed')
					?.dispatchEvent(new MouseEvent('click', { bubbles: true }))`, nil)
				var frame bool
				o.evaluate("twoFrames()", &frame)
				seen(t)
				var wide int
				o.read(`document.documentElement.scrollWidth`, &wide)
				if wide > int(width) {
					t.Errorf("the page is %d pixels wide in a window of %d", wide, width)
				}
				o.read(`window.watch.ended = true`, nil)
				if c.chapter == "ch5_load_balancer" {
					o.press("2") // start it again, for the next width to stop it
				}
			}
		})
	}
}

// testContrast: in both themes every text has the contrast that WCAG's AA asks
// for, and so has every coloured bar.
func (b *bench) testContrast(t *testing.T) {
	p := b.run(t, "ch5_load_balancer", "-slow-motion", "200ms")
	o := b.watch(t, p)
	o.press("2tc")
	for i, theme := range []string{"light", "dark"} {
		o.read(`document.documentElement.dataset.theme = "`+theme+`"`, nil)
		seen := o.eachFrame("contrast")
		o.press("t")
		closed(t, p, 10*(i+2))
		o.until(counter("connections", 10*(i+2)) + " && " + counter("inFlight", 0))
		seen(t)
	}
}
