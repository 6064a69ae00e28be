// Package express tests the Express application in this folder against what
// the demo backends in internal/backends promise.
package express

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"reverseproxy/internal/backends"
	"reverseproxy/internal/harness"
	"reverseproxy/internal/proc"
)

// patience is how long a test waits for something that happens at once.
const patience = 30 * time.Second

// program is a running server.js.
type program struct {
	*proc.Process
	addrs []string
}

// need skips the test if Node.js or the packages are missing; in CI it fails.
func need(t *testing.T) {
	t.Helper()
	missing := ""
	if _, err := exec.LookPath("node"); err != nil {
		missing = "node is not installed"
	} else if _, err := os.Stat("node_modules/express"); err != nil {
		missing = "the packages are not installed: run npm ci in scripts/express"
	}
	if missing != "" && os.Getenv("CI") == "true" {
		t.Fatal(missing)
	}
	if missing != "" {
		t.Skip(missing)
	}
}

// launch starts server.js without waiting for anything; what is left of it at
// the end of the test is killed.
func launch(t *testing.T, args ...string) *program {
	t.Helper()
	need(t)
	p, err := proc.Run(append([]string{"node", "server.js"}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return &program{Process: p}
}

// start launches n backends and waits until they listen.
func start(t *testing.T, n int) *program {
	t.Helper()
	p := launch(t, strings.Fields(strings.Repeat("0 ", n))...)
	var err error
	if p.addrs, err = p.Ready(patience, proc.ReadyLine, n); err != nil {
		t.Fatal(err)
	}
	return p
}

// end waits for the end and returns stdout, without readiness lines, and the
// exit code.
func (p *program) end(t *testing.T) (string, int) {
	t.Helper()
	if !p.Wait(patience) {
		t.Fatalf("it has not ended: %s", p.LastWords())
	}
	out := p.Stdout.String()
	for _, addr := range p.addrs {
		out = strings.TrimPrefix(out, "Ready on "+addr+"\n")
	}
	return out, p.Code()
}

// shared is the backend that all tests of endpoints use, stopped by TestMain.
var shared struct {
	once sync.Once
	addr string
	run  *proc.Process
}

func TestMain(m *testing.M) {
	harness.Main(m, func() {
		if shared.run != nil {
			shared.run.Kill()
		}
	})
}

// backend returns the address of the shared backend.
func backend(t *testing.T) string {
	t.Helper()
	need(t)
	shared.once.Do(func() {
		shared.run = proc.New("node", "server.js", "0")
		if err := shared.run.Start(); err != nil {
			t.Error(err)
			return
		}
		addrs, err := shared.run.Ready(patience, proc.ReadyLine, 1)
		if err != nil {
			t.Error(err)
			return
		}
		shared.addr = addrs[0]
	})
	if shared.addr == "" {
		t.Fatal("server.js did not start")
	}
	return shared.addr
}

// get fetches a path without following redirects.
func get(t *testing.T, addr, path string) (*http.Response, string) {
	t.Helper()
	client := &http.Client{
		Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		},
		Timeout: patience,
	}
	res, err := client.Get("http://" + addr + path)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("body of %s: %v", path, err)
	}
	return res, string(body)
}

// dial opens a connection with a deadline and sends the request on it.
func dial(t *testing.T, addr, request string) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	return conn, bufio.NewReader(conn)
}

// response reads the next response, without its body.
func response(t *testing.T, r *bufio.Reader) *http.Response {
	t.Helper()
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func port(addr string) string {
	_, port, _ := net.SplitHostPort(addr)
	return port
}

func TestOneProcessAPort(t *testing.T) {
	p := start(t, 2)
	for _, addr := range p.addrs {
		for count := 1; count <= 2; count++ {
			res, body := get(t, addr, "/api/data")
			want := fmt.Sprintf(`{"backend":"%s","request":%d,"path":"/api/data"}`+"\n",
				port(addr), count)
			if body != want {
				t.Errorf("%q, want %q", body, want)
			}
			if !strings.HasPrefix(res.Header.Get("Content-Type"), "application/json") ||
				res.Header.Get("X-Backend") != port(addr) {
				t.Errorf("fields %v", res.Header)
			}
		}
	}
	get(t, p.addrs[0], "/status/404")
	if runtime.GOOS == "windows" {
		t.Skip("Windows cannot send another process Ctrl+C")
	}
	if err := p.Cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	out, code := p.end(t)
	want := p.addrs[0] + " received 3 requests\n" + p.addrs[1] + " received 2 requests\n"
	if code != 0 || out != want || p.Stderr.String() != "" {
		t.Errorf("exit code %d, stdout %q, stderr %q; want 0 and %q", code, out, p.Stderr.String(), want)
	}
	refused(t, p.addrs)
}

// refused waits until nothing listens on the addresses any more.
func refused(t *testing.T, addrs []string) {
	t.Helper()
	for _, addr := range addrs {
		for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				break
			}
			conn.Close()
			if time.Now().After(end) {
				t.Fatalf("something still listens on %s", addr)
			}
		}
	}
}

