//go:build unix

package kept

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"reverseproxy/internal/harness"
	"reverseproxy/internal/narrate"
)

// Part I's named gap, closed: a client sends 50 requests at once on one
// connection, and gets 50 answers in order, over one connection to the backend.
func (k chapter) pipelined(t *testing.T) {
	p := harness.Start(t, k.Model, k.Model.Demo(1)...)
	c := p.Dial(t)
	var all strings.Builder
	for i := range 50 {
		all.WriteString(get(fmt.Sprintf("/echo?i=%d", i)))
	}
	c.Send(all.String())
	for i := range 50 {
		_, body, err := c.TryResponse("GET")
		if want := fmt.Sprintf("GET /echo?i=%d ", i); err != nil || !strings.HasPrefix(body, want) {
			t.Fatalf("answer %d is %.40q, %v", i, body, err)
		}
	}
	same(t, "reused", 49, connects(t, p, 50))
	c.Close()
	p.WaitEvent(t, "close", step(narrate.Close))
	s := p.Interrupt(t).Summary
	same(t, "the summary", []int64{1, 50, 0}, []int64{s.Connections, s.Requests, s.Failed})
}

// -reuse: may the first request of another client go over an idle connection
// that has carried one request, one that has carried two, and may its second?
func (k chapter) reuse(t *testing.T) {
	for mode, want := range map[string][]bool{
		"never":      {false, false, true}, // its own
		"safe":       {false, false, true},
		"aggressive": {false, true, true},
		"always":     {true, true, true},
	} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			var got []bool
			for carried := 1; carried <= 2; carried++ {
				p := harness.Start(t, k.Model,
					append(k.Model.Demo(1), "-reuse", mode)...)
				first := p.Dial(t)
				for range carried {
					first.Send(get("/bytes?n=1"))
					wants(t, first, 200, "")
				}
				kept := func(e narrate.Event) bool { return e.State == narrate.Kept }
				p.WaitEvents(t, "kept", carried, kept)
				c := p.Dial(t)
				for n := range carried {
					before := connects(t, p, carried+n)
					c.Send(get("/bytes?n=1"))
					wants(t, c, 200, "")
					got = append(got, connects(t, p, carried+n+1) > before)
					p.WaitEvents(t, "kept", carried+n+1, kept)
				}
				first.Close()
				c.Close()
			}
			same(t, "reused", want, got)
		})
	}
}

// With -reuse never, a client's connection to the backend ends with it.
func (k chapter) neverLeavesNothing(t *testing.T) {
	p := k.start(t, "-reuse", "never")
	c := p.Dial(t)
	c.Send(get("/"))
	b := p.Backend.Accept(t)
	serves(t, b, "GET /", answer("own"))
	wants(t, c, 200, "own")
	c.Close()
	same(t, "the backend's connection", "closed", b.End())
	pooled(t, p, p.Backend.Addr, narrate.Dropped, "its client has left")
}

func (k chapter) keepaliveNone(t *testing.T) {
	p := k.start(t, "-keepalive", "0")
	c := p.Dial(t)
	for range 3 {
		c.Send(get("/"))
		b := p.Backend.Accept(t)
		same(t, "what the backend is told", "close", b.Request().Fields["Connection"])
		b.Send(answer("x"))
		wants(t, c, 200, "x")
		same(t, "its connection", "closed", b.End())
	}
}

// -keepalive 1: of two idle connections one is closed.
func (k chapter) keepaliveOne(t *testing.T) {
	p := k.start(t, "-keepalive", "1")
	one, two := p.Dial(t), p.Dial(t)
	one.Send(get("/one"))
	a := p.Backend.Accept(t)
	two.Send(get("/two"))
	b := p.Backend.Accept(t)
	serves(t, a, "GET /one", answer("one"))
	pooled(t, p, p.Backend.Addr, narrate.Kept, "")
	serves(t, b, "GET /two", answer("two"))
	same(t, "the second", "closed", b.End())
	pooled(t, p, p.Backend.Addr, narrate.Closed, "-keepalive")
	wants(t, one, 200, "one")
	wants(t, two, 200, "two")
	two.Send(get("/again"))
	serves(t, a, "GET /again", answer("again"))
	wants(t, two, 200, "again")
}

