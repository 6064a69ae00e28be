package cases

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"reverseproxy/scripts/check/suite"
)

var requestFramingCases = group("request framing",
	bodyCase("req-length", Must, "RFC 9112 §6.2", "A body with Content-Length arrives whole and "+
		"unchanged.", 1000, 0),
	bodyCase("req-20000", Must, "RFC 9112 §6.2",
		"A 20,000-byte POST arrives whole: one read() returns what one segment brought, not the "+
			"message.", 20000, 0),
	bodyCase("req-1mib", Must, "RFC 9112 §6.2", "A 1 MiB upload arrives whole and unchanged.",
		1<<20, 0),
	bodyCase("req-chunked", Must, "RFC 9112 §7.1", "A chunked request body arrives whole, in "+
		"whichever framing.", 5000, 700),
	bodyCase("req-chunked-1mib", Must, "RFC 9112 §7.1", "A chunked upload of 1 MiB in 8 KiB "+
		"chunks arrives whole.", 1<<20, 8192),
	Case{ID: "req-no-body", Level: Must, RFC: "RFC 9112 §6.3",
		Why: "A POST with neither length nor chunks has no body: proxy and backend must not wait " +
			"for one.",
		Run: func(t *T) { noBody(t, "POST", "") }},
	Case{ID: "req-length-zero", Level: Must, RFC: "RFC 9112 §6.3",
		Why: "Content-Length: 0 is an empty body.",
		Run: func(t *T) { noBody(t, "POST", "Content-Length: 0") }},
	Case{ID: "req-get-body", Level: Should, RFC: "RFC 9110 §9.3.1",
		Why: "A GET may have a body: it is framed like any other or refused; left unread it " +
			"becomes the next request.",
		Run: func(t *T) {
			c := t.Dial()
			c.Send(t.Req("GET", "b", "body of a GET"))
			x := t.Accept(c)
			if x == nil {
				refusedWell(t, c.Final("GET"), 400, 413, 501)
				return
			}
			q := x.Request()
			x.Send(Reply(200, "ok"))
			x.Close()
			wellFormed(t, q)
			t.SameBody("the backend", q.Body, []byte("body of a GET"))
			t.Whole(c.Final("GET"), 200)
		}},
	chunkSyntax("req-chunk-extension", Must, "RFC 9112 §7.1.1",
		"Chunk extensions are ignored, not taken for data.",
		"5;name=value;q=\"a;b\"\r\nhello\r\n6;x\r\n world\r\n0;last\r\n\r\n"),
	chunkRate("req-chunk-padded", true, "%016x", "24 MiB in 4 KiB chunks whose sizes are padded "+
		"with zeros to 16 digits are a valid upload: what bounds the overhead is to bound it in "+
		"relation to the data."),
	chunkRate("req-chunk-blanks", true, "%x"+strings.Repeat(" ", 16), "24 MiB in 4 KiB chunks "+
		"whose sizes are padded with blanks, as old servers did, arrive whole."),
	chunkRate("req-chunk-ext-rate", true, "%x;"+strings.Repeat("e", 80), "24 MiB in 4 KiB "+
		"chunks, each with an extension of 81 bytes, are a valid upload: 2 % of overhead is no "+
		"attack."),
	chunkSyntax("req-chunk-hex", Must, "RFC 9112 §7.1", "Chunk sizes are hexadecimal, in either "+
		"case, with leading zeros.",
		"00005\r\nhello\r\n0006\r\n world\r\n000\r\n\r\n"),
	Case{ID: "req-chunk-upper", Level: Must, RFC: "RFC 9112 §7.1",
		Why: "Upper-case hexadecimal digits in a chunk size are read.",
		Run: func(t *T) {
			body := string(pattern(7, 0x2AB))
			uploadRaw(t, "2AB\r\n"+body+"\r\n0\r\n\r\n", body, 0)
		}},
	Case{ID: "req-pieces", Level: Must, RFC: "RFC 9112 §2.2",
		Why: "A request that comes a few bytes at a time is the same request: TCP knows no " +
			"messages.",
		Run: func(t *T) {
			c := t.Dial()
			// The client writes on while the backend reads; it ends with the request.
			go c.SendPieces(t.Req("POST", "p", "0123456789abcdef", "X-F: v"), 5)
			x := t.Expect(c)
			q := x.Request()
			x.Send(Reply(200, "ok"))
			x.Close()
			wellFormed(t, q)
			t.SameBody("the backend", q.Body, []byte("0123456789abcdef"))
			t.Whole(c.Final("POST"), 200)
		}},
	Case{ID: "req-chunk-pieces", Level: Must, RFC: "RFC 9112 §7.1",
		Why: "A chunked body cut at the worst places, inside sizes and line ends, is the same " +
			"body.",
		Run: func(t *T) {
			body := string(pattern(3, 40))
			uploadRaw(t, Chunked(body, 11), body, 3)
		}},
	Case{ID: "req-head-then-body", Level: Must, RFC: "RFC 9112 §6.2",
		Why: "A body that comes a moment after its head is waited for: many clients write them " +
			"separately.",
		Run: func(t *T) {
			c := t.Dial()
			head, body, _ := strings.Cut(t.Req("POST", "late", "the body comes late"), "\r\n\r\n")
			c.Send(head + "\r\n\r\n")
			time.Sleep(80 * time.Millisecond)
			c.Send(body)
			x := t.Expect(c)
			q := x.Request()
			x.Send(Reply(200, "ok"))
			x.Close()
			t.SameBody("the backend", q.Body, []byte(body))
			t.Whole(c.Final("POST"), 200)
		}},
	Case{ID: "req-leading-crlf", Level: Should, RFC: "RFC 9112 §2.2",
		Why: "An empty line before the request line is skipped: old clients send one after a POST.",
		Run: func(t *T) {
			c := t.Dial()
			c.Send("\r\n" + t.Get("crlf"))
			x := t.Expect(c)
			q := x.Request()
			x.Send(Reply(200, "ok"))
			x.Close()
			wellFormed(t, q)
			t.Whole(c.Final("GET"), 200)
		}},
	Case{ID: "req-field-space", Level: Must, RFC: "RFC 9112 §5",
		Why: "White space around a field value is optional: none, several and tabs mean the same.",
		Run: func(t *T) {
			c := t.Dial()
			c.Send("POST " + t.Path("ows") + " HTTP/1.1\r\nHost:" + Host + "\r\nContent-Length:  " +
				"5 \r\nX-V:\t a b \t\r\nConnection:close\r\n\r\nhello")
			x := t.Expect(c)
			q := x.Request()
			x.Send(Reply(200, "ok"))
			x.Close()
			wellFormed(t, q)
			t.SameBody("the backend", q.Body, []byte("hello"))
			sameFields(t, "the backend", &q.Head, "X-V: a b")
			t.Whole(c.Final("POST"), 200)
		}},
	Case{ID: "req-field-case", Level: Must, RFC: "RFC 9110 §5.1",
		Why: "Field names and the word chunked count in any case.",
		Run: func(t *T) {
			c := t.Dial()
			c.Send("POST " + t.Path("case") + " HTTP/1.1\r\nhOST: " + Host +
				"\r\ntRANSFER-eNCODING: CHUNKED\r\ncONNECTION: CLOSE\r\n\r\n" + Chunked("hello", 5))
			x := t.Expect(c)
			q := x.RequestHead()
			if q.Problem == "" {
				if strings.EqualFold(q.Get("Transfer-Encoding"), "chunked") {
					x.ReadChunked(&q.Message)
				} else {
					x.RequestBody(q)
				}
			}
			x.Send(Reply(200, "ok"))
			x.Close()
			t.SameBody("the backend", q.Body, []byte("hello"))
			t.Whole(c.Final("POST"), 200)
		}},
)

