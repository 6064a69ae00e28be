//go:build unix

package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"reverseproxy/ch2_basic_proxy/forward"
	"reverseproxy/ch4_threaded/workers"
	"reverseproxy/ch6_keep_alive/keep"
	"reverseproxy/ch7_timeouts_retries/retry"
	"reverseproxy/internal/cli"
	"reverseproxy/internal/harness"
	"reverseproxy/internal/narrate"
)

// Where the first try of a request ends.
const (
	notConnected  = "not connected"
	nothing       = "nothing written"
	part          = "part written"
	all           = "all written"
	partOfHeader  = "part of the header read"
	answerStarted = "answer begun"
)

var phases = []string{notConnected, nothing, part, all, partOfHeader, answerStarted}

// farm is three backends, which count the tries of each request.
type farm struct {
	t     *testing.T
	addrs []string
	// does is what a backend does with the n-th try of a request, from 1. It
	// reports whether the connection goes on.
	does func(n int, r *http.Request, conn *net.TCPConn) bool

	mu    sync.Mutex
	tries map[string][]string // by the request's target: the backends that had it
}

func newFarm(t *testing.T, does func(n int, r *http.Request, conn *net.TCPConn) bool) *farm {
	t.Helper()
	f := &farm{t: t, does: does, tries: map[string][]string{}}
	for range 3 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		f.addrs = append(f.addrs, l.Addr().String())
		go func() { // ends with the listener, the inner one with its connection
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				go f.serve(conn.(*net.TCPConn), l.Addr().String())
			}
		}()
	}
	return f
}

func (f *farm) flag() string { return strings.Join(f.addrs, ",") }

// reset closes a connection with RST.
func reset(conn *net.TCPConn) {
	conn.SetLinger(0)
	conn.Close()
}

func (f *farm) serve(conn *net.TCPConn, addr string) {
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	in := bufio.NewReader(conn)
	for {
		r, err := http.ReadRequest(in)
		if err != nil || r.Host != "retry.test" && r.Host != "a" {
			return // or it is for another program, whose port this was before
		}
		f.mu.Lock()
		key := r.Method + " " + r.RequestURI
		f.tries[key] = append(f.tries[key], addr)
		n := len(f.tries[key])
		f.mu.Unlock()
		if !f.does(n, r, conn) {
			return
		}
	}
}

// serves answers the request with the number of the try, and its body's length.
func serves(n int, r *http.Request, conn *net.TCPConn) bool {
	body, err := io.ReadAll(r.Body)
	answer := fmt.Sprintf("try %d, %d bytes", n, len(body))
	fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(answer))
	if r.Method != "HEAD" {
		io.WriteString(conn, answer)
	}
	return err == nil
}

// breaks reads the request, closes the connection and reports false.
func breaks(_ int, r *http.Request, conn *net.TCPConn) bool {
	io.Copy(io.Discard, r.Body)
	return false
}

// first does this with the first try of a request, and serves the others.
func first(does func(n int, r *http.Request, conn *net.TCPConn) bool) func(int, *http.Request,
	*net.TCPConn) bool {
	return func(n int, r *http.Request, conn *net.TCPConn) bool {
		if n == 1 {
			return does(n, r, conn)
		}
		return serves(n, r, conn)
	}
}

