//go:build unix

package harness

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"reverseproxy/internal/backends"
	"reverseproxy/internal/narrate"
)

// A Stage is what a scenario needs around it.
type Stage int

// The stages.
const (
	Played   Stage = iota // the test plays the backend
	Demo                  // three (ch5) or one demo backends, by -demo
	Measured              // the test plays the backend, the program is built plain
)

// A Scenario is one situation that every proxy must master, whatever its model.
// After it the proxy must serve the next client and have nothing left over,
// which RunScenarios checks.
type Scenario struct {
	Name  string
	Stage Stage
	Run   func(t T, p *Proxy)
}

// Scenarios is the table.
var Scenarios = []Scenario{
	{"request for data", Demo, apiData},
	{"download of 1 MiB", Demo, func(t T, p *Proxy) { download(t, p, "/bytes?n=1048576", 1<<20) }},
	{"download of 1 MiB, chunked", Demo,
		func(t T, p *Proxy) { download(t, p, "/bytes?chunked=1&n=1048576", 1<<20) }},
	{"large download in constant memory", Measured, largeDownload},
	{"large upload in constant memory", Measured, largeUpload},
	{"POST of 20,000 bytes", Played, post20000},
	{"chunked both ways, with trailers", Played, chunkedBothWays},
	{"echo of a chunked body with a trailer", Demo, echoTrailer},
	{"HEAD", Played, head},
	{"204 and 304", Played, withoutBody},
	{"HTTP/1.0 client, chunked backend", Played, oldClient},
	{"response that ends with the connection", Played, untilClose},
	{"Expect: 100-continue", Played, expectContinue},
	{"WebSocket echo", Demo, webSocketEcho},
	{"first server-sent event at once", Demo, firstEvent},
	{"backend that keeps its connection", Played, keepAliveBackend},
	{"response before the upload has ended", Played, earlyResponse},
	{"client that resets in a download", Played, clientResets},
	{"client that resets as its tunnel begins", Played, resetsAsTunnelBegins},
	{"client that leaves before the response", Played, clientLeaves},
	{"client that says nothing and leaves", Played, clientSilentLeaves},
	{"clients that reset before they are accepted", Played, resetsBeforeAccept},
	{"backend that resets in a response", Played, backendResets},
	{"backend that closes in a response", Played, backendCloses},
	{"backend that resets during an upload", Played, resetDuringUpload},
	{"backend that closes at once", Played, backendSilent},
	{"malformed request", Played, malformed},
	{"terminal escape sequences", Played, escapes},
	{"answers are not mixed up", Demo, notMixedUp},
	{"one request a connection", Played, oneRequest},
	{"bytes behind the last request", Played, bytesBehind},
	{"connections by the hundred at once", Demo, burst},
}

// RunScenarios puts a model through the table: each scenario's subtest also
// fails if descriptors are left over, and at the end the program must have the
// goroutines it had after its first client.
func RunScenarios(t *testing.T, m Model) {
	NeedProc(t)
	for _, stage := range []Stage{Played, Demo, Measured} {
		t.Run([]string{"played", "demo", "measured"}[stage], func(t *testing.T) {
			runStage(t, m, stage)
		})
	}
}

func runStage(t *testing.T, m Model, stage Stage) {
	before := stage.start(t, m)
	before.settle(t)
	kinds := before.Goroutines(t)

	p := stage.start(t, m)
	p.settle(t)
	descriptors := p.Descriptors(t)
	for _, s := range Scenarios {
		if s.Stage != stage {
			continue
		}
		t.Run(s.Name, func(t *testing.T) {
			s.Check(t, p)
			p.WaitDescriptors(t, descriptors)
		})
	}
	p.WaitChildren(t, m.Standing)
	p.WaitIdle(t)
	if diff := cmp.Diff(kinds, p.Goroutines(t)); diff != "" {
		t.Errorf("goroutines after the first client (-) and after all scenarios (+):\n%s", diff)
	}
}

// Check runs the scenario against p, and then wants the next client served.
func (s Scenario) Check(t T, p *Proxy) {
	t.Helper()
	if p.Backend != nil {
		p.Backend.drain(t)
	}
	s.Run(t, p)
	if !t.Failed() {
		p.serveOne(t)
	}
}

