package cases

import (
	"strings"
	"time"

	"reverseproxy/scripts/check/suite"
)

var abortsCases = group("aborts",
	backendAborts("abort-close-silent", "", false, "A backend that closes without an answer gets "+
		"the client a 502, not an empty reply."),
	backendAborts("abort-reset-silent", "", true, "A backend that resets without an answer gets "+
		"the client a 502."),
	backendAborts("abort-in-head", "HTTP/1.1 200 OK\r\nContent-Le", false, "A backend that "+
		"breaks off inside its head gets the client a 502, not half a head."),
	cutBody("abort-in-length", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this", false,
		"A response that breaks off before its Content-Length must be seen as cut off."),
	cutBody("abort-in-length-reset", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this",
		true,
		"A response that is reset before its Content-Length must be seen as cut off."),
	cutBody("abort-in-chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n20\r\nonly "+
		"this", false,
		"A response that breaks off inside a chunk must be seen as cut off."),
	cutBody("abort-between-chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: "+
		"chunked\r\n\r\n9\r\nonly this\r\n", false,
		"A response that breaks off before its last chunk must be seen as cut off, however "+
			"complete its chunks."),
	cutBody("abort-in-trailers", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nonly "+
		"this\r\n0\r\nX-Half", false,
		"A response that breaks off inside its trailer section is not complete."),
	Case{ID: "abort-close-reset", Level: Should, Hurts: true, RFC: "RFC 9112 §8",
		Why: "A body that ends with the connection is cut off when that is reset; chunked anew, " +
			"it must not get a last chunk.",
		Run: func(t *T) {
			c := t.Dial()
			c.Send(t.Get("cut"))
			x := t.Expect(c)
			x.Request()
			x.Send("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nonly this")
			c.Await(func(b []byte) bool { return strings.Contains(string(b), "only this") })
			x.Reset()
			r := c.Final("GET")
			if r.Status == 200 && r.Ended == "chunked" && r.Problem == "" {
				t.Errorf("the client got a complete chunked response of a body that was broken off")
			}
		}},
	Case{ID: "abort-upload", Level: Must, RFC: "RFC 9112 §8",
		Why: "A client that leaves in the middle of its upload: the backend must not take the " +
			"half for the whole.",
		Run: func(t *T) { leaveUpload(t, false) }},
	Case{ID: "abort-upload-chunked", Level: Must, RFC: "RFC 9112 §8",
		Why: "The same with chunks: without the last chunk the request is not complete.",
		Run: func(t *T) { leaveUpload(t, true) }},
	Case{ID: "abort-waiting", Level: Quality, RFC: "RFC 9112 §9.5",
		Why: "When a client leaves while the backend works, the backend learns it within 3 s: " +
			"its work is for nobody.",
		Run: func(t *T) {
			c := t.Dial()
			c.Send(t.Get("slow"))
			x := t.Expect(c)
			x.Request()
			c.Reset()
			if _, ended := x.AwaitEnd(3 * time.Second); !ended {
				t.NoteStall()
				t.Errorf("3 s after the client had left, the backend's connection was still open")
			}
		}},
	Case{ID: "abort-download", Level: Should, RFC: "RFC 9112 §9.5",
		Why: "When a client leaves in the middle of a download, the backend need not send the " +
			"rest.",
		Run: func(t *T) {
			c := t.Dial()
			c.Send(t.Get("down"))
			x := t.Expect(c)
			x.Request()
			x.Send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
			c.Await(func(b []byte) bool { return suite.HeadEnd(b) >= 0 })
			c.Reset()
			sent := int64(0)
			p := pattern(14, 256<<10)
			for left := t.Span(4 * time.Second); left() > 0 && !x.Ended(); {
				if x.SendBytes(p) != nil {
					return
				}
				sent += int64(len(p))
				time.Sleep(5 * time.Millisecond)
			}
			if !x.Ended() {
				t.Errorf("4 s after the client had left, the proxy had taken %d MiB and wanted "+
					"more", sent>>20)
			}
		}},
	Case{ID: "abort-silent-visitor", Level: Should, RFC: "RFC 9112 §9.5", Mode: Alone,
		Why: "A visitor who connects and leaves without a word is none of the backend's " +
			"business: no connection, no empty request.",
		Run: func(t *T) {
			accepted := func() (n int64) {
				for _, b := range t.Lab.Farm.Backends {
					n += b.Empty.Load() + b.Strays.Load()
				}
				return n
			}
			before := accepted()
			for range visitors {
				t.Dial().Close()
			}
			time.Sleep(t.Within(150 * time.Millisecond))
			// A health check may come meanwhile; it is no request of a visitor.
			if n := accepted() - before; n > visitors/2 {
				t.Errorf("%d clients that said nothing made %d connections without a request to "+
					"the backends", visitors, n)
			}
		}},
	Case{ID: "abort-survives", Level: Must, Limit: bigTime, RFC: "RFC 9112 §9.5", Mode: Alone,
		Why: "Twenty clients that leave at the worst moments harm nobody else: a C program " +
			"without SIGPIPE handling dies here.",
		Run: survives},
	Case{ID: "abort-survives-backend", Level: Must, Limit: bigTime, Hurts: true, RFC: "RFC 9112 " +
		"§9.5", Mode: Alone,
		Why: "Backends that break off at the worst moments do not end the proxy.",
		Run: survivesBackend},
)