// A backend that dies is reported, and the others go on.
func TestKilledBackend(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("finds the process of a backend in /proc")
	}
	p := start(t, 2)
	child, err := os.FindProcess(slices.Min(proc.Children(p.PID())))
	if err != nil {
		t.Fatal(err)
	}
	_ = child.Kill()
	refused(t, p.addrs[:1])
	get(t, p.addrs[1], "/api/data")
	_ = p.Cmd.Process.Signal(os.Interrupt)
	out, code := p.end(t)
	want := p.addrs[0] + " ended before it could say how many requests it received\n" +
		p.addrs[1] + " received 1 request\n"
	report := "port " + port(p.addrs[0]) + " has ended (SIGKILL)"
	if code != 0 || out != want || !strings.Contains(p.Stderr.String(), report) {
		t.Errorf("exit code %d, stdout %q, stderr %q; want 0 and %q", code, out, p.Stderr.String(), want)
	}
}

// Backends must not outlive a launcher that was killed.
func TestChildrenEndWithLauncher(t *testing.T) {
	p := start(t, 2)
	_ = p.Cmd.Process.Kill() // it alone
	refused(t, p.addrs)
}

func TestPortInUse(t *testing.T) {
	need(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	p := launch(t, "0", port(taken.Addr().String()))
	out, code := p.end(t)
	want := "express: something already listens on " + taken.Addr().String() +
		", perhaps other backends in another " +
		"terminal: end those, or choose other ports, for example node server.js 8100 8101 8102\n"
	if code != 1 || out != "" || p.Stderr.String() != want {
		t.Errorf("exit code %d, stdout %q, stderr %q; want 1 and %q", code, out, p.Stderr.String(), want)
	}
}

func TestBadArguments(t *testing.T) {
	for _, args := range []string{"x", "65536", "-1", "8000 8000", strings.Repeat("0 ", 17)} {
		p := launch(t, strings.Fields(args)...)
		if out, code := p.end(t); code != 2 || out != "" ||
			strings.Count(p.Stderr.String(), "\n") != 1 {
			t.Errorf("%q: exit code %d, stdout %q, stderr %q; want 2 and one line", args, code,
				out, p.Stderr.String())
		}
	}
}

// Node's keep-alive timeout is what the C programs' held replies wait for.
func TestIdleConnectionIsKeptFiveSeconds(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 5 s")
	}
	addr := backend(t)
	t.Parallel()
	_, reader := dial(t, addr, "GET /bytes?n=2 HTTP/1.1\r\nHost: demo\r\n\r\n")
	res := response(t, reader)
	if err := backends.Verify(res.Body, 2); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if _, err := reader.ReadByte(); err != io.EOF {
		t.Errorf("%v, want EOF", err)
	}
	if took := time.Since(began); took < 4500*time.Millisecond || took > 10*time.Second {
		t.Errorf("closed after %v, want 5 to 6 s", took)
	}
}

func TestSlow(t *testing.T) {
	addr := backend(t)
	began := time.Now()
	_, body := get(t, addr, "/slow?ms=80")
	if want := fmt.Sprintf(`{"backend":"%s","waited_ms":80}`+"\n", port(addr)); body != want {
		t.Errorf("%q, want %q", body, want)
	}
	if took := time.Since(began); took < 80*time.Millisecond {
		t.Errorf("answered after %v", took)
	}
}

