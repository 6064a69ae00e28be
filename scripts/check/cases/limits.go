package cases

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"reverseproxy/scripts/check/suite"
)

var sizesAndLimitsCases = group("sizes and limits",
	Case{ID: "limit-uri-8000", Level: Should, RFC: "RFC 9110 §4.1",
		Why: "A target of 8,000 bytes passes: that much everybody should support.",
		Run: func(t *T) {
			rest := strings.Repeat("a", 8000-len(t.Path("")))
			c := t.Dial()
			c.Send(t.Get(rest))
			x := t.Expect(c)
			q := x.Request()
			x.Send(Reply(200, "ok"))
			x.Close()
			if q.Target != t.Path(rest) {
				t.Errorf("the target of 8000 bytes arrived with %d", len(q.Target))
			}
			t.Whole(c.Final("GET"), 200)
		}},
	bigHead("limit-field-5000", "A field of 5,000 bytes passes: cookies get that long, and no "+
		"buffer of 4,096 must cut it.", 1, 5000),
	bigHead("limit-fields-80", "Eighty fields pass: proxies in a chain and browsers add them.",
		80, 40),
	bigHead("limit-head-12k", "A head of 12 KiB passes: browsers with many cookies send that.", 6,
		2000),
	Case{ID: "limit-uri-long", Level: Should, RFC: "RFC 9112 §3",
		Why: "A target of 2 MiB is refused (414, or 400/431), not kept in memory and not cut.",
		Run: func(t *T) {
			tooLong(t, "GET "+t.Path(strings.Repeat("a",
				2<<20))+" HTTP/1.1\r\nHost: "+Host+"\r\n\r\n", false)
		}},
	Case{ID: "limit-uri-414", Level: Must, RFC: "RFC 9112 §3",
		Why: "A target longer than any that the proxy wishes to parse must be answered with 414 " +
			"URI Too Long.",
		Run: func(t *T) {
			tooLong(t, "GET "+t.Path(strings.Repeat("a",
				2<<20))+" HTTP/1.1\r\nHost: "+Host+"\r\n\r\n", true, 414)
		}},
	Case{ID: "limit-head-long", Level: Must, RFC: "RFC 9110 §5.4",
		Why: "A head larger than the proxy wishes to process (2 MiB) is refused with a 4xx: " +
			"fields that are ignored open the way for smuggling.",
		Run: func(t *T) { tooLong(t, t.Get("long", longFields()...), false) }},
	Case{ID: "limit-head-431", Level: Quality, RFC: "RFC 6585 §5",
		Why: "For fields that are too large the right answer is 431 Request Header Fields Too " +
			"Large.",
		Run: func(t *T) { tooLong(t, t.Get("long", longFields()...), true, 431) }},
	Case{ID: "limit-head-endless", Level: Should, RFC: "RFC 9112 §2.3",
		Why: "A head without end is cut off after some megabytes at most: else one client fills " +
			"the memory.",
		Run: endlessHead},
	Case{ID: "limit-response-head", Level: Should, Hurts: true, RFC: "RFC 9110 §5.4",
		Why: "A response head of 3,500 bytes passes.",
		Run: func(t *T) { bigReplyHead(t, 3, 1000) }},
	Case{ID: "limit-response-head-16k", Level: Quality, Hurts: true, RFC: "RFC 9110 §5.4",
		Why: "A response head of 16 KiB passes: applications with long cookies and policies send " +
			"that.",
		Run: func(t *T) { bigReplyHead(t, 8, 1900) }},
	Case{ID: "limit-response-endless", Level: Should, Hurts: true, RFC: "RFC 9110 §15.6.3",
		Why: "A backend whose head has no end gets the client a 502, and not all of the memory.",
		Run: endlessReplyHead},
	Case{ID: "limit-line-9000", Level: Quality, RFC: "RFC 9112 §3",
		Why: "A request line of 9,000 bytes is refused with 414 (or 431, 400) as soon as it is " +
			"too long, not when its line end or a timeout has come.",
		Run: func(t *T) { endlessLine(t, 9000) }},
	Case{ID: "limit-line-64k", Level: Should, RFC: "RFC 9112 §3",
		Why: "A request line without an end is refused by 64 KiB, at once: whoever waits for its " +
			"end waits for an attacker.",
		Run: func(t *T) { endlessLine(t, 64<<10) }},
	Case{ID: "limit-chunk-overhead", Level: Quality, RFC: "RFC 9112 §7.1.1",
		Why: "An upload of nothing but overhead (1,000 bytes of extension for each byte of data) " +
			"is refused: it costs the proxy work and moves nothing.",
		Run: func(t *T) {
			t.Serve(func(x *Exchange) {
				if q := x.Request(); q.Problem != "" {
					<-t.Done // no answer of ours may look like the proxy's refusal
				}
				x.Send(Reply(200, "ok"))
			})
			c := t.Dial()
			c.Send(post(t, closeLine("Transfer-Encoding: chunked\r\n"), ""))
			if sent := overhead(t, c.Reader); sent > 0 {
				t.Errorf("%d KiB of overhead were taken", sent>>10)
			}
		}},
	Case{ID: "limit-response-overhead", Level: Quality, Hurts: true, RFC: "RFC 9112 §7.1.1",
		Why: "A response of nothing but overhead is broken off, visibly.",
		Run: func(t *T) {
			c := t.Dial()
			c.Send(t.Get("overhead"))
			x := t.Expect(c)
			x.Request()
			x.Send("HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n")
			if sent := overhead(t, x.Reader); sent > 0 {
				t.Errorf("%d KiB of overhead were taken", sent>>10)
				return
			}
			if r := c.Final("GET"); r.Status == 200 && r.Problem == "" {
				t.Errorf("the client got a response that looks complete")
			}
		}},
	Case{ID: "limit-chunk-ext", Level: Quality, RFC: "RFC 9112 §7.1.1",
		Why: "A chunk extension of 4 MiB is refused: a recipient ought to limit what it throws " +
			"away.",
		Run: func(t *T) {
			t.Serve(func(x *Exchange) {
				x.Request()
				x.Send(Reply(200, "ok"))
			})
			c := t.Dial()
			c.Send(post(t, closeLine("Transfer-Encoding: chunked\r\n"), "5;a="))
			err := error(nil)
			for i := 0; i < 64 && err == nil && !c.Ended(); i++ {
				err = c.Send(strings.Repeat("x", 64<<10))
			}
			if err == nil {
				c.Send("\r\nhello\r\n0\r\n\r\n")
			}
			if r := c.Final("POST"); r.Status == 200 {
				t.Errorf("a chunk extension of 4 MiB was taken")
			}
		}},
)

