package backends

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
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"
)

// patience is how long a test waits for something that happens at once.
const patience = 10 * time.Second

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

func TestBadParametersAreExplained(t *testing.T) {
	g, c := start(t, 1), client(t)
	for _, path := range []string{
		"/slow?ms=x", "/slow?ms=-1", "/slow?ms=60001", "/slow?ms=", "/slow?ms=1;n=2",
		"/bytes?n=-1", "/bytes?n=17179869185", "/bytes?n=1e3", "/bytes?n=1&chunked=2",
		"/bytes?n=%zz",
		"/stream?n=0", "/stream?n=1000001", "/stream?ms=-1",
		"/drop?after=x", "/drop?after=1&reset=yes",
		"/status/", "/status/99", "/status/101", "/status/600", "/status/abc", "/status/+99",
		"/status/0200",
		"/status/%1b%5b31m",
	} {
		res, body := get(t, c, "http://"+g.Addrs()[0]+path)
		if res.StatusCode != http.StatusBadRequest || !strings.HasSuffix(body, ".\n") {
			t.Errorf("%s: %d %q, want 400 with a sentence", path, res.StatusCode, body)
		}
		if i := strings.IndexFunc(strings.TrimSuffix(body, "\n"),
			func(r rune) bool { return r < ' ' || r > '~' }); i >= 0 {
			t.Errorf("%s: unprintable byte in %q", path, body)
		}
	}
}

