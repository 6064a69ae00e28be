package cases

import (
	"strings"
	"time"

	"reverseproxy/scripts/check/suite"
)

var upgradeCases = group("upgrade",
	Case{ID: "upgrade-refused", Level: Must, RFC: "RFC 9110 §7.8",
		Why: "A backend may ignore Upgrade: its ordinary answer is passed on as such.",
		Run: func(t *T) {
			t.Answer(Reply(200, "no websocket here"))
			r := t.Do(upgradeRequest(t), "GET")
			t.Whole(r, 200)
			t.SameBody("the client", r.Body, []byte("no websocket here"))
		}},
	Case{ID: "upgrade-426", Level: Must, RFC: "RFC 9110 §15.5.22",
		Why: "A 426 must name the protocol it asks for: without its Upgrade field the client " +
			"cannot do what it is told.",
		Run: func(t *T) {
			t.Answer(Reply(426, "another protocol, please", "Upgrade: HTTP/3.0", "Connection: "+
				"Upgrade"))
			r := t.Do(t.Get("426"), "GET")
			t.Whole(r, 426)
			sameFields(t, "the client", &r.Head, "Upgrade: HTTP/3.0")
		}},
	Case{ID: "upgrade-grammar", Level: Should, RFC: "RFC 9110 §7.8",
		Why: "An Upgrade field outside the grammar (foo h2c) is refused or left out: what one " +
			"server skips another takes for h2c, a tunnel past all filters.",
		Run: func(t *T) {
			for _, v := range []string{"foo h2c", "websocket/", "/13", "\"websocket\"",
				"websocket;h2c", "web@socket"} {
				o := attack(t, t.Get("up", "Connection: Upgrade", "Upgrade: "+v))
				forwards, _ := o.all()
				for _, q := range forwards {
					if q.Has("Upgrade") {
						t.Errorf("the backend got Upgrade: %s", Visible(q.Get("Upgrade"), 60))
					}
				}
			}
		}},
	Case{ID: "upgrade-tunnel", Level: Quality, RFC: "RFC 9110 §7.8",
		Why: "After 101 bytes pass both ways, unchanged and at once: WebSockets need that.",
		Run: func(t *T) {
			c, x := tunnel(t, "")
			for i := 0; i < 3; i++ {
				c.Send("\x81\x05hello")
				arrives(t, "the backend", x.Reader, "\x81\x05hello")
				x.Send("\x00\xff\r\n\r\nanswer")
				arrives(t, "the client", c.Reader, "\x00\xff\r\n\r\nanswer")
			}
		}},
	Case{ID: "upgrade-early-bytes", Level: Quality, RFC: "RFC 9110 §7.8",
		Why: "Bytes that come in one segment with the 101 are the first of the tunnel; a buffer " +
			"must not keep them.",
		Run: func(t *T) {
			c, x := tunnel(t, "first bytes")
			arrives(t, "the client", c.Reader, "first bytes")
			c.Send("reply")
			arrives(t, "the backend", x.Reader, "reply")
		}},
	Case{ID: "upgrade-half-close", Level: Quality, RFC: "RFC 9110 §7.8",
		Why: "When one side has finished sending, the other may go on: a tunnel has two " +
			"directions.",
		Run: func(t *T) {
			c, x := tunnel(t, "")
			c.Send("last words")
			c.CloseWrite()
			arrives(t, "the backend", x.Reader, "last words")
			if _, ended := x.AwaitEnd(t.Patience()); !ended {
				t.Fatalf("the client's end of sending did not reach the backend")
			}
			x.Send("and an answer to them")
			arrives(t, "the client", c.Reader, "and an answer to them")
			x.Close()
			if _, ended := c.AwaitEnd(t.Patience()); !ended {
				t.Errorf("the tunnel was still open after both sides had finished")
			}
		}},
	Case{ID: "upgrade-backend-leaves", Level: Quality, RFC: "RFC 9110 §7.8",
		Why: "When the backend closes a tunnel, the client learns it: else it waits for ever.",
		Run: func(t *T) {
			c, x := tunnel(t, "")
			x.Send("bye")
			x.Close()
			rest, ended := c.AwaitEnd(t.Patience())
			if rest != "bye" || !ended {
				t.Errorf("the client got %s, end seen: %v", Visible(rest, 40), ended)
			}
		}},
	Case{ID: "upgrade-big", Level: Quality, RFC: "RFC 9110 §7.8",
		Why: "A tunnel carries 1 MiB each way at the same time without a knot.",
		Run: bigTunnel},
)