// await waits until a request has been sent n times: a backend may learn of one after its
// client has been answered.
func (f *farm) await(key string, n int) {
	for end := time.Now().Add(harness.Patience); time.Now().Before(end); {
		f.mu.Lock()
		had := len(f.tries[key])
		f.mu.Unlock()
		if had >= n {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// had returns how many backends had a request. None may have had it twice.
func (f *farm) had(key string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	seen := map[string]bool{}
	for _, addr := range f.tries[key] {
		if seen[addr] {
			f.t.Errorf("%s: a backend had it twice: %v", key, f.tries[key])
		}
		seen[addr] = true
	}
	return len(f.tries[key])
}

// ask sends a request over a connection of its own, and returns the status of the
// answer, or 0 if it broke off, and its body.
func ask(t *testing.T, p *harness.Proxy, method, target string, body int) (int, string) {
	t.Helper()
	c := p.Dial(t)
	defer c.Close()
	head := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: retry.test\r\nConnection: close\r\n", method,
		target)
	if body > 0 {
		head += fmt.Sprintf("Content-Length: %d\r\n", body)
	}
	go io.WriteString(c, head+"\r\n"+strings.Repeat("x", body)) // ends with the connection
	r, got, err := c.TryResponse(method)
	if err != nil {
		return 0, got
	}
	return r.StatusCode, got
}

// TestDecisions is the decision table: how many backends see a request, by its
// method, by where its first try ended, and by its body. Idempotent ones with a
// body that is kept have a second try, unless the answer has begun; the others
// only if no backend can have seen them.
func TestDecisions(t *testing.T) {
	end := func(_ int, r *http.Request, conn *net.TCPConn) bool {
		phase := strings.Split(r.URL.Path, "/")[1]
		if phase == part { // of the body, if there is one
			io.ReadFull(r.Body, make([]byte, min(r.ContentLength, 1000)))
			reset(conn)
			return false
		}
		io.Copy(io.Discard, r.Body)
		switch phase {
		case partOfHeader:
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Le")
		case answerStarted:
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nsome of it")
		}
		return false
	}
	off := []string{"-retry-budget", "0", "-reuse", "never"}

	farms, proxies := map[string]*farm{}, map[string]*harness.Proxy{}
	for _, phase := range phases {
		f := newFarm(t, first(end))
		farms[phase] = f
		switch phase {
		case notConnected: // two of three backends listen no more
			f.does, f.addrs = serves, append(f.addrs[:1], harness.Refused(t), harness.Refused(t))
		case nothing:
			f.does = serves
			proxies[phase] = thatIsReset(t, f, off...)
			continue
		}
		proxies[phase] = harness.Start(t, harness.Retries, append(off, "-backends", f.flag())...)
	}
	bodies := map[string]int{"none": 0, "64 KiB": 64 << 10, "larger": 64<<10 + 1}
	for _, method := range strings.Fields("GET HEAD OPTIONS TRACE PUT DELETE POST PATCH") {
		for _, phase := range phases {
			for name, body := range bodies {
				t.Run(method+", "+phase+", body "+name, func(t *testing.T) {
					if phase != nothing {
						t.Parallel()
					}
					p, f := proxies[phase], farms[phase]
					target := "/" + strings.ReplaceAll(phase, " ", "%20") + "/" + name[:2]
					wantTries, wantStatus := 2, 200
					switch idempotent := method != "POST" && method != "PATCH"; {
					case phase == notConnected, phase == nothing:
						wantTries = 1
					case phase == answerStarted:
						if wantTries, wantStatus = 1, 0; method == "HEAD" {
							wantStatus = 200 // its answer is the header
						}
					case !idempotent, name == "larger":
						wantTries, wantStatus = 1, 502
					}
					status, _ := ask(t, p, method, target, body)
					got := []int{f.had(method + " " + target), status}
					if diff := cmp.Diff([]int{wantTries, wantStatus}, got); diff != "" {
						t.Errorf("tries and status: want (-), got (+):\n%s", diff)
					}
				})
			}
		}
	}
}

// thatIsReset runs the chapter in this process. The second and the third backend of the farm
// reset each connection when the proxy has it and before it writes, which no other process
// could be sure of. It serves one client at a time, and no program may be started meanwhile:
// until that runs it holds the connections of this one, too, which are not reset so long.
func thatIsReset(t *testing.T, f *farm, flags ...string) *harness.Proxy {
	t.Helper()
	listen := func() net.Listener {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return l
	}
	resetting := map[string]net.Listener{}
	for i := range f.addrs[1:] {
		l := listen()
		f.addrs[1+i] = l.Addr().String()
		resetting[f.addrs[1+i]] = l
	}
	app := cli.New(f.addrs...)
	p := &proxy{app: app, settings: forward.Flags(app), slots: workers.Flags(app)}
	p.pool, p.retry = keep.Flags(app, p.slots), retry.Flags(app)
	if err := app.Flags.Parse(flags); err != nil {
		t.Fatal(err)
	}
	app.Log = narrate.New(narrate.All, func(e narrate.Event) { // step 7 waits for its return
		if l := resetting[e.Peer]; e.Step == narrate.Connect && e.Err == "" && l != nil {
			if conn, err := l.Accept(); err == nil {
				reset(conn.(*net.TCPConn))
			}
		}
	})
	p.turns = retry.NewInTurn(f.addrs)
	l := listen()
	go p.serve(p.slots.Limit(l)) // ends with the listener
	return &harness.Proxy{Model: harness.Retries, Addr: l.Addr().String()}
}

// -retries bounds the tries that a backend may have seen, -retry-on says after
// which failures there are any.
func TestHowOften(t *testing.T) {
	t.Parallel()
	hangs := func(_ int, r *http.Request, conn *net.TCPConn) bool {
		conn.SetReadDeadline(time.Now().Add(time.Minute))
		conn.Read(make([]byte, 1))
		return false
	}
	stands := func(n int, r *http.Request, conn *net.TCPConn) bool {
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
		return hangs(n, r, conn)
	}
	for _, test := range []struct {
		name, flags   string
		does          func(int, *http.Request, *net.TCPConn) bool
		tries, status int
	}{
		{"one further try", "-retries 1", breaks, 2, 502},
		{"two", "-retries 2", breaks, 3, 502},
		{"as many as there are backends", "-retries 9", breaks, 3, 502},
		{"none", "-retries 0", breaks, 1, 502},
		{"after nothing", "-retry-on none", breaks, 1, 502},
		{"after other failures", "-retry-on connect,timeout", breaks, 1, 502},
		{"a timeout is not named", "-server-timeout 200ms", first(hangs), 1, 504},
		{"the answer stands still", "-idle-timeout 200ms -retry-on timeout", stands, 1, 0},
		{"a timeout is named", "-server-timeout 5s -retry-on timeout", first(hangs), 2, 200},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			f := newFarm(t, test.does)
			p := harness.Start(t, harness.Retries,
				append(strings.Fields(test.flags), "-backends", f.flag())...)
			status, _ := ask(t, p, "GET", "/", 0)
			f.await("GET /", test.tries)
			got := []int{f.had("GET /"), status}
			if diff := cmp.Diff([]int{test.tries, test.status}, got); diff != "" {
				t.Errorf("tries and status: want (-), got (+):\n%s", diff)
			}
		})
	}
}

