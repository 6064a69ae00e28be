package cases

import (
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"reverseproxy/scripts/check/suite"
)

// outcome is what came of a request that could be read in two ways.
type outcome struct {
	t        *T
	answer   *Response
	mu       sync.Mutex
	forwards []*Request // what backends got, read as strictly as possible
	complete []bool     // whether that was a whole message
}

// Quiet times, in which nothing must arrive.
const (
	quietBackend = 50 * time.Millisecond // after a head, before the backend answers
	quietClient  = 50 * time.Millisecond // after the answer, before the case ends
)

// attack sends raw bytes and lets the backend answer whatever arrives.
func attack(t *T, raw string) *outcome {
	o := &outcome{t: t}
	var busy atomic.Int64
	stop := make(chan struct{})
	defer close(stop)
	t.ServeUntil(stop, func(x *Exchange) {
		busy.Add(1)
		defer busy.Add(-1)
		q, whole := overhear(t, x)
		o.mu.Lock()
		o.forwards = append(o.forwards, q)
		o.complete = append(o.complete, whole)
		o.mu.Unlock()
		x.Send(Reply(200, "accepted"))
	})
	c := t.Dial()
	// Written beside the reading: the proxy may answer in the middle of it.
	go c.Send(raw)
	o.answer = c.Final("GET")
	c.AwaitEnd(quietClient)
	c.Close()
	// What is still on its way to the backend. An error that is not the client's, or
	// none at all, says that something is.
	left := t.Span(lateForward)
	for time.Sleep(t.Within(quietClient)); busy.Load() > 0 || o.unexplained() && left() > 0; {
		time.Sleep(5 * time.Millisecond)
	}
	return o
}

// restTime is how long the rest of a request is waited for that need not come: of its head,
// and of its body.
const restTime = 800 * time.Millisecond

// lateForward is how much later than the proxy's answer a backend may see the beginning
// of the request.
const lateForward = 500 * time.Millisecond

// unexplained reports whether the answer speaks of a backend, and none has seen anything.
func (o *outcome) unexplained() bool {
	forwards, _ := o.all()
	return len(forwards) == 0 && !o.rejected() && (o.answer.Status == 0 || o.answer.Status >= 500)
}

// overhear reads a request with all that comes with it, until it is whole or
// silence falls.
func overhear(t *T, x *Exchange) (q *Request, whole bool) {
	head := func(b []byte) bool { return suite.HeadEnd(b) >= 0 }
	x.Wait(restTime, t.Done, head)
	if x.Wait(0, nil, head) != nil {
		n, _ := x.State()
		q = &Request{}
		q.Head = suite.ParseHead(x.Take(n))
		q.Problem = "no whole head"
		return q, false
	}
	q = x.RequestHead()
	if q.Problem != "" {
		return q, true
	}
	f := q.Frame()
	switch {
	case f.Chunked || f.Length > 0:
		whole = overhearBody(t, x, q, f)
	default:
		whole = true
		q.Odd = append(q.Odd, f.Faults...)
		q.Ended = "none"
	}
	x.Wait(quietBackend, t.Done, func(b []byte) bool { return len(b) > 0 })
	if n, _ := x.State(); n > 0 && whole {
		q.Odd = append(q.Odd, "more bytes after the request: "+Visible(string(x.Take(n)), 80))
	}
	return q, whole
}

// overhearBody reads a body that may never end.
func overhearBody(t *T, x *Exchange, q *Request, f suite.Framing) bool {
	r := x.Impatient(restTime)
	q.Odd = append(q.Odd, f.Faults...)
	if f.Chunked {
		r.ReadChunked(&q.Message)
	} else {
		r.ReadLength(&q.Message, f.Length)
	}
	return q.Problem == ""
}

// all returns what reached backends, and which of it was whole.
func (o *outcome) all() ([]*Request, []bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]*Request(nil), o.forwards...), append([]bool(nil), o.complete...)
}

// rejected reports whether the proxy answered with an error of the client's.
func (o *outcome) rejected() bool {
	s := o.answer.Status
	return s/100 == 4 || s == 501 || s == 505
}

// mustReject fails the case unless the request was refused and no backend got
// a whole request.
func (o *outcome) mustReject() {
	t := o.t
	forwards, complete := o.all()
	n := len(forwards)
	for i, q := range forwards {
		if complete[i] {
			t.Errorf("the request was forwarded as %s", Visible(string(q.Raw), 300))
			break
		}
	}
	if !o.rejected() && !(n > 0 && o.answer.Status >= 500) && !(n > 0 && o.answer.Status == 0) {
		t.Errorf("the proxy should answer 400; it answered %s", o.said())
	}
}

