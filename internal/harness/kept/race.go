//go:build unix

package kept

import (
	"io"
	"strings"
	"testing"
	"time"

	"reverseproxy/internal/harness"
	"reverseproxy/internal/narrate"
)

// idle starts the chapter with one connection to the backend idle, and returns
// the backend's end of it.
func (k chapter) idle(t *testing.T, flags ...string) (*harness.Proxy, *harness.Conn) {
	t.Helper()
	p := k.start(t, append(flags, "-reuse", "always")...)
	c := p.Dial(t)
	c.Send(get("/first"))
	b := p.Backend.Accept(t)
	serves(t, b, "GET /first", answer("first"))
	wants(t, c, 200, "first")
	c.Close()
	p.WaitPooled(t, 1)
	return p, b
}

// The race: the backend closes an idle connection just when a request is on its
// way. What may be repeated is, once, over a fresh connection.
func (k chapter) race(t *testing.T) {
	leave := func(b *harness.Conn) { b.Close() }
	for _, test := range []struct {
		name, line, body string
		end              func(b *harness.Conn)
		again            bool
	}{
		{"GET", "GET /r", "", leave, true},
		{"GET, reset", "GET /r", "", (*harness.Conn).Reset, true},
		{"PUT with its body", "PUT /r", "body", leave, true},
		{"DELETE", "DELETE /r", "", leave, true},
		{"QUERY", "QUERY /r", "q", leave, true},
		{"POST", "POST /r", "body", leave, false},
		{"PATCH, reset", "PATCH /r", "body", (*harness.Conn).Reset, false},
		{"408", "GET /r", "", func(b *harness.Conn) {
			b.Send("HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
			b.Close()
		}, true},
		{"408 to POST", "POST /r", "body", func(b *harness.Conn) {
			b.Send("HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
			b.Close()
		}, false},
		{"a byte of an answer", "GET /r", "", func(b *harness.Conn) {
			b.Send("H")
			b.Close()
		}, false},
		{"an interim response", "GET /r", "", func(b *harness.Conn) {
			b.Send("HTTP/1.1 100 Continue\r\n\r\n")
			b.Close()
		}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p, b := k.idle(t)
			c := p.Dial(t)
			c.Send(request(test.line, "", test.body))
			same(t, "the first try", test.line+" HTTP/1.1", b.Request().Line)
			test.end(b)
			if test.again {
				b = p.Backend.Accept(t)
				got := b.Request()
				same(t, "the second try", test.line+" HTTP/1.1\n"+test.body, got.Line+"\n"+got.Body)
				b.Send(answer("again"))
				wants(t, c, 200, "again")
				p.WaitEvent(t, "try 2", func(e narrate.Event) bool {
					return e.Try == 2 && e.Step == narrate.SendResponse
				})
			} else {
				if test.name == "an interim response" {
					c.Head()
				}
				wants(t, c, 502, "")
			}
			same(t, "reused", 1, connects(t, p, map[bool]int{true: 3, false: 2}[test.again]))
			c.Send(get("/next")) // the client's connection can go on in any case
			if !test.again {
				b = p.Backend.Accept(t)
			}
			serves(t, b, "GET /next", answer("next"))
			wants(t, c, 200, "next")
		})
	}
}

// A client that has sent FIN is waited for a second at each try.
func (k chapter) finAndRace(t *testing.T) {
	const work = 520 * time.Millisecond // of the backend: less than a second, twice is more
	const enough = 900 * time.Millisecond
	p, b := k.idle(t)
	c := p.Dial(t)
	began := time.Now()
	c.Send(get("/r"))
	c.CloseWrite()
	b.Request()
	time.Sleep(work)
	b.Close()
	first := time.Since(began)
	if first > enough {
		t.Skip("this machine is too busy")
	}
	b = p.Backend.Accept(t)
	b.Request()
	time.Sleep(work)
	if time.Since(began)-first > enough {
		t.Skip("this machine is too busy")
	}
	b.Send(answer("again"))
	wants(t, c, 200, "again")
}

// A POST that the kernel did not take at first, and then did, has been sent: it is not sent
// once more. The kernel does not take it if an answered body before it, which the backend
// has not read, fills its buffers; which length does, a search finds out.
func (k chapter) sentLate(t *testing.T) {
	p := k.start(t)
	least, most := 0, 8<<20 // lengths that do not fill them, and that are too much
	for n := 1; most-least > 1; n++ {
		length := (least + most) / 2
		c := p.Dial(t)
		sent := make(chan error)
		go func() { // ends when the kernel has taken it
			body := strings.Repeat("x", length)
			_, err := io.WriteString(c.TCPConn, request("POST /body", "", body))
			sent <- err
		}()
		b := p.Backend.Accept(t)
		b.Head()
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
		p.WaitIdle(t)
		b.Send(answer("early"))
		wants(t, c, 200, "early")
		all := p.WaitEvents(t, "kept or closed", n, func(e narrate.Event) bool {
			return e.Kind == narrate.KindPool && e.Peer != ""
		})
		if all[n-1].State != narrate.Kept {
			most = length
			c.Reset()
			b.Close()
			continue
		}
		least = length
		c.Send(request("POST /once", "", "body"))
		p.WaitIdle(t)
		io.CopyN(io.Discard, b.R, int64(length))
		same(t, "the request behind the body", "POST /once HTTP/1.1", b.Request().Line)
		b.Close()
		n++
		p.WaitEvents(t, "its end", n, func(e narrate.Event) bool {
			return e.Kind == narrate.KindPool && e.Peer != ""
		})
		c.SetReadDeadline(time.Now().Add(harness.Patience))
		wants(t, c, 502, "")
		c.Close()
	}
	t.Logf("%d bytes fill the buffers", least)
}

// A second try that fails is the client's failure: the chapter's named gap.
func (k chapter) secondTryFails(t *testing.T) {
	p, b := k.idle(t)
	c := p.Dial(t)
	c.Send(get("/r"))
	b.Request()
	b.Close()
	b = p.Backend.Accept(t)
	b.Request()
	b.Close()
	wants(t, c, 502, "")
	same(t, "reused", 1, connects(t, p, 3))
}

// A backend that is gone before the request is no race: the look before use
// tells, and even a POST is served.
func (k chapter) closedWhileIdle(t *testing.T) {
	for name, end := range map[string]func(b *harness.Conn){
		"FIN": func(b *harness.Conn) { b.Close() },
		"RST": (*harness.Conn).Reset,
		"408": func(b *harness.Conn) {
			b.Send("HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
			b.Close()
		},
		"another answer": func(b *harness.Conn) { b.Send(answer("not yours")) },
		"a byte":         func(b *harness.Conn) { b.Send("\n") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, b := k.idle(t)
			end(b)
			time.Sleep(50 * time.Millisecond)
			c := p.Dial(t)
			c.Send(request("POST /mine", "", "body"))
			serves(t, p.Backend.Accept(t), "POST /mine", answer("mine"))
			wants(t, c, 200, "mine")
			pooled(t, p, p.Backend.Addr, narrate.Dropped, "unasked")
			b.Gone()
		})
	}
}

// After these answers the backend's connection carries nothing more, and the next
// client gets its own answer over another.
func (k chapter) notReused(t *testing.T) {
	const upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n"
	const (
		chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
		chunks  = "\r\n3\r\nown\r\n0\r\n\r\n"
		expect  = "Expect: 100-continue\r\nContent-Length: 4\r\n"
		change  = "HTTP/1.1 101 Switching Protocols\r\n" + upgrade + "\r\n"
	)
	own := answer("own")
	for _, test := range []struct{ name, request, response, status, why string }{
		{"a second answer", get("/a"), own + answer("not yours"), "200", "more than"},
		{"a second answer, chunked", get("/a"), chunked + chunks + own, "200", "more than"},
		{"a body longer than its length", get("/a"), own + "ed", "200", "more than"},
		{"HEAD with a body", request("HEAD /a", "", ""), own, "200", "more than"},
		{"204 with a body", get("/a"), "HTTP/1.1 204 No Content\r\n\r\nbody", "204", "more than"},
		{"304 with a body", get("/a"), "HTTP/1.1 304 Unchanged\r\n\r\n" + own, "304", "more than"},
		{"length 0, and more", get("/a"), answer("") + own, "200", "more than"},
		{"an upgrade declined", request("GET /a", upgrade, ""), own, "200", "to change"},
		{"an upgrade with a body declined", request("POST /a", upgrade, "body"), own,
			"200", "change the protocol"},
		{"101 unasked", get("/a"), change, "502", "not read"},
		{"two framings", get("/a"), chunked + "Content-Length: 3\r\n" + chunks, "502", "not read"},
		{"413 before the body", request("POST /a", "Content-Length: 100000\r\n", ""),
			"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n", "413", "before it had"},
		{"Expect answered by 200", request("POST /a", expect, ""), own, "200", "before it had"},
		{"Expect answered by 417", request("POST /a", expect, ""),
			"HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n", "417", "before it had"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := k.start(t, "-reuse", "always")
			c := p.Dial(t)
			c.Send(test.request)
			b := p.Backend.Accept(t)
			b.Head()
			b.Send(test.response)
			if head := c.Head(); !strings.HasPrefix(head, "HTTP/1.1 "+test.status) {
				t.Errorf("the client reads\n%s", head)
			}
			pooled(t, p, p.Backend.Addr, narrate.Closed, test.why)
			b.Gone()
			c.Close()
			c = p.Dial(t)
			c.Send(get("/next"))
			serves(t, p.Backend.Accept(t), "GET /next", answer("next"))
			wants(t, c, 200, "next")
		})
	}
}