func (k chapter) keepaliveRequests(t *testing.T) {
	p := k.start(t, "-keepalive-requests", "3")
	c := p.Dial(t)
	c.Send(get("/1") + get("/2") + get("/3") + get("/4"))
	b := p.Backend.Accept(t)
	for i := range 3 {
		serves(t, b, fmt.Sprintf("GET /%d", i+1), answer("x"))
		same(t, "Connection", []string{"", "", "close"}[i], wants(t, c, 200, "x"))
	}
	same(t, "the client's connection after the third", "closed", c.End())
	same(t, "the backend's", "closed", b.End())
	pooled(t, p, p.Backend.Addr, narrate.Closed, "-keepalive-requests")
	pooled(t, p, "", narrate.Closed, "-keepalive-requests")
}

// Between requests only -keepalive-timeout runs, whose end is silent; a request
// has -request-timeout from its first byte on.
func (k chapter) keepaliveTimeout(t *testing.T) {
	t.Parallel() // it mostly waits
	p := k.start(t, "-keepalive-timeout", "6s", "-request-timeout", "2s")
	served := func() *harness.Conn {
		c := p.Dial(t)
		c.Send(get("/"))
		b := p.Backend.Accept(t)
		serves(t, b, "GET /", answer("x"))
		wants(t, c, 200, "x")
		return c
	}
	c, slow := served(), served()
	time.Sleep(2200 * time.Millisecond) // longer than -request-timeout
	slow.Send("\r\n")                   // begins no request
	slow.Send("G")
	wants(t, slow, 408, "")
	same(t, "and then", "closed", slow.End())
	same(t, "the idle client reads", "closed", c.End())
	pooled(t, p, "", narrate.Closed, "idle too long")
	pooled(t, p, p.Backend.Addr, narrate.Dropped, "its time was over")
	p.WaitPooled(t, 0)
	if s := p.Interrupt(t).Summary; s.Requests != 3 || s.Failed != 1 {
		t.Errorf("summary: %+v", s)
	}
}

// Empty lines behind a body begin no request: their sender is closed in silence.
func (k chapter) emptyLinesAreNoRequest(t *testing.T) {
	t.Parallel() // it mostly waits
	p := k.start(t, "-keepalive-timeout", "4s", "-request-timeout", "3s")
	c := p.Dial(t)
	c.Send(request("POST /", "", "body") + "\r\n")
	b := p.Backend.Accept(t)
	serves(t, b, "POST /", answer("x"))
	wants(t, c, 200, "x")
	same(t, "then", "closed", c.End())
}

// Who sends empty lines without a pause is idle, too.
func (k chapter) emptyLinesWithoutPause(t *testing.T) {
	p := k.start(t, "-keepalive-timeout", "300ms")
	c := p.Dial(t)
	c.Send(get("/"))
	serves(t, p.Backend.Accept(t), "GET /", answer("x"))
	wants(t, c, 200, "x")
	for err := error(nil); err == nil; { // ends when the proxy closes
		_, err = io.WriteString(c.TCPConn, "\r\n")
	}
	pooled(t, p, "", narrate.Closed, "it was idle too long")
}

func (k chapter) keepaliveTime(t *testing.T) {
	t.Parallel() // it mostly waits
	const most = 4 * time.Second
	p := k.start(t, "-keepalive-time", most.String())
	c := p.Dial(t)
	c.Send(get("/young"))
	b := p.Backend.Accept(t)
	serves(t, b, "GET /young", answer("x"))
	same(t, "Connection", "", wants(t, c, 200, "x"))
	pooled(t, p, p.Backend.Addr, narrate.Kept, "")
	time.Sleep(most)
	c.Send(get("/old"))
	serves(t, p.Backend.Accept(t), "GET /old", answer("x"))
	same(t, "Connection", "close", wants(t, c, 200, "x"))
	same(t, "the client's connection", "closed", c.End())
	same(t, "the backend's", "closed", b.End())
}

// What the backend says of its patience is obeyed: a second less.
func (k chapter) keepAliveHint(t *testing.T) {
	t.Parallel() // it mostly waits
	p := k.start(t, "-reuse", "always")
	hinted := func(seconds string) *harness.Conn {
		c := p.Dial(t)
		c.Send(get("/"))
		b := p.Backend.Accept(t)
		serves(t, b, "GET /", "HTTP/1.1 200 OK\r\nKeep-Alive: timeout="+seconds+", max=9\r\n"+
			"Content-Length: 1\r\n\r\nx")
		wants(t, c, 200, "x")
		return b
	}
	same(t, "timeout=1", "closed", hinted("1").End())
	pooled(t, p, p.Backend.Addr, narrate.Closed, "too soon")
	b := hinted("2")
	pooled(t, p, p.Backend.Addr, narrate.Kept, "")
	time.Sleep(1100 * time.Millisecond)
	c := p.Dial(t) // after a second of the two, it is used no more
	c.Send(get("/next"))
	serves(t, p.Backend.Accept(t), "GET /next", answer("own"))
	wants(t, c, 200, "own")
	same(t, "timeout=2", "closed", b.End())
}

