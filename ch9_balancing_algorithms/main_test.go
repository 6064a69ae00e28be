//go:build unix

package main

import (
	"bufio"
	"cmp"
	"flag"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"reverseproxy/ch9_balancing_algorithms/choose"
	"reverseproxy/internal/harness"
	"reverseproxy/internal/narrate"
)

func TestMain(m *testing.M) {
	flag.Set("test.parallel", "8") // most tests wait, and need no processor meanwhile
	harness.Main(m)
}

// brief keeps idle connections so briefly that each scenario finds none; and its
// backends, which the test plays, are not asked how they are.
var brief = harness.Chapter(9, "-keepalive-timeout", "100ms", "-check", "off", "-max-fails", "0")

func TestScenarios(t *testing.T) { harness.RunScenarios(t, brief) }

func TestLives(t *testing.T) { harness.RunLives(t, brief) }

// farm is three backends that the test plays. Each answers with its number.
type farm struct {
	addrs []string
	got   [3]atomic.Int64
	seen  sync.Map // of requests: Cookie
}

// start starts them, and the proxy in front of them. work is what a backend does
// before it answers. BACKEND in the flags is the first one's address; what follows -more
// are further addresses.
func start(t *testing.T, work func(backend int), flags ...string) (*farm, *harness.Proxy) {
	t.Helper()
	f := new(farm)
	for i := range f.got {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if f.got[i].Add(1); work != nil {
				work(i)
			}
			if c := r.Header.Get("Cookie"); c != "" {
				f.seen.Store(c, true)
			}
			fmt.Fprint(w, i)
		}))
		t.Cleanup(server.Close)
		f.addrs = append(f.addrs, server.Listener.Addr().String())
	}
	addrs := f.addrs
	if i := slices.Index(flags, "-more"); i >= 0 {
		addrs, flags = append(slices.Clone(addrs), flags[i+1:]...), flags[:i]
	}
	for i, flag := range flags {
		if flag == "BACKEND" {
			flags[i] = f.addrs[0]
		}
	}
	return f, harness.Start(t, harness.Chooser, append([]string{"-check", "off",
		"-backends", strings.Join(addrs, ",")}, flags...)...)
}

func (f *farm) counts() (n [3]int64) {
	for i := range n {
		n[i] = f.got[i].Load()
	}
	return n
}

// ownClient keeps connections of its own: those of http.DefaultClient are closed when any
// test's httptest.Server is.
func ownClient() *http.Client { return &http.Client{Transport: &http.Transport{}} }

// get returns the number of the backend that answers.
func get(t *testing.T, c *http.Client, url string) string {
	t.Helper()
	r, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		t.Fatalf("%s, %v: %s", r.Status, err, body)
	}
	return string(body)
}

// Each algorithm serves; those that hash send the same URI to the same backend, those
// that give turns are even, and source-hash knows a client by its address alone.
func TestAlgorithms(t *testing.T) {
	const n = 60
	for _, k := range choose.Kinds {
		t.Run(k.Name, func(t *testing.T) {
			t.Parallel()
			f, p := start(t, nil, "-algorithm", k.Name)
			first := map[string]string{}
			client := ownClient()
			for i := range 2 * n {
				if k.Name == "source-hash" && i%10 == 0 {
					client.CloseIdleConnections() // the next one comes from another port
				}
				url := fmt.Sprintf("http://%s/?%d", p.Addr, i%n)
				by := get(t, client, url)
				if i < n {
					first[url] = by
					continue
				}
				switch k.Name {
				case "ring-hash", "rendezvous", "maglev", "jump-hash", "source-hash":
					if by != first[url] {
						t.Errorf("%s moves from %s to %s", url, first[url], by)
					}
				}
			}
			got := f.counts()
			switch k.Name {
			case "round-robin", "weighted-round-robin", "least-connections":
				if got != [3]int64{40, 40, 40} {
					t.Errorf("%v", got)
				}
			case "source-hash":
				if slices.Max(got[:]) != 2*n {
					t.Errorf("one client is sent to several: %v", got)
				}
			case "least-time", "hot-cold": // whoever answers fastest
			default: // by chance, or by hashes of addresses that are others in each run
				if slices.Min(got[:]) == 0 {
					t.Errorf("%v", got)
				}
			}
		})
	}
}