func TestBytes(t *testing.T) {
	addr := backend(t)
	for _, n := range []int64{0, 1, 16, 40, 63_999, 64_000, 64_001, 20_000_000} {
		for _, suffix := range []string{"", "&chunked=1"} {
			res, body := get(t, addr, fmt.Sprintf("/bytes?n=%d%s", n, suffix))
			if err := backends.Verify(strings.NewReader(body), n); err != nil {
				t.Errorf("n=%d%s: %v", n, suffix, err)
			}
			want := n
			if suffix != "" {
				want = -1 // unknown beforehand
			}
			if res.ContentLength != want {
				t.Errorf("n=%d%s: Content-Length %d", n, suffix, res.ContentLength)
			}
		}
	}
	_, reader := dial(t, addr, "HEAD /bytes?n=17179869184 HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n\r\n")
	head, err := io.ReadAll(reader)
	if err != nil || !strings.Contains(string(head), "\r\nContent-Length: 17179869184\r\n") ||
		!strings.HasSuffix(string(head), "\r\n\r\n") {
		t.Errorf("HEAD: %q, %v", head, err)
	}
}

func TestBadParametersAreExplained(t *testing.T) {
	addr := backend(t)
	for _, path := range []string{
		"/slow?ms=x", "/slow?ms=-1", "/slow?ms=60001", "/slow?ms=", "/bytes?n=17179869185",
		"/bytes?n=1e3",
		"/bytes?chunked=2", "/stream?n=0", "/stream?n=1000001", "/drop?after=x", "/drop?reset=yes",
		"/status/99", "/status/101", "/status/600", "/status/abc", "/status/+99",
		"/status/0200", "/status/%1b%5b",
	} {
		res, body := get(t, addr, path)
		if res.StatusCode != http.StatusBadRequest || !strings.HasSuffix(body, ".\n") ||
			strings.Contains(body, "\x1b") {
			t.Errorf("%s: %d %q, want 400 with a sentence", path, res.StatusCode, body)
		}
	}
	res, body := get(t, addr, "/<b>")
	if res.StatusCode != 404 || !strings.HasPrefix(res.Header.Get("Content-Type"), "text/plain") {
		t.Errorf("unknown path: %d %v %q", res.StatusCode, res.Header, body)
	}
}

func TestEcho(t *testing.T) {
	_, reader := dial(t, backend(t),
		"POST /echo?x=1 HTTP/1.1\r\nHost: demo\r\nX-B: \xc2\x9bred\r\nConnection: close\r\n"+
			"Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n4\r\nfour\r\n0\r\nX-Sum: 42\r\n\r\n")
	res := response(t, reader)
	body, err := io.ReadAll(res.Body)
	want := "POST /echo?x=1 HTTP/1.1\r\nHost: demo\r\nX-B: \\xc2\\x9bred\r\nConnection: close\r\n" +
		"Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\nfour"
	if err != nil || string(body) != want {
		t.Errorf("%q, %v; want %q", body, err, want)
	}
	if got := res.Trailer.Get("X-Sum"); got != "42" {
		t.Errorf("trailer X-Sum %q, want 42", got)
	}
}