func (o *outcome) said() string {
	if o.answer.Status == 0 {
		return "nothing: " + o.answer.Problem
	}
	return Visible(o.answer.Start, 80)
}

// mayForward fails the case unless the request was refused or forwarded as
// exactly one request that can be read in one way only; check, if given,
// looks at that one.
func (o *outcome) mayForward(check func(q *Request)) {
	t := o.t
	forwards, complete := o.all()
	if len(forwards) > 1 {
		t.Errorf("%d requests reached backends where the client sent one; the second: %s",
			len(forwards), Visible(string(forwards[1].Raw), 200))
	}
	for i, q := range forwards {
		if !complete[i] && o.answer.Status != 200 {
			continue // broken off when the fault was found
		}
		for _, f := range q.Ambiguities() {
			t.Errorf("the backend got an ambiguous request: %s", f)
		}
		if q.Problem != "" {
			t.Errorf("the backend got a request that does not end: %s", q.Problem)
		}
		if check != nil && i == 0 {
			check(q)
		}
	}
	if len(forwards) == 0 && !o.rejected() {
		t.Errorf("the request was neither forwarded nor refused with 400; the answer was %s",
			o.said())
	}
}

// Requests that contain the token twice: the second one must never arrive as
// a request of its own.
func hidden(t *T) string {
	return "GET " + t.Path("smuggled") + " HTTP/1.1\r\nHost: " + Host + "\r\n\r\n"
}

// post builds a POST whose head ends in the given lines, followed by rest.
func post(t *T, lines, rest string) string {
	return "POST " + t.Path("s") + " HTTP/1.1\r\nHost: " + Host + "\r\n" + lines + "\r\n" + rest
}

// reject is a case whose request must be refused.
func reject(id string, l Level, rfc, why string, raw func(t *T) string) Case {
	return Case{ID: id, Level: l, RFC: rfc, Why: why,
		Run: func(t *T) { attack(t, raw(t)).mustReject() }}
}

// oneReading is a case whose request may be refused or forwarded in a form
// that has one reading.
func oneReading(id string, l Level, rfc, why string, raw func(t *T) string, check func(t *T,
	q *Request)) Case {
	return Case{ID: id, Level: l, RFC: rfc, Why: why, Run: func(t *T) {
		attack(t, raw(t)).mayForward(func(q *Request) {
			if check != nil {
				check(t, q)
			}
		})
	}}
}

// teVariant hides Transfer-Encoding from some readers: a body that is whole
// by its Content-Length is, read as chunks, a short one and a second request.
func teVariant(id, why, line string) Case {
	return oneReading(id, Must, "RFC 9112 §6.1", why, func(t *T) string {
		body := "0\r\n\r\n" + hidden(t)
		return post(t, "Content-Length: "+strconv.Itoa(len(body))+"\r\n"+line+
			"\r\nConnection: close\r\n",
			body)
	}, nil)
}

// badLength is a Content-Length outside the grammar.
func badLength(id, value, why string) Case {
	return reject(id, Must, "RFC 9112 §6.3", why, func(t *T) string {
		return post(t, "Content-Length: "+value+"\r\nConnection: close\r\n", "hello")
	})
}

// badChunked is a chunked body outside the grammar.
func badChunked(id string, l Level, why, chunks string) Case {
	return reject(id, l, "RFC 9112 §7.1", why, func(t *T) string {
		return post(t, "Transfer-Encoding: chunked\r\nConnection: close\r\n", chunks)
	})
}

// badLine is a field line outside the grammar: refused or dropped.
func badLine(id string, l Level, rfc, why, line string, more ...string) Case {
	return oneReading(id, l, rfc, why, func(t *T) string {
		return "GET " + t.Path("f") + " HTTP/1.1\r\nHost: " + Host + "\r\n" + line +
			"\r\nConnection: close\r\n\r\n"
	}, func(t *T, q *Request) {
		for _, name := range more {
			if q.Has(name) {
				t.Errorf("a part of the damaged line reached the backend as the field %s", name)
			}
		}
	})
}

