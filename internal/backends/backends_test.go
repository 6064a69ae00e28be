package backends

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// patience is how long a test waits for something that happens at once.
const patience = 20 * time.Second

// start runs n backends until the test ends.
func start(t *testing.T, n int) *Group {
	t.Helper()
	addrs := make([]string, n)
	for i := range addrs {
		addrs[i] = "127.0.0.1:0"
	}
	g, err := Start(addrs)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return g
}

// client returns a client of its own that keeps connections until the test ends.
func client(t *testing.T) *http.Client {
	t.Helper()
	transport := &http.Transport{DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: time.Minute}
}

func get(t *testing.T, c *http.Client, url string) (*http.Response, string) {
	t.Helper()
	res, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("body of %s: %v", url, err)
	}
	return res, string(body)
}

// dial opens a plain connection with a deadline, closed when the test ends.
func dial(t *testing.T, addr string) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	t.Cleanup(func() { conn.Close() })
	return conn.(*net.TCPConn)
}

// eventually polls what no event announces.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s\n%s", patience, what, stacks())
		}
	}
}

func stacks() string {
	buffer := make([]byte, 1<<20)
	return string(buffer[:runtime.Stack(buffer, true)])
}

// handlers counts the handlers that run in this process.
func handlers() int { return strings.Count(stacks(), "(*life).ServeHTTP(") }

func port(addr string) string {
	_, port, _ := net.SplitHostPort(addr)
	return port
}

func TestAPIDataNamesBackendAndCounts(t *testing.T) {
	g, c := start(t, 2), client(t)
	for i, addr := range g.Addrs() {
		for count := 1; count <= 3; count++ {
			res, body := get(t, c, "http://"+addr+"/api/data")
			want := fmt.Sprintf(`{"backend":"%s","request":%d,"path":"/api/data"}`+"\n",
				port(addr), count)
			if body != want {
				t.Errorf("body %q, want %q", body, want)
			}
			if got := res.Header.Get("Content-Type"); got != "application/json" {
				t.Errorf("Content-Type %q", got)
			}
			if got := res.Header.Get("X-Backend"); got != port(addr) {
				t.Errorf("X-Backend %q, want %s", got, port(addr))
			}
			get(t, c, "http://"+addr+"/status/200") // counted for the tally only
		}
		if got := g.Requests(i); got != 6 {
			t.Errorf("Requests(%d) = %d, want 6", i, got)
		}
	}
}

func TestConnectionIsKept(t *testing.T) {
	g := start(t, 1)
	conn := dial(t, g.Addrs()[0])
	answers := bufio.NewReader(conn)
	for range 3 {
		fmt.Fprint(conn, "GET /api/data HTTP/1.1\r\nHost: demo\r\n\r\n")
		res, err := http.ReadResponse(answers, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, res.Body); err != nil {
			t.Fatal(err)
		}
		if res.Close {
			t.Fatal("the backend closes the connection")
		}
	}
}

func TestUnreadableParametersAreExplained(t *testing.T) {
	g, c := start(t, 1), client(t)
	for _, path := range []string{"/slow?ms=1;n=2", "/bytes?n=%zz", "/status/"} {
		if res, body := get(t, c, "http://"+g.Addrs()[0]+path); res.StatusCode != 400 ||
			!strings.HasSuffix(body, ".\n") {
			t.Errorf("%s: %d %q, want 400 with a sentence", path, res.StatusCode, body)
		}
	}
}

func TestHomeNamesBackendAndItsLinksWork(t *testing.T) {
	g, c := start(t, 1), client(t)
	c.Timeout = patience
	base := "http://" + g.Addrs()[0]
	_, body := get(t, c, base+"/")
	if !strings.Contains(body, "<h1>Backend "+port(g.Addrs()[0])+"</h1>") ||
		strings.Contains(body, "{{") {
		t.Errorf("the page does not name the backend:\n%s", body)
	}
	links := 0
	for _, part := range strings.Split(body, `href="/`)[1:] {
		path, _, _ := strings.Cut(part, `"`)
		shorter := strings.NewReplacer("&amp;", "&", "ms=2000", "ms=20", "ms=500", "ms=5")
		path = shorter.Replace("/" + path)
		if strings.HasPrefix(path, "/drop") {
			continue
		}
		links++
		if res, _ := get(t, c, base+path); res.StatusCode == 400 ||
			res.StatusCode == 404 && path != "/status/404" {
			t.Errorf("link %s: %d", path, res.StatusCode)
		}
	}
	if links < 8 {
		t.Errorf("only %d links", links)
	}
}

