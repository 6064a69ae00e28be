package live

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"reverseproxy/internal/narrate"
)

// patience is how long a test waits for what must come, on a busy machine too.
const patience = 60 * time.Second

// start starts a page without a proxy.
func start(t *testing.T, c Config) *Server {
	t.Helper()
	s, err := Start("127.0.0.1:0", c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// send makes a request with the given fields and returns the status and body.
func send(t *testing.T, s *Server, method, path, body string, fields map[string]string) (int,
	string) {
	t.Helper()
	req, err := http.NewRequest(method, "http://"+s.Addr()+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range fields {
		if name == "Host" {
			req.Host = value
		}
		req.Header.Set(name, value)
	}
	client := http.Client{Timeout: patience}
	defer client.CloseIdleConnections()
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(answer)
}

// What the command line makes a sentence of is the error of the listener.
func TestPortInUse(t *testing.T) {
	s := start(t, Config{})
	var op *net.OpError
	if _, err := Start(s.Addr(), Config{}); !errors.As(err, &op) || op.Op != "listen" {
		t.Errorf("error %v, want the listener's", err)
	}
}

func TestLoopbackUnlessToldOtherwise(t *testing.T) {
	s, err := Start(":0", Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if host, _, _ := net.SplitHostPort(s.Addr()); host != "127.0.0.1" {
		t.Errorf("listens on %s, want 127.0.0.1", host)
	}
}

// TestHosts checks which names the page answers to (DNS rebinding).
func TestHosts(t *testing.T) {
	for _, c := range []struct {
		asked, bound string
		good, bad    []string
	}{
		{"127.0.0.1:9090", "127.0.0.1:9090", []string{"127.0.0.1:9090", "localhost:9090",
			"LOCALHOST:9090", "[::1]:9090"},
			[]string{"evil.example:9090", "127.0.0.1:80", "127.0.0.1", "192.0.2.7:9090", "",
				":9090", "localhost.evil.example:9090"}},
		{"0.0.0.0:9090", "[::]:9090", []string{"192.0.2.7:9090", "localhost:9090",
			"[2001:db8::1]:9090"}, []string{"evil.example:9090"}},
		{"lab:9090", "192.0.2.7:9090", []string{"lab:9090", "192.0.2.7:9090"},
			[]string{"localhost:9090", "127.0.0.1:9090", "192.0.2.8:9090"}},
		{"127.0.0.1:80", "127.0.0.1:80", []string{"127.0.0.1", "localhost"},
			[]string{"evil.example"}},
	} {
		bound, err := net.ResolveTCPAddr("tcp", c.bound)
		if err != nil {
			t.Fatal(err)
		}
		h := AllowedHosts(c.asked, bound)
		for _, field := range c.good {
			if !h.allow(field) {
				t.Errorf("-watch %s: Host %q was refused", c.asked, field)
			}
		}
		for _, field := range c.bad {
			if h.allow(field) {
				t.Errorf("-watch %s: Host %q was let in", c.asked, field)
			}
		}
	}
}

// TestStrangersAreRefused checks the guard with whole requests.
func TestStrangersAreRefused(t *testing.T) {
	s := start(t, Config{Narrator: narrate.New(narrate.Off)})
	own := "http://" + s.Addr()
	const slow = `{"ms":0}`
	for _, c := range []struct {
		name, method, path string
		fields             map[string]string
		want               int
	}{
		{"typed address", "GET", "/", nil, 200},
		{"followed link", "GET", "/", map[string]string{"Sec-Fetch-Site": "cross-site",
			"Sec-Fetch-Mode": "navigate"}, 200},
		{"rebound name", "GET", "/", map[string]string{"Host": "evil.example:" +
			strings.Split(s.Addr(), ":")[1]}, 421},
		{"rebound stream", "GET", "/events", map[string]string{"Host": "evil.example"}, 421},
		{"stream from another site", "GET", "/events",
			map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"}, 403},
		{"stream from another port", "GET", "/events",
			map[string]string{"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"}, 403},
		{"script from another site", "GET", "/main.js",
			map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, 403},
		{"recording from another site", "GET", "/recording.html",
			map[string]string{"Origin": "http://evil.example"}, 403},
		{"action", "POST", "/slow", map[string]string{"X-Live-Token": s.token, "Origin": own,
			"Sec-Fetch-Site": "same-origin"}, 204},
		{"action without token", "POST", "/slow", map[string]string{"Origin": own}, 403},
		{"action with a wrong token", "POST", "/slow", map[string]string{"X-Live-Token": "0"}, 403},
		{"action from another origin", "POST", "/slow", map[string]string{"X-Live-Token": s.token,
			"Origin": "http://evil.example"}, 403},
		{"action from a file", "POST", "/slow", map[string]string{"X-Live-Token": s.token,
			"Origin": "null"}, 403},
		{"action from another site", "POST", "/slow", map[string]string{"X-Live-Token": s.token,
			"Sec-Fetch-Site": "cross-site"}, 403},
		{"action by GET", "GET", "/slow", nil, 404},
		{"path outside", "GET", "/..%2flive.go", nil, 404},
	} {
		if got, body := send(t, s, c.method, c.path, slow, c.fields); got != c.want {
			t.Errorf("%s: status %d (%s), want %d", c.name, got, strings.TrimSpace(body), c.want)
		}
	}
	resp, err := http.Get(own + "/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if csp := resp.Header.Get("Content-Security-Policy"); !strings.Contains(csp,
		"default-src 'none'") || strings.Contains(csp, "unsafe") {
		t.Errorf("Content-Security-Policy is %q", csp)
	}
}

// TestActionsAreBounded checks what the buttons may do.
func TestActionsAreBounded(t *testing.T) {
	narrator := narrate.New(narrate.Off)
	s := start(t, Config{Narrator: narrator})
	mute := muteServer(t)
	act := func(path, body string) (int, string) {
		t.Helper()
		return send(t, s, "POST", path, body, map[string]string{"X-Live-Token": s.token})
	}
	if status, _ := act("/shoot", `{"what":"one"}`); status != 409 {
		t.Errorf("before the proxy listens: status %d, want 409", status)
	}
	s.SetProxy(mute.addr)
	for _, c := range []struct {
		path, body string
		want       int
	}{
		{"/shoot", `{"what":"everything"}`, 409},
		{"/shoot", `{"what":"row"}`, 409}, // the program keeps no connection
		{"/shoot", `{`, 400},
		{"/shoot", strings.Repeat(" ", 2000) + `{"what":"one"}`, 400},
		{"/slow", `{"ms":-1}`, 409},
		{"/slow", `{"ms":100000}`, 409},
		{"/slow", `{"ms":250}`, 204},
		{"/backend", `{"what":"stop","backend":0}`, 409},
	} {
		if got, body := act(c.path, c.body); got != c.want {
			t.Errorf("%s %.40s: status %d (%s), want %d", c.path, c.body, got,
				strings.TrimSpace(body), c.want)
		}
	}
	if got := narrator.Pause(); got != 250*time.Millisecond {
		t.Errorf("the pause is %v, want 250ms", got)
	}
	setRate := func(tokens float64) {
		s.shots.mu.Lock()
		defer s.shots.mu.Unlock()
		s.shots.rate = bucket{tokens: tokens, burst: tokens}
	}
	setRate(0)
	if status, body := act("/shoot", `{"what":"one"}`); status != 409 || !strings.Contains(body,
		"one second") {
		t.Errorf("beyond the rate: status %d (%s), want 409", status, strings.TrimSpace(body))
	}
	setRate(1000)
	started, reason := 0, ""
	for reason == "" && started <= maxShots {
		name, n := "ten", 10
		if started+n > maxShots {
			name, n = "one", 1
		}
		if status, body := act("/shoot", `{"what":"`+name+`"}`); status == 204 {
			started += n
		} else {
			reason = body
		}
	}
	if started != maxShots || !strings.Contains(reason, "at work already") {
		t.Errorf("%d clients were started at once, then %q; want %d", started, reason, maxShots)
	}
	mute.wait(t, started)
	if got := mute.accepted.Load(); got != int64(started) {
		t.Errorf("%d clients came, want %d", got, started)
	}
}

// mute accepts clients and never answers.
type mute struct {
	addr     string
	accepted atomic.Int64
	came     chan struct{}
}

func muteServer(t *testing.T) *mute {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	m := &mute{addr: l.Addr().String(), came: make(chan struct{}, 1000)}
	go func() { // ends when the listener is closed
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { c.Close() })
			m.accepted.Add(1)
			m.came <- struct{}{}
		}
	}()
	return m
}

func (m *mute) wait(t *testing.T, n int) {
	t.Helper()
	limit := time.After(patience)
	for range n {
		select {
		case <-m.came:
		case <-limit:
			t.Fatal("the clients did not come")
		}
	}
}

// fakeBackends remember what was asked of them.
type fakeBackends struct{ stopped [2]atomic.Bool }

func (b *fakeBackends) Addrs() []string     { return []string{"127.0.0.1:8000", "127.0.0.1:8001"} }
func (b *fakeBackends) Running(i int) bool  { return !b.stopped[i].Load() }
func (b *fakeBackends) Stop(i int) error    { b.stopped[i].Store(true); return nil }
func (b *fakeBackends) Restart(i int) error { return errors.New("somebody else has the port") }

func TestStopAndStartBackends(t *testing.T) {
	b := &fakeBackends{}
	s := start(t, Config{Backends: b, BackendAddrs: b.Addrs()})
	act := func(body string) (int, string) {
		return send(t, s, "POST", "/backend", body, map[string]string{"X-Live-Token": s.token})
	}
	if status, _ := act(`{"what":"stop","backend":1}`); status != 204 || !b.stopped[1].Load() ||
		b.stopped[0].Load() {
		t.Errorf("stop: status %d, stopped %v and %v", status, b.stopped[0].Load(),
			b.stopped[1].Load())
	}
	if now := s.snapshot(); now.Backends[1].Running || !now.Backends[0].Running {
		t.Errorf("the counts do not show which backend is stopped: %+v", now.Backends)
	}
	if status, body := act(`{"what":"start","backend":1}`); status != 409 || !strings.Contains(body,
		"somebody else") {
		t.Errorf("start: status %d, %q: want the reason", status, body)
	}
	for _, body := range []string{`{"what":"stop","backend":2}`, `{"what":"stop","backend":-1}`,
		`{"what":"kill"}`} {
		if status, _ := act(body); status != 409 {
			t.Errorf("%s: status %d, want 409", body, status)
		}
	}
}

// TestDrain: without a function that drains there is no button, and nothing to
// press; with it only the page's own requests reach it.
func TestDrain(t *testing.T) {
	b := &fakeBackends{}
	s := start(t, Config{BackendAddrs: b.Addrs()})
	token := map[string]string{"X-Live-Token": s.token}
	const drain, resume = `{"what":"drain","backend":1}`, `{"what":"resume","backend":1}`
	status, _ := send(t, s, "POST", "/drain", drain, token)
	if button := s.snapshot().Drains; status != 409 || button {
		t.Errorf("a program that drains nothing: status %d, button %t", status, button)
	}
	var asked []string
	s.Drains(func(addr string, drain bool) error {
		asked = append(asked, fmt.Sprint(addr, " ", drain))
		if !drain {
			return errors.New("it is the last one")
		}
		return nil
	})
	if !s.snapshot().Drains {
		t.Error("there is no button")
	}
	for _, c := range []struct {
		body   string
		fields map[string]string
		want   int
	}{
		{drain, token, 204},
		{resume, token, 409},
		{`{"what":"drain","backend":2}`, token, 409},
		{`{"what":"drain","backend":-1}`, token, 409},
		{`{"what":"stop","backend":1}`, token, 409},
		{drain, nil, 403},
		{drain, map[string]string{"X-Live-Token": s.token, "Origin": "http://evil.example"}, 403},
	} {
		if status, body := send(t, s, "POST", "/drain", c.body, c.fields); status != c.want {
			t.Errorf("%s: status %d (%s), want %d", c.body, status, strings.TrimSpace(body), c.want)
		}
	}
	want := []string{"127.0.0.1:8001 true", "127.0.0.1:8001 false"}
	if diff := cmp.Diff(want, asked); diff != "" {
		t.Errorf("asked for (-want +got):\n%s", diff)
	}
}

func TestAlgorithm(t *testing.T) {
	s := start(t, Config{BackendAddrs: (&fakeBackends{}).Addrs()})
	token := map[string]string{"X-Live-Token": s.token}
	const maglev, wrong = `{"what":"maglev"}`, `{"what":"best"}`
	if status, _ := send(t, s, "POST", "/algorithm", maglev, token); status != 409 ||
		s.snapshot().Algorithms != nil {
		t.Errorf("a program with one way: status %d", status)
	}
	var using atomic.Value // the page asks for it every second, too
	using.Store("random")
	s.Balances(Balancing{Names: []string{"random", "maglev"},
		Using: func() string { return using.Load().(string) }, Use: func(name string) error {
			if name == "best" {
				return errors.New("there is none")
			}
			using.Store(name)
			return nil
		}})
	s.col.mu.Lock()
	s.col.backends[0].latency.add(1000)
	s.col.mu.Unlock()
	for _, c := range []struct {
		body   string
		fields map[string]string
		want   int
		using  string
		p99    bool
	}{
		{maglev, nil, 403, "random", true},
		{wrong, token, 409, "random", true},
		{maglev, token, 204, "maglev", false},
	} {
		status, body := send(t, s, "POST", "/algorithm", c.body, c.fields)
		now := s.snapshot()
		if status != c.want || now.Algorithm != c.using || len(now.Algorithms) != 2 ||
			now.Backends[0].P99 > 0 != c.p99 {
			t.Errorf("%s: status %d (%s), want %d; %+v", c.body, status, body, c.want, now)
		}
	}
}

// events opens a stream with a small receive buffer.
func openStream(t *testing.T, s *Server) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.(*net.TCPConn).SetReadBuffer(64 << 10)
	fmt.Fprintf(c, "GET /events HTTP/1.1\r\nHost: %s\r\n\r\n", s.Addr())
	return c
}

// sse is one server-sent event.
type sse struct {
	name string
	data []byte
}

// readStream returns the events of a stream one after another.
func readStream(t *testing.T, c net.Conn) func() sse {
	r := bufio.NewReaderSize(c, 1<<20)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReaderSize(resp.Body, 1<<20)
	return func() sse {
		t.Helper()
		var e sse
		for {
			c.SetReadDeadline(time.Now().Add(patience))
			line, err := lines.ReadBytes('\n')
			if err != nil {
				t.Fatalf("the stream ended: %v", err)
			}
			line = bytes.TrimRight(line, "\n")
			switch {
			case bytes.HasPrefix(line, []byte("event: ")):
				e.name = string(line[7:])
			case bytes.HasPrefix(line, []byte("data: ")):
				e.data = append([]byte(nil), line[6:]...)
			case len(line) == 0:
				return e
			}
		}
	}
}

// waitForViewers waits until so many watch.
func waitForViewers(t *testing.T, s *Server, n int) {
	t.Helper()
	for limit := time.Now().Add(patience); s.hub.count() != n; {
		if time.Now().After(limit) {
			t.Fatalf("%d viewers, want %d", s.hub.count(), n)
		}
		time.Sleep(time.Millisecond)
	}
}

// TestSlowViewer checks that a viewer that does not read never slows the sink,
// loses events, is told how many, and still has the right counts in the end.
func TestSlowViewer(t *testing.T) {
	narrator := narrate.New(narrate.Off)
	s := start(t, Config{Narrator: narrator, BackendAddrs: []string{testBackend}})
	narrator.Attach(s.Sink)
	c := openStream(t, s) // and does not read
	waitForViewers(t, s, 1)

	total := uint64(0)
	longest := time.Duration(0)
	lost := func() uint64 {
		s.hub.mu.Lock()
		defer s.hub.mu.Unlock()
		for v := range s.hub.viewers {
			return v.lost.Load()
		}
		t.Fatal("the viewer is gone")
		return 0
	}
	for deadline := time.Now().Add(patience); lost() == 0; {
		if time.Now().After(deadline) {
			t.Fatal("the viewer lost nothing though it reads nothing")
		}
		s.col.mu.Lock()
		s.col.draws.tokens = 300 // draw everything: the stream must be large
		s.col.mu.Unlock()
		for range 200 {
			began := time.Now()
			serve(narrator, 1024+int(total%60000), testBackend)
			longest = max(longest, time.Since(began))
			total++
		}
		s.hub.pump()
	}
	if longest > patience/2 { // it would wait for ever
		t.Errorf("a connection waited %v for the viewer", longest)
	}

	next := readStream(t, c)
	told, ticks := uint64(0), 0
	for {
		e := next()
		switch e.name {
		case "lost":
			var note lostNote
			json.Unmarshal(e.data, &note)
			told += note.Events
		case "tick":
			var now tick
			json.Unmarshal(e.data, &now)
			ticks++
			if told > 0 && now.Connections == total && now.InFlight == 0 {
				t.Logf("%d connections, %d events lost and told of, longest wait %v", total, told,
					longest)
				return
			}
		}
	}
}

// TestStream checks the order and content of a stream: what there is, what
// was, what comes.
func TestStream(t *testing.T) {
	narrator := narrate.New(narrate.Off)
	s := start(t, Config{Chapter: "ch4_threaded", Narrator: narrator,
		BackendAddrs: []string{testBackend}})
	narrator.Attach(s.Sink)
	narrator.Listening(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8080})
	s.SetProxy("127.0.0.1:8080")
	serve(narrator, 50001, testBackend)
	next := readStream(t, openStream(t, s))

	var h hello
	if e := next(); e.name != "hello" || json.Unmarshal(e.data, &h) != nil {
		t.Fatalf("first came %s", e.name)
	}
	if h.Proxy != "127.0.0.1:8080" || h.Token == "" || len(h.Listening) != 3 || h.Workers == "" {
		t.Errorf("hello is %+v", h)
	}
	if e := next(); e.name != "history" {
		t.Errorf("second came %s", e.name)
	}
	var past []record
	if e := next(); e.name != "events" || json.Unmarshal(e.data, &past) != nil || len(past) != 8 {
		t.Fatalf("third came %s with %d events", e.name, len(past))
	}
	serve(narrator, 50002, testBackend)
	for got := 0; got < 8; {
		var now tick
		if e := next(); e.name != "tick" || json.Unmarshal(e.data, &now) != nil {
			t.Fatalf("then came %s", e.name)
		}
		for _, r := range now.Events {
			if r.Conn != 2 {
				t.Errorf("connection %d comes again", r.Conn)
			}
			got++
		}
	}
	go s.Close() // ends when the stream below has ended
	for e := next(); e.name != "end"; e = next() {
	}
}

func TestViewersAreLimited(t *testing.T) {
	s := start(t, Config{})
	var streams []net.Conn
	for range maxViewers {
		streams = append(streams, openStream(t, s))
	}
	waitForViewers(t, s, maxViewers)
	if status, _ := send(t, s, "GET", "/events", "", nil); status != 503 {
		t.Errorf("one viewer too many: status %d, want 503", status)
	}
	streams[0].Close()
	waitForViewers(t, s, maxViewers-1)
	next := readStream(t, openStream(t, s))
	if e := next(); e.name != "hello" {
		t.Errorf("a place that is free again gives %s", e.name)
	}
}

// TestRecordingIsSafe checks that nothing from the network can end the data's
// element, and that the file loads nothing.
func TestRecordingIsSafe(t *testing.T) {
	narrator := narrate.New(narrate.Off)
	s := start(t, Config{Chapter: "ch4_threaded", Narrator: narrator})
	narrator.Attach(s.Sink)
	c := narrator.Accept(clientAt(50001))
	c.Step(narrate.ReadRequest, narrate.Event{Text: `GET /</script><script>alert(1)</script>`})
	status, page := send(t, s, "GET", "/recording.html", "", nil)
	if status != 200 || strings.Contains(page, "<script>alert") {
		t.Errorf("status %d; the request's text stands in the page as markup", status)
	}
	for _, word := range []string{" src=", " href=", "\nimport ", "\nexport "} {
		if strings.Contains(page, word) {
			t.Errorf("the recording contains %q", word)
		}
	}
	if strings.Contains(page, s.token) {
		t.Error("the recording holds the token")
	}
}