// start starts a program of the model for the stage.
func (s Stage) start(t T, m Model) *Proxy {
	t.Helper()
	l := Launch{Model: m, Plain: s == Measured}
	if s != Demo {
		return l.StartWithBackend(t)
	}
	l.Flags = m.Demo(len(m.Backends))
	return l.Start(t)
}

// settle serves so many clients that everything which is made at first need is
// there, in every process, and waits until they are gone.
func (p *Proxy) settle(t T) {
	t.Helper()
	for range max(1, 3*p.Model.Standing) {
		p.serveOne(t)
	}
	served := max(1, 3*p.Model.Standing)
	p.WaitEvents(t, "close", served, func(e narrate.Event) bool { return e.Step == narrate.Close })
	p.WaitChildren(t, p.Model.Standing)
	p.WaitPooled(t, 0)
	p.WaitIdle(t)
}

// WaitPooled waits until n connections to backends are idle in the pool, as the
// narration tells.
func (p *Proxy) WaitPooled(t T, n int) {
	t.Helper()
	p.waitFor(t, func() string {
		pooled := 0
		for _, e := range p.Events() {
			switch {
			case e.Kind == narrate.KindPool && e.Peer != "" && e.State == narrate.Kept:
				pooled++
			case e.State == narrate.Dropped, e.Reused:
				pooled--
			}
		}
		if pooled != n {
			return fmt.Sprintf("%d connections are idle, want %d", pooled, n)
		}
		return ""
	})
}

// serveOne is the next client.
func (p *Proxy) serveOne(t T) {
	t.Helper()
	var got Response
	if p.Backend == nil {
		got = p.Get(t, "/bytes?n=16")
	} else {
		c := p.Dial(t)
		defer c.Close()
		c.Send("GET /next HTTP/1.1\r\nHost: proxy.test\r\n\r\n")
		b := p.Backend.Accept(t)
		defer b.Close()
		if line := b.Request().Line; line != "GET /next HTTP/1.1" {
			t.Fatalf("the next client's request arrives as %q", line)
		}
		b.Send("HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n000000000000000\n")
		got = c.Response("GET")
	}
	if got.Status != 200 || got.Body != "000000000000000\n" || got.End != "closed" {
		t.Fatalf("the next client is not served: %+v", got)
	}
}

// same compares and complains.
func same(t T, what string, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s: want (-), got (+):\n%s", what, diff)
	}
}

func apiData(t T, p *Proxy) {
	var got struct{ Backend, Path string }
	r := p.Get(t, "/api/data")
	if err := json.Unmarshal([]byte(r.Body), &got); err != nil {
		t.Fatalf("status %d, body %q: %v", r.Status, r.Body, err)
	}
	same(t, "path", "/api/data", got.Path)
	known := false
	for _, addr := range p.Backends {
		known = known || strings.HasSuffix(addr, ":"+got.Backend)
	}
	if !known {
		t.Errorf("backend %q is none of %v", got.Backend, p.Backends)
	}
}

func download(t T, p *Proxy, target string, n int64) {
	c := p.Dial(t)
	defer c.Close()
	c.Send("GET " + target + " HTTP/1.1\r\nHost: proxy.test\r\n\r\n")
	if err := c.verifyBody(n); err != nil {
		t.Fatalf("%v", err)
	}
	same(t, "end of the connection", "closed", c.End())
}

// maxResident is the most memory that a proxy may have resident, in bytes.
const maxResident = 32 << 20