// When no further try is allowed, the client gets the last backend's own answer,
// byte for byte; one that says when to come again is never tried again.
func TestLastAnswer(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, method, fields string
		tries                int
	}{
		{"GET", "GET", "", 2},
		{"POST", "POST", "", 1},
		{"Retry-After", "GET", "Retry-After: 120\r\n", 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var last string
			f := newFarm(t, func(n int, r *http.Request, conn *net.TCPConn) bool {
				io.Copy(io.Discard, r.Body)
				body := fmt.Sprintf("busy, says backend %d\n\x00\xff", n)
				last = fmt.Sprintf("HTTP/1.1 503 Not Now\r\nDate: x\r\n%sX-Own: %d\r\n"+
					"Content-Length: %d\r\n\r\n%s", test.fields, n, len(body), body)
				io.WriteString(conn, last)
				return true
			})
			p := harness.Start(t, harness.Retries, "-retry-on", "503", "-backends", f.flag())
			c := p.Dial(t)
			c.Send(test.method + " / HTTP/1.1\r\nHost: retry.test\r\nContent-Length: 1\r\n" +
				"Connection: close\r\n\r\nx")
			b, _ := io.ReadAll(c)
			got := strings.Replace(string(b), "Via: 1.1 ch7_timeouts_retries\r\n", "", 1)
			got = strings.Replace(got, "Connection: close\r\n", "", 1)
			if diff := cmp.Diff(last, got); diff != "" {
				t.Errorf("the client's answer, want (-), got (+):\n%s", diff)
			}
			if n := f.had(test.method + " /"); n != test.tries {
				t.Errorf("%d tries, want %d", n, test.tries)
			}
		})
	}
}