var keepAliveCases = group("keep-alive",
	Case{ID: "close-announced", Level: Must, RFC: "RFC 9112 §9.3",
		Why: "A proxy that closes after its answer says Connection: close; else the client sends " +
			"its next request into nothing.",
		Run: func(t *T) {
			c := t.Dial()
			r := onKept(t, c, "one")
			if r.Names("Connection", "close") || r.Ended == "close" {
				return
			}
			if _, ended := c.AwaitEnd(150 * time.Millisecond); ended {
				t.Errorf("the proxy closed without having said Connection: close")
				return
			}
			onKept(t, c, "two")
		}},
	Case{ID: "close-honoured", Level: Must, RFC: "RFC 9112 §9.6",
		Why: "When the client says Connection: close, the proxy closes after the answer.",
		Run: func(t *T) {
			t.Answer(Kept(200, "ok", "Connection: close"))
			c := t.Dial()
			c.Send(t.Get("last"))
			t.Whole(c.Final("GET"), 200)
			if _, ended := c.AwaitEnd(2 * time.Second); !ended {
				t.NoteStall()
				t.Errorf("the connection was still open 2 s after the answer")
			}
		}},
	Case{ID: "keep-alive-client", Level: Should, RFC: "RFC 9112 §9.3",
		Why: "A client sends several requests on one connection: it saves a handshake each.",
		Run: func(t *T) {
			c := t.Dial()
			for _, p := range []string{"one", "two", "three"} {
				if r := onKept(t, c, p); r.Names("Connection", "close") && p != "three" {
					t.Fatalf("the proxy closes after request %s", p)
				}
			}
		}},
	Case{ID: "keep-alive-post", Level: Should, RFC: "RFC 9112 §9.3",
		Why: "Requests with bodies, both framings, follow each other on one connection.",
		Run: func(t *T) {
			echo(t)
			c := t.Dial()
			for i, body := range []string{"first", "second body", "third"} {
				raw := t.Req("POST", "b", body, "Connection: keep-alive")
				if i == 1 {
					raw = post(t, "Transfer-Encoding: chunked\r\n", Chunked(body, 4))
				}
				c.Send(raw)
				r := c.Final("POST")
				if r.Status == 0 && i > 0 {
					t.Fatalf("request %d on the connection was not answered: %s", i+1, r.Problem)
				}
				t.Whole(r, 200)
				t.SameBody("the client", r.Body, []byte(body))
			}
		}},
	Case{ID: "keep-alive-head", Level: Should, RFC: "RFC 9112 §9.3",
		Why: "After answers without a body (HEAD, 204, 304) the connection goes on in step.",
		Run: func(t *T) {
			t.Serve(func(x *Exchange) {
				q := x.Request()
				switch q.Method {
				case "HEAD":
					x.Send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 77\r\n\r\n")
				case "DELETE":
					x.Send(Reply(204, ""))
				default:
					x.Send(Reply(200, "page"))
				}
			})
			c := t.Dial()
			for _, m := range []string{"HEAD", "DELETE", "GET"} {
				c.Send(t.Req(m, "x", "", "Connection: keep-alive"))
				r := c.Final(m)
				if r.Problem != "" {
					t.Fatalf("%s: %s", m, r.Problem)
				}
			}
		}},
	Case{ID: "pipelining-order", Level: Must, RFC: "RFC 9112 §9.3.2",
		Why: "Who reads on after the first of several requests sent at once answers them in " +
			"their order; who closes after it need not.",
		Run: func(t *T) { pipelined(t, false) }},
	Case{ID: "pipelining-served", Level: Quality, RFC: "RFC 9112 §9.3.2",
		Why: "All requests of a pipeline are answered.",
		Run: func(t *T) { pipelined(t, true) }},
	Case{ID: "backend-reuse", Level: Should, RFC: "RFC 9112 §9.3", Mode: Alone,
		Why: "Connections to a backend are kept and used again: a handshake for each request " +
			"costs the most there.",
		Run: func(t *T) { reuses(t, 1) }},
	// Mode Plain: where the checker starts a chapter with -reuse always, that leaves this
	// flag as it is.
	Case{ID: "backend-reuse-kept", Level: Should, RFC: "RFC 9112 §9.3", Mode: Plain,
		Why: "The same for a client that keeps its connection: such a one can repeat what is " +
			"lost, so a careful proxy reuses for it, too.",
		Run: func(t *T) { reuses(t, reuseAsked) }},
	scene{id: "backend-stale", rfc: "RFC 9112 §9.5", level: Should,
		why: "A kept backend connection that the backend has closed meanwhile costs no client " +
			"an error.",
		reply: Kept(200, "first"), idle: (*Exchange).Close}.anyCase(),
	Case{ID: "backend-close-honoured", Level: Must, RFC: "RFC 9112 §9.6",
		Why: "A backend that has said Connection: close gets no second request on that " +
			"connection.",
		Mode: Alone,
		Run: func(t *T) {
			c := t.Dial()
			c.Send(t.Get("one"))
			x := t.Expect(c)
			x.Request()
			x.Send(Reply(200, "ok"))
			t.Whole(c.Final("GET"), 200)
			c.Close()
			c = t.Dial()
			c.Send(t.Get("two"))
			y := t.Accept(c)
			if y == nil {
				if n, _ := x.State(); n > 0 {
					t.Fatalf("the second request came on the connection that the backend wanted " +
						"closed")
				}
				t.Fatalf("the second request did not reach the backend")
			}
			y.Request()
			y.Send(Reply(200, "ok"))
			y.Close()
			t.Whole(c.Final("GET"), 200)
		}},
	Case{ID: "backend-released", Level: Should, RFC: "RFC 9112 §9.5", Mode: Alone,
		Why: "After 40 answers from backends that keep their connections open, few are left " +
			"open: each one that leaks costs a descriptor.",
		Run: func(t *T) {
			keepers(t)
			before := t.Lab.Open()
			for i := 0; i < 40; i++ {
				t.Whole(t.Do(t.Get("leak"), "GET"), 200)
			}
			open := 0
			for left := t.Span(2 * time.Second); left() > 0; {
				if open = t.Lab.Open() - before; open <= 12 {
					return
				}
				time.Sleep(20 * time.Millisecond)
			}
			t.Errorf("%d backend connections are still open", open)
		}},
	Case{ID: "post-not-replayed", Level: Must, Hurts: true, RFC: "RFC 9110 §9.2.2",
		Why: "A POST whose answer is lost is not sent again by the proxy: nobody wants to pay " +
			"twice.",
		Mode: Alone,
		Run:  func(t *T) { notReplayed(t, false) }},
	Case{ID: "post-not-replayed-kept", Level: Must, Hurts: true, RFC: "RFC 9110 §9.2.2",
		Why:  "Not on a kept connection either, once the backend has read the POST.",
		Mode: Alone,
		Run:  func(t *T) { notReplayed(t, true) }},
)