func TestWeights(t *testing.T) {
	f, p := start(t, nil, "-algorithm", "weighted-round-robin", "-weights", "5,1,1")
	for range 70 {
		get(t, http.DefaultClient, "http://"+p.Addr)
	}
	if got := f.counts(); got != [3]int64{50, 10, 10} {
		t.Errorf("%v", got)
	}
}

func TestHashKey(t *testing.T) {
	f, p := start(t, nil, "-algorithm", "maglev", "-hash-key", "header:X-User")
	for user := range 30 {
		before := f.counts()
		for i := range 3 {
			r, _ := http.NewRequest("GET", fmt.Sprintf("http://%s/%d", p.Addr, i), nil)
			r.Header.Set("X-User", fmt.Sprint("user ", user))
			answer, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			answer.Body.Close()
		}
		for i, n := range f.counts() {
			if n -= before[i]; n != 0 && n != 3 {
				t.Fatalf("user %d: %v, before %v", user, f.counts(), before)
			}
		}
	}
}

func TestBadFlags(t *testing.T) {
	names := make([]string, len(choose.Kinds))
	for i, k := range choose.Kinds {
		names[i] = k.Name
	}
	for _, test := range []struct {
		flags []string
		words []string
	}{
		{[]string{"-algorithm", "roundrobin"}, append(names, "-algorithm", `"roundrobin"`)},
		{[]string{"-algorithm", ""}, names},
		{[]string{"-weights", "5,1"}, []string{"-weights", "3 backends"}},
		{[]string{"-weights", "5,1,0"}, []string{"-weights"}},
		{[]string{"-weights", "5,1,x"}, []string{"-weights"}},
		{[]string{"-weights", ""}, []string{"-weights"}},
		{[]string{"-hash-key", "header:"}, []string{"-hash-key"}},
		{[]string{"-hash-key", "url"}, []string{"-hash-key"}},
		{[]string{"-demo-latency", "10"}, []string{"-demo-latency"}},
		{[]string{"-jobs", "1"}, []string{"-jobs"}},
	} {
		harness.RefusesToStart(t, harness.Chooser, 2, test.flags, test.words...)
	}
}

// A cookie binds a client to its backend, the backend does not see it, and no cache
// may keep the answer that sets it.
func TestStickyCookie(t *testing.T) {
	f, p := start(t, nil, "-algorithm", "sticky-cookie")
	url := "http://" + p.Addr
	for range 10 {
		jar, _ := cookiejar.New(nil)
		client := &http.Client{Jar: jar, Transport: &http.Transport{}}
		r, err := client.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(r.Body)
		r.Body.Close()
		c := r.Header.Get("Set-Cookie")
		for _, want := range []string{"proxy-backend=", "HttpOnly", "SameSite=Lax", "Path=/"} {
			if !strings.Contains(c, want) {
				t.Errorf("Set-Cookie: %q has no %s", c, want)
			}
		}
		if strings.Contains(c, "127.0.0.1") || r.Header.Get("Cache-Control") != "private" {
			t.Errorf("Set-Cookie: %q, Cache-Control: %q", c, r.Header.Get("Cache-Control"))
		}
		for range 5 {
			if by := get(t, client, url); by != string(body) {
				t.Errorf("from backend %s to %s", body, by)
			}
		}
	}
	f.seen.Range(func(c, _ any) bool {
		t.Errorf("a backend has seen %v", c)
		return true
	})
}

// The cookies of others pass; one that is wrong is as good as none.
func TestStickyCookieAmongOthers(t *testing.T) {
	f, p := start(t, nil, "-algorithm", "sticky-cookie")
	for sent, want := range map[string]string{
		"a=1; proxy-backend=00; b=2":         "a=1; b=2",
		"proxy-backend=x; proxy-backend=y":   "",
		"not-proxy-backend=1":                "not-proxy-backend=1",
		"proxy-backend; c=\"x; y\"":          "c=\"x; y\"",
		"d=4;proxy-backend=ffffffffffffffff": "d=4",
	} {
		f.seen.Clear()
		r, _ := http.NewRequest("GET", "http://"+p.Addr, nil)
		r.Header.Set("Cookie", sent)
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if isSet := answer.Header.Get("Set-Cookie") != ""; !isSet {
			t.Errorf("%q: no Set-Cookie", sent)
		}
		var seen []string
		f.seen.Range(func(c, _ any) bool { seen = append(seen, c.(string)); return true })
		if got := strings.Join(seen, "|"); got != want {
			t.Errorf("%q: the backend sees %q, want %q", sent, got, want)
		}
	}
}