// A client that leaves must end the handler that works for it.
func TestClientLeavingEndsHandlers(t *testing.T) {
	for _, request := range []string{
		"GET /slow?ms=60000 HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST /slow?ms=60000 HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody",
		"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /stream?ms=60000 HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /bytes?n=17179869184 HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /bytes?n=17179869184&chunked=1 HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nhalf",
		"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
		"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
			"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
	} {
		name, _, _ := strings.Cut(request, " HTTP")
		t.Run(name, func(t *testing.T) {
			g := start(t, 1)
			conn := dial(t, g.Addrs()[0])
			fmt.Fprint(conn, request)
			eventually(t, "the handler runs", func() bool { return handlers() == 1 })
			conn.Close()
			eventually(t, "no handler runs", func() bool { return handlers() == 0 })
		})
	}
}

func TestBytesTakesConstantMemory(t *testing.T) {
	g, c := start(t, 1), client(t)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	res, err := c.Get(fmt.Sprintf("http://%s/bytes?n=%d", g.Addrs()[0], 256<<20))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, res.Body, make([]byte, 64<<10))
	if n != 256<<20 || err != nil {
		t.Fatalf("%d bytes, %v", n, err)
	}
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 8<<20 {
		t.Errorf("256 MiB sent by allocating %d bytes", grown)
	}
}

func TestContentAndVerify(t *testing.T) {
	const n = 200_000
	want, err := io.ReadAll(struct{ io.Reader }{Content(n)}) // by Read
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+16 <= n; i += 16 {
		if line := string(want[i : i+16]); line != fmt.Sprintf("%015d\n", i/16) {
			t.Fatalf("line %d is %q", i/16, line)
		}
	}
	var written bytes.Buffer
	_, err = io.Copy(&written, Content(n)) // by WriteTo
	if err != nil || !bytes.Equal(written.Bytes(), want) {
		t.Fatalf("WriteTo differs from Read (error %v)", err)
	}
	changed := bytes.Clone(want)
	changed[70_000]++
	for body, message := range map[string]string{
		string(want):                          "",
		string(want[:n-1]):                    "the end came after 199999 of 200000 bytes",
		string(want) + "x":                    "more than the 200000 bytes expected arrived",
		string(changed):                       `byte 70000 is `,
		string(want[16:]) + string(want[:16]): `byte 14 is '1', expected '0'`,
	} {
		got := ""
		if err := Verify(strings.NewReader(body), n); err != nil {
			got = err.Error()
		}
		if message == "" && got != "" || !strings.Contains(got, message) {
			t.Errorf("Verify says %q, want %q", got, message)
		}
	}
}

