//go:build unix

package main

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"reverseproxy/internal/backends"
	"reverseproxy/internal/harness"
	"reverseproxy/internal/narrate"
	"reverseproxy/internal/proc"
)

// quick are flags with which all goes ten times as fast as usual. On a busy machine a check
// may fail with them though its backend is well. How long things take to the moment, package
// health tests with a clock of its own.
var quick = []string{"-inter", "200ms", "-check-timeout", "200ms", "-fail-timeout", "1s",
	"-slow-start", "500ms"}

// stoppable starts n demo backends that the test can stop. Their ports are such as the
// kernel gives to nobody else meanwhile.
func stoppable(t *testing.T, n int) *backends.Group {
	t.Helper()
	addrs := make([]string, n)
	for i := range addrs {
		addrs[i] = proc.FreeAddr()
	}
	g, err := backends.Start(addrs)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return g
}

// start starts the chapter in front of n of them.
func start(t *testing.T, n int, flags ...string) (*harness.Proxy, *backends.Group) {
	t.Helper()
	g := stoppable(t, n)
	return harness.Start(t, harness.Health, append([]string{"-backends",
		strings.Join(g.Addrs(), ",")}, flags...)...), g
}

// stopAll stops all backends, and waits until nobody can connect to one: as long as another
// program is just being started, that one may hold their sockets, too.
func stopAll(t *testing.T, g *backends.Group) {
	t.Helper()
	for i, addr := range g.Addrs() {
		g.Stop(i)
		for end := time.Now().Add(harness.Patience); ; time.Sleep(5 * time.Millisecond) {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				break
			}
			c.Close()
			if time.Now().After(end) {
				t.Fatalf("%s still listens", addr)
			}
		}
	}
}

// state waits until a backend is in a state, for the n-th time.
func state(t *testing.T, p *harness.Proxy, addr, name string, n int) narrate.Event {
	t.Helper()
	return p.WaitEvents(t, addr+" is "+name, n, func(e narrate.Event) bool {
		return e.Kind == narrate.KindHealth && e.Peer == addr && e.State == name
	})[n-1]
}

// load sends GETs from several clients that keep their connections, and wants each
// answered. It returns what ends that and says how many there were.
func load(t *testing.T, p *harness.Proxy, path string) (end func() int64) {
	var sent atomic.Int64
	var clients sync.WaitGroup
	stop := make(chan struct{})
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8}}
	for range 8 {
		clients.Go(func() { // ends when stop is closed
			for {
				select {
				case <-stop:
					return
				case <-time.After(2 * time.Millisecond):
				}
				sent.Add(1)
				r, err := client.Get("http://" + p.Addr + path)
				if err != nil {
					t.Error(err)
					return
				}
				body, err := io.ReadAll(r.Body)
				if r.Body.Close(); r.StatusCode != 200 || err != nil {
					t.Errorf("%s, %q, %v", r.Status, body, err)
				}
			}
		})
	}
	return sync.OnceValue(func() int64 {
		close(stop)
		clients.Wait()
		client.CloseIdleConnections()
		return sent.Load()
	})
}

// TestTwoOfThreeDie: no GET is lost, and once it is known, no try goes to them. A request may
// be in the hands of the one that dies, and then of the other.
func TestTwoOfThreeDie(t *testing.T) {
	t.Parallel()
	p, g := start(t, 3, append(slices.Clone(quick), "-retries", "2")...)
	end := load(t, p, "/api/data")
	defer end()
	routes(t, p, time.Time{}, 50)
	died := time.Now()
	g.Stop(0)
	g.Stop(1)
	for _, addr := range g.Addrs()[:2] {
		p.WaitEvent(t, addr+" is down", func(e narrate.Event) bool {
			return e.Kind == narrate.KindHealth && e.Peer == addr && e.State == narrate.Down &&
				e.Time.After(died)
		})
	}
	for _, addr := range g.Addrs()[:2] { // what requests could not take out, checks do
		p.WaitEvents(t, "checks of "+addr+" fail", 3, func(e narrate.Event) bool {
			return e.Kind == narrate.KindCheck && e.Peer == addr && e.Err != "" &&
				e.Time.After(died)
		})
	}
	known, all, dead := time.Now(), 0, 0
	p.WaitEvent(t, "300 tries in succession, at most three of them go to the dead",
		func(e narrate.Event) bool {
			if e.Kind != narrate.KindRoute || !e.Time.After(known) {
				return false
			}
			all++
			if e.Peer != g.Addrs()[2] {
				dead++
			}
			if dead > 3 { // told, a failed check is not yet counted
				all, dead = 0, 0
			}
			return all == 300
		})
	for i := range 2 {
		if err := g.Restart(i); err != nil {
			t.Fatal(err)
		}
	}
	for _, addr := range g.Addrs()[:2] {
		state(t, p, addr, narrate.Up, 1)
	}
}