func TestUnknownPathIsEscaped(t *testing.T) {
	g, c := start(t, 1), client(t)
	res, body := get(t, c, "http://"+g.Addrs()[0]+"/%1b%5b31m/%c2%9b")
	if res.StatusCode != http.StatusNotFound || !strings.Contains(body, `/\x1b[31m/\xc2\x9b;`) {
		t.Errorf("%d %q", res.StatusCode, body)
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

func TestSlowTakesItsTime(t *testing.T) {
	g, c := start(t, 1), client(t)
	began := time.Now()
	_, body := get(t, c, "http://"+g.Addrs()[0]+"/slow?ms=80")
	if took := time.Since(began); took < 80*time.Millisecond {
		t.Errorf("answered after %v", took)
	}
	want := fmt.Sprintf(`{"backend":"%s","waited_ms":80}`+"\n", port(g.Addrs()[0]))
	if body != want {
		t.Errorf("%q, want %q", body, want)
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

func TestBytes(t *testing.T) {
	g, c := start(t, 1), client(t)
	for _, n := range []int64{0, 1, 15, 16, 17, 1024, 15_999, 16_000, 16_001, 63_999, 64_000,
		64_001, 5_000_000} {
		for _, suffix := range []string{"", "&chunked=1"} {
			res, err := c.Get(fmt.Sprintf("http://%s/bytes?n=%d%s", g.Addrs()[0], n, suffix))
			if err != nil {
				t.Fatal(err)
			}
			length := n
			if suffix != "" {
				length = -1
			}
			if res.ContentLength != length {
				t.Errorf("n=%d%s: Content-Length %d", n, suffix, res.ContentLength)
			}
			if err := Verify(res.Body, n); err != nil {
				t.Errorf("n=%d%s: %v", n, suffix, err)
			}
			res.Body.Close()
		}
	}
	_, body := get(t, c, "http://"+g.Addrs()[0]+"/bytes?n=40")
	if body != "000000000000000\n000000000000001\n00000000" {
		t.Errorf("content %q", body)
	}
}

func TestBytesHeadHasLengthOnly(t *testing.T) {
	g, c := start(t, 1), client(t)
	res, err := c.Head("http://" + g.Addrs()[0] + "/bytes?n=17179869184")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.ContentLength != maxBytes {
		t.Errorf("Content-Length %d", res.ContentLength)
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

func TestEcho(t *testing.T) {
	g := start(t, 1)
	conn := dial(t, g.Addrs()[0])
	fmt.Fprint(conn, "PATCH /echo?a;b=%1b HTTP/1.1\r\nhost: demo\r\nX-B: 2\r\nX-A: 1\r\nX-B: \xc2\x9bred\r\n"+
		"Content-Length: 5\r\n\r\n\x1b[31m")
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	want := "PATCH /echo?a;b=%1b HTTP/1.1\r\nContent-Length: 5\r\nHost: demo\r\nX-A: 1\r\nX-B: 2\r\n" +
		"X-B: \\xc2\\x9bred\r\n\r\n\x1b[31m"
	if diff := cmp.Diff(want, string(body)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if res.ContentLength != int64(len(want)) || res.Close {
		t.Errorf("Content-Length %d, close %v; want %d, kept", res.ContentLength, res.Close,
			len(want))
	}
}

func TestEchoChunkedWithTrailer(t *testing.T) {
	g := start(t, 1)
	conn := dial(t, g.Addrs()[0])
	fmt.Fprint(conn, "POST /echo HTTP/1.1\r\nHost: demo\r\n"+
		"Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"+
		"4\r\nfour\r\n0\r\nX-Sum: 42\r\n\r\n")
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	want := "POST /echo HTTP/1.1\r\nHost: demo\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\nfour"
	if diff := cmp.Diff(want, string(body)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if got := res.Trailer.Get("X-Sum"); got != "42" {
		t.Errorf("trailer X-Sum %q, want 42", got)
	}
}

// The answer to the first half of a body arrives before the second half is sent.
func TestEchoIsFullDuplex(t *testing.T) {
	g := start(t, 1)
	conn := dial(t, g.Addrs()[0])
	fmt.Fprint(conn, "POST /echo HTTP/1.1\r\nHost: demo\r\nTransfer-Encoding: chunked\r\n\r\n")
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	body := bufio.NewReader(res.Body)
	for line := ""; line != "\r\n"; {
		if line, err = body.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	for _, half := range []string{"first\n", "second\n"} {
		fmt.Fprintf(conn, "%x\r\n%s\r\n", len(half), half)
		if line, err := body.ReadString('\n'); line != half || err != nil {
			t.Fatalf("%q, %v; want %q", line, err, half)
		}
	}
	fmt.Fprint(conn, "0\r\n\r\n")
	if rest, err := io.ReadAll(body); len(rest) > 0 || err != nil {
		t.Errorf("%q, %v after the last chunk", rest, err)
	}
}

func TestEchoExpectContinue(t *testing.T) {
	g := start(t, 1)
	conn := dial(t, g.Addrs()[0])
	reader := bufio.NewReader(conn)
	fmt.Fprint(conn, "POST /echo HTTP/1.1\r\nHost: demo\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
	res, err := http.ReadResponse(reader, nil)
	if err != nil || res.StatusCode != http.StatusContinue {
		t.Fatalf("%v, %v; want 100", res, err)
	}
	fmt.Fprint(conn, "body")
	res, err = http.ReadResponse(reader, nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil || !strings.HasSuffix(string(body), "\r\n\r\nbody") {
		t.Errorf("%q, %v", body, err)
	}
}

func TestEchoLargeBody(t *testing.T) {
	g, c := start(t, 1), client(t)
	const n = 30 << 20
	res, err := c.Post("http://"+g.Addrs()[0]+"/echo", "application/octet-stream",
		struct{ io.Reader }{Content(n)})
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
	if err := Verify(body, n); err != nil {
		t.Error(err)
	}
}

func TestStatus(t *testing.T) {
	g, c := start(t, 1), client(t)
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	for _, code := range []int{200, 204, 205, 206, 299, 301, 304, 307, 400, 401, 404, 405, 418,
		500, 503, 599} {
		res, body := get(t, c, fmt.Sprintf("http://%s/status/%d", g.Addrs()[0], code))
		if res.StatusCode != code {
			t.Errorf("/status/%d: %d", code, res.StatusCode)
		}
		empty := code == 204 || code == 205 || code == 304
		if empty != (body == "") {
			t.Errorf("/status/%d: body %q", code, body)
		}
		if code == 204 && res.Header.Get("Content-Length") != "" {
			t.Error("204 with Content-Length (RFC 9110 section 8.6)")
		}
		for field, codes := range map[string]string{
			"Location": "301 307", "WWW-Authenticate": "401", "Allow": "405",
		} {
			want := strings.Contains(codes, fmt.Sprint(code))
			if want != (res.Header.Get(field) != "") {
				t.Errorf("/status/%d: %s is %q", code, field, res.Header.Get(field))
			}
		}
	}
}

func TestInformationalStatus(t *testing.T) {
	g := start(t, 1)
	for _, code := range []int{100, 102, 103, 199} {
		conn := dial(t, g.Addrs()[0])
		fmt.Fprintf(conn, "GET /status/%d HTTP/1.1\r\nHost: demo\r\n\r\n", code)
		reader := bufio.NewReader(conn)
		for _, want := range []int{code, 200} {
			res, err := http.ReadResponse(reader, nil)
			if err != nil {
				t.Fatal(err)
			}
			if res.StatusCode != want {
				t.Errorf("/status/%d: %d, want %d", code, res.StatusCode, want)
			}
			if link := res.Header.Get("Link"); (link != "") != (want == 103) {
				t.Errorf("/status/%d: Link %q with %d", code, link, want)
			}
		}
	}
	conn := dial(t, g.Addrs()[0])
	fmt.Fprint(conn, "GET /status/103 HTTP/1.0\r\n\r\n")
	if res, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil ||
		res.StatusCode != 200 {
		t.Errorf("HTTP/1.0 client got %v, %v; want 200 at once", res, err)
	}
}

func TestStreamFirstEventAtOnce(t *testing.T) {
	g, c := start(t, 1), client(t)
	res, err := c.Get("http://" + g.Addrs()[0] + "/stream?ms=60000")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if got := res.Header.Get("Content-Type"); got != "text/event-stream" {
		t.Errorf("Content-Type %q", got)
	}
	want := fmt.Sprintf("id: 1\ndata: {\"backend\":\"%s\",\"event\":1}\n\n", port(g.Addrs()[0]))
	got := make([]byte, len(want))
	// The next event comes in a minute: if this returns, the first was flushed.
	if _, err := io.ReadFull(res.Body, got); err != nil || string(got) != want {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
}

func TestStreamEndsAfterN(t *testing.T) {
	g, c := start(t, 1), client(t)
	_, body := get(t, c, "http://"+g.Addrs()[0]+"/stream?n=3&ms=0")
	if n := strings.Count(body, "\n\n"); n != 3 || !strings.Contains(body, "id: 3\n") {
		t.Errorf("%d events in %q, want 3", n, body)
	}
}

func TestWebSocketEcho(t *testing.T) {
	g := start(t, 1)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, "ws://"+g.Addrs()[0]+"/ws", &websocket.DialOptions{
		HTTPHeader: http.Header{"Origin": {"http://elsewhere.example"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	conn.SetReadLimit(maxMessage)
	for kind, message := range map[websocket.MessageType]string{
		websocket.MessageText:   "héllo",
		websocket.MessageBinary: strings.Repeat("\x00\xff", maxMessage/2),
	} {
		if err := conn.Write(ctx, kind, []byte(message)); err != nil {
			t.Fatal(err)
		}
		gotKind, got, err := conn.Read(ctx)
		if err != nil || gotKind != kind || string(got) != message {
			t.Fatalf("%v of %d bytes, %v; want %v of %d", gotKind, len(got), err, kind,
				len(message))
		}
	}
	_ = conn.Write(ctx, websocket.MessageBinary, make([]byte, maxMessage+1))
	if _, _, err := conn.Read(ctx); websocket.CloseStatus(err) != websocket.StatusMessageTooBig {
		t.Errorf("after too long a message: %v, want close status 1009", err)
	}
	eventually(t, "the handler has ended", func() bool { return handlers() == 0 })
}

func TestWebSocketNeedsUpgrade(t *testing.T) {
	g, c := start(t, 1), client(t)
	if res, body := get(t, c, "http://"+g.Addrs()[0]+"/ws"); res.StatusCode != http.StatusUpgradeRequired {
		t.Errorf("%d %q, want 426", res.StatusCode, body)
	}
}

func TestDropBreaksOff(t *testing.T) {
	g, c := start(t, 1), client(t)
	for _, n := range []int64{0, 1, 100, 200_000} {
		res, err := c.Get(fmt.Sprintf("http://%s/drop?after=%d", g.Addrs()[0], n))
		if err != nil {
			t.Fatal(err)
		}
		if res.ContentLength != n+dropMissing {
			t.Errorf("after=%d: Content-Length %d", n, res.ContentLength)
		}
		var body bytes.Buffer
		if _, err := io.Copy(&body, res.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("after=%d: %v, want an unexpected EOF", n, err)
		}
		res.Body.Close()
		if err := Verify(&body, n); err != nil {
			t.Errorf("after=%d: %v", n, err)
		}
	}
}

func TestDropResets(t *testing.T) {
	g := start(t, 1)
	conn := dial(t, g.Addrs()[0])
	fmt.Fprint(conn, "GET /drop?after=100&reset=1 HTTP/1.1\r\nHost: demo\r\n\r\n")
	got, err := io.ReadAll(conn)
	if !isReset(err) {
		t.Errorf("%v, want connection reset", err)
	}
	_, body, _ := strings.Cut(string(got), "\r\n\r\n")
	if err := Verify(strings.NewReader(body), 100); err != nil {
		t.Error(err)
	}
}

func isReset(err error) bool {
	return err != nil && (strings.Contains(err.Error(), "reset") ||
		strings.Contains(err.Error(), "forcibly closed"))
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
	_ = idle.SetReadDeadline(time.Now().Add(3 * time.Second))
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
				fmt.Fprint(conn, "GET /bytes?n=100000 HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n\r\n")
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