func TestStopAndRestart(t *testing.T) {
	g, c := start(t, 2), client(t)
	addrs := g.Addrs()
	if !g.Running(0) || g.Running(2) || g.Running(-1) {
		t.Error("Running is wrong after Start")
	}
	get(t, c, "http://"+addrs[0]+"/api/data")
	idle := dial(t, addrs[0])
	streaming, err := c.Get("http://" + addrs[0] + "/stream?ms=60000")
	if err != nil {
		t.Fatal(err)
	}
	defer streaming.Body.Close()
	socket, _, err := websocket.Dial(t.Context(), "ws://"+addrs[0]+"/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer socket.CloseNow()

	if err := g.Stop(0); err != nil {
		t.Fatal(err)
	}
	if g.Running(0) || !g.Running(1) {
		t.Error("Running is wrong after Stop(0)")
	}
	eventually(t, "no handler after Stop", func() bool { return handlers() == 0 })
	_ = idle.SetReadDeadline(time.Now().Add(patience))
	if _, err := idle.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("an idle connection outlived Stop")
	}
	if _, err := io.ReadAll(streaming.Body); err == nil {
		t.Error("a broken stream looks complete")
	}
	if _, _, err := socket.Read(t.Context()); err == nil {
		t.Error("a WebSocket outlived Stop")
	}
	if conn, err := net.Dial("tcp", addrs[0]); err == nil {
		conn.Close()
		t.Error("a stopped backend accepts connections")
	}
	if l, err := net.Listen("tcp", addrs[0]); err == nil {
		l.Close()
		if runtime.GOOS != "windows" {
			t.Error("another program could take its place, and be taken for it")
		}
	}
	get(t, c, "http://"+addrs[1]+"/api/data")

	if err := g.Stop(0); err != nil {
		t.Errorf("second Stop: %v", err)
	}
	for range 2 { // from stopped, and from running
		if err := g.Restart(0); err != nil {
			t.Fatal(err)
		}
		_, body := get(t, c, "http://"+addrs[0]+"/api/data")
		if !strings.Contains(body, `"request":1,`) {
			t.Errorf("after a restart: %s", body)
		}
	}
	if got := g.Requests(0); got != 5 {
		t.Errorf("Requests(0) = %d over all restarts, want 5", got)
	}
	if g.Stop(2) == nil || g.Restart(-1) == nil {
		t.Error("no error for a backend that is not there")
	}
	g.Close()
	if err := g.Restart(0); err == nil {
		t.Error("a closed group can be restarted")
	}
}

// Stopping in the middle of load leaves no connection and no goroutine behind.
func TestStopUnderLoadLeavesNothing(t *testing.T) {
	before := runtime.NumGoroutine()
	g, err := Start([]string{"127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	addr := g.Addrs()[0]
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for range 16 {
		// Ends when stop is closed; each request fails or is answered.
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				conn, err := net.Dial("tcp", addr)
				if err != nil {
					continue
				}
				_ = conn.SetDeadline(time.Now().Add(patience))
				fmt.Fprint(conn, "GET /bytes?n=100000 HTTP/1.1\r\nHost: demo\r\n"+
					"Connection: close\r\n\r\n")
				_, err = io.Copy(io.Discard, conn)
				conn.Close()
				if errors.Is(err, os.ErrDeadlineExceeded) {
					t.Error("a connection outlived Stop")
				}
			}
		})
	}
	for range 20 {
		seen := g.Requests(0)
		eventually(t, "requests arrive", func() bool { return g.Requests(0) > seen+20 })
		if err := g.Stop(0); err != nil {
			t.Error(err)
		}
		if err := g.Restart(0); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	clients.Wait()
	g.Close()
	g.Close()
	eventually(t, fmt.Sprintf("%d goroutines again", before),
		func() bool { return runtime.NumGoroutine() <= before })
}

func TestPortInUseNamesTheCure(t *testing.T) {
	g := start(t, 1)
	taken := g.Addrs()[0]
	before := runtime.NumGoroutine()
	_, err := Start([]string{"127.0.0.1:0", taken})
	var listenError *ListenError
	if !errors.As(err, &listenError) || !listenError.InUse || listenError.Addr != taken {
		t.Fatalf("%#v", err)
	}
	want := "a demo backend cannot start because something already listens on " + taken +
		", perhaps demo backends started in another terminal: then leave out -demo"
	if err.Error() != want {
		t.Errorf("%q, want %q", err, want)
	}
	eventually(t, "the first backend is gone too",
		func() bool { return runtime.NumGoroutine() <= before })
}

func TestBadAddressNamesTheCure(t *testing.T) {
	for _, addr := range []string{"8000", "127.0.0.1", "127.0.0.1:99999", "192.0.2.1:0",
		"127.0.0.1:http x"} {
		g, err := Start([]string{addr})
		if err == nil {
			g.Close()
			t.Errorf("%s: no error", addr)
			continue
		}
		var listenError *ListenError
		if !errors.As(err, &listenError) || listenError.InUse ||
			!strings.Contains(err.Error(), addr) || !strings.Contains(err.Error(), "host:port") {
			t.Errorf("%s: %v", addr, err)
		}
	}
}