// refusedAs sends a POST with each of the lines and wants that status.
func refusedAs(t *T, status int, lines ...string) {
	for _, l := range lines {
		o := attack(t, post(t, l, Chunked("hello", 5)))
		if o.answer.Status != status {
			t.Errorf("%s was answered %s, not with %d", Visible(l, 80), o.said(), status)
		}
	}
}

func closeLine(s string) string { return s + "Connection: close\r\n" }

var smugglingLengthsCases = group("smuggling: lengths",
	oneReading("smuggle-cl-te", Must, "RFC 9112 §6.1",
		"Content-Length and Transfer-Encoding together (CL.TE): refused, or forwarded with the "+
			"chunks alone; if proxy and backend each believe another one, a request is smuggled.",
		func(t *T) string {
			body := "0\r\n\r\n" + hidden(t)
			return post(t, "Content-Length: "+strconv.Itoa(len(body))+
				"\r\nTransfer-Encoding: chunked\r\n",
				body)
		}, nil),
	oneReading("smuggle-te-cl", Must, "RFC 9112 §6.1",
		"The other order (TE.CL): the chunk holds a whole request, the Content-Length ends "+
			"before it.",
		func(t *T) string {
			return post(t, "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
				Chunked(hidden(t), 1000))
		}, nil),
	oneReading("smuggle-te-http10", Must, "RFC 9112 §6.1",
		"Transfer-Encoding in an HTTP/1.0 request is faulty framing: refused, or the connection "+
			"ends after it.",
		func(t *T) string {
			body := "0\r\n\r\n" + hidden(t)
			return "POST " + t.Path("s") + " HTTP/1.0\r\nHost: " + Host + "\r\nConnection: " +
				"keep-alive\r\nContent-Length: " +
				strconv.Itoa(len(body)) + "\r\nTransfer-Encoding: chunked\r\n\r\n" + body
		}, nil),
	reject("smuggle-cl-differ", Must, "RFC 9112 §6.3",
		"Two different Content-Length fields: refused with 400, since whoever takes the other "+
			"one sees a second request.",
		func(t *T) string {
			h := hidden(t)
			return post(t, "Content-Length: 0\r\nContent-Length: "+strconv.Itoa(len(h))+"\r\n", h)
		}),
	reject("smuggle-cl-list", Must, "RFC 9112 §6.3",
		"Content-Length: 5, 11 is two different lengths in one field.",
		func(t *T) string { return post(t, "Content-Length: 5, 11\r\n", "hello world") }),
	oneReading("smuggle-cl-same", Must, "RFC 9110 §8.6",
		"The same Content-Length twice: refused, or forwarded once.",
		func(t *T) string {
			return post(t, closeLine("Content-Length: 5\r\nContent-Length: 5\r\n"),
				"hello")
		},
		func(t *T, q *Request) { t.SameBody("the backend", q.Body, []byte("hello")) }),
	badLength("smuggle-cl-plus", "+5", "Content-Length: +5 is no number of the grammar; C's "+
		"strtol takes it, others take 0."),
	badLength("smuggle-cl-minus", "-5", "A negative Content-Length is refused: as an unsigned "+
		"number it is gigantic."),
	badLength("smuggle-cl-hex", "0x5", "Content-Length: 0x5 is 5 for some and 0 for others."),
	badLength("smuggle-cl-junk", "5 junk", "Content-Length: 5 junk is 5 for atoi and an error "+
		"for others."),
	badLength("smuggle-cl-float", "5.0", "Content-Length: 5.0 is no number of the grammar."),
	badLength("smuggle-cl-overflow", "18446744073709551621", "A Content-Length of 2^64+5 wraps "+
		"to 5 in 64 bits."),
	oneReading("smuggle-cl-empty", Must, "RFC 9112 §6.3", "An empty Content-Length is no length.",
		func(t *T) string { return post(t, closeLine("Content-Length:\r\n"), "") }, nil),
)