// The backend is gone: the client gets another, a new cookie, and that is told. One
// that drains keeps none either.
func TestStickyCookieMustLeave(t *testing.T) {
	f, p := start(t, nil, "-algorithm", "sticky-cookie", "-drain", "BACKEND")
	moved := func(n int) string {
		return p.WaitEvents(t, "a client moves", n, func(e narrate.Event) bool {
			return e.Kind == narrate.KindCookie
		})[n-1].Text
	}
	jar, _ := cookiejar.New(nil)
	client := &http.Client{Jar: jar, Transport: &http.Transport{}}
	site, _ := url.Parse("http://" + p.Addr)
	jar.SetCookies(site, []*http.Cookie{{Name: "proxy-backend", Value: "123", Path: "/"}})
	get(t, client, site.String())
	if text := moved(1); !strings.HasPrefix(text, "its cookie names no backend") {
		t.Error(text)
	}
	// The cookie names the first backend, which SIGUSR1 drains.
	jar.SetCookies(site, []*http.Cookie{{Name: "proxy-backend", Path: "/",
		Value: fmt.Sprintf("%016x", choose.Hash(f.addrs[0]))}})
	if by := get(t, client, site.String()); by != "0" {
		t.Fatalf("backend %s answers", by)
	}
	p.Signal(syscall.SIGUSR1)
	p.WaitEvents(t, "it drains", 1, func(e narrate.Event) bool {
		return e.Kind == narrate.KindHealth && e.State == narrate.Draining
	})
	by := get(t, client, site.String())
	if by == "0" {
		t.Error("the backend that drains answers")
	}
	if text := moved(2); !strings.HasPrefix(text, "its cookie names "+f.addrs[0]+", which") {
		t.Error(text)
	}
	p.Signal(syscall.SIGUSR1)
	p.WaitEvents(t, "it is used again", 1, func(e narrate.Event) bool {
		return e.Kind == narrate.KindHealth && e.State == narrate.Up
	})
	for range 5 {
		if again := get(t, client, site.String()); again != by {
			t.Errorf("from its new backend %s to %s", by, again)
		}
	}
}

// What the backend says of caches stays, as far as it agrees with private; Connection
// cannot take that off.
func TestStickyCookieCaches(t *testing.T) {
	for sent, want := range map[string]string{
		"":                                      "private",
		"Cache-Control: max-age=5, private\r\n": "max-age=5, private",
		"Cache-Control: public, max-age=60\r\n": "max-age=60, private",
		"Cache-Control: S-MaxAge=9\r\nCache-Control: no-store\r\n": "no-store",
		"Cache-Control: max-age=1\r\nConnection: cache-control, set-cookie\r\n": "max-age=1, " +
			"private",
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() { // ends when the listener is closed
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				c.Read(make([]byte, 4096))
				io.WriteString(c, "HTTP/1.1 200 OK\r\n"+sent+"Content-Length: 0\r\n\r\n")
				c.Close()
			}
		}()
		p := harness.Start(t, harness.Chooser, "-check", "off", "-backends",
			l.Addr().String(), "-algorithm", "sticky-cookie")
		r, err := http.Get("http://" + p.Addr)
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		if got := r.Header["Cache-Control"]; len(got) != 1 || got[0] != want ||
			len(r.Cookies()) != 1 {
			t.Errorf("%q: %q, %v", sent, got, r.Cookies())
		}
		l.Close()
	}
}

// -simulate prints its tables, says how far it is, and ends.
func TestSimulate(t *testing.T) {
	e := harness.Launch{Model: harness.Chooser, Plain: true,
		Flags: []string{"-simulate", "-jobs", "10000"}}.Spawn(t).Wait(t)
	if e.Code != 0 || !strings.Contains(e.Stdout, "Supermarket model") ||
		!strings.Contains(e.Stderr, "100 %") {
		t.Errorf("exit status %d, stdout %q, stderr %q", e.Code, e.Stdout, e.Stderr)
	}
}