// visitors is how many clients come and leave without a word.
const visitors = 8

// backendAborts wants a 5xx when the backend breaks off before its head ends.
func backendAborts(id, part string, reset bool, why string) Case {
	return Case{ID: id, Level: Should, Hurts: true, RFC: "RFC 9110 §15.6.3", Why: why,
		Run: func(t *T) {
			t.Serve(func(x *Exchange) {
				x.Request()
				x.Send(part)
				if reset {
					x.Reset()
				}
			})
			r := t.Do(t.Get("abort"), "GET")
			if r.Status < 500 {
				t.Errorf("the client got %s; %s", Visible(r.Start, 80), r.Problem)
			}
		}}
}

// cutBody wants a response that is cut off to look cut off.
func cutBody(id, reply string, reset bool, why string) Case {
	return Case{ID: id, Level: Must, Hurts: true, RFC: "RFC 9112 §8", Why: why, Run: func(t *T) {
		c := t.Dial()
		c.Send(t.Get("cut"))
		x := t.Expect(c)
		x.Request()
		x.Send(reply)
		if reset {
			time.Sleep(20 * time.Millisecond)
			x.Reset()
		} else {
			x.Close()
		}
		r := c.Final("GET")
		if r.Status >= 500 || r.Status == 0 {
			return // 502, or nothing that could be taken for an answer
		}
		if r.Problem == "" {
			t.Fatalf("the client got a response that looks complete (its end: %s) with %s",
				r.Ended, Visible(string(r.Body), 60))
		}
		if strings.Contains(r.Problem, "silent") {
			t.Errorf("the client is left waiting for the rest: %s", r.Problem)
		}
	}}
}

// leaveUpload lets the client leave in the middle of its body.
func leaveUpload(t *T, chunked bool) {
	lines, part := "Content-Length: 100\r\n", "only this"
	if chunked {
		lines, part = "Transfer-Encoding: chunked\r\n", "9\r\nonly this\r\n"
	}
	c := t.Dial()
	c.Send(post(t, lines, part))
	x := t.Accept(c)
	if x == nil {
		c.Close() // it waits for the whole body: then nothing must arrive
		if x = t.AcceptWithin(150 * time.Millisecond); x == nil {
			return
		}
	} else {
		x.Await(func(b []byte) bool { return strings.Contains(string(b), "only this") })
		c.Close()
	}
	q := x.Request()
	if q.Problem == "" {
		t.Fatalf("the backend got a request that looks complete, with %s", Visible(string(q.Body),
			60))
	}
	if strings.Contains(q.Problem, "silent") {
		t.Errorf("the client has left, but the backend's connection is still open")
	}
}

// survives lets clients leave at different moments, then asks for a page.
func survives(t *T) {
	start := time.Now()
	big := strings.Repeat("x", 1<<20)
	t.Serve(func(x *Exchange) {
		q := x.RequestHead()
		if strings.HasSuffix(q.Target, "/page") {
			x.Send(Reply(200, "still here"))
			return
		}
		x.Send(Reply(200, big))
	})
	for i := 0; i < 20; i++ {
		c := t.Dial()
		switch i % 5 {
		case 0:
			c.Send("GET " + t.Path("h"))
		case 1:
			c.Send(t.Get("down"))
			c.Await(func(b []byte) bool { return len(b) > 0 })
		case 2:
			c.Send(t.Get("down"))
			time.Sleep(3 * time.Millisecond)
		case 3:
			c.Send(post(t, "Content-Length: 100000\r\n", "some"))
		case 4:
			c.Send(t.Get("down"))
		}
		if i%2 == 0 {
			c.Reset()
		} else {
			c.Close()
		}
	}
	stillServes(t, start)
}

// stillServes asks for a page and says whether the proxy has died since start: the
// checker starts it again for the next client.
func stillServes(t *T, start time.Time) {
	if t.Lab.Proc != nil && !t.Lab.OneShot && t.Lab.Proc.Wait(50*time.Millisecond) {
		t.Fatalf("the proxy has died: %s", t.Lab.Proc.LastWords())
	}
	r := t.Do(t.Get("page"), "GET")
	if t.Lab.DiedSince(start) {
		t.Fatalf("the proxy has died")
	}
	if t.Lab.Ejects && r.Status >= 500 {
		return // it lives, and has taken its backends out of service
	}
	t.Whole(r, 200)
	t.SameBody("the client", r.Body, []byte("still here"))
}

// survivesBackend breaks exchanges at different moments, then asks for a page.
func survivesBackend(t *T) {
	start := time.Now()
	parts := []string{"", "HTTP/1.1", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", "HTTP/1.1 200 " +
		"OK\r\nContent-Length: 50\r\n\r\nhalf",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe", "\r\n\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n"}
	for i, p := range append(parts, parts...) {
		c := t.Dial()
		c.Send(t.Req("POST", "x", "abc"))
		if x := t.Accept(c); x != nil {
			x.Send(p)
			if i >= len(parts) {
				x.Reset()
			} else {
				x.Close()
			}
		}
		c.AwaitEnd(300 * time.Millisecond)
		c.Close()
	}
	t.Answer(Reply(200, "still here"))
	stillServes(t, start)
}