// got names what a client was answered.
func got(r *Response) string {
	switch {
	case r.Start == "":
		return "nothing: " + strings.TrimPrefix(r.Problem, "no response: ")
	case r.Problem != "":
		return Visible(r.Start, 80) + "; " + r.Problem
	}
	return Visible(r.Start, 80)
}

var errorsCases = group("errors",
	Case{ID: "error-refused", Level: Should, RFC: "RFC 9110 §15.6.3", Mode: Alone,
		Why: "When the backend refuses the connection the client gets 502 (or 503), not an empty " +
			"reply.",
		Run: func(t *T) {
			r := withBackendsDown(t, t.Get("down"), "GET")
			if r.Status != 502 && r.Status != 503 && r.Status != 504 {
				t.Errorf("the client got %s", got(r))
			}
		}},
	Case{ID: "error-body", Level: Quality, RFC: "RFC 9110 §15.6", Mode: Alone,
		Why: "An error comes with a short body that says why, and does not tell the client the " +
			"backend's address.",
		Run: func(t *T) {
			r := withBackendsDown(t, t.Get("down"), "GET")
			if r.Status < 500 || r.Problem != "" {
				t.Fatalf("the client got %s", got(r))
			}
			if len(r.Body) < 5 || len(r.Body) > 4096 {
				t.Errorf("the body has %d bytes; from 5 to 4096 are a short text", len(r.Body))
			}
			for _, a := range t.Lab.Farm.Addrs() {
				if strings.Contains(string(r.Body), a) {
					t.Errorf("the body tells the backend's address %s: %s", a,
						Visible(string(r.Body), 120))
				}
			}
		}},
	Case{ID: "error-head", Level: Must, RFC: "RFC 9110 §9.3.2", Mode: Alone,
		Why: "The proxy's own error to a HEAD request has no body either.",
		Run: func(t *T) {
			downFor(t, func() {
				c := t.Dial()
				c.Send(t.Req("HEAD", "down", ""))
				r := c.Final("HEAD")
				if r.Status < 500 {
					t.Fatalf("the client got %s", got(r))
				}
				if rest, _ := c.AwaitEnd(quietClient); rest != "" {
					t.Errorf("after the head the client got %s", Visible(rest, 100))
				}
			})
		}},
	Case{ID: "error-head-malformed", Level: Must, RFC: "RFC 9110 §9.3.2",
		Why: "The 400 to a HEAD request that has to be refused (two Hosts, two lengths) has no " +
			"content either.",
		Run: func(t *T) {
			for _, lines := range []string{"Host: evil.example\r\n", "Content-Length: " +
				"5\r\nContent-Length: 7\r\n"} {
				c := t.Dial()
				c.Send("HEAD " + t.Path("h") + " HTTP/1.1\r\nHost: " + Host + "\r\n" + lines +
					"\r\n")
				r := c.Final("HEAD")
				refusedWell(t, r)
				if rest, _ := c.AwaitEnd(quietClient); rest != "" {
					t.Errorf("after the head of the %d the client got %s", r.Status, Visible(rest,
						100))
				}
				c.Close()
			}
		}},
	Case{ID: "error-recovers", Level: Should, RFC: "RFC 9110 §15.6.3", Mode: Alone,
		Why: "When the backend is back, it is used again within 12 s: nobody has to restart the " +
			"proxy.",
		Run: func(t *T) {
			withBackendsDown(t, t.Get("down"), "GET")
			t.Answer(Reply(200, "back"))
			left := t.Span(12 * time.Second)
			for {
				r := t.Do(t.Get("up"), "GET")
				if r.Status == 200 {
					return
				}
				if left() <= 0 {
					t.Fatalf("12 s after the backend came back the client still gets %q", r.Start)
				}
				time.Sleep(100 * time.Millisecond)
			}
		}},
	Case{ID: "error-400-answered", Level: Should, RFC: "RFC 9112 §3",
		Why: "What is no HTTP request is answered with 400 and closed, so that its sender learns " +
			"what is wrong.",
		Run: func(t *T) {
			c := t.Dial()
			c.Send("hello, is anybody there?\r\n\r\n")
			r := c.Final("GET")
			if r.Status/100 != 4 && r.Status != 505 {
				t.Fatalf("the client got %s", got(r))
			}
			if _, ended := c.AwaitEnd(2 * time.Second); !ended {
				t.NoteStall()
				t.Errorf("the connection was still open 2 s after the 400")
			}
		}},
	Case{ID: "error-tls", Level: Should, RFC: "RFC 9112 §3",
		Why: "A TLS handshake on the plain port ends quickly and reaches no backend: people type " +
			"https by mistake.",
		Run: func(t *T) {
			c := t.Dial()
			c.Send("\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03" + string(pattern(4,
				150)) + t.Token + "\r\n\r\n")
			if _, ended := c.AwaitEnd(3 * time.Second); !ended {
				t.NoteStall()
				t.Errorf("the connection was still open after 3 s")
			}
			if x := t.AcceptWithin(20 * time.Millisecond); x != nil {
				t.Errorf("the handshake was forwarded to the backend")
			}
		}},
	Case{ID: "error-tls-at-once", Level: Should, RFC: "RFC 9112 §2.2",
		Why: "The hello of a TLS handshake is answered with 400 at once, not after a timeout: " +
			"curl https:// on the plain port is told what is wrong.",
		Run: func(t *T) {
			// A hello as it is: no line end in it, and none behind it.
			hello := "\x16\x03\x01\x00\xbd\x01\x00\x00\xb9\x03\x03" +
				strings.ReplaceAll(string(pattern(4, 180)), "\n", "x")
			wantAtOnce(t, hello, 400)
		}},
	Case{ID: "error-other-protocols", Level: Should, RFC: "RFC 9112 §2.2",
		Why: "A client of another protocol (SSH, SMTP, Redis, SOCKS) is answered with a 4xx or " +
			"closed at once: as soon as no request can come of it.",
		Run: func(t *T) {
			for _, opening := range []string{"SSH-2.0-OpenSSH_9.2p1\r\n",
				"EHLO mail.example.test\r\n", "*1\r\n$4\r\nPING\r\n", "\x05\x01\x00"} {
				wantAtOnce(t, opening, 0)
			}
		}},
	Case{ID: "error-lingering", Level: Quality, RFC: "RFC 9112 §9.6",
		Why: "A refusal in the middle of an upload reaches the client: closing at once with " +
			"unread bytes resets the connection and destroys the answer.",
		Run: func(t *T) {
			t.Answer(Reply(200, "ok"))
			c := t.Dial()
			c.Send("POST " + t.Path("l") + " HTTP/1.1\r\nHost: " + Host + "\r\nContent-Length: " +
				"5\r\nContent-Length: 100000\r\n\r\n")
			piece := strings.Repeat("x", 10000)
			err := c.Send(piece)
			// The rest comes when the proxy has answered: one that has closed has not read it.
			c.Wait(2*time.Second, t.Done, func(b []byte) bool { return suite.HeadEnd(b) >= 0 })
			for i := 0; i < 9 && err == nil; i++ {
				err = c.Send(piece)
			}
			if r := c.Final("POST"); r.Status/100 != 4 {
				t.Fatalf("the 400 did not reach the client: %q %s", r.Start, r.Problem)
			}
			if err != nil {
				t.Errorf("the connection was reset while the client sent its 100,000 bytes (%v): "+
					"most clients report that, not the 400", err)
			}
		}},
)