// HTTP/1.0 knows keep-alive only if asked, and no chunks.
func (k chapter) http10(t *testing.T) {
	p := k.start(t, "-reuse", "always")
	const old = "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
	c := p.Dial(t)
	c.Send(old)
	b := p.Backend.Accept(t)
	serves(t, b, "GET / HTTP/1.1", answer("x"))
	same(t, "Connection", "keep-alive", wants(t, c, 200, "x"))
	c.Send(old)
	serves(t, b, "GET / HTTP/1.1",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"+harness.Chunked("chunks", 3))
	got := c.Response("GET")
	same(t, "chunks become", harness.Response{Status: 200, Body: "chunks", End: "closed",
		Fields: map[string]string{"Connection": "close"}}, got)
	c = p.Dial(t)
	c.Send("GET / HTTP/1.0\r\n\r\n")
	serves(t, b, "GET / HTTP/1.1", answer("x")) // the backend's stays, whatever the client's does
	same(t, "without the question", "closed", c.Response("GET").End)
}

// Answers without a body, and the proxy's own, do not end the client's connection.
func (k chapter) answersWithoutBody(t *testing.T) {
	p := k.start(t)
	c := p.Dial(t)
	c.Send(request("HEAD /1", "", "") + get("/2") + get("/3") + get("/4"))
	b := p.Backend.Accept(t)
	serves(t, b, "HEAD /1", "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n")
	serves(t, b, "GET /2", "HTTP/1.1 204 No Content\r\n\r\n")
	serves(t, b, "GET /3", "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n")
	serves(t, b, "GET /4", answer("four"))
	if r, _, err := c.TryResponse("HEAD"); err != nil || r.StatusCode != 200 {
		t.Fatalf("HEAD: %v", err)
	}
	wants(t, c, 204, "")
	wants(t, c, 304, "")
	wants(t, c, 200, "four")
}

func (k chapter) errorPages(t *testing.T) {
	p := k.start(t)
	c := p.Dial(t)
	c.Send(get("/broken"))
	b := p.Backend.Accept(t)
	b.Request()
	b.Close()
	same(t, "Connection of a 502", "", wants(t, c, 502, ""))
	c.Send(get("/fine"))
	serves(t, p.Backend.Accept(t), "GET /fine", answer("fine"))
	wants(t, c, 200, "fine")
	c.Send("nonsense\r\n\r\n" + get("/unheard"))
	same(t, "Connection of a 400", "close", wants(t, c, 400, ""))
	same(t, "and then", "closed", c.End())
	pooled(t, p, "", narrate.Closed, "malformed")
}

// A client's close ends only its own connection, a backend's only the backend's.
func (k chapter) closeIsOneSided(t *testing.T) {
	p := k.start(t, "-reuse", "always")
	c := p.Dial(t)
	c.Send(request("GET /", "Connection: close\r\n", ""))
	b := p.Backend.Accept(t)
	serves(t, b, "GET /", answer("x"))
	same(t, "Connection", "close", wants(t, c, 200, "x"))
	same(t, "the client's", "closed", c.End())
	c = p.Dial(t)
	c.Send(get("/"))
	serves(t, b, "GET /", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\ny")
	same(t, "Connection", "", wants(t, c, 200, "y"))
	same(t, "the backend's", "closed", b.End())
	c.Send(get("/"))
	serves(t, p.Backend.Accept(t), "GET /", answer("z"))
	wants(t, c, 200, "z")
}

func (k chapter) flagsAreChecked(t *testing.T) {
	for _, flags := range [][]string{
		{"-keepalive", "-1"}, {"-keepalive-requests", "0"}, {"-keepalive-timeout", "0s"},
		{"-keepalive-time", "-1h"}, {"-reuse", "sometimes"},
	} {
		harness.RefusesToStart(t, k.Model, 2, flags, flags[0])
	}
}