// Bytes behind a request to change the protocol stay here until that is granted.
func (k chapter) upgradeDeclined(t *testing.T) {
	p := k.start(t, "-reuse", "always")
	c := p.Dial(t)
	c.Send(request("GET /ws", "Connection: Upgrade\r\nUpgrade: websocket\r\n", "") +
		get("/smuggled"))
	b := p.Backend.Accept(t)
	b.Head()
	b.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if n, err := b.R.Read(make([]byte, 1)); n > 0 {
		t.Errorf("the backend reads what is behind the request: %v", err)
	}
	b.SetReadDeadline(time.Now().Add(harness.Patience))
	b.Send(answer("no"))
	wants(t, c, 200, "no")
	same(t, "what comes behind", "closed", b.End())
	serves(t, p.Backend.Accept(t), "GET /smuggled", answer("a request of its own"))
	wants(t, c, 200, "a request of its own")
}

// After an answer before the request's end, what is left of the body is no
// request: little of it is read, and much, or what may not come, ends the
// connection.
func (k chapter) unreadBody(t *testing.T) {
	for _, test := range []struct {
		name, fields, body string
		kept               bool
	}{
		{"little", "Content-Length: 1000\r\n", strings.Repeat("x", 1000), true},
		{"much", "Content-Length: 100000\r\n", strings.Repeat("x", 100000), false},
		{"not at all", "Content-Length: 10\r\n", "", false},
		{"Expect", "Content-Length: 10\r\nExpect: 100-continue\r\n", "0123456789", false},
		{"chunked", "Transfer-Encoding: chunked\r\n", harness.Chunked("0123456789", 4), true},
		{"malformed", "Transfer-Encoding: chunked\r\n", "what?\r\n0\r\n\r\n", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := k.start(t)
			c := p.Dial(t)
			c.Send(request("POST /a", test.fields, ""))
			b := p.Backend.Accept(t)
			b.Head()
			b.Send("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
			wants(t, c, 403, "")
			// Or the backend might yet get it all.
			pooled(t, p, p.Backend.Addr, narrate.Closed, "before it had")
			if test.body != "" { // else the next request would be the body
				test.body += get("/next")
			}
			go c.Write([]byte(test.body)) // ends with the connection
			if test.kept {
				serves(t, p.Backend.Accept(t), "GET /next", answer("next"))
				wants(t, c, 200, "next")
				return
			}
			same(t, "the client's connection", "closed", c.End())
			pooled(t, p, "", narrate.Closed, "not read to the end")
		})
	}
}