// wantAtOnce sends bytes that no request can begin with, and no more. The answer
// has that status, or for 0 any 4xx, 501 or 505, or the connection just ends.
func wantAtOnce(t *T, opening string, status int) {
	c := t.Dial()
	defer c.Close()
	c.Send(opening)
	const limit = 2 * time.Second
	err := c.Wait(limit, t.Done, func(b []byte) bool { return suite.HeadEnd(b) >= 0 })
	n, _ := c.State()
	if n == 0 && err != nil && !errors.Is(err, suite.ErrStalled) && status == 0 {
		return
	}
	if n == 0 {
		t.NoteStall()
		t.Errorf("%v after %s the client had no answer; the connection %s", limit,
			Visible(opening, 40), suite.HowEnded(err))
		return
	}
	r := c.Final("GET")
	if status == 0 {
		refusedWell(t, r)
	} else if r.Status != status {
		t.Errorf("%s was answered %s", Visible(opening, 40), Visible(r.Start, 60))
	}
}

// endlessLine sends a request line of n bytes and no line end.
func endlessLine(t *T, n int) {
	t.Answer(Reply(200, "ok"))
	c := t.Dial()
	line := "GET " + t.Path("")
	c.Send(line + strings.Repeat("a", n-len(line)))
	const limit = 2 * time.Second
	c.Wait(limit, t.Done, func(b []byte) bool { return suite.HeadEnd(b) >= 0 })
	got, _ := c.State()
	if head := string(c.Take(got)); !strings.HasPrefix(head, "HTTP/1.1 4") {
		t.NoteStall()
		t.Errorf("%v after %d bytes without a line end the client had %s", limit, n, Visible(head,
			60))
	}
}