// The demo backends wait as long as they are told to.
func TestDemoLatency(t *testing.T) {
	p := harness.Start(t, harness.Chooser, "-demo", "-backends",
		"127.0.0.1:0,127.0.0.1:0", "-demo-latency", "0s,300ms", "-check", "off")
	var took []time.Duration
	for range 2 {
		began := time.Now()
		p.Get(t, "/")
		took = append(took, time.Since(began))
	}
	if slices.Max(took) < 300*time.Millisecond {
		t.Errorf("%v", took)
	}
}

// One of three backends, each of which works on one request at a time, is ten times
// slower. In turn it gets more than it can do, and what comes to it waits. The proxy is the
// real one. The times are simulated: nothing happens before the proxy has done its part of
// what was before, so that it does not matter how busy this machine is. For least-time, which
// measures, they go by, at double speed.
func TestOneIsSlow(t *testing.T) {
	const every = 10 * time.Millisecond // a request comes, on average
	const requests = 400
	work := [3]time.Duration{4 * time.Millisecond, 4 * time.Millisecond, 40 * time.Millisecond}
	type job struct {
		backend  int
		done     chan bool // closed: the backend answers
		answered chan bool // closed: the client has the answer
		leaves   time.Duration
	}
	p99 := map[string]time.Duration{}
	for _, name := range []string{"round-robin", "two-choices", "least-time"} {
		arrived := make(chan job)
		f, p := start(t, func(backend int) {
			j := job{backend: backend, done: make(chan bool)}
			select {
			case arrived <- j:
			case <-t.Context().Done(): // the test has failed
			}
			select {
			case <-j.done:
			case <-t.Context().Done():
			}
		}, "-algorithm", name, "-server-timeout", "10m")
		client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: requests}}
		random := rand.New(rand.NewPCG(1, 2))
		var times []time.Duration
		var inHand []job          // the one that leaves first comes first
		var free [3]time.Duration // when each backend has done what it has in hand
		began := time.Now()
		pace := func(now time.Duration) {
			if name == "least-time" {
				time.Sleep(time.Until(began.Add(now / 2)))
			}
		}
		answer := func(until time.Duration) {
			for len(inHand) > 0 && inHand[0].leaves <= until {
				pace(inHand[0].leaves)
				close(inHand[0].done)
				<-inHand[0].answered
				inHand = inHand[1:]
			}
		}
		now := time.Duration(0)
		for range requests {
			now += time.Duration(random.ExpFloat64() * float64(every))
			answer(now)
			pace(now)
			answered := make(chan bool)
			go func() { // ends with the answer
				defer close(answered)
				get(t, client, "http://"+p.Addr)
			}()
			var j job
			select {
			case j = <-arrived:
			case <-answered:
				t.FailNow() // get has said why
			}
			free[j.backend] = max(now, free[j.backend]) + work[j.backend]
			j.answered, j.leaves = answered, free[j.backend]
			times = append(times, j.leaves-now)
			inHand = append(inHand, j)
			slices.SortStableFunc(inHand, func(a, b job) int {
				return cmp.Compare(a.leaves, b.leaves)
			})
		}
		answer(math.MaxInt64)
		slices.Sort(times)
		p99[name] = times[int(math.Ceil(.99*float64(len(times))))-1]
		t.Logf("%-12s p99 %v, requests %v", name, p99[name].Round(time.Millisecond), f.counts())
	}
	for _, name := range []string{"two-choices", "least-time"} {
		if 2*p99[name] > p99["round-robin"] {
			t.Errorf("%s: p99 %v, in turn %v", name, p99[name], p99["round-robin"])
		}
	}
}

// With each algorithm no GET is lost though a backend is dead and, later, another one
// drains; nothing more goes to either. A key goes to the same one of those left.
func TestDeadAndDraining(t *testing.T) {
	for _, k := range choose.Kinds {
		t.Run(k.Name, func(t *testing.T) {
			t.Parallel()
			dead := harness.Refused(t)
			f, p := start(t, nil, "-algorithm", k.Name, "-drain", "BACKEND", "-weights", "2,1,1,3",
				"-more", dead)
			first := map[string]string{}
			client := ownClient()
			ask := func() {
				for i := range 60 {
					url := fmt.Sprintf("http://%s/?%d", p.Addr, i)
					by := get(t, client, url)
					if hashes(k.Name) && first[url] != "" && first[url] != by {
						t.Errorf("%s moves from %s to %s", url, first[url], by)
					}
					first[url] = by
				}
			}
			ask()
			ask()
			p.Signal(syscall.SIGUSR1)
			p.WaitEvents(t, "it drains", 1, func(e narrate.Event) bool {
				return e.Kind == narrate.KindHealth && e.State == narrate.Draining
			})
			before := f.counts()
			clear(first)
			ask()
			ask()
			if got := f.counts(); got[0] != before[0] || slices.Max(got[:]) == 0 {
				t.Errorf("while the first drains: %v, before %v", got, before)
			}
		})
	}
}