// A full budget lets 49 requests that fail together be tried again, all of them.
func TestBudget(t *testing.T) {
	t.Parallel()
	const clients = 60
	var mu sync.Mutex
	together, waiting := make(chan struct{}), 0
	f := newFarm(t, first(func(_ int, r *http.Request, conn *net.TCPConn) bool {
		mu.Lock()
		if waiting++; waiting == clients {
			close(together)
		}
		mu.Unlock()
		<-together
		return false
	}))
	p := harness.Start(t, harness.Retries, "-backends", f.flag())
	var answers sync.WaitGroup
	count := map[int]int{}
	for i := range clients {
		answers.Go(func() {
			status, _ := ask(t, p, "GET", fmt.Sprint("/", i), 0)
			mu.Lock()
			defer mu.Unlock()
			count[status]++
		})
	}
	answers.Wait()
	// Others beyond 49 may be tried, too: the first second tries have succeeded by
	// then, and each two of them have brought a token back.
	if count[200] < 49 || count[200]+count[502] != clients {
		t.Errorf("%v, want at least 49 answers", count)
	}
}

// When all backends answer 503, retries add next to nothing to their load.
func TestAllBusy(t *testing.T) {
	f := newFarm(t, func(_ int, r *http.Request, conn *net.TCPConn) bool {
		io.WriteString(conn, "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
		return true
	})
	p := harness.Start(t, harness.Retries, "-retry-on", "503", "-backends", f.flag())
	const requests = 1000
	c, total := p.Dial(t), 0
	for i := range requests {
		c.SetDeadline(time.Now().Add(harness.Patience))
		target := fmt.Sprint("/", i)
		c.Send("GET " + target + " HTTP/1.1\r\nHost: retry.test\r\n\r\n")
		if r, _, err := c.TryResponse("GET"); err != nil || r.StatusCode != 503 {
			t.Fatalf("answer %d: %v", i, err)
		}
		total += f.had("GET " + target)
	}
	if total > requests*105/100 {
		t.Errorf("%d tries of %d requests", total, requests)
	}
}

// The chapter's named gap: a dead backend costs a failed try each time, since
// nobody remembers. No client notices, and the next one in the list has its share.
func TestDeadBackendCostsATry(t *testing.T) {
	f := newFarm(t, serves)
	f.addrs[0] = harness.Refused(t)
	p := harness.Start(t, harness.Retries, "-backends", f.flag())
	const requests = 30
	got := map[string]int{}
	for i := range requests {
		target := fmt.Sprint("/", i)
		if status, _ := ask(t, p, "POST", target, 10); status != 200 || f.had("POST "+target) != 1 {
			t.Errorf("request %d: status %d", i, status)
		}
		got[f.tries["POST "+target][0]]++
	}
	if diff := cmp.Diff(map[string]int{f.addrs[1]: 20, f.addrs[2]: 10}, got); diff != "" {
		t.Errorf("who answered: want (-), got (+):\n%s", diff)
	}
	p.WaitEvents(t, "refused", requests/3, func(e narrate.Event) bool {
		return e.Step == narrate.Connect && e.Err != ""
	})
}

func TestFlagsAreChecked(t *testing.T) {
	for _, test := range []struct{ name, value, word string }{
		{"-retries", "-1", "negative"},
		{"-retries", "two", "a whole number"},
		{"-retry-on", "connect,500", "it must be none or some of"},
		{"-retry-on", "", "it must be none or some of"},
		{"-retry-budget", "-1", "negative"},
		{"-retry-budget", "0.5", "a whole number"},
		{"-total-timeout", "-1s", "negative"},
		{"-total-timeout", "3", "a time such as 500ms or 2s"},
		{"-min-rate", "-1", "negative"},
		{"-min-rate", "1k", "a whole number"},
	} {
		flags := []string{test.name, test.value}
		harness.RefusesToStart(t, harness.Retries, 2, flags, test.name, test.word)
	}
}