// routes waits until n requests have been sent to a backend after a time, and returns to
// which.
func routes(t *testing.T, p *harness.Proxy, after time.Time, n int) []narrate.Event {
	t.Helper()
	return p.WaitEvents(t, "requests are sent", n, func(e narrate.Event) bool {
		return e.Kind == narrate.KindRoute && e.Time.After(after)
	})
}

// TestAllDie: the answer is 503, at once; and all is well again when they are back.
func TestAllDie(t *testing.T) {
	t.Parallel()
	// Who waited for a backend would wait longer than Get does.
	p, g := start(t, 3, append(slices.Clone(quick), "-connect-timeout", "10m")...)
	stopAll(t, g)
	for range 50 {
		if r := p.Get(t, "/api/data"); r.Status != 503 {
			t.Fatalf("%d %q", r.Status, r.Body)
		}
		time.Sleep(20 * time.Millisecond)
	}
	for _, addr := range g.Addrs() {
		state(t, p, addr, narrate.Down, 1)
	}
	for i := range 3 {
		if err := g.Restart(i); err != nil {
			t.Fatal(err)
		}
	}
	for range 20 {
		if r := p.Get(t, "/api/data"); r.Status != 200 {
			t.Errorf("after their return: %d %q", r.Status, r.Body)
		}
	}
	for _, addr := range g.Addrs() {
		state(t, p, addr, narrate.Up, 1)
	}
}

// TestStartedBeforeItsBackends: the first request after they listen is answered.
func TestStartedBeforeItsBackends(t *testing.T) {
	t.Parallel()
	g := stoppable(t, 3)
	stopAll(t, g)
	p := harness.Start(t, harness.Health, append([]string{"-backends",
		strings.Join(g.Addrs(), ",")}, quick...)...)
	if r := p.Get(t, "/"); r.Status != 503 {
		t.Errorf("before: %d", r.Status)
	}
	for _, addr := range g.Addrs() {
		state(t, p, addr, narrate.Down, 1)
	}
	for i := range 3 {
		if err := g.Restart(i); err != nil {
			t.Fatal(err)
		}
	}
	if r := p.Get(t, "/"); r.Status != 200 {
		t.Errorf("the first one: %d %q", r.Status, r.Body)
	}
}

// TestForReal: the usual times, once.
func TestForReal(t *testing.T) {
	t.Parallel()
	const ramp = 2 * time.Second
	p, g := start(t, 3, "-slow-start", ramp.String())
	time.Sleep(time.Second)
	addr := g.Addrs()[1]
	died := time.Now()
	g.Stop(1)
	down := state(t, p, addr, narrate.Down, 1)
	if d := down.Time.Sub(died); d < 3*time.Second {
		t.Errorf("down after %v: %s", d, down.Text)
	}
	if !strings.Contains(down.Text, "3 of 3 checks failed") ||
		!strings.Contains(down.Text, "refused") {
		t.Errorf("the cause: %s", down.Text)
	}
	if err := g.Restart(1); err != nil {
		t.Fatal(err)
	}
	up := state(t, p, addr, narrate.Up, 1)

	// Slow start: it has a part of what another one has, which grows. A busy machine may tell
	// of a choice later than it was made, if no more of them than there are clients, and of
	// the return as well.
	end := load(t, p, "/api/data")
	time.Sleep(ramp + ramp/4)
	end()
	const late, clients = ramp / 4, 8
	part := func(at time.Duration) float64 { return min(1, max(.1, at.Seconds()/ramp.Seconds())) }
	mine, least, most := 0.0, 0.0, 0.0
	for _, e := range p.Events() {
		switch at := e.Time.Sub(up.Time); {
		case e.Kind != narrate.KindRoute || at < 0 || at >= ramp:
		case e.Peer == addr:
			mine++
		default: // one of two
			least, most = least+part(at-late)/2, most+part(at+late)/2
		}
	}
	if mine < least-clients || mine > most+clients {
		t.Errorf("it has had %.0f requests, want %.0f to %.0f", mine, least, most)
	}
}

