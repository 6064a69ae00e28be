package cases

import (
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"reverseproxy/scripts/check/suite"
)

var concurrencyCases = group("concurrency",
	beside("free-silent-client", "A client that connects and says nothing delays no other.",
		func(t *T) func() {
			c := t.Dial()
			return c.Close
		}),
	beside("free-slow-header", "A client in the middle of its head delays no other.",
		func(t *T) func() {
			c := t.Dial()
			c.Send("GET " + t.Path("slow") + " HTTP/1.1\r\nHo")
			return c.Close
		}),
	beside("free-slow-upload", "A client in the middle of its upload delays no other.",
		func(t *T) func() {
			c := t.Dial()
			c.Send(post(t, "Content-Length: 100\r\n", "some"))
			return c.Close
		}),
	beside("free-slow-backend", "A backend that thinks delays only its own client.",
		func(t *T) func() {
			c := t.Dial()
			c.Send(t.Get("slow"))
			return c.Close
		}),
	beside("free-slow-reader", "A client that does not read its download delays no other.",
		func(t *T) func() {
			c := t.Dial()
			c.Send(t.Get("huge"))
			return c.Close
		}),
	beside("free-100-idle", "A hundred idle connections delay no one.", func(t *T) func() {
		var all []*Client
		for i := 0; i < 100; i++ {
			c, err := t.TryDial(i == 0)
			if err != nil {
				break
			}
			all = append(all, c)
		}
		return func() {
			for _, c := range all {
				c.Close()
			}
		}
	}),
	Case{ID: "free-parallel", Level: Quality, RFC: "RFC 9112 §9", Mode: Alone,
		Why: "Eight clients whose answers take 300 ms each are served in well under the 2.4 s " +
			"that one after another takes.",
		Run: parallel},
	Case{ID: "burst-200", Level: Should, Limit: 20 * time.Second, RFC: "RFC 9112 §9", Mode: Alone,
		Why: "200 clients that connect at once are all answered, at the latest when they try " +
			"again, as browsers do.",
		Run: burst},
)

var crosstalkCases = group("crosstalk",
	Case{ID: "crosstalk-100", Level: Must, Limit: bigTime, RFC: "RFC 9112 §9", Mode: Alone,
		Why: "A hundred clients at once: each gets its own answer, its own cookie and nobody " +
			"else's.",
		Run: func(t *T) { crowd(t, 100, 0, 3*time.Millisecond) }},
	Case{ID: "crosstalk-uploads", Level: Must, Limit: bigTime, RFC: "RFC 9112 §9", Mode: Alone,
		Why: "Thirty uploads of 64 KiB at once arrive unmixed: a buffer shared between clients " +
			"shows here.",
		Run: func(t *T) { crowd(t, 30, 64<<10, 3*time.Millisecond) }},
	Case{ID: "crosstalk-reuse", Level: Must, RFC: "RFC 9112 §9", Mode: Alone,
		Why: "Answers stay with their requests when backend connections are kept and some " +
			"clients leave early.",
		Run: crosstalkLeavers},
)

var loadBalancingCases = group("load balancing",
	Case{ID: "balance-all-used", Level: Should, RFC: "–", Mode: Alone,
		Need: NeedsSeveral, Turns: true,
		Why: "Every backend gets a share of the requests: no share is below half of the even one.",
		Run: func(t *T) {
			n := len(t.Lab.Farm.Backends)
			counts := t.Spread(20*n, 1)
			for i, k := range counts {
				if k < 10 {
					t.Errorf("backend %d got %d of %d requests: %v", i+1, k, 20*n, counts)
				}
			}
		}},
	Case{ID: "balance-even", Turns: true, Level: Quality, RFC: "–", Mode: Alone, Need: NeedsSeveral,
		Why: "Requests one after another are spread evenly, as round robin does: 30 on 3 are 10, " +
			"10 and 10.",
		Run: func(t *T) { even(t, 1) }},
	Case{ID: "balance-even-crowd", Level: Quality, RFC: "–", Mode: Alone,
		Need: NeedsSeveral, Turns: true,
		Why: "Also from 30 clients at once: a counter that is not atomic shows here.",
		Run: func(t *T) { even(t, 30) }},
	Case{ID: "balance-refused", Level: Should, RFC: "RFC 9110 §15.6.3", Mode: Alone,
		Need: NeedsSeveral,
		Why: "While one backend refuses, the others serve on, and whoever meets the dead one " +
			"gets an answer (502) at once.",
		Run: func(t *T) { oneDown(t, false) }},
	Case{ID: "balance-refused-hidden", Level: Quality, RFC: "RFC 9110 §9.2.2", Mode: Alone,
		Need: NeedsSeveral,
		Why: "While one backend refuses, no client notices: a refused connection can be tried " +
			"elsewhere without risk.",
		Run: func(t *T) { oneDown(t, true) }},
	Case{ID: "balance-return", Turns: true, Level: Should, Hurts: true, RFC: "–", Mode: Alone,
		Need: NeedsSeveral,
		Why:  "A backend that comes back gets requests again within 12 s.",
		Run:  comesBack},
	Case{ID: "balance-slow-one", Turns: true, Level: Quality, Hurts: true, RFC: "–", Mode: Alone,
		Need: NeedsSeveral,
		Why:  "One backend that hangs does not delay the requests to the others.",
		Run:  oneHangs},
	Case{ID: "balance-client-fault", Level: Quality, RFC: "–", Mode: Alone,
		Need: NeedsSeveral, Turns: true,
		Hurts: true,
		Why: "Clients that leave in the middle of their uploads are no fault of the backends: " +
			"all of them stay in service.",
		Run: clientFault},
	Case{ID: "balance-post-once", Level: Must, Hurts: true, RFC: "RFC 9110 §9.2.2", Mode: Alone,
		Need: NeedsSeveral,
		Why:  "A POST that one backend has read and not answered is not given to another.",
		Run: func(t *T) {
			for range t.Lab.Farm.Backends {
				notReplayed(t, false)
			}
		}},
)

