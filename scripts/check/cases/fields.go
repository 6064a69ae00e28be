package cases

import (
	"slices"
	"strings"
)

var forwardingFieldsCases = group("forwarding fields",
	hopRequest("hop-connection-names", Must, "RFC 9110 §7.6.1",
		"A field that Connection names is for the proxy alone and is removed; left in, a client "+
			"plants it at the backend.",
		[]string{"Connection: close, X-Private", "X-Private: secret"}, "X-Private"),
	hopRequest("hop-connection-case", Must, "RFC 9110 §7.6.1",
		"Connection options count in any case.",
		[]string{"Connection: X-PRIVATE, close", "x-private: secret"}, "X-Private"),
	hopRequest("hop-connection-two", Must, "RFC 9110 §7.6.1",
		"What two Connection fields name is removed, not only what the first names.",
		[]string{"Connection: close", "Connection: X-One , ,X-Two", "X-One: 1",
			"X-Two: 2"}, "X-One", "X-Two"),
	hopRequest("hop-request", Should, "RFC 9110 §7.6.1",
		"Keep-Alive, Proxy-Connection and TE belong to one connection; they are not passed on.",
		[]string{"Connection: close", "Keep-Alive: timeout=5", "Proxy-Connection: keep-alive",
			"TE: gzip"},
		"Keep-Alive", "Proxy-Connection", "TE"),
	Case{ID: "hop-connection-abuse", Level: Should, RFC: "RFC 9110 §7.6.1",
		Why: "A client that lists Host or Content-Length in Connection must not strip them: the " +
			"backend gets a sound request or none.",
		Run: func(t *T) {
			attack(t, t.Req("POST", "abuse", "hello", "Connection: close, Host, Content-Length")).
				mayForward(func(q *Request) { t.SameBody("the backend", q.Body, []byte("hello")) })
		}},
	Case{ID: "hop-response-names", Level: Must, RFC: "RFC 9110 §7.6.1",
		Why: "A field that the backend's Connection names does not reach the client.",
		Run: func(t *T) {
			t.Answer("HTTP/1.1 200 OK\r\nConnection: close, X-Private\r\nX-Private: " +
				"secret\r\nX-Open: yes\r\nContent-Length: 2\r\n\r\nok")
			r := t.Do(t.Get("hop"), "GET")
			t.Whole(r, 200)
			notThere(t, "the client", &r.Head, "X-Private")
			sameFields(t, "the client", &r.Head, "X-Open: yes")
		}},
	Case{ID: "hop-response", Level: Should, RFC: "RFC 9110 §7.6.1",
		Why: "Keep-Alive and Proxy-Connection of the backend describe its connection, not the " +
			"client's.",
		Run: func(t *T) {
			t.Answer("HTTP/1.1 200 OK\r\nConnection: close\r\nKeep-Alive: " +
				"timeout=77\r\nProxy-Connection: x\r\nContent-Length: 2\r\n\r\nok")
			r := t.Do(t.Get("hop"), "GET")
			t.Whole(r, 200)
			notThere(t, "the client", &r.Head, "Proxy-Connection")
			if strings.Contains(r.Get("Keep-Alive"), "77") {
				t.Errorf("the client got the backend's Keep-Alive: %s",
					Visible(r.Get("Keep-Alive"), 60))
			}
		}},
	Case{ID: "hop-upgrade-alone", Level: Should, RFC: "RFC 9110 §7.8",
		Why: "Upgrade that Connection does not name is meant for nobody; passed on as an upgrade " +
			"it opens a tunnel the client did not ask this proxy for.",
		Run: func(t *T) {
			q := fieldsAtBackend(t, "Upgrade: websocket")
			if q.Has("Upgrade") && q.Names("Connection", "upgrade") {
				t.Errorf("the backend got an upgrade: %s", Visible(q.Get("Upgrade"), 60))
			}
		}},
	Case{ID: "host-one", Level: Must, RFC: "RFC 9112 §3.2",
		Why: "The backend gets exactly one Host: the client's, or the backend's own address; " +
			"virtual hosts depend on it.",
		Run: func(t *T) {
			q := fieldsAtBackend(t)
			h := q.Values("Host")
			if len(h) != 1 {
				t.Fatalf("the backend got %d Host fields", len(h))
			}
			ok := h[0] == Host
			for _, a := range t.Lab.Farm.Addrs() {
				ok = ok || h[0] == a
			}
			if !ok {
				t.Errorf("the backend got Host: %s; the client sent %s", Visible(h[0], 60), Host)
			}
		}},
	Case{ID: "host-told", Level: Quality, RFC: "RFC 7239 §5.3",
		Why: "The backend can tell which host the client asked for, from Host or " +
			"X-Forwarded-Host: it builds links with it.",
		Run: func(t *T) {
			q := fieldsAtBackend(t)
			if q.Get("Host") != Host && q.Get("X-Forwarded-Host") != Host &&
				!strings.Contains(q.Get("Forwarded"), Host) {
				t.Errorf("%s is nowhere in Host %s, X-Forwarded-Host %s", Host,
					Visible(q.Get("Host"), 60), Visible(q.Get("X-Forwarded-Host"), 60))
			}
		}},
	Case{ID: "via-request", Level: Must, RFC: "RFC 9110 §7.6.3",
		Why: "A gateway must add Via to what it forwards: it shows loops and who changed a " +
			"message.",
		Run: func(t *T) {
			q := fieldsAtBackend(t)
			if !q.Has("Via") {
				t.Fatalf("the backend got no Via field")
			}
			if v := q.List("Via"); !strings.HasPrefix(v[len(v)-1],
				"1.1 ") && !strings.HasPrefix(v[len(v)-1], "HTTP/1.1 ") {
				t.Errorf("Via: %s does not begin with the version that was received (1.1) and a "+
					"name", Visible(q.Get("Via"), 80))
			}
		}},
	Case{ID: "via-appended", Level: Must, RFC: "RFC 9110 §7.6.3",
		Why: "An entry of Via that is there stays, and the own one comes after it: the order is " +
			"the way the message took.",
		Run: func(t *T) {
			q := fieldsAtBackend(t, "Via: 1.0 fred, 1.1 p.example.net")
			v := q.List("Via")
			// Whether there is an own entry at all is judged by via-request.
			if len(v) < 2 || v[0] != "1.0 fred" || v[1] != "1.1 p.example.net" {
				t.Errorf("Via arrived as %s", Visible(strings.Join(q.Values("Via"), " | "), 120))
			}
		}},
	Case{ID: "xff-added", Level: Should, RFC: "RFC 7239 §5.2",
		Why: "X-Forwarded-For tells the backend the client's address: else every client looks " +
			"like the proxy.",
		Run: func(t *T) {
			q := fieldsAtBackend(t)
			v := q.List("X-Forwarded-For")
			if strings.Contains(q.Get("Forwarded"), "for=127.0.0.1") && len(v) == 0 {
				return
			}
			if len(v) != 1 || v[0] != "127.0.0.1" {
				t.Errorf("the backend got X-Forwarded-For %s instead of 127.0.0.1",
					Visible(strings.Join(v, ", "), 80))
			}
		}},
	Case{ID: "xff-chain", Level: Quality, RFC: "RFC 7239 §5.2",
		Why: "Behind another proxy the chain grows at its end, over several lines too: the last " +
			"entry is the one that can be trusted.",
		Run: func(t *T) {
			q := fieldsAtBackend(t, "X-Forwarded-For: 192.0.2.1", "X-Forwarded-For: 192.0.2.2, "+
				"192.0.2.3")
			if got := strings.Join(q.List("X-Forwarded-For"), ", "); got != "192.0.2.1, "+
				"192.0.2.2, 192.0.2.3, 127.0.0.1" {
				t.Errorf("the backend got the chain %s", Visible(got, 120))
			}
		}},
	Case{ID: "xff-not-strippable", Level: Quality, RFC: "RFC 9110 §7.6.1",
		Why: "A client that lists X-Forwarded-For in Connection must not hide its address from " +
			"the backend.",
		Run: func(t *T) {
			q := fieldsAtBackend(t, "Connection: close, X-Forwarded-For", "X-Forwarded-For: "+
				"192.0.2.66")
			v := q.List("X-Forwarded-For")
			if len(v) == 0 || v[len(v)-1] != "127.0.0.1" {
				t.Errorf("the backend got X-Forwarded-For %s", Visible(strings.Join(v, ", "), 80))
			}
		}},
	Case{ID: "xf-proto", Level: Quality, RFC: "RFC 7239 §5.4",
		Why: "X-Forwarded-Proto tells the backend whether the client spoke http or https.",
		Run: func(t *T) {
			q := fieldsAtBackend(t)
			if q.Get("X-Forwarded-Proto") != "http" && !strings.Contains(q.Get("Forwarded"),
				"proto=http") {
				t.Errorf("the backend got X-Forwarded-Proto %s",
					Visible(q.Get("X-Forwarded-Proto"), 60))
			}
		}},
	Case{ID: "xf-host", Level: Quality, RFC: "RFC 7239 §5.3",
		Why: "X-Forwarded-Host tells the backend the host that the client asked for, whatever " +
			"Host says.",
		Run: func(t *T) {
			q := fieldsAtBackend(t)
			if q.Get("X-Forwarded-Host") != Host && !strings.Contains(q.Get("Forwarded"),
				"host="+Host) {
				t.Errorf("the backend got X-Forwarded-Host %s", Visible(q.Get("X-Forwarded-Host"),
					60))
			}
		}},
	Case{ID: "date-added", Level: Must, RFC: "RFC 9110 §6.6.1",
		Why: "A response that comes without Date gets one when it is passed on: caches count " +
			"from it.",
		Run: func(t *T) {
			t.Answer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
			r := t.Do(t.Get("date"), "GET")
			t.Whole(r, 200)
			if len(r.Values("Date")) != 1 {
				t.Errorf("the client got %d Date fields", len(r.Values("Date")))
			}
		}},
	Case{ID: "date-kept", Level: Should, RFC: "RFC 9110 §6.6.1",
		Why: "The Date of the backend stays: it says when the content was made.",
		Run: func(t *T) {
			t.Answer("HTTP/1.1 200 OK\r\nDate: Tue, 15 Nov 1994 08:12:31 GMT\r\nContent-Length: " +
				"2\r\nConnection: close\r\n\r\nok")
			r := t.Do(t.Get("date"), "GET")
			t.Whole(r, 200)
			sameFields(t, "the client", &r.Head, "Date: Tue, 15 Nov 1994 08:12:31 GMT")
		}},
	Case{ID: "content-type-not-guessed", Level: Should, RFC: "RFC 9110 §8.3",
		Why: "A response without Content-Type does not get a guessed one from the proxy: a wrong " +
			"guess makes text a script.",
		Run: func(t *T) {
			t.Answer("HTTP/1.1 200 OK\r\nContent-Length: 21\r\nConnection: " +
				"close\r\n\r\n<html>looks like it</")
			r := t.Do(t.Get("type"), "GET")
			t.Whole(r, 200)
			notThere(t, "the client", &r.Head, "Content-Type")
		}},
	Case{ID: "max-forwards-zero", Level: Must, RFC: "RFC 9110 §7.6.2",
		Why: "OPTIONS with Max-Forwards: 0 is answered by the proxy itself: so one finds out who " +
			"stands in a chain.",
		Run: func(t *T) {
			c := t.Dial()
			c.Send(t.Req("OPTIONS", "mf", "", "Max-Forwards: 0"))
			if x := t.Accept(c); x != nil {
				x.Close()
				t.Fatalf("the request was forwarded")
			}
			if r := c.Final("OPTIONS"); r.Status == 0 || r.Status >= 500 {
				t.Errorf("the answer was %q; %s", r.Start, r.Problem)
			}
		}},
	Case{ID: "max-forwards-twice", Level: Should, RFC: "RFC 9110 §7.6.2",
		Why: "Two Max-Forwards fields are no way around the count: the request is refused, or no " +
			"value arrives as it was sent.",
		Run: func(t *T) {
			for _, two := range [][]string{{"5", "5"}, {"5", "3"}, {"0", "5"}, {"5", "0"}} {
				o := attack(t, t.Req("OPTIONS", "mf", "", "Max-Forwards: "+two[0],
					"Max-Forwards: "+two[1]))
				forwards, _ := o.all()
				for _, q := range forwards {
					if v := q.Values("Max-Forwards"); slices.Contains(two,
						"0") || len(v) != 1 || v[0] == two[0] || v[0] == two[1] {
						t.Errorf("Max-Forwards %s and %s arrived as %s", two[0], two[1],
							Visible(strings.Join(v, " | "), 60))
					}
				}
				if len(forwards) == 0 && o.answer.Status == 0 {
					t.Errorf("the request was neither forwarded nor answered: %s", o.said())
				}
			}
		}},
	Case{ID: "max-forwards-count", Level: Must, RFC: "RFC 9110 §7.6.2",
		Why: "Max-Forwards of an OPTIONS request is one less at the next hop.",
		Run: func(t *T) {
			c := t.Dial()
			c.Send(t.Req("OPTIONS", "mf", "", "Max-Forwards: 5"))
			x := t.Expect(c)
			q := x.Request()
			x.Send(Reply(200, "ok"))
			x.Close()
			sameFields(t, "the backend", &q.Head, "Max-Forwards: 4")
		}},
)

// fieldsAtBackend sends a GET with further fields and returns what the
// backend got.
func fieldsAtBackend(t *T, fields ...string) *Request {
	c := t.Dial()
	c.Send(t.Get("fields", fields...))
	x := t.Expect(c)
	q := x.Request()
	x.Send(Reply(200, "ok"))
	x.Close()
	t.Whole(c.Final("GET"), 200)
	if q.Problem != "" {
		t.Fatalf("the backend got no sound request: %s", q.Problem)
	}
	return q
}

// hopRequest checks that fields of a request do not reach the backend.
func hopRequest(id string, l Level, rfc, why string, fields []string, gone ...string) Case {
	return Case{ID: id, Level: l, RFC: rfc, Why: why, Run: func(t *T) {
		q := fieldsAtBackend(t, append([]string{"X-Open: yes"}, fields...)...)
		notThere(t, "the backend", &q.Head, gone...)
		sameFields(t, "the backend", &q.Head, "X-Open: yes")
	}}
}

func notThere(t *T, who string, h *Head, names ...string) {
	for _, n := range names {
		if h.Has(n) {
			t.Errorf("%s got %s: %s", who, n, Visible(h.Get(n), 60))
		}
	}
}
