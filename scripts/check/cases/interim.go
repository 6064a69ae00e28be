package cases

import (
	"errors"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"reverseproxy/scripts/check/suite"
)

var interimResponsesCases = group("interim responses",
	Case{ID: "expect-100", Level: Must, RFC: "RFC 9110 §10.1.1",
		Why: "A client that asks with Expect: 100-continue gets 100 (from the backend or the " +
			"proxy) or a final answer, not silence: curl waits a second for it.",
		Run: func(t *T) { expectContinue(t, true) }},
	Case{ID: "expect-100-silent", Level: Must, RFC: "RFC 9110 §10.1.1",
		Why: "When no 100 comes, the client sends its body after a while: the request must still " +
			"work.",
		Run: func(t *T) { expectContinue(t, false) }},
	Case{ID: "expect-refused", Level: Quality, Hurts: true, RFC: "RFC 9110 §10.1.1",
		Why: "A final answer instead of the 100 reaches the client at once: then it need not " +
			"send its gigabyte.",
		Run: func(t *T) {
			c := t.Dial()
			c.Send("PUT " + t.Path("big") + " HTTP/1.1\r\nHost: " + Host + "\r\nContent-Length: " +
				"5\r\nExpect: 100-continue\r\n\r\n")
			x := t.Accept()
			if x == nil {
				t.Fatalf("the request was not forwarded before its body had come")
			}
			x.RequestHead()
			x.Send(Reply(417, "no"))
			x.Close()
			r := c.Final("PUT")
			if len(r.Interim) > 0 {
				t.Errorf("the client was told to go on (%s), although the backend refused",
					r.Interim[0].Start)
			}
			t.Whole(r, 417)
		}},
	Case{ID: "interim-100-unasked", Level: Must, RFC: "RFC 9110 §15.2",
		Why: "A 100 that nobody asked for is not the answer: the 200 after it is.",
		Run: func(t *T) { interim(t, "HTTP/1.1 100 Continue\r\n\r\n", 0) }},
	Case{ID: "interim-103-final", Level: Must, RFC: "RFC 9110 §15.2",
		Why: "After 103 Early Hints the final answer comes; a proxy that takes the 103 for it " +
			"loses the page.",
		Run: func(t *T) {
			interim(t, "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; "+
				"rel=preload\r\n\r\n", 0)
		}},
	Case{ID: "interim-103-passed", Level: Quality, RFC: "RFC 8297 §2",
		Why: "103 Early Hints reaches the client with its fields, before the answer is ready: " +
			"that is its purpose.",
		Run: func(t *T) {
			c := t.Dial()
			c.Send(t.Get("hints"))
			x := t.Expect(c)
			x.Request()
			x.Send("HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n")
			r := c.Response("GET")
			if r.Status != 103 {
				t.Fatalf("while the backend thinks, the client got %q; %s", r.Start, r.Problem)
			}
			sameFields(t, "the client", &r.Head, "Link: </a.css>; rel=preload")
			x.Send(Reply(200, "page"))
			x.Close()
			t.Whole(c.Final("GET"), 200)
		}},
	Case{ID: "interim-several", Level: Must, RFC: "RFC 9110 §15.2",
		Why: "Several interim responses, unknown ones too, come before the final one.",
		Run: func(t *T) {
			interim(t, "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: "+
				"</b>\r\n\r\nHTTP/1.1 199 Odd\r\nX-Odd: 1\r\n\r\n", 0)
		}},
	Case{ID: "interim-hundred", Level: Should, RFC: "RFC 9110 §15.2",
		Why: "An upload with a hundred 104 (Upload Resumption Supported) on its way ends in its " +
			"201: how many interim responses may come is not limited.",
		Run: func(t *T) {
			t.Answer(strings.Repeat("HTTP/1.1 104 Upload Resumption Supported\r\nUpload-Offset: "+
				"1000\r\n\r\n", 100) + Reply(201, "stored"))
			r := t.Do(t.Req("PUT", "upload", string(pattern(41, 5000))), "PUT")
			t.Whole(r, 201)
			t.SameBody("the client", r.Body, []byte("stored"))
		}},
	Case{ID: "interim-endless", Level: Quality, Hurts: true, RFC: "RFC 9110 §15.6.3",
		Why: "A backend that sends interim responses for ever, and never an answer, is given up: " +
			"else it holds its client for ever.",
		Run: func(t *T) {
			t.Serve(func(x *Exchange) {
				x.Request()
				for many := strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
					1000); ; {
					switch err := x.Send(many); {
					case errors.Is(err, os.ErrDeadlineExceeded):
						<-t.Done // the proxy is slow: only it must give up
						return
					case err != nil:
						return
					}
				}
			})
			c := t.Dial()
			c.Send(t.Get("endless"))
			discardAll(c, t, 8<<20)
		}},
	Case{ID: "interim-http10", Level: Must, RFC: "RFC 9110 §15.2",
		Why: "An HTTP/1.0 client does not know 1xx responses and must not get one.",
		Run: func(t *T) {
			t.Answer("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + Reply(200, "page"))
			r := t.Do("GET "+t.Path("old")+" HTTP/1.0\r\nHost: "+Host+"\r\n\r\n", "GET")
			if len(r.Interim) > 0 {
				t.Fatalf("the HTTP/1.0 client got %q", r.Interim[0].Start)
			}
			t.Whole(r, 200)
			t.SameBody("the client", r.Body, []byte("page"))
		}},
	Case{ID: "interim-101-unasked", Level: Quality, Hurts: true, RFC: "RFC 9110 §7.8",
		Why: "101 to a client that asked for no upgrade is an error of the backend: the client " +
			"gets a 502, no tunnel.",
		Run: func(t *T) {
			t.Answer("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " +
				"x\r\n\r\nraw bytes")
			r := t.Do(t.Get("101"), "GET")
			if r.Status < 500 {
				t.Errorf("the client got %q; %s", r.Start, r.Problem)
			}
		}},
)