// overhead writes chunks of a byte each, with much around it, until the proxy
// answers on the same connection or ends it; sent is what was taken if it does
// neither within two seconds after the last byte.
func overhead(t *T, s suite.Reader) (sent int64) {
	many := []byte(strings.Repeat("1;"+strings.Repeat("e", 1000)+"\r\nx\r\n", 64))
	for sent < 4<<20 {
		err := s.SendBytes(many)
		if n, _ := s.State(); s.Ended() || n > 0 || err != nil && !errors.Is(err,
			os.ErrDeadlineExceeded) {
			return 0
		}
		sent += int64(len(many))
		if err != nil {
			break // neither taken nor refused
		}
	}
	err := s.Wait(2*time.Second, t.Done, func(b []byte) bool { return len(b) > 0 })
	if err == nil || !errors.Is(err, suite.ErrStalled) {
		return 0
	}
	return sent
}

// bigHead sends n fields of size bytes each.
func bigHead(id, why string, n, size int) Case {
	return Case{ID: id, Level: Should, RFC: "RFC 9110 §5.4", Why: why, Run: func(t *T) {
		var fields, want []string
		for i := 0; i < n; i++ {
			f := fmt.Sprintf("X-Big-%d: %s", i, strings.Repeat(string(rune('a'+i%26)), size))
			fields, want = append(fields, f), append(want, f)
		}
		c := t.Dial()
		c.Send(t.Get("big", fields...))
		x := t.Expect(c)
		q := x.Request()
		x.Send(Reply(200, "ok"))
		x.Close()
		wellFormed(t, q)
		sameFields(t, "the backend", &q.Head, want...)
		t.Whole(c.Final("GET"), 200)
	}}
}

func longFields() []string {
	var out []string
	for i := 0; i < 512; i++ {
		out = append(out, fmt.Sprintf("X-Long-%d: %s", i, strings.Repeat("v", 4000)))
	}
	return out
}