var smugglingEncodingsCases = group("smuggling: encodings",
	teVariant("smuggle-te-xchunked", "An unknown coding together with a length: some read "+
		"chunked in it.", "Transfer-Encoding: xchunked"),
	teVariant("smuggle-te-identity", "identity was removed from HTTP; beside a length it is "+
		"ambiguous.", "Transfer-Encoding: identity"),
	teVariant("smuggle-te-space-colon", "A space before the colon hides the field from strict "+
		"readers.", "Transfer-Encoding : chunked"),
	teVariant("smuggle-te-leading-space", "A space before the name makes it a continuation for "+
		"some, a field for others.", "X-A: b\r\n Transfer-Encoding: chunked"),
	teVariant("smuggle-te-fold", "The value on a folded line: some join it, some drop it.",
		"Transfer-Encoding:\r\n chunked"),
	teVariant("smuggle-te-tab", "A tab before the value is legal white space: then the length "+
		"must not be forwarded too.", "Transfer-Encoding:\tchunked"),
	teVariant("smuggle-te-vtab", "A vertical tab before the value: white space for C's isspace, "+
		"not for HTTP.", "Transfer-Encoding: \x0bchunked"),
	teVariant("smuggle-te-quoted", "A quoted \"chunked\" is no coding, but some strip quotes.",
		"Transfer-Encoding: \"chunked\""),
	teVariant("smuggle-te-nul", "chunked with a NUL after it: C ends the string there.",
		"Transfer-Encoding: chunked\x00"),
	teVariant("smuggle-te-bare-lf", "A bare LF inside a value starts a field for some.",
		"X-A: b\nTransfer-Encoding: chunked"),
	teVariant("smuggle-te-bare-cr", "A bare CR inside a value starts a field for some.",
		"X-A: b\rTransfer-Encoding: chunked"),
	teVariant("smuggle-te-twice", "Two Transfer-Encoding fields, one of them wrong: which one "+
		"counts?", "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked"),
	teVariant("smuggle-te-list", "chunked followed by another coding: the end of the body is "+
		"unknown.", "Transfer-Encoding: chunked, identity"),
	teVariant("smuggle-te-semicolon", "A parameter on chunked: chunked has none.",
		"Transfer-Encoding: chunked;a=b"),
	teVariant("smuggle-te-underscore", "Transfer_Encoding is another field: it must not be taken "+
		"for the real one.", "Transfer_Encoding: chunked"),
	reject("smuggle-te-not-final", Must, "RFC 9112 §6.3",
		"chunked must be the last coding of a request: else its end is unknown, so 400.",
		func(t *T) string {
			return post(t, "Transfer-Encoding: chunked, gzip\r\n", Chunked("hello", 5))
		}),
	Case{ID: "te-unknown-501", Level: Should, RFC: "RFC 9112 §6.1",
		Why: "A coding that the proxy does not understand (foo, chunked) is answered with 501: " +
			"then the client knows what to leave out.",
		Run: func(t *T) {
			refusedAs(t, 501, "Transfer-Encoding: foo, chunked\r\n", "Transfer-Encoding: "+
				"foo\r\nTransfer-Encoding: chunked\r\n")
		}},
	Case{ID: "te-not-final-400", Level: Should, RFC: "RFC 9112 §6.3",
		Why: "A body that does not end in one chunked has no known end: 400 is the answer (that " +
			"it is refused at all is smuggle-te-not-final).",
		Run: func(t *T) {
			refusedAs(t, 400, "Transfer-Encoding: chunked, gzip\r\n", "Transfer-Encoding: "+
				"chunked, chunked\r\n",
				"Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n")
		}},
	reject("smuggle-te-unknown", Must, "RFC 9112 §6.1",
		"A coding the proxy does not know is refused (501 or 400): it cannot find the end of the "+
			"body.",
		func(t *T) string { return post(t, "Transfer-Encoding: gzip\r\n", "hello") }),
	oneReading("smuggle-te-double", Must, "RFC 9112 §6.1",
		"chunked, chunked: a sender must not chunk twice; refused or read in one way.",
		func(t *T) string {
			return post(t, closeLine("Transfer-Encoding: chunked, chunked\r\n"),
				Chunked("hello", 5))
		}, nil),
)