// largeDownload sends 1 GiB through the proxy, or 64 MiB when time is short.
func largeDownload(t T, p *Proxy) {
	n := int64(1 << 30)
	if testing.Short() || Race {
		n = 64 << 20
	}
	c := p.Dial(t)
	defer c.Close()
	c.Send("GET /large HTTP/1.1\r\nHost: proxy.test\r\n\r\n")
	b := p.Backend.Accept(t)
	b.Request()
	c.mayTake(10 * Patience)
	b.mayTake(10 * Patience)
	received := make(chan error, 1)
	// Ends at the end of the body.
	go func() { received <- c.verifyBody(n) }()
	b.Send(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", n))
	// The last byte is held back, so that memory is looked at in full flow.
	content := backends.Content(n)
	if _, err := io.CopyN(b.TCPConn, content, n-1); err != nil {
		t.Fatalf("the backend cannot send its body: %v", err)
	}
	p.checkMemory(t)
	io.Copy(b.TCPConn, content)
	b.Close()
	if err := <-received; err != nil {
		t.Fatalf("%v", err)
	}
}

// largeUpload sends 100 MiB the other way.
func largeUpload(t T, p *Proxy) {
	const n = 100 << 20
	c := p.Dial(t)
	defer c.Close()
	c.mayTake(10 * Patience)
	sent := make(chan error, 1)
	// Ends when the proxy has taken the whole body, or breaks off.
	go func() {
		_, err := fmt.Fprintf(c, "POST /upload HTTP/1.1\r\nHost: proxy.test\r\n"+
			"Connection: close\r\nContent-Length: %d\r\n\r\n", n)
		if err == nil {
			_, err = io.Copy(c.TCPConn, backends.Content(n))
		}
		sent <- err
	}()
	b := p.Backend.acceptWithin(t, 10*Patience) // it may read the whole body first
	b.mayTake(10 * Patience)
	b.Head()
	if err := backends.Verify(io.LimitReader(b.R, n), n); err != nil {
		t.Fatalf("the upload at the backend: %v", err)
	}
	p.checkMemory(t)
	b.Send("HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok")
	if got := c.Response("POST"); got.Status != 201 || got.Body != "ok" {
		t.Errorf("answer to the upload: %+v", got)
	}
	if err := <-sent; err != nil {
		t.Errorf("the client's upload: %v", err)
	}
}

func (p *Proxy) checkMemory(t T) {
	t.Helper()
	if peak := p.PeakMemory(t); peak > maxResident {
		t.Errorf("%s has had %.1f MB resident, at most %d MB are allowed", p.Model.Name,
			float64(peak)/1e6, maxResident>>20)
	}
}

// exchange sends one request, has the backend answer it with raw bytes and
// close, and returns what each side has received.
func exchange(t T, p *Proxy, method, request, response string) (Request, Response) {
	t.Helper()
	c := p.Dial(t)
	defer c.Close()
	c.Send(request)
	b := p.Backend.Accept(t)
	got := b.Request()
	b.Send(response)
	b.Close()
	return got, c.Response(method)
}

func post20000(t T, p *Proxy) {
	body := strings.Repeat("0123456789", 2000)
	request, response := exchange(t, p, "POST",
		"POST /form HTTP/1.1\r\nHost: proxy.test\r\nContent-Length: 20000\r\n\r\n"+body,
		"HTTP/1.1 201 Created\r\nContent-Length: 20000\r\n\r\n"+body)
	same(t, "the request's body", body, request.Body)
	same(t, "Content-Length of the request", "20000", request.Fields["Content-Length"])
	same(t, "the response", Response{Status: 201, Body: body, End: "closed",
		Fields: map[string]string{"Content-Length": "20000", "Connection": "close"}}, response)
}

func chunkedBothWays(t T, p *Proxy) {
	up, down := strings.Repeat("up ", 30000), strings.Repeat("down ", 30000)
	request, response := exchange(t, p, "POST",
		"POST /chunks HTTP/1.1\r\nHost: proxy.test\r\nTransfer-Encoding: chunked\r\n"+
			"Trailer: X-Sum\r\n\r\n"+
			Chunked(up, 7777, "X-Sum: 1"),
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Count\r\n\r\n"+Chunked(down,
			999, "X-Count: 2"))
	same(t, "the request's body", up, request.Body)
	same(t, "the request's trailer", map[string]string{"X-Sum": "1"}, request.Trailer)
	same(t, "the request's coding", "chunked", request.Fields["Transfer-Encoding"])
	same(t, "the response", Response{Status: 200, Body: down, End: "closed",
		Trailer: map[string]string{"X-Count": "2"},
		Fields:  map[string]string{"Transfer-Encoding": "chunked", "Connection": "close"}},
		response)
}

func echoTrailer(t T, p *Proxy) {
	c := p.Dial(t)
	defer c.Close()
	body := strings.Repeat("x", 5000)
	c.Send("POST /echo HTTP/1.1\r\nHost: proxy.test\r\nTE: trailers\r\nConnection: TE\r\n" +
		"Transfer-Encoding: chunked\r\n" +
		"Trailer: X-Sum\r\n\r\n" + Chunked(body, 1000, "X-Sum: 17"))
	got := c.Response("POST")
	if got.Status != 200 || !strings.HasSuffix(got.Body, "\r\n\r\n"+body) {
		t.Errorf("the echo: status %d, %d bytes", got.Status, len(got.Body))
	}
	same(t, "the trailer that came back", map[string]string{"X-Sum": "17"}, got.Trailer)
}

