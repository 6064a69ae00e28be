// Package promise tests a demo backend against what all of them promise (see
// backends.Endpoints), whoever wrote it and in whatever language.
package promise

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"

	"reverseproxy/internal/backends"
)

// patience is how long a test waits for something that happens at once.
const patience = 30 * time.Second

// Check tests the backend at an address.
func Check(t *testing.T, addr string) {
	backend{addr, addr[strings.LastIndexByte(addr, ':')+1:]}.check(t)
}

// CheckBehind tests what is left of it behind a proxy, which may add fields to a
// request, and may have several backends.
func CheckBehind(t *testing.T, proxy string) { backend{addr: proxy}.check(t) }

func (b backend) check(t *testing.T) {
	for name, test := range map[string]func(*testing.T){
		"slow": b.slow, "bytes": b.bytes, "drop": b.drop, "stream": b.stream,
		"status": b.status, "1xx": b.informational, "WebSocket": b.webSocket,
		"other upgrade": b.otherUpgrade, "bad parameters": b.badParameters,
		"unknown path": b.unknownPath, "echo": b.echo, "echo at once": b.fullDuplex,
		"echo, 100-continue": b.expectContinue, "echo, large": b.largeBody,
	} {
		t.Run(name, test)
	}
}

// backend is where it listens, and the name that it gives itself: "" behind a proxy.
type backend struct{ addr, port string }

// named takes the name that the backend gives itself out of a text.
func (b backend) named(text string) string {
	if b.port == "" {
		return names.ReplaceAllString(text, `"backend":""`)
	}
	return text
}

var names = regexp.MustCompile(`"backend":"\d+"`)

// Get fetches a path on a connection of its own, without following redirects.
func Get(t *testing.T, addr, path string) (*http.Response, string) {
	t.Helper()
	client := &http.Client{
		Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true},
		CheckRedirect: func(*http.Request,
			[]*http.Request) error {
			return http.ErrUseLastResponse
		},
		Timeout: 2 * patience,
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

// Dial opens a connection with a deadline and sends the request on it.
func Dial(t *testing.T, addr, request string) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(2 * patience))
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	return conn, bufio.NewReader(conn)
}