// reuseAsked is how many requests the cases of reuse send.
const reuseAsked = 12

// reuses sends requests one after another, so many over each connection, and counts
// the backends' connections.
func reuses(t *T, each int) {
	accepted := func() (n int64) {
		for _, b := range t.Lab.Farm.Backends {
			n += b.Accepted.Load()
		}
		return n
	}
	before := accepted()
	keepers(t)
	connection := "close"
	if each > 1 {
		connection = "keep-alive"
	}
	for range reuseAsked / each {
		c := t.Dial()
		for i := range each {
			c.Send(t.Get("reuse", "Connection: "+connection))
			r := c.Final("GET")
			t.Whole(r, 200)
			if r.Names("Connection", "close") && i < each-1 {
				t.Skip("the proxy closes after the first answer")
			}
		}
		c.Close()
	}
	if used := accepted() - before; used > reuseAsked/2 {
		t.Errorf("%d requests one after another took %d backend connections", reuseAsked, used)
	}
}

// keepers answers every request and leaves the backend connections open.
func keepers(t *T) {
	t.Serve(func(x *Exchange) {
		x.Request()
		x.Send(Kept(200, "ok"))
		x.Keep()
	})
}

// echo answers every request with its own body.
func echo(t *T) {
	t.Serve(func(x *Exchange) {
		q := x.Request()
		x.Send(Reply(200, string(q.Body)))
	})
}