// TestDrainBySignal: what is in flight ends well, idle connections close, new
// requests go elsewhere; and back.
func TestDrainBySignal(t *testing.T) {
	t.Parallel()
	b := harness.NewBackend(t)
	other, err := backends.Start([]string{"127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	p := harness.Start(t, harness.Health, "-backends", b.Addr+","+other.Addrs()[0], "-drain",
		b.Addr, "-check", "off", "-reuse", "always")

	// Of the first backend: an idle connection, a request in flight, a tunnel.
	get := "GET / HTTP/1.1\r\nHost: drain.test\r\n\r\n"
	kept, flying, tunnel := p.Dial(t), p.Dial(t), p.Dial(t)
	flying.Send(get)
	f := b.Accept(t)
	f.Request()
	p.Get(t, "/") // the other one's turn
	tunnel.Send("GET /ws HTTP/1.1\r\nHost: drain.test\r\nConnection: Upgrade\r\n" +
		"Upgrade: echo\r\n\r\n")
	w := b.Accept(t)
	w.Request()
	w.Send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	tunnel.Head()
	p.Get(t, "/")
	kept.Send(get)
	k := b.Accept(t)
	k.Request()
	k.Send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")
	if _, body, err := kept.TryResponse("GET"); body != "x" {
		t.Fatal(body, err)
	}

	p.Signal(syscall.SIGUSR1)
	state(t, p, b.Addr, narrate.Draining, 1)
	k.Gone()
	for range 10 {
		if r := p.Get(t, "/"); r.Status != 200 {
			t.Errorf("a new request: %d", r.Status)
		}
	}
	f.Send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")
	if _, body, err := flying.TryResponse("GET"); body != "x" {
		t.Errorf("the request in flight: %q, %v", body, err)
	}
	f.Gone()
	for _, c := range [][2]*harness.Conn{{tunnel, w}, {w, tunnel}} {
		c[0].Send("hello")
		got := make([]byte, 5)
		if _, err := io.ReadFull(c[1].R, got); string(got) != "hello" {
			t.Errorf("the tunnel: %q, %v", got, err)
		}
	}
	p.Signal(syscall.SIGUSR1)
	state(t, p, b.Addr, narrate.Up, 1)
	for range 2 { // one of them is the backend's
		p.Dial(t).Send(get)
	}
	b.Accept(t).Request()
}

// TestDrainAtReady: a signal that comes as soon as the proxy is ready is not lost;
// -drain may name the backend as -backends does, whatever address that becomes.
func TestDrainAtReady(t *testing.T) {
	t.Parallel()
	for range 20 {
		p := harness.Start(t, harness.Health, "-backends", "localhost:1,127.0.0.1:2", "-check",
			"off", "-drain", "localhost:1")
		p.Signal(syscall.SIGUSR1)
		p.WaitEvent(t, "its state", func(e narrate.Event) bool {
			return e.State == narrate.Draining && strings.HasSuffix(e.Peer, ":1")
		})
		p.Interrupt(t)
	}
}

// TestDrainOnTheLivePage: its button.
func TestDrainOnTheLivePage(t *testing.T) {
	t.Parallel()
	p, g := start(t, 2, "-watch", "127.0.0.1:0", "-check", "off")
	page := "http://" + p.WaitEvent(t, "the live page", func(e narrate.Event) bool {
		return e.Kind == narrate.KindWatch
	}).Listen
	r, err := http.Get(page + "/events")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	events, token := bufio.NewReader(r.Body), []string(nil)
	for token == nil {
		line, err := events.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		token = regexp.MustCompile(`"token":"(\w+)"`).FindStringSubmatch(line)
	}
	press := func(what string) {
		t.Helper()
		q, _ := http.NewRequest("POST", page+"/drain",
			strings.NewReader(`{"what":"`+what+`","backend":1}`))
		q.Header.Set("X-Live-Token", token[1])
		q.Header.Set("Content-Type", "application/json")
		r, err := http.DefaultClient.Do(q)
		if err != nil || r.StatusCode >= 300 {
			t.Fatal(what, r, err)
		}
		r.Body.Close()
	}
	press("drain")
	state(t, p, g.Addrs()[1], narrate.Draining, 1)
	for range 4 {
		p.Get(t, "/")
	}
	press("resume")
	state(t, p, g.Addrs()[1], narrate.Up, 1)
	for range 4 {
		p.Get(t, "/")
	}
	if a, b := g.Requests(0), g.Requests(1); a < 5 || b < 1 || a+b != 8 {
		t.Errorf("%d and %d requests", a, b)
	}
}

// TestDrainByCheck: 404 on the check's path.
func TestDrainByCheck(t *testing.T) {
	t.Parallel()
	p, g := start(t, 2, append([]string{"-check", "/health", "-fall", "1000"}, quick...)...)
	post := func(path string) {
		t.Helper()
		r, err := http.Post("http://"+g.Addrs()[0]+path, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
	}
	end := load(t, p, "/api/data")
	post("/leave")
	at := state(t, p, g.Addrs()[0], narrate.Draining, 1)
	routes(t, p, at.Time, 100)
	g.Stop(0) // it has nothing in hand any more
	after := routes(t, p, time.Now(), 300)
	end()
	for _, e := range after {
		if e.Peer == g.Addrs()[0] {
			t.Fatalf("it gets a request %v after it began to drain", e.Time.Sub(at.Time))
		}
	}
}

// TestDeepChecks: what all depend on takes out all together if checks are deep, and
// they are used all the same; shallow ones do not see it.
func TestDeepChecks(t *testing.T) {
	t.Parallel()
	for _, check := range []string{"/health", "/health?deep=1"} {
		p, g := start(t, 3, append([]string{"-check", check}, quick...)...)
		r, err := http.Post("http://"+g.Addrs()[0]+"/dependency?on=0", "", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		if check == "/health" {
			off := time.Now()
			p.WaitEvents(t, "checks", 12, func(e narrate.Event) bool {
				return e.Kind == narrate.KindCheck && e.Time.After(off)
			})
			for _, e := range p.Events() { // one may come late, on a busy machine
				if e.Kind == narrate.KindHealth && strings.Contains(e.Text, "503") {
					t.Errorf("a shallow check: %+v", e)
				}
			}
			continue
		}
		for _, addr := range g.Addrs() {
			state(t, p, addr, narrate.Down, 1)
		}
		seen := map[string]bool{}
		for range 30 {
			r := p.Get(t, "/api/data")
			if r.Status != 200 {
				t.Errorf("%d %q", r.Status, r.Body)
			}
			seen[r.Body[:20]] = true
		}
		if len(seen) != 3 {
			t.Errorf("used are %v", seen)
		}
	}
}

// TestQueueForABackend: one more than a backend may have waits until it comes free,
// or leaves, or is told 503 after the connect timeout.
func TestQueueForABackend(t *testing.T) {
	t.Parallel()
	get := "GET / HTTP/1.1\r\nHost: proxy.test\r\n\r\n"
	one := "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\n1"
	full := func(limit time.Duration) (p *harness.Proxy, first, backend *harness.Conn) {
		p = harness.StartWithBackend(t, harness.Health, "-check", "off",
			"-backend-max-conns", "1", "-connect-timeout", limit.String())
		first = p.Dial(t)
		first.Send(get)
		backend = p.Backend.Accept(t)
		backend.Request()
		return p, first, backend
	}
	p, first, backend := full(10 * time.Minute)
	waiting := func(n, times int) {
		t.Helper()
		p.WaitEvents(t, "the queue", times, func(e narrate.Event) bool {
			return e.Kind == narrate.KindQueue && e.Waiting == n
		})
	}
	second, third := p.Dial(t), p.Dial(t)
	second.Send(get)
	waiting(1, 1)
	third.Send(get)
	waiting(2, 1)
	third.Reset() // it leaves
	waiting(1, 2)
	backend.Send(one)
	if r := first.Response("GET"); r.Body != "1" {
		t.Errorf("the first: %+v", r)
	}
	backend = p.Backend.Accept(t)
	backend.Request()
	waiting(0, 1)
	backend.Send(one)
	if r := second.Response("GET"); r.Body != "1" {
		t.Errorf("the second: %+v", r)
	}

	const limit = time.Second
	p, first, backend = full(limit)
	late, began := p.Dial(t), time.Now()
	late.Send(get)
	r := late.Response("GET")
	if d := time.Since(began); r.Status != 503 || d < limit || !strings.Contains(r.Body, "busy") {
		t.Errorf("the one too many: %d %q after %v", r.Status, r.Body, d)
	}
	backend.Send(one)
	if r := first.Response("GET"); r.Body != "1" {
		t.Errorf("the one before: %+v", r)
	}
}

// TestQueueOfTries: two requests that have failed at a backend each, and wait for
// the other one's, do not wait for each other.
func TestQueueOfTries(t *testing.T) {
	t.Parallel()
	a, b := harness.NewBackend(t), harness.NewBackend(t)
	p := harness.Start(t, harness.Health, "-backends", a.Addr+","+b.Addr, "-check", "off",
		"-backend-max-conns", "1", "-max-fails", "0", "-connect-timeout", "10m")
	get := "GET / HTTP/1.1\r\nHost: proxy.test\r\n\r\n"
	var clients, first []*harness.Conn
	for _, backend := range []*harness.Backend{a, b} {
		c := p.Dial(t)
		c.Send(get)
		to := backend.Accept(t)
		to.Request()
		clients, first = append(clients, c), append(first, to)
	}
	for _, c := range first {
		c.Reset()
	}
	for _, backend := range []*harness.Backend{b, a} {
		to := backend.Accept(t)
		to.Request()
		to.Send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")
	}
	for _, c := range clients {
		if r := c.Response("GET"); r.Body != "x" {
			t.Errorf("%d %q", r.Status, r.Body)
		}
	}
}

// TestQueueOrAnswer: a request that has an answer, if a bad one, does not wait for
// a better one.
func TestQueueOrAnswer(t *testing.T) {
	t.Parallel()
	a, b := harness.NewBackend(t), harness.NewBackend(t)
	p := harness.Start(t, harness.Health, "-backends", a.Addr+","+b.Addr, "-check", "off",
		"-backend-max-conns", "1", "-connect-timeout", "10m", "-retry-on", "503")
	get := "GET / HTTP/1.1\r\nHost: proxy.test\r\n\r\n"
	first, second := p.Dial(t), p.Dial(t)
	first.Send(get)
	one := a.Accept(t)
	one.Request()
	second.Send(get)
	b.Accept(t).Request()
	one.Send("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\nno")
	if r := first.Response("GET"); r.Status != 503 || r.Body != "no" {
		t.Errorf("%d %q", r.Status, r.Body)
	}
}

// TestAtItsLimit: 120 requests a second for one backend that serves 100, and does
// not answer checks. No answer is 503: whether it is well or not, there is no other.
func TestAtItsLimit(t *testing.T) {
	t.Parallel()
	b := harness.NewBackend(t)
	turn := make(chan struct{}, 1)
	b.Serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/health" {
			<-r.Context().Done()
			return
		}
		turn <- struct{}{}
		time.Sleep(10 * time.Millisecond)
		<-turn
	})
	p := harness.Start(t, harness.Health, append(slices.Clone(quick), "-backends", b.Addr, "-check",
		"/health", "-server-timeout", "1m")...)
	var all sync.WaitGroup
	tick := time.NewTicker(time.Second / 120)
	defer tick.Stop()
	for range 360 {
		<-tick.C
		all.Go(func() { // ends with its answer
			if _, err := p.TryGet("/"); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	state(t, p, b.Addr, narrate.Down, 1)
}

// TestAllCountTheSame is the chapter's named gap: a backend that takes ten times as
// long gets as many requests as the others.
func TestAllCountTheSame(t *testing.T) {
	t.Parallel()
	g, err := backends.Start([]string{"127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	slow := harness.NewBackend(t)
	slow.Serve(t, func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(20 * time.Millisecond)
	})
	p := harness.Start(t, harness.Health, "-backends", slow.Addr+","+g.Addrs()[0], "-check",
		"off")
	end := load(t, p, "/slow?ms=2")
	routes(t, p, time.Time{}, 100)
	end()
	p.Interrupt(t) // all has been told then
	turns := map[string]int{}
	for _, e := range p.Events() {
		if e.Kind == narrate.KindRoute {
			turns[e.Peer]++
		}
	}
	if a, b := turns[slow.Addr], turns[g.Addrs()[0]]; a < 20 || a-b > 1 || b-a > 1 {
		t.Errorf("turns: %v", turns)
	}
}

// TestStopWithChecks: Ctrl+C waits for no check.
func TestStopWithChecks(t *testing.T) {
	t.Parallel()
	b := harness.NewBackend(t) // accepts, and says nothing
	p := harness.Start(t, harness.Health, "-backends", b.Addr, "-inter", "1h", "-check-timeout",
		"1h")
	c := b.Accept(t)
	c.Head()
	began := time.Now()
	if e := p.Interrupt(t); e.Code != 0 || time.Since(began) > 4*time.Second {
		t.Errorf("exit status %d after %v", e.Code, time.Since(began))
	}
	c.Gone()
	for _, e := range p.Events() {
		if e.Kind == narrate.KindCheck || e.Kind == narrate.KindHealth {
			t.Errorf("a cancelled check counts: %+v", e)
		}
	}
}

// TestBadFlags: wrong values end the program with exit status 2.
func TestBadFlags(t *testing.T) {
	for _, flags := range [][]string{{"-check", "health"}, {"-check-status", "ok"},
		{"-inter", "0s"}, {"-fall", "0"}, {"-rise", "x"}, {"-check-timeout", "-1s"},
		{"-max-fails", "-1"}, {"-fail-timeout", "0s"}, {"-fail-ratio", "101"},
		{"-slow-start", "-1s"}, {"-backend-max-conns", "-1"}, {"-drain", "127.0.0.1:1"}} {
		harness.RefusesToStart(t, harness.Health, 2, flags, flags[0])
	}
}