var smugglingChunksCases = group("smuggling: chunks",
	badChunked("smuggle-chunk-hex-prefix", Must, "A chunk size 0x5 is 0 for some, 5 for others.",
		"0x5\r\nhello\r\n0\r\n\r\n"),
	badChunked("smuggle-chunk-plus", Must, "A chunk size with a sign is outside the grammar.",
		"+5\r\nhello\r\n0\r\n\r\n"),
	badChunked("smuggle-chunk-minus", Must, "A negative chunk size is refused.",
		"-5\r\nhello\r\n0\r\n\r\n"),
	badChunked("smuggle-chunk-overflow", Must, "A chunk size of 2^64+5 wraps to 5 in 64 bits.",
		"10000000000000005\r\nhello\r\n0\r\n\r\n"),
	badChunked("smuggle-chunk-empty", Must, "A chunk without a size: 0 for some.",
		"\r\nhello\r\n0\r\n\r\n"),
	badChunked("smuggle-chunk-junk", Must, "Letters after the size: is it a size?",
		"5g\r\nhello\r\n0\r\n\r\n"),
	badChunked("smuggle-chunk-underscore", Must, "Digits with an underscore: a number in some "+
		"languages.", "0_5\r\nhello\r\n0\r\n\r\n"),
	badChunked("smuggle-chunk-overrun", Must, "More data than the size says: what follows is no "+
		"CRLF.", "5\r\nhello world\r\n0\r\n\r\n"),
	badChunked("smuggle-chunk-underrun", Must, "Less data than the size says: the next size is "+
		"taken for data.", "8\r\nhello\r\n0\r\n\r\nXX\r\n0\r\n\r\n"),
	oneReading("smuggle-chunk-bare-lf", Must, "RFC 9112 §7.1",
		"Chunk lines that end in a bare LF: refused, or written anew with CRLF; passed on raw, "+
			"the next one may count otherwise.",
		func(t *T) string {
			return post(t, closeLine("Transfer-Encoding: chunked\r\n"), "5\nhello\r\n0\n\r\n")
		}, nil),
	oneReading("smuggle-chunk-ext-lf", Must, "RFC 9112 §7.1.1",
		"A bare LF inside a chunk extension (TERM.EXT): some end the line there, some not; never "+
			"passed on raw.",
		func(t *T) string {
			return post(t, closeLine("Transfer-Encoding: chunked\r\n"), "5;a\nhello\r\n0\r\n\r\n")
		}, nil),
	oneReading("smuggle-chunk-ext-cr", Must, "RFC 9112 §7.1.1",
		"A bare CR inside a chunk extension is refused or dropped with the extension.",
		func(t *T) string {
			return post(t, closeLine("Transfer-Encoding: chunked\r\n"),
				"5;a\rb\r\nhello\r\n0\r\n\r\n")
		}, nil),
	Case{ID: "chunk-ext-empty", Level: Quality, RFC: "RFC 9112 §7.1.1",
		Why: "A chunk line with a semicolon and no extension after it, as in 5; is outside the " +
			"grammar: a strict reader refuses it.",
		Run: func(t *T) {
			for _, line := range []string{"5;", "5; ", "5;=b", "5;a=", "5;;a"} {
				attack(t, post(t, closeLine("Transfer-Encoding: chunked\r\n"),
					line+"\r\nhello\r\n0\r\n\r\n")).mustReject()
			}
		}},
	oneReading("smuggle-trailer", Must, "RFC 9110 §6.5.1",
		"Content-Length, Host or Transfer-Encoding in the trailer section are never merged into "+
			"the head.",
		func(t *T) string {
			return post(t, closeLine("Transfer-Encoding: chunked\r\n"),
				Chunked("hello", 5, "Content-Length: 50", "Host: evil.example",
					"Transfer-Encoding: identity"))
		}, func(t *T, q *Request) {
			if strings.Contains(q.Get("Host"), "evil") {
				t.Errorf("the Host of the trailer section became the Host of the request")
			}
			if q.Problem == "" {
				t.SameBody("the backend", q.Body, []byte("hello"))
			}
		}),
)

