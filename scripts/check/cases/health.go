package cases

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"reverseproxy/scripts/check/suite"
)

// How long the first health check may be awaited, and what a proxy has to notice, at
// most (HAProxy: fall 3 times inter 2 s); and how many requests show it.
const (
	checkTime  = 3 * time.Second
	noticeTime = 8 * time.Second
	noticeBy   = 9
)

// What a case has found out about a lab: no health checks come; the first backend gets no
// requests, though nothing is wrong with it.
var unchecked, unused sync.Map

// healthCases are about a proxy that asks its backends how they are: whether it
// believes what they say, and that it does not believe it too much. They are not
// applicable if no health checks come.
var healthCases = group("health",
	healthCase("health-ill", Quality, "A backend whose health checks are answered with 503 gets "+
		"no requests, and every client is answered by the others.",
		func(f *farmWatch) { f.says(503); f.avoided() }),
	healthCase("health-silent", Quality, "A backend that accepts a health check and never "+
		"answers it is as good as none: it gets no requests.",
		func(f *farmWatch) { f.says(-1); f.avoided() }),
	healthCase("health-back", Quality, "A backend whose checks pass again gets its requests "+
		"again, without a restart.",
		func(f *farmWatch) { f.says(503); f.avoided(); f.says(200); f.used() }),
	healthCase("health-drain", Quality, "A backend that answers checks with 404 is about to "+
		"leave (HAProxy: disable-on-404): it gets no new requests, and those in flight end well.",
		func(f *farmWatch) {
			slow := f.hold()
			f.says(404)
			f.avoided()
			slow()
		}),
	healthCase("health-all-ill", Should, "When the checks of all backends fail, it may be the "+
		"checks: requests that could be answered are still sent.",
		func(f *farmWatch) {
			for _, b := range f.t.Lab.Farm.Backends {
				b.Checked.Store(503)
			}
			f.within(checkTime, func() bool { f.ask(); return false })
		}),
	healthCase("health-beside-traffic", Quality, "A health check goes over a connection of its "+
		"own: it does not wait behind a request that takes long.",
		func(f *farmWatch) {
			slow := f.hold()
			f.checkedAgain()
			slow()
		}),
)

// farmWatch has all requests answered, and counts those to the first backend.
type farmWatch struct {
	t     *T
	first *suite.Backend
	asked int          // requests; each has a URI of its own, as a hash may choose
	mine  atomic.Int64 // requests that the first backend got
	held  chan bool    // told of each request to hold whether it came there
	free  chan bool    // closed when it may end
}

func healthCase(id string, l Level, why string, run func(*farmWatch)) Case {
	return Case{ID: id, Level: l, RFC: "RFC 9110 §15.6.4", Why: why, Mode: Checked,
		Need: NeedsSeveral, Limit: 45 * time.Second, Run: func(t *T) {
			f := &farmWatch{t: t, first: t.Lab.Farm.Backends[0], held: make(chan bool, 1),
				free: make(chan bool)}
			t.Serve(func(x *Exchange) {
				name := last(x.Request())
				if x.Backend == 0 {
					f.mine.Add(1)
				}
				if name != "hold" {
					x.Send(Reply(200, "for "+name))
					return
				}
				x.Send(fmt.Sprintf("HTTP/1.1 200 OK\r\nConnection: close\r\n"+
					"Content-Length: %d\r\n\r\n%s", len(longBody), longBody[:1]))
				sent := 1
				if f.held <- x.Backend == 0; x.Backend == 0 {
					sent = f.drip(x, sent)
				}
				x.Send(longBody[sent:])
			})
			_, known := unchecked.Load(t.Lab)
			if known || !f.within(checkTime, func() bool { return f.first.Strays.Load() > 0 }) {
				unchecked.Store(t.Lab, true)
				t.Skip("no health checks come")
			}
			// It may be out of service, for what another case had it do.
			_, known = unused.Load(t.Lab)
			if known || !f.within(OutTime, func() bool { return f.ask() > 0 }) {
				unused.Store(t.Lab, true)
				if t.Lab.Uneven {
					t.Skip("no requests come to the first backend: its health makes no difference")
				}
			}
			defer func() {
				for _, b := range t.Lab.Farm.Backends {
					b.Checked.Store(0)
				}
				f.used() // the next case begins with all of them
			}()
			run(f)
		}}
}

// longBody is that of the long request's answer, of which a byte comes every dripPause:
// a body that stood still would meet the proxy's timeout.
var longBody = strings.Repeat("held", 250)

const dripPause = 200 * time.Millisecond

// drip goes on sending longBody, byte by byte, until the request may end. It returns how
// much has been sent.
func (f *farmWatch) drip(x *Exchange, sent int) int {
	tick := time.NewTicker(dripPause)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if sent < len(longBody)-1 {
				x.Send(longBody[sent : sent+1])
				sent++
			}
		case <-f.free:
			return sent
		case <-f.t.Done:
			return sent
		}
	}
}

// says sets what the first backend answers to checks.
func (f *farmWatch) says(status int64) { f.first.Checked.Store(status) }

// wait waits for something that a proxy has to notice.
func (f *farmWatch) wait(until func() bool) bool { return f.within(noticeTime, until) }

// within looks ever less often: a case may not ask for as much as it likes.
func (f *farmWatch) within(d time.Duration, until func() bool) bool {
	pause := 50 * time.Millisecond
	for left := f.t.Span(d); left() > 0; pause = min(pause*5/4, time.Second) {
		if until() {
			return true
		}
		time.Sleep(pause)
	}
	return false
}

// ask sends some requests, which must be answered, and returns how many of them the
// first backend got.
func (f *farmWatch) ask() int64 {
	before := f.mine.Load()
	for range noticeBy {
		f.t.MustBe(f.t.Do(f.get("ask"), "GET"), 200)
	}
	return f.mine.Load() - before
}

func (f *farmWatch) get(name string) string {
	f.asked++
	return f.t.Get(fmt.Sprintf("%d/%s", f.asked, name))
}

func (f *farmWatch) avoided() {
	if !f.wait(func() bool { return f.ask() == 0 }) {
		f.t.Fatalf("backend 1 gets requests %v after its health checks began to say no",
			noticeTime)
	}
}

func (f *farmWatch) used() {
	if !f.wait(func() bool { return f.ask() > 0 }) {
		f.t.Errorf("backend 1 gets no requests %v after its health checks pass again",
			noticeTime)
	}
}

func (f *farmWatch) checkedAgain() {
	before := f.first.Strays.Load()
	if !f.wait(func() bool { return f.first.Strays.Load() > before+1 }) {
		f.t.Errorf("no check comes while backend 1 has a request in hand")
	}
}

// hold brings a request to the first backend that takes long. What it returns has
// it end.
func (f *farmWatch) hold() (end func()) {
	for {
		c := f.t.Dial()
		c.Send(f.get("hold"))
		ended := func() {
			r := c.Final("GET")
			f.t.Whole(r, 200)
			f.t.SameBody("the client of the long request", r.Body, []byte(longBody))
		}
		select {
		case first := <-f.held:
			if first {
				return func() { close(f.free); ended() }
			}
			ended() // another backend's turn
		case <-f.t.Done:
			f.t.Fatalf("a request did not reach any backend")
		}
	}
}