var responsesWithoutBodyCases = group("responses without body",
	noBodyCase("head-length", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nX-A: b\r\n\r\n",
		200,
		"The answer to HEAD names a length but has no body: waiting for one hangs."),
	noBodyCase("head-chunked", "HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-A: "+
		"b\r\n\r\n", 200,
		"The answer to HEAD says chunked but has no chunks."),
	noBodyCase("head-plain", "HEAD", "HTTP/1.1 404 Not Found\r\nX-A: b\r\n\r\n", 404,
		"The answer to HEAD without any length ends after its head, not with the connection."),
	noBodyCase("status-204", "GET", "HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n", 204,
		"204 has no body, whatever the backend does with its connection."),
	noBodyCase("status-204-delete", "DELETE", "HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n", 204,
		"204 to a DELETE, the usual answer of an API."),
	noBodyCase("status-304", "GET", "HTTP/1.1 304 Not Modified\r\nETag: \"e\"\r\nX-A: b\r\n\r\n",
		304,
		"304 has no body; a proxy that waits for one hangs."),
	noBodyCase("status-304-length", "GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: "+
		"1000\r\nX-A: b\r\n\r\n", 304,
		"304 may name the length the body would have had; there is none."),
	Case{ID: "head-keeps-length", Level: Should, RFC: "RFC 9110 §9.3.2",
		Why: "The Content-Length in the answer to HEAD is what the client asked for: it passes.",
		Run: func(t *T) {
			t.Answer("HTTP/1.1 200 OK\r\nContent-Length: 12345\r\nConnection: close\r\n\r\n")
			r := t.Do(t.Req("HEAD", "h", ""), "HEAD")
			t.MustBe(r, 200)
			sameFields(t, "the client", &r.Head, "Content-Length: 12345")
		}},
	Case{ID: "head-body-by-mistake", Level: Must, Hurts: true, RFC: "RFC 9112 §6.3",
		Why: "A backend that sends a body to HEAD is wrong; passed on, the client takes it for " +
			"the next answer.",
		Run: func(t *T) {
			t.Answer(Reply(200, "wrong body"))
			c := t.Dial()
			c.Send(t.Req("HEAD", "h", ""))
			r := c.Final("HEAD")
			if r.Status < 500 {
				t.MustBe(r, 200)
			}
			if rest, _ := c.AwaitEnd(quietClient); rest != "" {
				t.Errorf("after the head the client got %s", Visible(rest, 100))
			}
		}},
	Case{ID: "status-204-clean", Level: Must, RFC: "RFC 9112 §6.1",
		Why: "A 204 must carry neither Transfer-Encoding nor a body.",
		Run: func(t *T) {
			t.Answer("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
			c := t.Dial()
			c.Send(t.Get("204"))
			r := c.Final("GET")
			t.MustBe(r, 204)
			notThere(t, "the client", &r.Head, "Transfer-Encoding")
			if rest, _ := c.AwaitEnd(quietClient); rest != "" {
				t.Errorf("after the head the client got %s", Visible(rest, 100))
			}
		}},
)

var http10Cases = group("HTTP/1.0",
	Case{ID: "http10-client", Level: Must, RFC: "RFC 9110 §2.5",
		Why: "An HTTP/1.0 client, without Host, gets its answer: health checks and old tools are " +
			"such clients.",
		Run: func(t *T) {
			t.Answer(Reply(200, "hello"))
			r := t.Do("GET "+t.Path("old")+" HTTP/1.0\r\n\r\n", "GET")
			t.Whole(r, 200)
			t.SameBody("the client", r.Body, []byte("hello"))
		}},
	Case{ID: "http10-no-chunks", Level: Must, RFC: "RFC 9112 §6.1",
		Why: "An HTTP/1.0 client does not know chunks: it gets the plain bytes, whatever the " +
			"backend sent.",
		Run: func(t *T) { http10Chunks(t, "") }},
	Case{ID: "http10-keep-alive", Level: Must, RFC: "RFC 9112 §9.3",
		Why: "HTTP/1.0 with Connection: keep-alive: still no chunks, and a length if the " +
			"connection stays open.",
		Run: func(t *T) { http10Chunks(t, "Connection: keep-alive\r\n") }},
	Case{ID: "http10-closes", Level: Must, RFC: "RFC 9112 §9.3",
		Why: "Without keep-alive the connection of an HTTP/1.0 client is closed after the " +
			"answer: the client waits for that.",
		Run: func(t *T) {
			t.Answer(Reply(200, "hello"))
			c := t.Dial()
			c.Send("GET " + t.Path("old") + " HTTP/1.0\r\nHost: " + Host + "\r\n\r\n")
			t.Whole(c.Final("GET"), 200)
			if _, ended := c.AwaitEnd(2 * time.Second); !ended {
				t.NoteStall()
				t.Errorf("the connection was still open 2 s after the answer")
			}
		}},
	Case{ID: "http10-post", Level: Must, RFC: "RFC 9112 §6.2",
		Why: "An upload of an HTTP/1.0 client arrives whole.",
		Run: func(t *T) {
			body := string(pattern(5, 3000))
			t.Serve(func(x *Exchange) {
				q := x.Request()
				checkUpload(t, q, body)
				x.Send(Reply(200, "ok"))
			})
			r := t.Do("POST "+t.Path("old")+" HTTP/1.0\r\nHost: "+Host+"\r\nContent-Length: "+
				"3000\r\n\r\n"+body, "POST")
			t.Whole(r, 200)
		}},
	Case{ID: "http10-backend", Level: Must, RFC: "RFC 9112 §6.3",
		Why: "The answer of an HTTP/1.0 backend, without length, ends with its connection and " +
			"arrives whole.",
		Run: func(t *T) {
			body := string(pattern(6, 9000))
			t.Answer("HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n" + body)
			r := t.Do(t.Get("old"), "GET")
			t.Whole(r, 200)
			t.SameBody("the client", r.Body, []byte(body))
		}},
)

var trailersCases = group("trailers",
	Case{ID: "trailer-response-body", Level: Must, RFC: "RFC 9112 §7.1.2",
		Why: "A trailer section is no part of the body and no harm to it.",
		Run: func(t *T) {
			t.Answer(trailerReply)
			r := t.Do(t.Get("t", "TE: trailers", "Connection: close, TE"), "GET")
			t.Whole(r, 200)
			t.SameBody("the client", r.Body, []byte("hello"))
			notThere(t, "the client (in the head)", &r.Head, "X-Sum")
		}},
	Case{ID: "trailer-response", Level: Quality, RFC: "RFC 9110 §6.5",
		Why: "The trailer section reaches a client that asked for it (TE: trailers): gRPC and " +
			"checksums live there.",
		Run: func(t *T) {
			t.Answer(trailerReply)
			r := t.Do(t.Get("t", "TE: trailers", "Connection: close, TE"), "GET")
			t.Whole(r, 200)
			if r.Trailer("X-Sum") != "abc" {
				t.Errorf("the trailer field X-Sum did not reach the client")
			}
		}},
	Case{ID: "trailer-request", Level: Quality, RFC: "RFC 9110 §6.5",
		Why: "The trailer section of a request reaches the backend after the body.",
		Run: func(t *T) {
			c := t.Dial()
			c.Send(post(t, "Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\nConnection: close\r\n",
				Chunked("hello", 3, "X-Sum: abc")))
			x := t.Expect(c)
			q := x.Request()
			x.Send(Reply(200, "ok"))
			x.Close()
			wellFormed(t, q)
			t.SameBody("the backend", q.Body, []byte("hello"))
			t.Whole(c.Final("POST"), 200)
			if q.Trailer("X-Sum") != "abc" {
				t.Errorf("the trailer field X-Sum did not reach the backend")
			}
		}},
	Case{ID: "trailer-request-merge", Level: Must, RFC: "RFC 9110 §6.5.1",
		Why: "A trailer field is not moved into the head: there it would count as something it " +
			"was not checked for.",
		Run: func(t *T) {
			c := t.Dial()
			c.Send(post(t, closeLine("Transfer-Encoding: chunked\r\n"), Chunked("hello", 3,
				"Authorization: Basic x", "X-Late: 1")))
			x := t.Expect(c)
			q := x.Request()
			x.Send(Reply(200, "ok"))
			x.Close()
			wellFormed(t, q)
			notThere(t, "the backend (in the head)", &q.Head, "Authorization", "X-Late")
		}},
)

const trailerReply = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: " +
	"X-Sum\r\nConnection: close\r\n\r\n" +
	"5\r\nhello\r\n0\r\nX-Sum: abc\r\n\r\n"

// discard reads until the connection ends; it fails the case after limit bytes.
func discardAll(c *Client, t *T, limit int64) {
	for {
		err := c.Await(func(b []byte) bool { return len(b) > 0 })
		n, _ := c.State()
		c.Take(n)
		switch {
		case errors.Is(err, suite.ErrStalled), errors.Is(err, net.ErrClosed):
			t.Fatalf("the client got %d bytes without an end; then the connection %s",
				c.Received(), suite.HowEnded(err))
		case err != nil:
			return
		case c.Received() > limit:
			t.Fatalf("the client got %d bytes, and still no end", c.Received())
		}
	}
}

// expectContinue plays an upload with Expect; asked says whether the backend
// sends 100 as soon as it has the head.
func expectContinue(t *T, asked bool) {
	body := "the body that was asked for"
	t.Serve(func(x *Exchange) {
		q := x.RequestHead()
		if asked && q.Names("Expect", "100-continue") {
			x.Send("HTTP/1.1 100 Continue\r\n\r\n")
		}
		x.RequestBody(q)
		checkUpload(t, q, body)
		x.Send(Reply(200, "ok"))
	})
	c := t.Dial()
	c.Send("POST " + t.Path("expect") + " HTTP/1.1\r\nHost: " + Host + "\r\nConnection: " +
		"close\r\nExpect: 100-continue\r\nContent-Length: " +
		strconv.Itoa(len(body)) + "\r\n\r\n")
	if !asked {
		time.Sleep(250 * time.Millisecond)
	} else if r := c.Response("POST"); r.Status != 100 {
		if r.Status == 0 {
			t.Fatalf("the client waited for 100 Continue in vain: %s", r.Problem)
		}
		refusedWell(t, r) // 417 is an answer
		return
	}
	c.Send(body)
	r := c.Final("POST")
	if !t.Failed() {
		t.Whole(r, 200)
	}
}

// interim has the backend send interim responses before the final one.
func interim(t *T, before string, wantSeen int) {
	t.Answer(before + Reply(200, "the page"))
	r := t.Do(t.Get("interim"), "GET")
	t.Whole(r, 200)
	t.SameBody("the client", r.Body, []byte("the page"))
	if len(r.Interim) < wantSeen {
		t.Errorf("the client got %d interim responses", len(r.Interim))
	}
}

// noBodyCase answers with a head alone and keeps the connection open.
func noBodyCase(id, method, reply string, status int, why string) Case {
	return Case{ID: id, Level: Must, RFC: "RFC 9112 §6.3", Why: why, Run: func(t *T) {
		c := t.Dial()
		c.Send(t.Req(method, "nobody", "", "If-None-Match: \"e\""))
		x := t.Expect(c)
		x.Request()
		x.Send(reply)
		r := c.Final(method)
		if r.Status == 0 {
			t.Fatalf("no answer while the backend kept its connection open: %s", r.Problem)
		}
		t.MustBe(r, status)
		sameFields(t, "the client", &r.Head, "X-A: b")
		for _, f := range r.Faults {
			t.Errorf("the response is malformed: %s", f)
		}
		rest, ended := c.AwaitEnd(quietClient)
		if rest != "" {
			t.Errorf("after the head the client got %s", Visible(rest, 100))
		}
		if !ended && r.Names("Connection", "close") {
			if _, ended = c.AwaitEnd(2 * time.Second); !ended {
				t.NoteStall()
				t.Errorf("the proxy said Connection: close and did not close")
			}
		}
		x.Keep()
	}}
}

// http10Chunks gives an HTTP/1.0 client an answer that the backend chunks, if
// the proxy speaks HTTP/1.1 to it.
func http10Chunks(t *T, fields string) {
	body := string(pattern(8, 4000))
	t.Serve(func(x *Exchange) {
		if q := x.Request(); q.Version == "HTTP/1.0" {
			x.Send(framed("close", body, "Connection: close\r\n"))
			return
		}
		x.Send(framed("chunked", body, "Connection: close\r\n"))
	})
	c := t.Dial()
	c.Send("GET " + t.Path("old") + " HTTP/1.0\r\nHost: " + Host + "\r\n" + fields + "\r\n")
	r := c.Final("GET")
	t.MustBe(r, 200)
	if r.Has("Transfer-Encoding") {
		t.Fatalf("the HTTP/1.0 client got Transfer-Encoding: %s",
			Visible(r.Get("Transfer-Encoding"), 40))
	}
	t.Whole(r, 200)
	t.SameBody("the client", r.Body, []byte(body))
	if r.Ended == "close" && strings.EqualFold(r.Get("Connection"), "keep-alive") {
		t.Errorf("the answer has no length but says Connection: keep-alive")
	}
}