// beside holds one client in a state and asks for a page with another.
func beside(id, why string, hold func(t *T) (release func())) Case {
	return Case{ID: id, Level: Quality, RFC: "RFC 9112 §9", Mode: Alone, Why: why,
		Run: func(t *T) {
			notOneShot(t)
			t.Serve(func(x *Exchange) {
				q := x.RequestHead()
				switch {
				case strings.HasSuffix(q.Target, "/page"):
					x.Send(Reply(200, "page"))
				case strings.HasSuffix(q.Target, "/huge"):
					x.Send("HTTP/1.1 200 OK\r\nConnection: close\r\n" +
						"Content-Length: 1000000000\r\n\r\n")
					flood(x.Reader, 64<<20)
				default:
					<-t.Done // thinks until the case is over
				}
			})
			release := hold(t)
			defer release()
			// The proxy has taken the first client by then.
			time.Sleep(t.Within(60 * time.Millisecond))
			start := time.Now()
			c := t.DialBeside()
			c.Send(t.Get("page"))
			limit := 2 * time.Second
			if id == "free-100-idle" {
				limit = 5 * time.Second // a hundred processes take their time to start
			}
			t.SetSlow(limit)
			r := &Response{}
			r.Problem = "no answer within " + limit.String()
			if err := c.Wait(limit, t.Done,
				func(b []byte) bool { return suite.HeadEnd(b) >= 0 }); err == nil || !c.Ended() {
				if n, _ := c.State(); n > 0 {
					r = c.Final("GET")
				}
			}
			if r.Status != 200 {
				t.NoteStall()
				t.Fatalf("while the first client is held, another one gets %s (after %v)",
					r.Problem+r.Start, time.Since(start).Round(time.Millisecond))
			}
		}}
}

// notOneShot fails the case for a program that exits after each client.
func notOneShot(t *T) {
	if t.Lab.OneShot {
		t.Fatalf("the program serves one client and exits: while it does, nobody else is served")
	}
}

// parallel measures the wall or the staircase.
func parallel(t *T) {
	notOneShot(t)
	const think = 300 * time.Millisecond
	t.Serve(func(x *Exchange) {
		x.Request()
		late, _ := t.Late(think)
		<-late
		x.Send(Reply(200, "ok"))
	})
	left := t.Span(6 * think)
	var wg sync.WaitGroup
	for i := 0; i < 8; i++ {
		wg.Add(1)
		// Ends with its answer.
		go func() {
			defer wg.Done()
			defer t.Catch()
			t.Whole(t.Do(t.Get("p"), "GET"), 200)
		}()
	}
	wg.Wait()
	if d := 6*think - left(); d > 6*think {
		t.NoteStall()
		t.Errorf("eight clients took %v, each answer %v", d.Round(10*time.Millisecond), think)
	}
}