var smugglingLinesCases = group("smuggling: lines",
	badLine("smuggle-space-colon", Must, "RFC 9112 §5.1",
		"White space between name and colon must be refused with 400: it has been used to hide "+
			"fields.", "X-Role : admin", "X-Role"),
	badLine("smuggle-obs-fold", Must, "RFC 9112 §5.2",
		"A folded field is refused or joined with a space, never passed on in two lines.",
		"X-A: a\r\n b"),
	badLine("smuggle-first-space", Must, "RFC 9112 §2.2",
		"White space before the first field must not make a line of the request line.", " X-A: b"),
	badLine("smuggle-bare-cr", Must, "RFC 9110 §5.5", "A bare CR in a value is refused or "+
		"replaced: some end the line there.", "X-A: a\rX-Evil: 1", "X-Evil"),
	badLine("smuggle-nul", Must, "RFC 9110 §5.5", "A NUL in a value is refused or replaced.",
		"X-A: a\x00b"),
	badLine("smuggle-control", Quality, "RFC 9110 §5.5", "Other control bytes in a value are "+
		"refused or replaced.", "X-A: a\x01\x1bb"),
	badLine("smuggle-name-space", Must, "RFC 9110 §5.1", "A name with a space in it is no token; "+
		"it is refused or dropped.", "X Bad: 1"),
	badLine("smuggle-name-bracket", Must, "RFC 9110 §5.1", "A name with a bracket in it is no "+
		"token.", "X(Bad): 1"),
	badLine("smuggle-name-empty", Must, "RFC 9110 §5.1", "A field without a name is refused or "+
		"dropped.", ": 1"),
	badLine("smuggle-name-utf8", Must, "RFC 9110 §5.1", "A name with bytes above 0x7f is no "+
		"token.", "X-B\xc3\xa4d: 1"),
	badLine("smuggle-no-colon", Must, "RFC 9112 §5", "A line without a colon is no field.",
		"this is no field"),
	Case{ID: "smuggle-bare-lf", Level: Must, RFC: "RFC 9112 §2.2",
		Why: "Lines that end in a bare LF are refused, or forwarded with CRLF.",
		Run: func(t *T) {
			attack(t, "GET "+t.Path("lf")+" HTTP/1.1\nHost: "+Host+"\nX-A: b\nConnection: "+
				"close\n\n").mayForward(nil)
		}},
	Case{ID: "line-leading-lf", Level: Quality, RFC: "RFC 9112 §2.2",
		Why: "A bare LF before the request line is no empty line (CRLF): a strict reader refuses " +
			"it.",
		Run: func(t *T) { attack(t, "\n"+t.Get("lf")).mustReject() }},
	Case{ID: "line-high-bytes", Level: Should, RFC: "RFC 9112 §3.2",
		Why: "A target with a byte from 0x80 up is no URI; it is refused with 400: what it means " +
			"differs from backend to backend.",
		Run: func(t *T) {
			// A parser that looks at four bytes at a time may see one only in some places.
			for _, rest := range []string{"caf\xe9", "caf\xc3\xa9", "q?a=\x80", "q?ab=\x80",
				"q?abc=\x80", "q?abcd=\x80", "\xff"} {
				attack(t, t.Get(rest)).mustReject()
			}
		}},
	requestLine("smuggle-line-space", "GET %PATH% x HTTP/1.1", "A space in the target: three "+
		"words or four?"),
	requestLine("smuggle-line-spaces", "GET  %PATH% HTTP/1.1", "Two spaces after the method are "+
		"refused or made one."),
	requestLine("smuggle-line-tab", "GET\t%PATH%\tHTTP/1.1", "Tabs instead of spaces are refused "+
		"or replaced."),
	requestLine("smuggle-line-control", "GET %PATH%\x01\x7f HTTP/1.1", "Control bytes in the "+
		"target are refused."),
	requestLine("smuggle-line-cr", "GET %PATH%\rX HTTP/1.1", "A bare CR in the request line is "+
		"refused."),
	requestLine("smuggle-line-version", "GET %PATH% HTTP/1.1x", "A malformed version is refused "+
		"with 400 or 505."),
	requestLine("smuggle-line-version2", "GET %PATH% HTTP/9.9", "An unknown major version is "+
		"refused, never passed on."),
	requestLine("smuggle-line-method", "GE(T %PATH% HTTP/1.1", "A method that is no token is "+
		"refused."),
	requestLine("smuggle-line-lower", "GET %PATH% http/1.1", "The protocol name is HTTP in "+
		"capitals; anything else is refused or replaced."),
	Case{ID: "smuggle-http09", Level: Must, RFC: "RFC 9112 §3.2",
		Why: "A request line without a version (HTTP/0.9) is refused or translated, never passed " +
			"on as it is.",
		Run: func(t *T) {
			o := attack(t, "GET "+t.Path("old")+"\r\n\r\n")
			if f, _ := o.all(); len(f) > 0 {
				o.mayForward(nil)
			}
		}},
)