// Response reads the next response, without its body.
func Response(t *testing.T, r *bufio.Reader) *http.Response {
	t.Helper()
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func (b backend) slow(t *testing.T) {
	began := time.Now()
	_, body := Get(t, b.addr, "/slow?ms=80")
	if want := fmt.Sprintf(`{"backend":"%s","waited_ms":80}`+"\n", b.port); b.named(body) != want {
		t.Errorf("%q, want %q", body, want)
	}
	if took := time.Since(began); took < 80*time.Millisecond {
		t.Errorf("answered after %v", took)
	}
}

func (b backend) bytes(t *testing.T) {
	for _, n := range []int64{0, 1, 15, 16, 17, 40, 15_999, 16_001, 63_999, 64_000, 64_001,
		20_000_000} {
		for _, suffix := range []string{"", "&chunked=1"} {
			res, body := Get(t, b.addr, fmt.Sprintf("/bytes?n=%d%s", n, suffix))
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
	_, r := Dial(t, b.addr, "HEAD /bytes?n=17179869184 HTTP/1.1\r\nHost: demo\r\n"+
		"Connection: close\r\n\r\n")
	head, err := io.ReadAll(r)
	if err != nil || !strings.Contains(string(head), "\r\nContent-Length: 17179869184\r\n") ||
		!strings.HasSuffix(string(head), "\r\n\r\n") {
		t.Errorf("HEAD: %q, %v", head, err)
	}
}

func (b backend) badParameters(t *testing.T) {
	for _, path := range []string{
		"/slow?ms=x", "/slow?ms=-1", "/slow?ms=60001", "/slow?ms=", "/bytes?n=-1",
		"/bytes?n=17179869185",
		"/bytes?n=1e3", "/bytes?n=1&chunked=2", "/stream?n=0", "/stream?n=1000001", "/stream?ms=-1",
		"/drop?after=x", "/drop?after=1&reset=yes", "/status/99", "/status/101", "/status/600",
		"/status/abc", "/status/+99", "/status/0200", "/status/%1b%5b31m",
	} {
		res, body := Get(t, b.addr, path)
		if res.StatusCode != http.StatusBadRequest || !strings.HasSuffix(body, ".\n") {
			t.Errorf("%s: %d %q, want 400 with a sentence", path, res.StatusCode, body)
		}
		if strings.ContainsFunc(strings.TrimSuffix(body, "\n"),
			func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("%s: unprintable bytes in %q", path, body)
		}
	}
}

func (b backend) unknownPath(t *testing.T) {
	res, body := Get(t, b.addr, "/<b>/%1b%5b31m")
	if res.StatusCode != 404 || !strings.HasPrefix(res.Header.Get("Content-Type"), "text/plain") ||
		strings.Contains(body, "\x1b") {
		t.Errorf("%d %v %q", res.StatusCode, res.Header, body)
	}
}

// echo compares without the order and the spelling of names, which not every
// server library keeps.
func (b backend) echo(t *testing.T) {
	request := "POST /echo?a;b=%1b HTTP/1.1\r\nHost: demo\r\nX-B: 2\r\nX-A: 1\r\n" +
		"X-B: \xc2\x9bred\r\n" +
		"Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
	_, r := Dial(t, b.addr, request+"9\r\n\x1b[31mfour\r\n0\r\nX-Sum: 42\r\n\r\n")
	res := Response(t, r)
	body, err := io.ReadAll(res.Body)
	head, rest, _ := strings.Cut(string(body), "\r\n\r\n")
	lines := func(head string) []string {
		l := strings.Split(strings.ToLower(strings.TrimSpace(head)), "\r\n")
		slices.Sort(l)
		return l
	}
	want := strings.Replace(request, "\xc2\x9b", `\xc2\x9b`, 1)
	if diff := cmp.Diff(lines(want), lines(head)); diff != "" && b.port != "" {
		t.Errorf("the request's head (-want +got):\n%s", diff)
	}
	if err != nil || rest != "\x1b[31mfour" || res.Trailer.Get("X-Sum") != "42" {
		t.Errorf("body %q, %v, trailer %v, close %v", rest, err, res.Trailer, res.Close)
	}
}

// fullDuplex wants the answer to the first half of a body before the second.
func (b backend) fullDuplex(t *testing.T) {
	conn, r := Dial(t, b.addr,
		"POST /echo HTTP/1.1\r\nHost: demo\r\nTransfer-Encoding: chunked\r\n\r\n")
	body := bufio.NewReader(Response(t, r).Body)
	afterHead(t, body)
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

// afterHead reads the head that an echo begins with.
func afterHead(t *testing.T, body *bufio.Reader) {
	t.Helper()
	for line := ""; line != "\r\n"; {
		var err error
		if line, err = body.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
}

func (b backend) expectContinue(t *testing.T) {
	conn, r := Dial(t, b.addr,
		"POST /echo HTTP/1.1\r\nHost: demo\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
	if res := Response(t, r); res.StatusCode != http.StatusContinue {
		t.Fatalf("%d, want 100", res.StatusCode)
	}
	fmt.Fprint(conn, "body")
	res := Response(t, r)
	body, err := io.ReadAll(res.Body)
	if err != nil || !strings.HasSuffix(string(body), "\r\n\r\nbody") ||
		res.ContentLength != int64(len(body)) {
		t.Errorf("%q, %v", body, err)
	}
}

func (b backend) largeBody(t *testing.T) {
	const n = 20 << 20
	res, err := http.Post("http://"+b.addr+"/echo", "application/octet-stream",
		struct{ io.Reader }{backends.Content(n)})
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body := bufio.NewReader(res.Body)
	afterHead(t, body)
	if err := backends.Verify(body, n); err != nil {
		t.Error(err)
	}
}

func (b backend) status(t *testing.T) {
	fields := map[string]string{"Location": "301 307", "WWW-Authenticate": "401", "Allow": "405"}
	for _, code := range []int{200, 204, 205, 206, 299, 301, 304, 307, 400, 401, 404, 405, 418, 500,
		503, 599} {
		res, body := Get(t, b.addr, fmt.Sprintf("/status/%d", code))
		empty := code == 204 || code == 205 || code == 304
		if res.StatusCode != code || empty != (body == "") {
			t.Errorf("/status/%d: %d %q", code, res.StatusCode, body)
		}
		if code == 204 && res.Header.Get("Content-Length") != "" {
			t.Error("204 with Content-Length (RFC 9110 section 8.6)")
		}
		for field, codes := range fields {
			if strings.Contains(codes, fmt.Sprint(code)) != (res.Header.Get(field) != "") {
				t.Errorf("/status/%d: %s is %q", code, field, res.Header.Get(field))
			}
		}
	}
}

func (b backend) informational(t *testing.T) {
	for _, code := range []int{100, 102, 103} {
		_, r := Dial(t, b.addr, fmt.Sprintf("GET /status/%d HTTP/1.1\r\nHost: demo\r\n\r\n", code))
		for _, want := range []int{code, 200} {
			if res := Response(t, r); res.StatusCode != want {
				t.Errorf("/status/%d: %d, want %d", code, res.StatusCode, want)
			}
		}
	}
	_, r := Dial(t, b.addr, "GET /status/103 HTTP/1.0\r\n\r\n")
	if res := Response(t, r); res.StatusCode != 200 {
		t.Errorf("HTTP/1.0 client got %d, want 200 at once", res.StatusCode)
	}
}

func (b backend) stream(t *testing.T) {
	conn, r := Dial(t, b.addr, "GET /stream?ms=60000 HTTP/1.1\r\nHost: demo\r\n\r\n")
	res := Response(t, r)
	if got := res.Header.Get("Content-Type"); !strings.HasPrefix(got, "text/event-stream") {
		t.Errorf("Content-Type %q", got)
	}
	want := fmt.Sprintf("id: 1\ndata: {\"backend\":\"%s\",\"event\":1}\n", b.port)
	body := bufio.NewReader(res.Body)
	// The next event comes in a minute: if this returns, the first was flushed.
	id, _ := body.ReadString('\n')
	data, err := body.ReadString('\n')
	if got := b.named(id + data); err != nil || got != want {
		t.Errorf("first event %q, %v; want %q", got, err, want)
	}
	conn.Close() // ch2 serves nobody else before
	if _, body := Get(t, b.addr, "/stream?n=3&ms=0"); strings.Count(body, "\n\n") != 3 ||
		!strings.Contains(body, "id: 3\n") {
		t.Errorf("%q, want 3 events", body)
	}
}

func (b backend) webSocket(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, "ws://"+b.addr+"/ws", &websocket.DialOptions{
		HTTPHeader: http.Header{"Origin": {"http://elsewhere.example"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	const most = 1 << 20 // bytes of a message
	conn.SetReadLimit(most)
	for kind, message := range map[websocket.MessageType]string{
		websocket.MessageText:   "héllo",
		websocket.MessageBinary: strings.Repeat("\x00\xff", most/2),
	} {
		if err := conn.Write(ctx, kind, []byte(message)); err != nil {
			t.Fatal(err)
		}
		if gotKind, got, err := conn.Read(ctx); err != nil || gotKind != kind ||
			string(got) != message {
			t.Fatalf("%v of %d bytes, %v", gotKind, len(got), err)
		}
	}
	_ = conn.Write(ctx, websocket.MessageBinary, make([]byte, most+1))
	if _, _, err := conn.Read(ctx); websocket.CloseStatus(err) != websocket.StatusMessageTooBig {
		t.Errorf("after too long a message: %v, want close status 1009", err)
	}
	if res, _ := Get(t, b.addr, "/ws"); res.StatusCode != http.StatusUpgradeRequired {
		t.Errorf("/ws without upgrade: %d, want 426", res.StatusCode)
	}
}

// otherUpgrade asks for what the backend does not know: an ordinary answer.
func (b backend) otherUpgrade(t *testing.T) {
	_, r := Dial(t, b.addr, "GET /bytes?n=16 HTTP/1.1\r\nHost: demo\r\nConnection: Upgrade\r\n"+
		"Upgrade: h2c\r\n\r\n")
	res := Response(t, r)
	if err := backends.Verify(res.Body, 16); res.StatusCode != 200 || err != nil {
		t.Errorf("%d, %v", res.StatusCode, err)
	}
}

func (b backend) drop(t *testing.T) {
	for _, n := range []int64{0, 1, 100, 200_000} {
		_, r := Dial(t, b.addr, fmt.Sprintf("GET /drop?after=%d HTTP/1.1\r\nHost: demo\r\n\r\n", n))
		res := Response(t, r)
		body, err := io.ReadAll(res.Body)
		if res.ContentLength != n+1000 || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("after=%d: Content-Length %d, %v", n, res.ContentLength, err)
		}
		if err := backends.Verify(bytes.NewReader(body), n); err != nil {
			t.Errorf("after=%d: %v", n, err)
		}
	}
	if b.port == "" {
		return // whether a proxy passes a reset on is its own affair
	}
	_, r := Dial(t, b.addr, "GET /drop?after=100&reset=1 HTTP/1.1\r\nHost: demo\r\n\r\n")
	_, err := io.ReadAll(r)
	if err == nil || !strings.Contains(err.Error(), "reset") &&
		!strings.Contains(err.Error(), "forcibly closed") {
		t.Errorf("reset=1: %v, want connection reset", err)
	}
}