// tooLong sends a head that is too long. With strict set only the statuses
// given will do.
func tooLong(t *T, raw string, strict bool, statuses ...int) {
	t.Serve(func(x *Exchange) {
		x.Request()
		x.Send(Reply(200, "ok"))
	})
	c := t.Dial()
	// Written beside the reading; it ends when the proxy closes.
	go c.Send(raw)
	r := c.Final("GET")
	if strict {
		for _, s := range statuses {
			if r.Status == s {
				return
			}
		}
		t.Fatalf("the client got %q instead of %d; %s", r.Start, statuses[0], r.Problem)
	}
	if r.Status == 200 {
		t.Fatalf("the proxy took a head of %d bytes", len(raw))
	}
	if r.Status >= 500 && r.Status != 501 && r.Status != 505 {
		t.Fatalf("the client got %q: its own fault looks like the backend's", r.Start)
	}
	if r.Status == 0 && strings.Contains(r.Problem, "silent") {
		t.Fatalf("%s", r.Problem)
	}
}

// endlessHead sends fields until the proxy has enough.
func endlessHead(t *T) {
	c := t.Dial()
	c.Send("GET " + t.Path("endless") + " HTTP/1.1\r\nHost: " + Host + "\r\n")
	line := strings.Repeat("X-Endless: "+strings.Repeat("e", 1000)+"\r\n", 64)
	sent, stuck := 0, 0
	for sent < 24<<20 {
		err := c.Send(line)
		if stuck++; errors.Is(err, os.ErrDeadlineExceeded) && stuck < 3 {
			continue // it may be slow; one that reads no more fills no memory
		}
		if stuck = 0; err != nil || c.Ended() {
			return
		}
		if n, _ := c.State(); n > 0 {
			return
		}
		sent += len(line)
	}
	// It may have refused long ago, and read on only so that its answer is not lost. On a
	// busy machine all this is quicker than the one who reads that.
	err := c.Wait(2*time.Second, t.Done, func(b []byte) bool { return len(b) > 0 })
	if errors.Is(err, suite.ErrStalled) {
		t.Errorf("the proxy took %d MiB of a head that does not end", sent>>20)
	}
}

func bigReplyHead(t *T, n, size int) {
	var fields []string
	for i := 0; i < n; i++ {
		fields = append(fields, fmt.Sprintf("X-Big-%d: %s", i, strings.Repeat(string(rune('a'+i)),
			size)))
	}
	t.Answer(Reply(200, "ok", fields...))
	r := t.Do(t.Get("big"), "GET")
	t.Whole(r, 200)
	sameFields(t, "the client", &r.Head, fields...)
}

// endlessReplyHead has the backend send fields without end.
func endlessReplyHead(t *T) {
	took := make(chan bool, 1)
	t.Serve(func(x *Exchange) {
		x.Request()
		x.Send("HTTP/1.1 200 OK\r\n")
		line := strings.Repeat("X-Endless: "+strings.Repeat("e", 1000)+"\r\n", 64)
		for sent := 0; sent < 24<<20; sent += len(line) {
			if x.Send(line) != nil {
				return
			}
		}
		took <- true
	})
	r := t.Do(t.Get("endless"), "GET")
	select {
	case <-took:
		t.Errorf("the proxy took 24 MiB of a head that does not end")
	default:
	}
	if r.Status < 500 {
		t.Errorf("the client got %s; %s", Visible(r.Start, 60), cutText(r.Problem, 150))
	}
}

func cutText(s string, n int) string {
	if len(s) > n {
		return s[:n] + "…"
	}
	return s
}

// downFor runs f while every backend refuses connections.
func downFor(t *T, f func()) {
	t.Down(t.Lab.Farm.Backends...)
	defer func() {
		for _, b := range t.Lab.Farm.Backends {
			if err := b.Listen(); err != nil {
				t.Errorf("the checker cannot listen again: %v", err)
			}
		}
		recovered(t)
	}()
	f()
}

// recovered waits until the proxy serves again after its backends were down, so
// that the cases after this one find it as it was.
func recovered(t *T) {
	if t.Lab.Refresh() || t.Lab.OneShot {
		return
	}
	for left := t.Span(OutTime); left() > 0; {
		if t.Lab.Healthy(2*time.Second) == nil {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func withBackendsDown(t *T, raw, method string) (r *Response) {
	downFor(t, func() { r = t.Do(raw, method) })
	return r
}
