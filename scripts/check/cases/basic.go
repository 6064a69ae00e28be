package cases

import (
	"slices"
	"strconv"
	"strings"

	"reverseproxy/scripts/check/suite"
)

var basicsCases = group("basics",
	Case{ID: suite.Gate, Level: Must, RFC: "RFC 9110 §3.7",
		Why: "A GET reaches the backend and the answer reaches the client: all other cases " +
			"presuppose this.",
		Run: func(t *T) {
			t.Serve(func(x *Exchange) {
				q := x.Request()
				if q.Method != "GET" {
					t.Errorf("the backend got method %q", q.Method)
				}
				x.Send(Reply(200, "hello, client"))
			})
			r := t.Do(t.Get("hello"), "GET")
			t.Whole(r, 200)
			t.SameBody("the client", r.Body, []byte("hello, client"))
		}},
	Case{ID: "basic-once", Level: Must, RFC: "RFC 9110 §3.7",
		Why: "One request makes one request at the backend and one answer at the client, and no " +
			"byte more.",
		Run: func(t *T) {
			c := t.Dial()
			c.Send(t.Get("once"))
			x := t.Expect(c)
			q := x.Request()
			wellFormed(t, q)
			x.Send(Reply(200, "one"))
			more, _ := x.AwaitEnd(quietBackend)
			x.Close()
			t.Whole(c.Final("GET"), 200)
			rest, _ := c.AwaitEnd(quietClient)
			if rest != "" || more != "" {
				t.Errorf("after the exchange the client got %s, the backend %s", Visible(rest,
					80), Visible(more, 80))
			}
			if y := t.AcceptWithin(quietClient); y != nil {
				t.Errorf("the backend got a second request: %s", Visible(y.Request().Start, 100))
			}
		}},
	Case{ID: "basic-methods", Level: Must, RFC: "RFC 9110 §9.1",
		Why: "POST, PUT, PATCH, DELETE and OPTIONS arrive as what they are: a proxy that knows " +
			"only GET breaks every API.",
		Run: func(t *T) {
			for _, m := range []string{"POST", "PUT", "PATCH", "DELETE", "OPTIONS"} {
				c := t.Dial()
				body := ""
				if m[0] == 'P' {
					body = "some content"
				}
				c.Send(t.Req(m, m, body))
				x := t.Expect(c)
				if q := x.Request(); q.Method != m || string(q.Body) != body {
					t.Errorf("%s with body %q arrived as %s with %s", m, body, Visible(q.Start,
						80), Visible(string(q.Body), 40))
				}
				x.Send(Reply(200, m))
				x.Close()
				t.Whole(c.Final(m), 200)
				c.Close()
			}
		}},
	Case{ID: "basic-unknown-method", Level: Should, RFC: "RFC 9110 §9.1",
		Why: "A method the proxy has never heard of (PURGE, PROPFIND) is passed on or refused " +
			"with 405 or 501, never turned into another.",
		Run: func(t *T) {
			c := t.Dial()
			c.Send(t.Req("PURGE", "x", ""))
			x := t.Accept(c)
			if x == nil {
				if r := c.Final("PURGE"); r.Status != 405 && r.Status != 501 && r.Status != 400 {
					t.Fatalf("neither forwarded nor refused: status %d %s", r.Status, r.Problem)
				}
				return
			}
			if q := x.Request(); q.Method != "PURGE" {
				t.Errorf("PURGE arrived as %s", Visible(q.Start, 80))
			}
			x.Send(Reply(200, "purged"))
			x.Close()
			t.Whole(c.Final("PURGE"), 200)
		}},
	targetCase("basic-query", Should, "q?a=1&b=2&c=&d?e;f=%20", "The query arrives byte for "+
		"byte: it belongs to the backend (a MUST for forward proxies)."),
	targetCase("basic-percent", Must, "a%2Fb%20c%7Ed%C3%A4/%41%0d%0aX-Evil:%201",
		"Percent-encoded bytes are not decoded: %2F is no slash, %0d%0a no line end; decoded, "+
			"they reach other paths and make fields."),
	targetCase("basic-dots", Should, "a/../b//c/./d;p=1", "Dots and double slashes in the path "+
		"are not tidied up: a gateway must not change the path."),
	targetCase("basic-reserved", Should, "a:b@c!$&'()*+,;=~_-.", "Every character that a path "+
		"may hold passes as it is: !$&'()*+,;=:@ need no escape."),
	Case{ID: "basic-status", Level: Must, RFC: "RFC 9110 §15",
		Why: "Any status the backend chooses reaches the client, an unknown one (299, 599) too: " +
			"the client acts on it.",
		Run: func(t *T) {
			t.Serve(func(x *Exchange) { // each time, if the proxy tries again after a 503
				code, _ := strconv.Atoi(last(x.Request()))
				x.Send(Reply(code, "body of it", "Location: /elsewhere"))
			})
			for _, code := range []int{201, 206, 299, 301, 401, 404, 418, 500, 503, 599} {
				r := t.Do(t.Get(strconv.Itoa(code)), "GET")
				t.Whole(r, code)
				t.SameBody("the client", r.Body, []byte("body of it"))
			}
		}},
	Case{ID: "basic-binary", Level: Must, RFC: "RFC 9110 §6.4",
		Why: "All 256 byte values pass in both bodies: C's string functions stop at a zero byte, " +
			"a picture does not.",
		Run: func(t *T) {
			all := make([]byte, 256)
			for i := range all {
				all[i] = byte(i)
			}
			t.Serve(func(x *Exchange) {
				q := x.Request()
				if d := suite.FirstDifference(q.Body, all); d != "" {
					t.Errorf("the backend got another body: %s %s", d, q.Problem)
				}
				x.Send(Reply(200, string(all)))
			})
			r := t.Do(t.Req("POST", "bytes", string(all)), "POST")
			t.Whole(r, 200)
			t.SameBody("the client", r.Body, all)
		}},
	Case{ID: "basic-request-fields", Level: Should, RFC: "RFC 9110 §5.1",
		Why: "Request fields the proxy does not know pass unchanged, repeated ones in their " +
			"order: applications are built on them.",
		Run: func(t *T) {
			c := t.Dial()
			c.Send(t.Get("f", "X-One: 1", "Cookie: a=b; c=d", "Authorization: Basic Zm9v",
				"X-Rep: first",
				"If-None-Match: \"e\"", "Range: bytes=0-4", "X-Rep: second",
				"X-Comma: a, b", "Accept: */*;q=0.1"))
			x := t.Expect(c)
			q := x.Request()
			x.Send(Reply(200, "ok"))
			x.Close()
			t.Whole(c.Final("GET"), 200)
			sameFields(t, "the backend", &q.Head, "X-One: 1", "Cookie: a=b; c=d",
				"Authorization: Basic Zm9v",
				"If-None-Match: \"e\"", "Range: bytes=0-4", "X-Comma: a, b", "Accept: */*;q=0.1",
				"X-Rep: first, second")
		}},
	Case{ID: "basic-response-fields", Level: Should, RFC: "RFC 9110 §5.1",
		Why: "Response fields pass unchanged, repeated ones in their order.",
		Run: func(t *T) {
			t.Answer(Reply(200, "ok", "X-One: 1", "ETag: \"v1\"", "X-Rep: first", "Content-Type: "+
				"text/x-odd; a=b",
				"X-Rep: second", "Cache-Control: max-age=5, private",
				"WWW-Authenticate: Basic "+
					"realm=\"a, b\""))
			r := t.Do(t.Get("f"), "GET")
			t.Whole(r, 200)
			sameFields(t, "the client", &r.Head, "X-One: 1", "ETag: \"v1\"", "Content-Type: "+
				"text/x-odd; a=b",
				"Cache-Control: max-age=5, private",
				"WWW-Authenticate: Basic realm=\"a, b\"", "X-Rep: first, second")
		}},
	Case{ID: "basic-set-cookie", Level: Must, RFC: "RFC 9110 §5.3",
		Why: "Several Set-Cookie fields stay several: joined with a comma, browsers lose all but " +
			"one.",
		Run: func(t *T) {
			t.Answer(Reply(200, "ok", "Set-Cookie: a=1; Expires=Wed, 09 Jun 2032 10:18:14 GMT",
				"Set-Cookie: b=2", "Set-Cookie: c=3"))
			r := t.Do(t.Get("c"), "GET")
			t.Whole(r, 200)
			// The proxy may add one of its own.
			if v := r.Values("Set-Cookie"); len(v) < 3 || v[1] != "b=2" || v[2] != "c=3" ||
				len(v) > 4 || slices.Contains(v[:3], v[len(v)-1]) != (len(v) == 3) {
				t.Fatalf("three Set-Cookie fields became %d: %s", len(v), Visible(strings.Join(v,
					" | "), 200))
			}
		}},
	Case{ID: "basic-field-values", Level: Should, RFC: "RFC 9110 §5.5",
		Why: "Empty field values and bytes above 0x7f (obs-text) pass: old clients and file " +
			"names contain them.",
		Run: func(t *T) {
			c := t.Dial()
			c.Send(t.Get("v", "X-Empty:", "X-Text: caf\xe9 \xc3\xa9"))
			x := t.Expect(c)
			q := x.Request()
			x.Send(Reply(200, "ok", "X-Empty:", "X-Text: caf\xe9 \xc3\xa9"))
			x.Close()
			r := c.Final("GET")
			t.Whole(r, 200)
			for who, h := range map[string]*Head{"the backend": &q.Head, "the client": &r.Head} {
				if !h.Has("X-Empty") {
					t.Errorf("%s did not get the field with the empty value", who)
				}
				if v := h.Get("X-Text"); v != "caf\xe9 \xc3\xa9" {
					t.Errorf("%s got X-Text as %s", who, Visible(v, 60))
				}
			}
		}},
	Case{ID: "basic-encoding", Level: Must, RFC: "RFC 9111 §5.2.2.6",
		Why: "A response that says no-transform keeps its Content-Encoding and its bytes: some " +
			"libraries unpack gzip behind one's back.",
		Run: func(t *T) {
			packed := "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff" +
				"\xcbH\xcd\xc9\xc9\x07\x00\x86\xa6\x106\x05\x00\x00\x00"
			t.Answer(Reply(200, packed, "Content-Encoding: gzip", "Cache-Control: no-transform",
				"Content-Type: text/plain"))
			r := t.Do(t.Get("gz"), "GET")
			t.Whole(r, 200)
			t.SameBody("the client", r.Body, []byte(packed))
			if r.Get("Content-Encoding") != "gzip" {
				t.Errorf("Content-Encoding became %s", Visible(r.Get("Content-Encoding"), 40))
			}
		}},
	Case{ID: "basic-no-invention", Level: Should, RFC: "RFC 9110 §7.7",
		Why: "The proxy does not claim on the client's behalf what it did not say: no " +
			"Accept-Encoding, Range or User-Agent of its own.",
		Run: func(t *T) {
			c := t.Dial()
			c.Send(t.Get("plain"))
			x := t.Expect(c)
			q := x.Request()
			x.Send(Reply(200, "ok"))
			x.Close()
			t.Whole(c.Final("GET"), 200)
			for _, f := range []string{"Accept-Encoding", "Range", "User-Agent", "Cookie",
				"If-None-Match", "Expect"} {
				if q.Has(f) {
					t.Errorf("the backend got %s: %s, which the client did not send", f,
						Visible(q.Get(f), 60))
				}
			}
		}},
	Case{ID: "basic-absolute-form", Level: Must, RFC: "RFC 9112 §3.2.2",
		Why: "A server must accept the absolute form (GET http://host/path), and the path must " +
			"arrive.",
		Run: func(t *T) {
			c := t.Dial()
			c.Send("GET http://" + Host + t.Path("abs?x=1") + " HTTP/1.1\r\nHost: " + Host +
				"\r\nConnection: close\r\n\r\n")
			x := t.Expect(c)
			q := x.Request()
			x.Send(Reply(200, "ok"))
			x.Close()
			t.Whole(c.Final("GET"), 200)
			if q.Target != t.Path("abs?x=1") && q.Target != "http://"+Host+t.Path("abs?x=1") {
				t.Errorf("the backend got the target %s", Visible(q.Target, 100))
			}
		}},
	Case{ID: "basic-origin-form", Level: Should, RFC: "RFC 9112 §3.2.1",
		Why: "The backend gets the origin form (/path) even when the client sent the absolute " +
			"form: it is the origin server.",
		Run: func(t *T) {
			c := t.Dial()
			c.Send("GET http://" + Host + t.Path("abs") + " HTTP/1.1\r\nHost: " + Host +
				"\r\nConnection: close\r\n\r\n")
			x := t.Expect(c)
			q := x.Request()
			x.Send(Reply(200, "ok"))
			x.Close()
			c.Final("GET")
			if q.Target != t.Path("abs") {
				t.Errorf("the backend got the target %s", Visible(q.Target, 100))
			}
		}},
	Case{ID: "basic-options-star", Level: Should, RFC: "RFC 9112 §3.2.4",
		Why: "OPTIONS * asks about the server itself: it is answered, or passed on as *, not as " +
			"a path.",
		Run: func(t *T) {
			c := t.Dial()
			c.Send("OPTIONS * HTTP/1.1\r\nHost: " + Host + "\r\nX-Check: " + t.Token +
				"\r\nConnection: close\r\n\r\n")
			x := t.Accept(c)
			if x == nil {
				if r := c.Final("OPTIONS"); r.Status < 200 || r.Status >= 500 && r.Status != 501 {
					t.Fatalf("OPTIONS * got status %d; %s", r.Status, r.Problem)
				}
				return
			}
			if q := x.Request(); q.Target != "*" || q.Method != "OPTIONS" {
				t.Errorf("the backend got %s", Visible(q.Start, 100))
			}
			x.Send(Reply(200, "ok"))
			x.Close()
			t.Whole(c.Final("OPTIONS"), 200)
		}},
	Case{ID: "basic-http-version", Level: Must, RFC: "RFC 9112 §2.3",
		Why: "The proxy puts its own version into what it forwards: a backend's HTTP/1.0 is not " +
			"the client's affair.",
		Run: func(t *T) {
			t.Serve(func(x *Exchange) {
				q := x.Request()
				first := "HTTP/1.1 200 OK\r\n"
				if strings.HasSuffix(q.Target, "/old") {
					first = "HTTP/1.0 200 OK\r\n"
				}
				x.Send(first + "Content-Length: 2\r\nConnection: close\r\n\r\nok")
			})
			now := t.Do(t.Get("new"), "GET")
			old := t.Do(t.Get("old"), "GET")
			t.Whole(now, 200)
			t.Whole(old, 200)
			if now.Version != old.Version {
				t.Errorf("the client gets %s for a backend of HTTP/1.1, %s for one of HTTP/1.0",
					now.Version, old.Version)
			}
		}},
)

// targetCase checks that a request target arrives byte for byte.
func targetCase(id string, l Level, rest, why string) Case {
	return Case{ID: id, Level: l, RFC: "RFC 9110 §7.7", Why: why, Run: func(t *T) {
		c := t.Dial()
		c.Send(t.Get(rest))
		x := t.Expect(c)
		q := x.Request()
		x.Send(Reply(200, "ok"))
		x.Close()
		if q.Target != t.Path(rest) {
			t.Fatalf("the target %s arrived as %s", Visible(t.Path(rest), 100), Visible(q.Target,
				100))
		}
		t.Whole(c.Final("GET"), 200)
	}}
}

// sameFields checks fields given as "Name: value"; several lines of a name
// count as one with ", " between.
func sameFields(t *T, who string, h *Head, lines ...string) {
	for _, l := range lines {
		name, want, _ := strings.Cut(l, ": ")
		if got := strings.Join(h.Values(name), ", "); got != want {
			t.Errorf("%s got %s as %s instead of %s", who, name, Visible(got, 100), Visible(want,
				100))
		}
	}
}