var smugglingHostsCases = group("smuggling: hosts",
	reject("smuggle-host-none", Must, "RFC 9112 §3.2", "HTTP/1.1 without Host must be refused "+
		"with 400.",
		func(t *T) string {
			return "GET " + t.Path("h") +
				" HTTP/1.1\r\nConnection: close\r\n\r\n"
		}),
	reject("smuggle-host-two", Must, "RFC 9112 §3.2", "Two Host fields must be refused with 400: "+
		"filter and backend would look at different ones.",
		func(t *T) string {
			return "GET " + t.Path("h") + " HTTP/1.1\r\nHost: " + Host + "\r\nHost: " +
				"evil.example\r\nConnection: close\r\n\r\n"
		}),
	reject("smuggle-host-invalid", Must, "RFC 9112 §3.2", "A Host that is no host must be "+
		"refused with 400.",
		func(t *T) string {
			return "GET " + t.Path("h") + " HTTP/1.1\r\nHost: a b/c\r\nConnection: close\r\n\r\n"
		}),
	oneReading("smuggle-host-absolute", Must, "RFC 9112 §3.2.2",
		"The host of an absolute target counts, not the Host field: both different must not "+
			"reach the backend.",
		func(t *T) string {
			return "GET http://" + Host + t.Path("h") + " HTTP/1.1\r\nHost: " +
				"evil.example\r\nConnection: close\r\n\r\n"
		}, func(t *T, q *Request) {
			if strings.Contains(q.Get("Host"), "evil") {
				t.Errorf("the backend got Host: %s", Visible(q.Get("Host"), 60))
			}
		}),
)

var smugglingMoreRequestsCases = group("smuggling: more requests",
	Case{ID: "smuggle-body-request", Level: Must, RFC: "RFC 9112 §6",
		Why: "A body that looks like a request is a body.",
		Run: func(t *T) {
			h := hidden(t)
			o := attack(t, t.Req("POST", "s", h))
			o.mayForward(func(q *Request) { t.SameBody("the backend", q.Body, []byte(h)) })
			if o.answer.Status != 200 {
				t.Errorf("a regular request was answered %s", o.said())
			}
		}},
	Case{ID: "smuggle-after-close", Level: Must, RFC: "RFC 9112 §9.6",
		Why: "After a request with Connection: close nothing more on that connection is a request.",
		Run: func(t *T) {
			o := attack(t, t.Get("last")+hidden(t))
			o.mayForward(func(q *Request) {
				if !strings.HasSuffix(q.Target, "/last") {
					t.Errorf("the backend got %s", Visible(q.Start, 100))
				}
			})
		}},
	Case{ID: "smuggle-after-400", Level: Must, RFC: "RFC 9112 §6.3",
		Why: "After refusing a request whose end it cannot know, the proxy closes: what follows " +
			"must not count as a request.",
		Run: func(t *T) {
			h := hidden(t)
			o := attack(t, post(t, "Content-Length: 5\r\nContent-Length: 7\r\n", "hello")+h)
			forwards, _ := o.all()
			for _, q := range forwards {
				if strings.Contains(q.Target, "smuggled") {
					t.Errorf("the bytes after a refused request reached the backend as %s",
						Visible(q.Start, 100))
				}
			}
		}},
	Case{ID: "smuggle-partial-head", Level: Must, RFC: "RFC 9112 §8",
		Why: "A head that breaks off before its empty line is no request: nothing reaches the " +
			"backend.",
		Run: func(t *T) {
			c := t.Dial()
			c.Send("GET " + t.Path("part") + " HTTP/1.1\r\nHost: " + Host + "\r\nX-Half: val")
			time.Sleep(30 * time.Millisecond)
			c.CloseWrite()
			c.AwaitEnd(300 * time.Millisecond)
			c.Close()
			if x := t.AcceptWithin(quietClient); x != nil {
				t.Errorf("the backend got a request that the client did not finish")
			}
		}},
	Case{ID: "smuggle-connect", Level: Should, RFC: "RFC 9110 §9.3.6",
		Why: "CONNECT opens tunnels to anywhere: a reverse proxy refuses it.",
		Run: func(t *T) {
			t.Serve(func(x *Exchange) {
				x.RequestHead()
				x.Send(Reply(405, "not here"))
			})
			c := t.Dial()
			c.Send("CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: 127.0.0.1:22\r\nX-Check: " + t.Token +
				"\r\n\r\n")
			r := c.Final("CONNECT")
			if r.Status/100 == 2 || r.Status == 0 {
				t.Errorf("the answer to CONNECT was %q; %s", r.Start, r.Problem)
			}
		}},
)

// requestLine is a damaged request line; %PATH% becomes the path.
func requestLine(id, line, why string) Case {
	return oneReading(id, Must, "RFC 9112 §3", why, func(t *T) string {
		return strings.Replace(line, "%PATH%", t.Path("l"),
			1) + "\r\nHost: " + Host + "\r\nConnection: close\r\n\r\n"
	}, nil)
}