func hashes(algorithm string) bool {
	switch algorithm {
	case "ring-hash", "rendezvous", "maglev", "jump-hash", "source-hash":
		return true
	}
	return false
}

// A backend has as many requests as -backend-max-conns allows, whatever the algorithm
// would like.
func TestMaxConns(t *testing.T) {
	for _, k := range choose.Kinds {
		t.Run(k.Name, func(t *testing.T) {
			t.Parallel()
			var busy, most [3]atomic.Int64
			client := ownClient()
			_, p := start(t, func(i int) {
				n := busy[i].Add(1)
				for m := most[i].Load(); n > m && !most[i].CompareAndSwap(m, n); {
					m = most[i].Load()
				}
				time.Sleep(5 * time.Millisecond)
				busy[i].Add(-1)
			}, "-algorithm", k.Name, "-backend-max-conns", "2", "-connect-timeout", "1m")
			var clients sync.WaitGroup
			for range 16 {
				clients.Go(func() { // ends after its requests
					for range 10 {
						get(t, client, "http://"+p.Addr)
					}
				})
			}
			clients.Wait()
			for i := range most {
				if n := most[i].Load(); n != 2 {
					t.Errorf("backend %d had %d requests at once", i, n)
				}
			}
		})
	}
}

// While requests flow, the live page switches through all algorithms: no request is
// lost, each one is used, and then the slow backend's share is another than before.
func TestSwitch(t *testing.T) {
	f, p := start(t, func(i int) {
		time.Sleep([3]time.Duration{2, 2, 300}[i] * time.Millisecond)
	}, "-watch", "127.0.0.1:0")
	page := p.WaitEvents(t, "the live page", 1, func(e narrate.Event) bool {
		return e.Kind == narrate.KindWatch
	})[0].Listen
	token := token(t, page)
	use := func(name string) {
		r, _ := http.NewRequest("POST", "http://"+page+"/algorithm",
			strings.NewReader(fmt.Sprintf(`{"what":%q}`, name)))
		r.Header.Set("X-Live-Token", token)
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != http.StatusNoContent {
			t.Fatalf("%s: %s", name, answer.Status)
		}
	}
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for range 6 {
		clients.Go(func() { // ends when stop is closed
			client := &http.Client{Transport: &http.Transport{}}
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
					get(t, client, fmt.Sprintf("http://%s/?%d", p.Addr, i))
				}
			}
		})
	}
	share := func(n int64) float64 { // of the slow one, in the next n requests
		before := f.counts()
		for {
			now, all := f.counts(), int64(0)
			for i := range now {
				all += now[i] - before[i]
			}
			if all >= n {
				return float64(now[2]-before[2]) / float64(all)
			}
			if t.Failed() {
				t.FailNow()
			}
			time.Sleep(time.Millisecond)
		}
	}
	inTurn := share(120)
	for _, k := range choose.Kinds {
		use(k.Name)
		t.Logf("%-21s %2.0f %%", k.Name, 100*share(20))
	}
	use("least-time")
	share(120) // it learns
	if fast := share(120); inTurn < .25 || fast > inTurn/2 {
		t.Errorf("the slow one has %.2f in turn, %.2f by least time", inTurn, fast)
	}
	close(stop)
	clients.Wait()
}

// token returns what a live page's actions must carry.
func token(t *testing.T, page string) string {
	t.Helper()
	r, err := http.Get("http://" + page + "/events")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	for events := bufio.NewReader(r.Body); ; {
		line, err := events.ReadString('\n')
		if err != nil {
			t.Fatalf("no token: %v", err)
		}
		_, after, _ := strings.Cut(line, `"token":"`)
		if token, _, found := strings.Cut(after, `"`); found {
			return token
		}
	}
}