// A connection to one backend is never used for another.
func (k chapter) backendsApart(t *testing.T) {
	p := harness.Start(t, k.Model,
		append(k.Model.Demo(3), "-reuse", "always")...)
	c := p.Dial(t)
	for i := range 30 {
		c.Send(get("/api/data"))
		_, body, err := c.TryResponse("GET")
		addr := p.Backends[i%3]
		want := `"` + addr[strings.LastIndexByte(addr, ':')+1:] + `"`
		if err != nil || !strings.Contains(body, want) {
			t.Fatalf("answer %d: %s, %v; want backend %s", i, body, err, want)
		}
	}
	same(t, "reused", 27, connects(t, p, 30))
}

// An upload over a connection that has been used has all the time it needs: no
// deadline of the request before is left.
func (k chapter) uploadAfterDownload(t *testing.T) {
	p, b := k.idle(t)
	time.Sleep(50 * time.Millisecond)
	c := p.Dial(t)
	c.Send(request("POST /slow", "Content-Length: 4\r\n", ""))
	b.Head()
	time.Sleep(50 * time.Millisecond)
	c.Send("body")
	if body, err := b.R.Peek(4); string(body) != "body" {
		t.Fatalf("the backend reads the body %q, %v", body, err)
	}
	b.Send(answer("uploaded"))
	wants(t, c, 200, "uploaded")
}

// FIN that comes together with the end of the body is seen, too: a client that may be
// gone is not waited for longer than a second.
func (k chapter) finBehindTheBody(t *testing.T) {
	p := k.start(t)
	c := p.Dial(t)
	c.Send("POST / HTTP/1.1\r\nHost: kept.test\r\nContent-Length: 10\r\n\r\nhalf.")
	b := p.Backend.Accept(t)
	b.Head()
	p.Freeze(t)
	c.Send("half.")
	c.CloseWrite()
	p.Thaw(t)
	wants(t, c, 408, "")
	b.Gone()
}