func TestEchoExpectContinue(t *testing.T) {
	conn, reader := dial(t, backend(t),
		"POST /echo HTTP/1.1\r\nHost: demo\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
	if res := response(t, reader); res.StatusCode != http.StatusContinue {
		t.Fatalf("%d, want 100", res.StatusCode)
	}
	fmt.Fprint(conn, "body")
	res := response(t, reader)
	body, err := io.ReadAll(res.Body)
	if err != nil || !strings.HasSuffix(string(body), "\r\n\r\nbody") ||
		res.ContentLength != int64(len(body)) {
		t.Errorf("%q, %v", body, err)
	}
}

func TestEchoLargeBody(t *testing.T) {
	const n = 20 << 20
	res, err := http.Post("http://"+backend(t)+"/echo", "application/octet-stream",
		struct{ io.Reader }{backends.Content(n)})
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body := bufio.NewReader(res.Body)
	for line := ""; line != "\r\n"; {
		if line, err = body.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	if err := backends.Verify(body, n); err != nil {
		t.Error(err)
	}
}

func TestStatus(t *testing.T) {
	addr := backend(t)
	for _, code := range []int{200, 204, 205, 299, 301, 304, 401, 404, 405, 418, 500, 503, 599} {
		res, body := get(t, addr, fmt.Sprintf("/status/%d", code))
		empty := code == 204 || code == 205 || code == 304
		if res.StatusCode != code || empty != (body == "") {
			t.Errorf("/status/%d: %d %q", code, res.StatusCode, body)
		}
	}
	for _, code := range []int{100, 102, 103} {
		_, reader := dial(t, addr, fmt.Sprintf("GET /status/%d HTTP/1.1\r\nHost: demo\r\n\r\n",
			code))
		for _, want := range []int{code, 200} {
			if res := response(t, reader); res.StatusCode != want {
				t.Errorf("/status/%d: %d, want %d", code, res.StatusCode, want)
			}
		}
	}
}

func TestStream(t *testing.T) {
	addr := backend(t)
	_, reader := dial(t, addr, "GET /stream?ms=60000 HTTP/1.1\r\nHost: demo\r\n\r\n")
	res := response(t, reader)
	want := fmt.Sprintf("id: 1\ndata: {\"backend\":\"%s\",\"event\":1}\n\n", port(addr))
	got := make([]byte, len(want))
	if _, err := io.ReadFull(res.Body, got); err != nil || string(got) != want {
		t.Errorf("first event %q, %v; want %q", got, err, want)
	}
	if _, body := get(t, addr, "/stream?n=3&ms=0"); strings.Count(body, "\n\n") != 3 {
		t.Errorf("%q, want 3 events", body)
	}
}

func TestWebSocket(t *testing.T) {
	addr := backend(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, "ws://"+addr+"/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	conn.SetReadLimit(1 << 20)
	for kind, message := range map[websocket.MessageType]string{
		websocket.MessageText:   "héllo",
		websocket.MessageBinary: strings.Repeat("\x00\xff", 1<<19),
	} {
		if err := conn.Write(ctx, kind, []byte(message)); err != nil {
			t.Fatal(err)
		}
		if gotKind, got, err := conn.Read(ctx); err != nil || gotKind != kind ||
			string(got) != message {
			t.Fatalf("%v of %d bytes, %v", gotKind, len(got), err)
		}
	}
	_ = conn.Write(ctx, websocket.MessageBinary, make([]byte, 1<<20+1))
	if _, _, err := conn.Read(ctx); websocket.CloseStatus(err) != websocket.StatusMessageTooBig {
		t.Errorf("after too long a message: %v, want close status 1009", err)
	}
	if res, _ := get(t, addr, "/ws"); res.StatusCode != http.StatusUpgradeRequired {
		t.Errorf("/ws without upgrade: %d, want 426", res.StatusCode)
	}
}

// An upgrade the backend does not know is declined by an ordinary answer.
func TestOtherUpgradeIsIgnored(t *testing.T) {
	_, reader := dial(t, backend(t),
		"GET /bytes?n=16 HTTP/1.1\r\nHost: demo\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
	res := response(t, reader)
	if err := backends.Verify(res.Body, 16); res.StatusCode != 200 || err != nil {
		t.Errorf("%d, %v", res.StatusCode, err)
	}
}

func TestDrop(t *testing.T) {
	addr := backend(t)
	for _, n := range []int64{0, 100, 200_000} {
		_, reader := dial(t, addr, fmt.Sprintf("GET /drop?after=%d HTTP/1.1\r\nHost: demo\r\n\r\n", n))
		res := response(t, reader)
		body, err := io.ReadAll(res.Body)
		if res.ContentLength <= n || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("after=%d: Content-Length %d, %v", n, res.ContentLength, err)
		}
		if err := backends.Verify(bytes.NewReader(body), n); err != nil {
			t.Errorf("after=%d: %v", n, err)
		}
	}
	_, reader := dial(t, addr, "GET /drop?after=100&reset=1 HTTP/1.1\r\nHost: demo\r\n\r\n")
	if _, err := io.ReadAll(reader); runtime.GOOS != "windows" &&
		!errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("reset=1: %v, want connection reset", err)
	}
}

// The page is the Go backends' page, with this backend's name in it.
func TestHomeIsTheSamePage(t *testing.T) {
	addr := backend(t)
	group, err := backends.Start([]string{"127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer group.Close()
	_, want := get(t, group.Addrs()[0], "/")
	want = strings.ReplaceAll(want, port(group.Addrs()[0]), port(addr))
	if _, got := get(t, addr, "/"); got != want {
		t.Errorf("the page differs:\n%s", got)
	}
}

// After clients have left in the middle of everything, the backend still answers.
func TestClientsLeaving(t *testing.T) {
	addr := backend(t)
	for _, request := range []string{
		"GET /slow?ms=60000 HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /bytes?n=17179869184 HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nhalf",
		"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
			"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
		"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
		"GET /api/data HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
	} {
		for range 3 {
			conn, _ := dial(t, addr, request)
			_ = conn.(*net.TCPConn).SetLinger(0)
			conn.Close()
		}
	}
	if res, body := get(t, addr, "/api/data"); res.StatusCode != 200 {
		t.Errorf("%d %q", res.StatusCode, body)
	}
}