// crowd lets n clients connect at once; each sends a body of size bytes of its
// own pattern and checks that the answer is for it.
func crowd(t *T, n, size int, delay time.Duration) {
	together := &rendezvous{size: 10}
	if t.Lab.Serial {
		together.size = 1
	}
	t.Serve(func(x *Exchange) {
		q := x.Request()
		who := q.Get("X-Who")
		if delay > 0 {
			together.wait(t) // many answers in the same instant
			time.Sleep(delay * time.Duration(len(q.Target)%2))
		}
		h := fnv.New64a()
		h.Write(q.Body)
		x.Send(Reply(200, fmt.Sprintf("%s %s %x", who, q.Target, h.Sum64()),
			"Set-Cookie: who="+who))
	})
	t.SetSlow(8 * time.Second) // a serial proxy gets to the last one late
	gate := make(chan struct{})
	inside := make(chan struct{}, n)
	if t.Lab.Serial {
		inside = make(chan struct{}, 4) // the queue of listen() may be short
	}
	var wg sync.WaitGroup
	for i := 0; i < n; i++ {
		wg.Add(1)
		// Ends with its answer.
		go func() {
			defer wg.Done()
			defer t.Catch()
			<-gate
			if delay > 0 { // not a test of the queue of listen()
				time.Sleep(time.Duration(i) * time.Millisecond)
			}
			inside <- struct{}{}
			defer func() { <-inside }()
			one(t, i, size)
		}()
	}
	close(gate)
	wg.Wait()
}

// burst lets 200 clients connect at once. Who meets a full queue of listen()
// may be lost for long: a client gives up after four seconds and tries again.
func burst(t *T) {
	t.Answer(Reply(200, "ok"))
	inside := make(chan struct{}, 200)
	if t.Lab.Serial {
		inside = make(chan struct{}, 4)
	}
	var lost atomic.Int64
	var wg sync.WaitGroup
	for i := 0; i < 200; i++ {
		wg.Add(1)
		// Ends with its answer, or after the third try.
		go func() {
			defer wg.Done()
			inside <- struct{}{}
			defer func() { <-inside }()
			for try := 0; try < 3; try++ {
				if quickly(t, 4*time.Second) {
					return
				}
			}
			lost.Add(1)
		}()
	}
	wg.Wait()
	if n := lost.Load(); n > 0 {
		t.Errorf("%d of 200 clients got no answer in three tries of 4 s", n)
	}
}

// quickly reports whether a GET is answered in time.
func quickly(t *T, limit time.Duration) bool {
	c, err := t.TryDial(true)
	if err != nil {
		return false
	}
	defer c.Close()
	c.Send(t.Get("q"))
	c.Wait(limit, t.Done, func(b []byte) bool { return suite.HeadEnd(b) >= 0 })
	n, _ := c.State()
	return strings.HasPrefix(string(c.Take(n)), "HTTP/1.1 200 ")
}

// rendezvous lets answers go in groups, so that they meet in the proxy.
type rendezvous struct {
	size  int
	mu    sync.Mutex
	here  int
	start chan struct{}
}

// wait returns when a group is complete, or after 60 ms.
func (r *rendezvous) wait(t *T) {
	r.mu.Lock()
	if r.start == nil {
		r.start = make(chan struct{})
	}
	start := r.start
	if r.here++; r.here >= r.size {
		close(start)
		r.here, r.start = 0, nil
	}
	r.mu.Unlock()
	select {
	case <-start:
	case <-time.After(t.Within(60 * time.Millisecond)):
	case <-t.Done:
	}
}

// one is one client of a crowd.
func one(t *T, i, size int) {
	who := fmt.Sprintf("client-%d", i)
	body := pattern(uint64(1000+i), size)
	path := strings.Repeat("x", i%7+1) + strconv.Itoa(i)
	raw := t.Get(path, "X-Who: "+who)
	if size > 0 {
		raw = t.Req("POST", path, string(body), "X-Who: "+who)
	}
	h := fnv.New64a()
	h.Write(body)
	want := fmt.Sprintf("%s %s %x", who, t.Path(path), h.Sum64())
	r := t.Do(raw, "GET")
	if r.Status != 200 || r.Problem != "" {
		t.Fatalf("%s got status %d: %s", who, r.Status, r.Problem)
	}
	if string(r.Body) != want || r.Get("Set-Cookie") != "who="+who {
		t.Fatalf("%s got %s with cookie %s instead of %s", who, Visible(string(r.Body), 80),
			Visible(r.Get("Set-Cookie"), 30), Visible(want, 80))
	}
}

// crosstalkLeavers mixes clients that leave early with clients that wait.
func crosstalkLeavers(t *T) {
	t.Serve(func(x *Exchange) {
		q := x.Request()
		time.Sleep(10 * time.Millisecond)
		x.Send(Kept(200, q.Get("X-Who")))
		x.Keep()
	})
	t.SetSlow(6 * time.Second)
	var wg sync.WaitGroup
	for i := 0; i < 40; i++ {
		wg.Add(1)
		// Ends with its answer, or at once.
		go func() {
			defer wg.Done()
			defer t.Catch()
			who := strconv.Itoa(1000 + i)
			c := t.Dial()
			defer c.Close()
			c.Send(t.Get("r", "X-Who: "+who))
			if i%4 == 0 {
				return // leaves before its answer
			}
			r := c.Final("GET")
			t.Whole(r, 200)
			t.SameBody("client "+who, r.Body, []byte(who))
		}()
	}
	wg.Wait()
}