func head(t T, p *Proxy) {
	_, response := exchange(t, p, "HEAD", "HEAD /file HTTP/1.1\r\nHost: proxy.test\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 123456\r\n\r\n")
	same(t, "the response", Response{Status: 200, End: "closed",
		Fields: map[string]string{"Content-Length": "123456", "Connection": "close"}}, response)
}

func withoutBody(t T, p *Proxy) {
	_, response := exchange(t, p, "GET", "GET / HTTP/1.1\r\nHost: proxy.test\r\n\r\n",
		"HTTP/1.1 204 No Content\r\nX-Why: nothing\r\n\r\n")
	same(t, "the 204", Response{Status: 204, End: "closed",
		Fields: map[string]string{"X-Why": "nothing", "Connection": "close"}}, response)
	_, response = exchange(t, p, "GET",
		"GET / HTTP/1.1\r\nHost: proxy.test\r\nIf-None-Match: \"a\"\r\n\r\n",
		"HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\nContent-Length: 999\r\n\r\n")
	same(t, "the 304", Response{Status: 304, End: "closed",
		Fields: map[string]string{"Etag": `"a"`, "Content-Length": "999", "Connection": "close"}},
		response)
}

func oldClient(t T, p *Proxy) {
	body := strings.Repeat("old ", 10000)
	request, response := exchange(t, p, "GET", "GET /old HTTP/1.0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"+Chunked(body, 500))
	same(t, "the request line", "GET /old HTTP/1.1", request.Line)
	same(t, "the response", Response{Status: 200, Body: body, End: "closed",
		Fields: map[string]string{"Connection": "close"}}, response)
}

func untilClose(t T, p *Proxy) {
	body := strings.Repeat("to the end ", 10000)
	_, response := exchange(t, p, "GET", "GET / HTTP/1.1\r\nHost: proxy.test\r\n\r\n",
		"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n"+body)
	same(t, "the body", body, response.Body)
	same(t, "the end", "closed", response.End)
}

func expectContinue(t T, p *Proxy) {
	c := p.Dial(t)
	defer c.Close()
	c.Send("POST /careful HTTP/1.1\r\nHost: proxy.test\r\nContent-Length: 4\r\n" +
		"Expect: 100-continue\r\n\r\n")
	b := p.Backend.Accept(t)
	if head := b.Head(); !strings.Contains(strings.ToLower(head), "expect: 100-continue\r\n") {
		t.Errorf("Expect has not reached the backend:\n%s", head)
	}
	b.Send("HTTP/1.1 100 Continue\r\n\r\n")
	if head := c.Head(); !strings.HasPrefix(head, "HTTP/1.1 100 ") {
		t.Fatalf("before its body the client reads:\n%s", head)
	}
	c.Send("body")
	body := make([]byte, 4)
	io.ReadFull(b.R, body)
	same(t, "the body at the backend", "body", string(body))
	b.Send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	same(t, "the answer", "ok", c.Response("POST").Body)
}

// firstEvent reads one event of a stream whose second is a minute away.
func firstEvent(t T, p *Proxy) {
	c := p.Dial(t)
	defer c.Close()
	c.Send("GET /stream?n=2&ms=60000 HTTP/1.1\r\nHost: proxy.test\r\n\r\n")
	head := c.Head()
	if !strings.Contains(head, "text/event-stream") {
		t.Errorf("the header:\n%s", head)
	}
	c.R.ReadString('\n') // the chunk's size
	line, err := c.R.ReadString('\n')
	if line != "id: 1\n" {
		t.Errorf("the first event begins with %q: %v", line, err)
	}
	c.Reset() // a browser's tab is closed; the stream must not go on for a minute
}

// keepAliveBackend holds its connection open, as Node and nginx do: only the
// framing says that the response is complete.
func keepAliveBackend(t T, p *Proxy) {
	for _, response := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n2\r\n" +
			"ok\r\n0\r\n\r\n",
		"HTTP/1.1 304 Not Modified\r\nConnection: keep-alive\r\n\r\n",
	} {
		c := p.Dial(t)
		c.Send("GET / HTTP/1.1\r\nHost: proxy.test\r\n\r\n")
		b := p.Backend.Accept(t)
		asked := "close"
		if p.Model.Keeps() {
			asked = ""
		}
		same(t, "what the backend is asked to do with its connection", asked, b.connection())
		b.Send(response)
		if got := c.Response("GET"); got.End != "closed" || got.Status == 200 && got.Body != "ok" {
			t.Errorf("with the backend's connection still open the client reads %+v", got)
		}
		same(t, "the backend's connection after it", "closed", b.End())
		c.Close()
		b.Close()
	}
}