// upgrade is a request for a WebSocket.
func upgradeRequest(t *T) string {
	return t.Get("ws", "Connection: Upgrade", "Upgrade: websocket",
		"Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
}

// tunnel opens an upgraded connection; the backend sends first right behind
// its 101.
func tunnel(t *T, first string) (*Client, *Exchange) {
	c, x, r := tryTunnel(t, first)
	t.MustBe(r, 101)
	if !r.Names("Connection", "upgrade") || !strings.EqualFold(r.Get("Upgrade"), "websocket") {
		t.Errorf("the 101 lacks Connection: Upgrade or Upgrade: websocket")
	}
	return c, x
}

// tryTunnel is tunnel for who looks at the answer itself.
func tryTunnel(t *T, first string) (*Client, *Exchange, *Response) {
	c := t.Dial()
	c.Send(upgradeRequest(t))
	x := t.Expect(c)
	q := x.RequestHead()
	if !q.Names("Connection", "upgrade") || !strings.EqualFold(q.Get("Upgrade"), "websocket") {
		t.Fatalf("the backend was not asked to upgrade: Connection %s, Upgrade %s",
			Visible(q.Get("Connection"), 40), Visible(q.Get("Upgrade"), 40))
	}
	x.Send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n" + first)
	return c, x, c.Final("GET")
}

// pass fails the case unless exactly these bytes arrive.
func arrives(t *T, who string, r suite.Reader, want string) {
	err := r.Await(func(b []byte) bool { return len(b) >= len(want) })
	n, _ := r.State()
	got := string(r.Take(n))
	if got != want {
		how := ""
		if err != nil {
			how = "; the connection " + suite.HowEnded(err)
		}
		t.Fatalf("through the tunnel %s got %s instead of %s%s", who, Visible(got, 80),
			Visible(want, 80), how)
	}
}

// bigTunnel sends 1 MiB each way at once.
func bigTunnel(t *T) {
	c, x := tunnel(t, "")
	up, down := pattern(31, 1<<20), pattern(32, 1<<20)
	done := make(chan string, 2)
	check := func(who string, r suite.Reader, want []byte) {
		var m Message
		r.ReadLength(&m, int64(len(want)))
		if d := suite.FirstDifference(m.Body, want); d != "" {
			done <- who + ": " + d + " " + m.Problem
			return
		}
		done <- ""
	}
	// Both end with the case, whose end closes the connections.
	go c.Send(string(up))
	go x.Send(string(down))
	go check("the backend", x.Reader, up)
	go check("the client", c.Reader, down)
	for i := 0; i < 2; i++ {
		if d := <-done; d != "" {
			t.Errorf("%s", d)
		}
	}
}

// onKept does one exchange on a connection that stays.
func onKept(t *T, c *Client, name string) *Response {
	if err := c.Send(t.Get(name, "Connection: keep-alive")); err != nil {
		t.Fatalf("request %s on the connection: %v", name, err)
	}
	x := t.Expect(c)
	x.Request()
	x.Send(Reply(200, "answer "+name))
	x.Close()
	r := c.Final("GET")
	t.Whole(r, 200)
	t.SameBody("the client", r.Body, []byte("answer "+name))
	return r
}

// pipelined sends three requests at once.
func pipelined(t *T, all bool) {
	t.Serve(func(x *Exchange) {
		q := x.Request()
		name := q.Target[strings.LastIndexByte(q.Target, '/')+1:]
		if name == "one" {
			time.Sleep(t.Within(30 * time.Millisecond)) // a later answer must not overtake
		}
		x.Send(Reply(200, "answer "+name))
	})
	c := t.Dial()
	names := []string{"one", "two", "three"}
	raw := ""
	for _, n := range names {
		raw += t.Get(n, "Connection: keep-alive")
	}
	c.Send(raw)
	for i, n := range names {
		r := c.Final("GET")
		if i > 0 && r.Status == 0 && r.Problem != "" {
			t.Fatalf("request %s was not answered, and the answer before did not say Connection: "+
				"close: %s", n, r.Problem)
		}
		t.Whole(r, 200)
		t.SameBody("the client", r.Body, []byte("answer "+n))
		if r.Names("Connection", "close") && i < 2 {
			if all {
				t.Fatalf("the proxy closes after answer %s", n)
			}
			if i == 0 {
				t.Skip("the proxy closes after the first answer")
			}
			return
		}
	}
}

// notReplayed breaks the connection after a POST has been read.
func notReplayed(t *T, kept bool) {
	for i := 0; kept && i < len(t.Lab.Farm.Backends); i++ { // whoever's turn comes
		c := t.Dial()
		c.Send(t.Get("warm"))
		x := t.Expect(c)
		x.Request()
		x.Send(Kept(200, "ok"))
		t.Whole(c.Final("GET"), 200)
		x.Keep()
		c.Close()
	}
	c := t.Dial()
	c.Send(t.Req("POST", "pay", "amount=100"))
	x := t.Expect(c)
	if q := x.Request(); q.Problem != "" {
		t.Fatalf("the backend did not get the POST: %s", q.Problem)
	}
	x.Close()
	if y := t.AcceptWithin(150 * time.Millisecond); y != nil {
		q := y.Request()
		t.Fatalf("the POST was sent a second time: %s", Visible(q.Start, 80))
	}
	if r := c.Final("POST"); r.Status >= 200 && r.Status < 500 {
		t.Errorf("the client was told %q although the backend never answered", r.Start)
	}
	if y := t.AcceptWithin(50 * time.Millisecond); y != nil {
		t.Fatalf("the POST was sent a second time")
	}
}