// even wants the counts to differ by one at most.
func even(t *T, clients int) {
	n := 30 / len(t.Lab.Farm.Backends) * len(t.Lab.Farm.Backends)
	if clients > 1 {
		clients = n
	}
	counts := t.Spread(n, clients)
	lo, hi := counts[0], counts[0]
	for _, k := range counts {
		lo, hi = min(lo, k), max(hi, k)
	}
	if hi-lo > 1 {
		t.Errorf("%d requests were spread as %v", n, counts)
	}
}

// oneDown sends requests while the first backend refuses.
func oneDown(t *T, hidden bool) {
	farm := t.Lab.Farm
	t.Answer(Reply(200, "ok"))
	t.Down(farm.Backends[0])
	defer func() {
		farm.Backends[0].Listen()
		recovered(t)
	}()
	good := 0
	n := 2 * len(farm.Backends)
	for i := 0; i < n; i++ {
		left := t.Span(5 * time.Second)
		r := t.Do(t.Get("d"), "GET")
		switch {
		case r.Status == 200:
			good++
		case hidden:
			t.Fatalf("request %d got %q; %s", i+1, r.Start, r.Problem)
		case r.Status != 502 && r.Status != 503:
			t.Fatalf("request %d got %q; %s", i+1, r.Start, r.Problem)
		}
		if left() <= 0 {
			t.Errorf("request %d took more than 5 s", i+1)
		}
	}
	if want := n - n/len(farm.Backends) - 1; good < want {
		t.Errorf("with one of %d backends down only %d of %d requests were served",
			len(farm.Backends), good, n)
	}
}

// comesBack takes a backend away for some requests and gives it back.
func comesBack(t *T) {
	farm := t.Lab.Farm
	var mu sync.Mutex
	hits := 0
	t.Serve(func(x *Exchange) {
		x.Request()
		mu.Lock()
		if x.Backend == 0 {
			hits++
		}
		mu.Unlock()
		x.Send(Reply(200, "ok"))
	})
	t.Down(farm.Backends[0])
	for i := 0; i < 2*len(farm.Backends); i++ {
		t.Do(t.Get("away"), "GET")
	}
	if err := farm.Backends[0].Listen(); err != nil {
		t.Fatalf("the checker cannot listen again: %v", err)
	}
	for left := t.Span(12 * time.Second); left() > 0; {
		for i := 0; i < len(farm.Backends); i++ {
			t.Do(t.Get("back"), "GET")
		}
		mu.Lock()
		n := hits
		mu.Unlock()
		if n > 0 {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Errorf("12 s after its return the backend had not had one request")
}

// clientFault lets clients break off, then looks whether each backend still
// gets requests.
func clientFault(t *T) {
	n := len(t.Lab.Farm.Backends)
	for i := 0; i < 4*n; i++ {
		c := t.Dial()
		c.Send(post(t, "Content-Length: 100\r\n", "only this"))
		if x := t.AcceptWithin(100 * time.Millisecond); x != nil {
			x.RequestHead()
		}
		c.Close()
	}
	time.Sleep(t.Within(100 * time.Millisecond))
	for t.Pending() != nil {
	}
	for i, k := range t.Spread(6*n, 1) {
		if k == 0 {
			t.Errorf("after clients had broken off their uploads, backend %d got no request any "+
				"more", i+1)
		}
	}
}

// oneHangs lets the first backend keep its answers back.
func oneHangs(t *T) {
	t.Serve(func(x *Exchange) {
		x.Request()
		if x.Backend == 0 {
			<-t.Done
			return
		}
		x.Send(Reply(200, "ok"))
	})
	n := 3 * len(t.Lab.Farm.Backends)
	answered := make(chan bool, n)
	for i := 0; i < n; i++ {
		// Ends with its answer or with the case.
		go func() {
			defer t.Catch()
			r := t.Do(t.Get("h"), "GET")
			if r.Status == 200 {
				answered <- true
			}
		}()
	}
	want := n - n/len(t.Lab.Farm.Backends)
	for i := 0; i < want; i++ {
		late, stop := t.Late(2 * time.Second)
		select {
		case <-answered:
			stop()
		case <-late:
			t.Fatalf("while one backend hangs, only %d of %d requests to the others were "+
				"answered within 2 s", i, want)
		}
	}
}