// connection reads a request and returns its Connection field.
func (c *Conn) connection() string {
	c.t.Helper()
	for line := range strings.Lines(c.Head()) {
		if name, value, _ := strings.Cut(line, ":"); strings.EqualFold(name, "Connection") {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// earlyResponse answers while the client is still sending, and then reads no
// more.
func earlyResponse(t T, p *Proxy) {
	c := p.Dial(t)
	defer c.Close()
	const n = 32 << 20 // more than all buffers on the way hold
	sent := make(chan struct{})
	// Ends when the proxy breaks the upload off.
	go func() {
		defer close(sent)
		fmt.Fprintf(c, "POST /no HTTP/1.1\r\nHost: proxy.test\r\nContent-Length: %d\r\n\r\n", n)
		io.Copy(c.TCPConn, backends.Content(n))
	}()
	b := p.Backend.Accept(t)
	b.Head()
	b.Send(
		"HTTP/1.1 413 Content Too Large\r\nContent-Length: 7\r\nConnection: close\r\n\r\ntoo big")
	r, body, err := c.TryResponse("POST")
	if err != nil || r.StatusCode != 413 || body != "too big" {
		t.Errorf("the early answer: %+v, %q, %v", r, body, err)
	}
	b.Close()
	c.Close()
	<-sent
}

func clientResets(t T, p *Proxy) {
	c := p.Dial(t)
	c.Send("GET /long HTTP/1.1\r\nHost: proxy.test\r\n\r\n")
	b := p.Backend.Accept(t)
	b.Request()
	b.Send("HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n")
	sent := make(chan error, 1)
	// Ends when the proxy gives the backend up.
	go func() {
		_, err := io.Copy(b.TCPConn, backends.Content(1<<30))
		sent <- err
	}()
	c.Head()
	if _, err := io.CopyN(io.Discard, c.R, 100_000); err != nil {
		t.Fatalf("the client reads: %v", err)
	}
	c.Reset()
	if err := <-sent; err == nil {
		t.Errorf("the backend could send 1 GiB to a client that has gone")
	}
}

// resetsAsTunnelBegins resets its connection just when the backend has changed the protocol.
// The backend is to see no regular end, wherever the proxy learns of it.
func resetsAsTunnelBegins(t T, p *Proxy) {
	for range 20 {
		c := p.Dial(t)
		c.Send("GET /chat HTTP/1.1\r\nHost: proxy.test\r\n" +
			"Connection: Upgrade\r\nUpgrade: x\r\n\r\n")
		b := p.Backend.Accept(t)
		b.Request()
		b.Send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
		c.Reset()
		if how := b.End(); how != "reset" {
			t.Fatalf("the backend, which speaks another protocol, sees this end: %s", how)
		}
		b.Close()
	}
}

// clientLeaves goes away while the backend works: the backend must learn of it.
func clientLeaves(t T, p *Proxy) {
	c := p.Dial(t)
	c.Send("GET /work HTTP/1.1\r\nHost: proxy.test\r\n\r\n")
	b := p.Backend.Accept(t)
	b.Request()
	c.Reset()
	b.Gone()
}

func clientSilentLeaves(t T, p *Proxy) {
	c := p.Dial(t)
	c.CloseWrite()
	c.Gone()
	c.Close()
}

func backendResets(t T, p *Proxy) {
	brokenOff(t, p, func(b *Conn) { b.Reset() })
}

func backendCloses(t T, p *Proxy) {
	brokenOff(t, p, func(b *Conn) { b.Close() })
}

// brokenOff breaks responses of each framing off after a part of the body; the
// client must see that something is missing.
func brokenOff(t T, p *Proxy, end func(b *Conn)) {
	for _, test := range []struct{ framing, version, response string }{
		{"Content-Length", "HTTP/1.1", "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\npart"},
		{"chunked", "HTTP/1.1",
			"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n"},
		{"chunked to HTTP/1.0", "HTTP/1.0", "HTTP/1.1 200 OK\r\n" +
			"Transfer-Encoding: chunked\r\n\r\n4\r\npart\r\n"},
	} {
		c := p.Dial(t)
		c.Send("GET / " + test.version + "\r\nHost: proxy.test\r\n\r\n")
		b := p.Backend.Accept(t)
		b.Request()
		b.Send(test.response)
		c.Head() // has arrived, so that the reset does not overtake it
		part := make([]byte, 4)
		if test.framing == "chunked" {
			c.R.ReadString('\n')
		}
		io.ReadFull(c.R, part)
		same(t, test.framing+": what came before", "part", string(part))
		end(b)
		rest, err := io.ReadAll(c.R)
		switch {
		case test.version == "HTTP/1.0" && err == nil:
			t.Errorf("%s: cut short, but the connection ends as if complete", test.framing)
		case strings.Contains(string(rest), "0\r\n\r\n"):
			t.Errorf("%s: cut short, but the client reads the end mark: %q", test.framing, rest)
		}
		c.Close()
	}
}

// resetDuringUpload resets a response that ends with the connection, while the proxy
// writes the request's body. The kernel tells of a reset once. If the write was told, a
// read meets an end of file, which is not the response's.
func resetDuringUpload(t T, p *Proxy) {
	part := strings.Repeat("x", 64<<10)
	for _, upload := range []struct{ field, part string }{
		{"Content-Length: 1000000000", part},
		{"Transfer-Encoding: chunked", "10000\r\n" + part + "\r\n"},
	} {
		for range 10 {
			c := p.Dial(t)
			c.Send("POST / HTTP/1.1\r\n" + hostLine + upload.field + "\r\n\r\n")
			b := p.Backend.Accept(t)
			b.Head()
			b.Send("HTTP/1.1 200 OK\r\n\r\npart")
			c.Head()
			io.ReadFull(c.R, make([]byte, len("4\r\npart\r\n")))
			sent := make(chan struct{})
			go func() { // ends when the proxy breaks the upload off
				defer close(sent)
				for err := error(nil); err == nil; {
					_, err = io.WriteString(c.TCPConn, upload.part)
				}
			}()
			io.CopyN(io.Discard, b.R, 1<<20)
			b.Reset()
			if rest, _ := io.ReadAll(c.R); len(rest) > 0 {
				t.Errorf("%s: cut short, but the client reads %q", upload.field, rest)
			}
			c.Close()
			<-sent
		}
	}
}

func backendSilent(t T, p *Proxy) {
	c := p.Dial(t)
	defer c.Close()
	c.Send("GET / HTTP/1.1\r\nHost: proxy.test\r\n\r\n")
	b := p.Backend.Accept(t)
	b.Request()
	b.Close()
	same(t, "status", 502, c.Response("GET").Status)
}

func malformed(t T, p *Proxy) {
	c := p.Dial(t)
	defer c.Close()
	c.Send("what is this\r\n\r\n")
	same(t, "status", 400, c.Response("GET").Status)
}

// escapeSequence sets a terminal's title and clears its screen.
const escapeSequence = "\x1b]0;zq-title\x07\x1b[2J\x9b2J\x7f\r"

// escapes puts control bytes wherever a line of the narration may take them
// from.
func escapes(t T, p *Proxy) {
	for _, request := range []string{
		"GET /" + escapeSequence + " HTTP/1.1\r\nHost: proxy.test\r\n\r\n",
		escapeSequence + " / HTTP/1.1\r\nHost: proxy.test\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: " + escapeSequence + "\r\n\r\n",
		"GET /\xc2\x9b2J\xff HTTP/1.1\r\nHost: proxy.test\r\n\r\n",
	} {
		c := p.Dial(t)
		c.Send(request)
		same(t, "status", 400, c.Response("GET").Status)
		c.Close()
	}
	c := p.Dial(t)
	defer c.Close()
	c.Send("GET / HTTP/1.1\r\nHost: proxy.test\r\nX: \xc2\x9b2J\xff\r\n\r\n")
	b := p.Backend.Accept(t)
	b.Head()
	b.Send("HTTP/1.1 200 " + escapeSequence + "\r\nContent-Length: 0\r\n\r\n")
	b.Close()
	same(t, "status of a response with such a reason", 502, c.Response("GET").Status)

	c = p.Dial(t) // bytes that a reason phrase may have
	defer c.Close()
	c.Send("GET / HTTP/1.1\r\nHost: proxy.test\r\n\r\n")
	b = p.Backend.Accept(t)
	b.Head()
	b.Send("HTTP/1.1 200 \xc2\x9b2J\xff\r\nContent-Length: 0\r\n\r\n")
	b.Close()
	same(t, "status of a response with a reason above ASCII", 200, c.Response("GET").Status)
	CheckPlain(t, "stdout", p.Stdout())
	CheckPlain(t, "stderr", p.Stderr())
}

// CheckPlain wants text that no terminal takes for a command: no control byte
// but the line's end, neither of ASCII nor of Latin-1 (as UTF-8 or raw).
func CheckPlain(t T, what, text string) {
	t.Helper()
	for i, r := range text {
		if r < ' ' && r != '\n' || 0x7f <= r && r < 0xa0 || r == '\ufffd' {
			t.Errorf("%s holds %+q", what, text[max(0, i-60):min(len(text), i+20)])
			return
		}
	}
}

// notMixedUp gives each of 40 clients at once a body of its own length.
func notMixedUp(t T, p *Proxy) {
	errs := make([]error, 40)
	var all sync.WaitGroup
	for i := range errs {
		all.Go(func() { // ends with its client
			want := fmt.Sprintf("/echo?client=%d", i)
			body, err := p.TryGet(want)
			if err == nil && !strings.HasPrefix(body, "GET "+want+" HTTP/1.1\r\n") {
				err = fmt.Errorf("client %d reads %.60q", i, body)
			}
			errs[i] = err
		})
	}
	all.Wait()
	for i, err := range errs {
		if err != nil {
			t.Errorf("client %d: %v", i, err)
		}
	}
}

// oneRequest is the named gap of Part I: a connection carries one request, on
// both sides, whatever the client asks for.
func oneRequest(t T, p *Proxy) {
	if p.Model.Keeps() {
		return // it is closed
	}
	c := p.Dial(t)
	defer c.Close()
	first := "GET /first HTTP/1.1\r\nHost: proxy.test\r\nConnection: keep-alive\r\n\r\n"
	c.Send(first + strings.Replace(first, "first", "second", 1))
	b := p.Backend.Accept(t)
	same(t, "what the backend is told", "close", b.connection())
	b.Send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nok")
	got := c.Response("GET")
	same(t, "the only response", Response{Status: 200, Body: "ok", End: "closed",
		Fields: map[string]string{"Content-Length": "2", "Connection": "close"}}, got)
	same(t, "what the backend gets behind the first request", "closed", b.End())
}

// bytesBehind sends a line behind a request, as some clients do, that the proxy has no
// reason to read. A socket that is closed with something unread sends RST, and throws away
// what it has not sent of the response.
func bytesBehind(t T, p *Proxy) {
	const size = 512 << 10 // bytes: less than the sockets between hold
	seen := len(p.Events())
	c := p.Dial(t)
	defer c.Close()
	c.Send("GET / HTTP/1.1\r\n" + hostLine + "\r\n")
	b := p.Backend.Accept(t)
	b.Head()
	c.Send("\r\n")
	b.Send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" +
		Chunked(strings.Repeat("x", size), 32<<10))
	p.waitFor(t, func() string { // the kernel has it all
		for _, e := range p.Events()[seen:] {
			if e.Step == narrate.SendResponse {
				return ""
			}
		}
		return "the response is not sent"
	})
	if _, body, err := c.TryResponse("GET"); err != nil || len(body) != size {
		t.Errorf("the client reads %d bytes of %d: %v", len(body), size, err)
	}
}

// burst opens connections at once: 500, but 100 where a child process with the
// race detector is started for each.
func burst(t T, p *Proxy) {
	n := 500
	if p.Model.Forks && Race || testing.Short() {
		n = 100
	}
	var clients []*Conn
	for range n {
		clients = append(clients, p.Dial(t))
	}
	for _, c := range clients {
		c.Send("GET /bytes?n=1000 HTTP/1.1\r\nHost: proxy.test\r\n\r\n")
	}
	for _, c := range clients {
		c.mayTake(Patience) // for each, as long as they get on
		if err := c.verifyBody(1000); err != nil {
			t.Fatalf("one of %d clients at once: %v", n, err)
		}
		c.Close()
	}
}