var responseFramingCases = group("response framing",
	replyCase("resp-length", Must, "RFC 9112 §6.2", "A response with Content-Length arrives "+
		"whole.", 1000, "length"),
	replyCase("resp-20000", Must, "RFC 9112 §6.2", "20,000 bytes arrive whole, not only what "+
		"fits one buffer.", 20000, "length"),
	replyCase("resp-1mib", Must, "RFC 9112 §6.2", "1 MiB arrives whole, not only what one read() "+
		"brings.", 1<<20, "length"),
	replyCase("resp-chunked", Must, "RFC 9112 §7.1", "A chunked response arrives whole.", 5000,
		"chunked"),
	replyCase("resp-chunked-1mib", Must, "RFC 9112 §7.1", "A chunked response of 1 MiB arrives "+
		"whole.", 1<<20, "chunked"),
	replyCase("resp-close", Must, "RFC 9112 §6.3", "A response that ends with its connection "+
		"arrives whole.", 30000, "close"),
	replyCase("resp-empty", Must, "RFC 9112 §6.3", "An empty body (Content-Length: 0) is an "+
		"answer too.", 0, "length"),
	heldCase("resp-held-length", "length"),
	heldCase("resp-held-chunked", "chunked"),
	heldCase("resp-held-empty", "empty"),
	Case{ID: "resp-held-latency", Level: Quality, RFC: "RFC 9112 §6.3", Mode: Alone,
		Why: "From a backend that keeps its connection open the answer comes in under 35 ms: no " +
			"timer (Nagle, delayed acknowledgement, a poll) is waited for.",
		Run: heldLatency},
	Case{ID: "resp-chunk-extension", Level: Must, RFC: "RFC 9112 §7.1.1",
		Why: "Chunk extensions in a response are not taken for data.",
		Run: func(t *T) {
			replyRaw(t, "Transfer-Encoding: chunked\r\n", "5;a=b\r\nhello\r\n6;c\r\n "+
				"world\r\n0;z=\"1\"\r\n\r\n", "hello world", 0)
		}},
	chunkRate("resp-chunk-padded", false, "%016x", "24 MiB in 4 KiB chunks whose sizes are "+
		"padded with zeros arrive whole."),
	chunkRate("resp-chunk-blanks", false, "%x"+strings.Repeat(" ", 16), "24 MiB in 4 KiB chunks "+
		"whose sizes are padded with blanks, as old servers did, arrive whole."),
	chunkRate("resp-chunk-ext-rate", false, "%x;"+strings.Repeat("e", 80), "24 MiB in 4 KiB "+
		"chunks, each with an extension of 81 bytes, arrive whole."),
	Case{ID: "resp-chunk-pieces", Level: Must, RFC: "RFC 9112 §7.1",
		Why: "A chunked response that comes in small pieces, cut inside sizes and line ends, " +
			"arrives whole.",
		Run: func(t *T) {
			body := string(pattern(9, 60))
			replyRaw(t, "Transfer-Encoding: chunked\r\n", Chunked(body, 13), body, 3)
		}},
	Case{ID: "resp-pieces", Level: Must, RFC: "RFC 9112 §2.2",
		Why: "A response head that comes a few bytes at a time is the same head.",
		Run: func(t *T) {
			replyRaw(t, "Content-Length: 11\r\nX-Long: abcdefghijkl\r\n", "hello world",
				"hello world", 4)
		}},
	Case{ID: "resp-no-reason", Level: Must, RFC: "RFC 9112 §4",
		Why: "The reason phrase of a status line may be empty.",
		Run: func(t *T) {
			t.Answer("HTTP/1.1 200 \r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
			r := t.Do(t.Get("x"), "GET")
			t.Whole(r, 200)
			t.SameBody("the client", r.Body, []byte("ok"))
		}},
	Case{ID: "resp-te-and-length", Level: Must, Hurts: true, RFC: "RFC 9112 §6.3",
		Why: "Transfer-Encoding overrides Content-Length in a response; both together are never " +
			"forwarded (response smuggling).",
		Run: func(t *T) {
			t.Answer("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: " +
				"chunked\r\nConnection: close\r\n\r\n" + Chunked("hello world", 5))
			r := t.Do(t.Get("x"), "GET")
			if r.Status >= 500 && r.Problem == "" {
				return
			}
			t.Whole(r, 200)
			t.SameBody("the client", r.Body, []byte("hello world"))
		}},
	badReply("resp-lengths-differ", Must, "RFC 9112 §6.3",
		"Two different Content-Length fields in a response: the proxy must answer 502, or client "+
			"and proxy disagree where it ends.",
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 11\r\nConnection: "+
			"close\r\n\r\nhello world"),
	badReply("resp-length-invalid", Must, "RFC 9112 §6.3",
		"A Content-Length that is no number makes the framing unknowable: 502.",
		"HTTP/1.1 200 OK\r\nContent-Length: 5x\r\nConnection: close\r\n\r\nhello"),
	badReply("resp-length-negative", Must, "RFC 9112 §6.3", "A negative Content-Length is "+
		"refused with 502.",
		"HTTP/1.1 200 OK\r\nContent-Length: -5\r\nConnection: close\r\n\r\nhello"),
	badReply("resp-garbage", Should, "RFC 9110 §15.6.3",
		"A backend that does not speak HTTP gets the client a 502, not its bytes: the client "+
			"could take them for anything.",
		"\x16\x03\x01garbage without any meaning\r\n\r\n"),
	Case{ID: "resp-garbage-at-once", Level: Quality, Hurts: true, RFC: "RFC 9110 §15.6.3",
		Why: "As soon as a byte can be part of no status line the client gets its 502, even if " +
			"the backend leaves its connection open: nobody waits for a timeout.",
		Run: func(t *T) {
			for _, garbage := range []string{"foo\r\n", "\x15\x03\x01\x00\x02\x02\x16",
				"220 mail.example.test ESMTP\r\n"} {
				c := t.Dial()
				c.Send(t.Get("garbage"))
				x := t.Expect(c)
				x.Request()
				x.Send(garbage)
				c.Wait(3*time.Second, t.Done,
					func(b []byte) bool { return suite.HeadEnd(b) >= 0 })
				if n, _ := c.State(); !strings.HasPrefix(string(c.Take(n)), "HTTP/1.1 502 ") {
					t.NoteStall()
					t.Errorf("3 s after the backend had sent %s and kept its connection open, "+
						"the client had no 502", Visible(garbage, 40))
				}
				c.Close()
			}
		}},
	badReply("resp-status-garbage", Should, "RFC 9112 §4", "A status that is no three-digit "+
		"number is refused with 502.",
		"HTTP/1.1 2OO OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"),
	Case{ID: "resp-lengths-same", Level: Must, Hurts: true, RFC: "RFC 9110 §8.6",
		Why: "The same Content-Length twice is refused or made one; two lines never reach the " +
			"client.",
		Run: func(t *T) {
			t.Answer("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\nConnection: " +
				"close\r\n\r\nhello")
			r := t.Do(t.Get("x"), "GET")
			if r.Status >= 500 && r.Problem == "" {
				return
			}
			t.Whole(r, 200)
			t.SameBody("the client", r.Body, []byte("hello"))
		}},
	scene{id: "resp-extra-bytes", rfc: "RFC 9112 §6.3", level: Must,
		why: "Bytes after the end of a response are no part of it and never an answer for the " +
			"next request (response queue poisoning).",
		reply: Kept(200, "first") + stray}.anyCase(),
	badChunk("resp-bad-chunk-size", "5\r\nhello\r\nzz\r\nworld\r\n0\r\n\r\n"),
	badChunk("resp-chunk-overrun", "5\r\nhello world\r\n0\r\n\r\n"),
	badChunk("resp-chunk-overflow", "5\r\nhello\r\n10000000000000005\r\nworld\r\n0\r\n\r\n"),
	badField("resp-bare-cr", Must, "RFC 9110 §5.5", "A bare CR in a response field is refused or "+
		"replaced: some clients end the line there.", "X-A: a\rX-Evil: 1"),
	badField("resp-nul", Must, "RFC 9110 §5.5", "A NUL in a response field is refused or "+
		"replaced: C programs end the string there.", "X-A: a\x00b"),
	badField("resp-obs-fold", Must, "RFC 9112 §5.2", "A folded response field is refused with "+
		"502 or joined with spaces.", "X-A: a\r\n b"),
	badField("resp-space-colon", Should, "RFC 9112 §5.1", "White space between name and colon in "+
		"a response is removed or refused (a MUST for forward proxies).", "X-A : a"),
	badField("resp-no-colon", Should, "RFC 9112 §5", "A line without a colon in a response is "+
		"dropped or refused.", "this is no field"),
)

// wellFormed fails the case when a forwarded request is ambiguous.
func wellFormed(t *T, q *Request) {
	if q.Problem != "" {
		t.Fatalf("the backend did not get a whole request: %s", q.Problem)
	}
	for _, f := range q.Ambiguities() {
		t.Errorf("the backend got a malformed request: %s", f)
	}
}

// refusedWell fails the case unless r is an answer with one of the statuses
// (any 4xx, or 501 or 505, when none is given).
func refusedWell(t *T, r *Response, statuses ...int) {
	if r.Status == 0 {
		t.Fatalf("the request was neither forwarded nor answered: %s", r.Problem)
	}
	for _, s := range statuses {
		if r.Status == s {
			return
		}
	}
	if len(statuses) == 0 && (r.Status/100 == 4 || r.Status == 501 || r.Status == 505) {
		return
	}
	t.Fatalf("the client got %s", Visible(r.Start, 80))
}

// bodyCase uploads n bytes, chunked when chunk is not 0.
func bodyCase(id string, l Level, rfc, why string, n, chunk int) Case {
	return Case{ID: id, Level: l, RFC: rfc, Why: why, Run: func(t *T) {
		body := string(pattern(1, n))
		if chunk > 0 {
			uploadRaw(t, Chunked(body, chunk), body, 0)
			return
		}
		t.Serve(func(x *Exchange) {
			q := x.Request()
			x.Send(Reply(200, "got "+strconv.Itoa(len(q.Body))))
			checkUpload(t, q, body)
		})
		r := t.Do(t.Req("POST", "up", body), "POST")
		if !t.Failed() {
			t.Whole(r, 200)
		}
	}}
}

func checkUpload(t *T, q *Request, body string) {
	if q.Problem != "" {
		t.Fatalf("the backend did not get the whole body: %s", q.Problem)
	}
	for _, f := range q.Ambiguities() {
		t.Errorf("the backend got a malformed request: %s", f)
	}
	t.SameBody("the backend", q.Body, []byte(body))
}

// uploadRaw sends a chunked body given as raw chunks and checks what arrives;
// pieces > 0 cuts it into segments of that size.
func uploadRaw(t *T, chunks, body string, pieces int) {
	t.Serve(func(x *Exchange) {
		q := x.Request()
		x.Send(Reply(200, "ok"))
		checkUpload(t, q, body)
	})
	c := t.Dial()
	head := "POST " + t.Path("chunked") + " HTTP/1.1\r\nHost: " + Host + "\r\nTransfer-Encoding: " +
		"chunked\r\nConnection: close\r\n\r\n"
	if pieces > 0 {
		c.Send(head)
		c.SendPieces(chunks, pieces)
	} else {
		c.Send(head + chunks)
	}
	r := c.Final("POST")
	if !t.Failed() {
		t.Whole(r, 200)
	}
}

// rateSize is the body of the cases about chunk overhead, in bytes.
const rateSize = 24 << 20

// chunkRate sends a body whose every chunk line is made by format.
func chunkRate(id string, up bool, format, why string) Case {
	return Case{ID: id, Level: Should, Limit: bigTime, RFC: "RFC 9112 §7.1.1", Why: why,
		Run: func(t *T) {
			send := func(s suite.Reader) (sum uint64) {
				data := make([]byte, 4<<10)
				line := fmt.Sprintf(format+"\r\n", len(data))
				var block []byte
				for off := int64(0); off < rateSize; off += int64(len(data)) {
					fillPattern(data, 42, off)
					sum = suite.PatternSum(sum, data)
					block = append(append(append(block, line...), data...), "\r\n"...)
					if len(block) > 256<<10 || off+int64(len(data)) == rateSize {
						if s.SendBytes(block) != nil {
							return 0
						}
						block = block[:0]
					}
				}
				s.SendBytes([]byte("0\r\n\r\n"))
				return sum
			}
			sums := make(chan uint64, 1)
			c := t.Dial()
			m := &Message{}
			if !up {
				c.Send(t.Get("rate"))
				x := t.Expect(c)
				x.Request()
				// Ends when all is written or the proxy breaks off.
				go func() {
					x.Send("HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: " +
						"chunked\r\n\r\n")
					sums <- send(x.Reader)
					x.Close()
				}()
				readBig(t, c.Reader, m, rateSize)
				sameSum(t, "the client", m, <-sums)
				return
			}
			c.Send(post(t, "Connection: close\r\nTransfer-Encoding: chunked\r\n", ""))
			// Ends when all is written or the proxy breaks off.
			go func() { sums <- send(c.Reader) }()
			x := t.Expect(c)
			readBig(t, x.Reader, m, rateSize)
			x.Send(Reply(200, "ok"))
			x.Close()
			sameSum(t, "the backend", m, <-sums)
			t.Whole(c.Final("POST"), 200)
		}}
}

func chunkSyntax(id string, l Level, rfc, why, chunks string) Case {
	return Case{ID: id, Level: l, RFC: rfc, Why: why, Run: func(t *T) {
		uploadRaw(t, chunks,
			"hello world", 0)
	}}
}

// noBody sends a request without a body; a 411 is an answer as well.
func noBody(t *T, method, field string) {
	c := t.Dial()
	var fields []string
	if field != "" {
		fields = append(fields, field)
	}
	c.Send(t.Req(method, "none", "", fields...))
	x := t.Accept(c)
	if x == nil {
		refusedWell(t, c.Final(method), 411)
		return
	}
	q := x.Request()
	x.Send(Reply(200, "ok"))
	x.Close()
	wellFormed(t, q)
	if len(q.Body) > 0 {
		t.Errorf("the backend got a body: %s", Visible(string(q.Body), 80))
	}
	t.Whole(c.Final(method), 200)
}

// replyCase has the backend send n bytes framed by kind and close.
func replyCase(id string, l Level, rfc, why string, n int, kind string) Case {
	return Case{ID: id, Level: l, RFC: rfc, Why: why, Run: func(t *T) {
		body := string(pattern(2, n))
		t.Answer(framed(kind, body, "Connection: close\r\n"))
		r := t.Do(t.Get("down"), "GET")
		t.Whole(r, 200)
		t.SameBody("the client", r.Body, []byte(body))
	}}
}

// framed is a 200 response whose body is delimited by kind.
func framed(kind, body, fields string) string {
	switch kind {
	case "chunked":
		return "HTTP/1.1 200 OK\r\n" + fields + "Transfer-Encoding: chunked\r\n\r\n" +
			Chunked(body, 1000)
	case "close":
		return "HTTP/1.1 200 OK\r\n" + fields + "\r\n" + body
	}
	return fmt.Sprintf("HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n%s", fields, len(body), body)
}

// heldCase answers and keeps the connection open.
func heldCase(id, kind string) Case {
	why := map[string]string{
		"length": "The answer is complete when Content-Length bytes have come: a proxy that " +
			"waits for the backend to close holds it back for the backend's idle time.",
		"chunked": "The last chunk ends the response, although the backend keeps its connection " +
			"open.",
		"empty": "A response with Content-Length: 0 is complete after its head, although the " +
			"backend keeps its connection open.",
	}[kind]
	return Case{ID: id, Level: Must, RFC: "RFC 9112 §6.3", Why: why, Run: func(t *T) {
		body := "hello"
		if kind == "empty" {
			body = ""
		}
		c := t.Dial()
		c.Send(t.Get("held"))
		x := t.Expect(c)
		x.Request()
		x.Send(framed(kind, body, ""))
		r := c.Final("GET")
		if r.Status == 0 {
			t.Fatalf("the answer was held back while the backend kept its connection open: %s",
				r.Problem)
		}
		t.Whole(r, 200)
		t.SameBody("the client", r.Body, []byte(body))
		x.Keep()
	}}
}

// heldLatency takes the best of a few exchanges: a timer delays them all, a
// busy machine only some. What the machine adds is measured beside each one, by
// the same way without a proxy, and allowed for.
func heldLatency(t *T) {
	const (
		noTimer = 35 * time.Millisecond
		hops    = 6 // a proxied exchange wakes more goroutines and a process
	)
	best, added := time.Hour, time.Duration(0)
	begun, tries := time.Now(), 0
	for limit := 3 * time.Second; best > noTimer && time.Since(begun) < limit; tries++ {
		before := suite.Unproxied()
		start := time.Now()
		c := t.Dial()
		c.Send(t.Get("fast"))
		x := t.Expect(c)
		x.Request()
		x.Send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
		x.Send("0\r\n\r\n")
		r := c.Final("GET")
		t.Whole(r, 200)
		took := time.Since(start)
		x.Keep()
		c.Close()
		own := min(before, suite.Unproxied())
		if own > suite.BusyHop {
			added = max(added, own)
			took -= hops * own
			limit = 8 * time.Second
		}
		best = min(best, took)
	}
	if best > noTimer {
		t.Errorf("the fastest of %d answers took %v", tries, best.Round(time.Millisecond))
		if added > 0 {
			t.Errorf("the machine was busy: the same without a proxy took up to %v",
				added.Round(time.Millisecond))
		}
	}
}

// replyRaw has the backend send a body in raw framing and checks it.
func replyRaw(t *T, fields, raw, body string, pieces int) {
	t.Serve(func(x *Exchange) {
		x.Request()
		reply := "HTTP/1.1 200 OK\r\n" + fields + "Connection: close\r\n\r\n" + raw
		if pieces == 0 {
			x.Send(reply)
		} else {
			x.SendPieces(reply, pieces)
		}
	})
	r := t.Do(t.Get("raw"), "GET")
	t.Whole(r, 200)
	t.SameBody("the client", r.Body, []byte(body))
}

// badReply is a response that must become a 5xx.
func badReply(id string, l Level, rfc, why, reply string) Case {
	return Case{ID: id, Level: l, Hurts: true, RFC: rfc, Why: why, Run: func(t *T) {
		t.Answer(reply)
		r := t.Do(t.Get("bad"), "GET")
		if l == Must && r.Status == 0 && len(r.Raw) == 0 {
			return // what a MUST forbids is to pass it on
		}
		if r.Status < 500 {
			t.Fatalf("instead of a 502 the client got %s %s", Visible(r.Start, 100), r.Problem)
		}
	}}
}

// badField is a response field that must not reach the client as it is.
func badField(id string, l Level, rfc, why, line string) Case {
	return Case{ID: id, Level: l, Hurts: true, RFC: rfc, Why: why, Run: func(t *T) {
		t.Answer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n" + line + "\r\nConnection: " +
			"close\r\n\r\nok")
		r := t.Do(t.Get("bad"), "GET")
		if r.Status >= 500 && r.Problem == "" {
			return
		}
		t.Whole(r, 200)
		t.SameBody("the client", r.Body, []byte("ok"))
		if r.Has("X-Evil") {
			t.Errorf("the rest of the damaged line became a field of its own: X-Evil")
		}
	}}
}

// badChunk is a chunked response with broken framing: the client must be able
// to see that it is not whole.
func badChunk(id, chunks string) Case {
	return Case{ID: id, Level: Must, RFC: "RFC 9112 §7.1", Hurts: true,
		Why: "Broken chunks in a response: the client gets a 502 or a body that is visibly cut " +
			"off, never one that looks complete.",
		Run: func(t *T) {
			t.Answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n" +
				"Connection: close\r\n\r\n" + chunks)
			c := t.Dial()
			c.Send(t.Get("chunks"))
			r := c.Final("GET")
			if r.Status >= 500 || r.Status == 0 {
				return
			}
			if r.Problem == "" && r.Ended != "close" {
				t.Fatalf("the client got a response that looks complete (%s): %s", r.Ended,
					Visible(string(r.Body), 100))
			}
			if r.Ended == "close" && r.Problem == "" {
				t.Fatalf("the client got a body ending with the connection that looks complete: "+
					"%s", Visible(string(r.Body), 100))
			}
		}}
}
