package cases

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"reverseproxy/scripts/check/suite"
)

// poolCases are about connections to backends that carry more than one request.
// Each is an exchange after which its connection must not be used again, or must
// be used with care; then others ask, and each must get its own answer.
var poolCases = group("pool", append(extraRows(),
	scene{id: "pool-extra-body", rfc: "RFC 9112 §6.3", level: Must,
		why: "A body that is longer than its Content-Length ends there: the rest is neither " +
			"the client's nor the beginning of anybody's answer.",
		reply: Kept(200, "first") + " and more than was announced"}.poolCase(),
	scene{id: "pool-idle-408", rfc: "RFC 9110 §15.5.9", level: Must,
		why: "A backend that is tired of an idle connection says 408 and closes it: that is " +
			"nobody's answer.",
		reply: Kept(200, "first"), idle: func(x *Exchange) { x.Send(tired); x.Close() },
	}.poolCase(),
	scene{id: "pool-idle-reset", rfc: "RFC 9112 §9.5", level: Should,
		why: "An idle backend connection that is reset (the backend was started anew) costs " +
			"no client an error.",
		reply: Kept(200, "first"), idle: (*Exchange).Reset}.poolCase(),
	raceCase("pool-race-close", Should, "A backend closes an idle connection just when it is "+
		"used again: a GET is sent once more, over another connection.",
		(*Exchange).Close),
	raceCase("pool-race-reset", Should, "The same with a reset: no byte of an answer came, so "+
		"a GET can be sent once more.",
		(*Exchange).Reset),
	raceCase("pool-race-408", Quality, "The same with a 408 and the end: it was sent before "+
		"the request came, and is about none.",
		func(x *Exchange) { x.Send(tired); x.Close() }),
	unsent{id: "pool-early-413", status: 413, part: "bbbb",
		why: "A backend that answers 413 in the middle of a body waits for the rest: the " +
			"next request over that connection would be taken for it."}.poolCase(),
	unsent{id: "pool-expect-200", status: 200, field: "Expect: 100-continue\r\n",
		why: "A backend that answers Expect: 100-continue with 200 may still wait for the " +
			"body (Go, CVE-2024-24791): its connection is not for another request."}.poolCase(),
	unsent{id: "pool-expect-417", status: 417, field: "Expect: 100-continue\r\n",
		why: "The same with a 417: the body that the client keeps for itself is still to " +
			"come, for the backend."}.poolCase(),
	expectHead.poolCase(),
	scene{id: "pool-upgrade-body", rfc: "RFC 9110 §7.8", level: Must,
		why: "A request to upgrade may have a body, and the backend may ignore the Upgrade: " +
			"the body is a body, not the next request.",
		ask: func(t *T) string {
			return t.Req("POST", "first", hidden(t), "Connection: Upgrade",
				"Upgrade: websocket")
		},
		serve: func(t *T, x *Exchange, q *Request) {
			x.RequestBody(q)
			checkUpload(t, q, hidden(t))
			x.Send(Kept(200, "first"))
		}}.poolCase(),
	scene{id: "pool-upgrade-early", rfc: "RFC 9110 §7.8", level: Must,
		why: "What a client sends behind its Upgrade is for the new protocol, which begins " +
			"with the 101: of one that is answered 200 the backend sees none (Pingora, " +
			"CVE-2026-2833).",
		ask: func(t *T) string {
			return strings.Replace(upgradeRequest(t), "/ws ", "/first ", 1) +
				"\x81\x05hello" + t.Token + "\r\n\r\n"
		},
		serve: func(t *T, x *Exchange, q *Request) {
			x.Wait(quietBackend, t.Done, func(b []byte) bool { return len(b) > 0 })
			x.Send(Kept(200, "first"))
		},
		get: func(t *T, c *Client) bool { isAnswered(t, c, "GET"); return false },
	}.poolCase(),
	scene{id: "pool-101", rfc: "RFC 9110 §7.8", level: Must,
		why: "A 101 that nobody asked for leaves the backend's connection in a protocol that " +
			"nobody knows: what follows is nobody's answer.",
		reply: "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n" +
			"Upgrade: x\r\n\r\n" + stray,
		get: func(t *T, c *Client) bool { c.Response("GET"); return false },
	}.poolCase(),
	hint.poolCase(),
	Case{ID: "pool-request-limit", Level: Must, RFC: "RFC 9112 §9.3", Mode: Alone,
		Need: NeedsPool, Limit: limitTime + bigTime,
		Why: "A thousand requests over one connection, and a hundred more: a proxy that " +
			"takes no more at some time says Connection: close with the answer before.",
		Run: requestLimit},
	Case{ID: "pool-own-backend", Turns: true, Level: Should, RFC: "–", Mode: Alone, Need: NeedsPool,
		Why: "A connection to one backend is not used for another: with all of them kept, " +
			"none gets less than half of its even share.",
		Run: ownBackend})...)

// What no client of these cases may get: a response to no request, and what a
// backend says before it closes an idle connection.
const (
	stray = "HTTP/1.1 200 OK\r\nDate: Tue, 01 Jul 2025 10:00:00 GMT\r\n" +
		"Content-Length: 5\r\n\r\nstray"
	tired = "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
)

// scene is one case: a first exchange, on which all depends, and what others then
// get. Of its functions any may be nil.
type scene struct {
	id, rfc, why string
	level        Level
	method       string            // of the first request; "": GET
	reply        string            // to it
	ask          func(t *T) string // the first request, if it is not a plain one
	// serve is what the backend does with it, when it has read its head. By default it
	// reads the body and sends reply.
	serve func(t *T, x *Exchange, q *Request)
	// get is how the client takes its answer; it reports whether its connection is
	// then for another request.
	get func(t *T, c *Client) (open bool)
	// idle is what the backend does when the client has its answer.
	idle func(x *Exchange)
	// later is what it does with a later request, if it is not to answer.
	later func(x *Exchange) (done bool)
}

func (s scene) poolCase() Case {
	return Case{ID: s.id, Level: s.level, RFC: s.rfc, Why: s.why, Mode: Alone, Need: NeedsPool,
		Hurts: true, Run: s.run}
}

// anyCase is poolCase for what a proxy without a pool can do wrong as well.
func (s scene) anyCase() Case {
	c := s.poolCase()
	c.Need = suite.NeedsNothing
	return c
}

// run plays the scene twice: once another client is the next to ask, once the same.
func (s scene) run(t *T) {
	answered, idle := make(chan bool), make(chan bool)
	var asked atomic.Bool
	t.Serve(func(x *Exchange) {
		q := x.RequestHead()
		switch name := last(q); {
		case q.Problem != "":
			t.Errorf("the backend got no request: %s", q.Problem)
			x.Reset()
		case name == "smuggled":
			t.Errorf("bytes of the first request reached the backend as a request of their own")
			x.Reset()
		case strings.HasPrefix(name, "first"):
			asked.Store(true)
			s.play(t, x, q)
			if s.idle != nil {
				pass(t, answered)
				s.idle(x)
				x.Noticed()
				pass(t, idle)
			}
			x.Lend()
		case s.later != nil && s.later(x):
		default:
			answer(x, q)
			x.Lend()
		}
	})
	next := &asker{t: t}
	for _, same := range []bool{false, true} {
		c := t.Dial()
		open := s.first(t, c)
		if s.idle != nil {
			if !asked.Swap(false) {
				t.Fatalf("the first request did not reach the backend")
			}
			pass(t, answered)
			pass(t, idle)
		}
		// A proxy that keeps the connection has done so then.
		time.Sleep(t.Within(10 * time.Millisecond))
		if same && open {
			next.ask("the same client", c, len(t.Lab.Farm.Backends))
		}
		for _, who := range []string{"another client", "a third client"} {
			d := t.Dial()
			next.ask(who, d, len(t.Lab.Farm.Backends))
			d.Close()
		}
		if !same && s.get == nil {
			if rest, _ := c.AwaitEnd(quietClient); rest != "" {
				t.Errorf("after its answer the first client got %s", Visible(rest, 200))
			}
		}
		c.Close()
		if !open {
			return
		}
	}
}

// play is the backend's part of the first exchange.
func (s scene) play(t *T, x *Exchange, q *Request) {
	if s.serve != nil {
		s.serve(t, x, q)
		return
	}
	x.RequestBody(q)
	x.Send(s.reply)
}

// first is the client's part of the first exchange; it reports whether the
// connection may carry another request.
func (s scene) first(t *T, c *Client) (open bool) {
	method := s.method
	if method == "" {
		method = "GET"
	}
	raw := t.Req(method, "first", "", "Connection: keep-alive")
	if s.ask != nil {
		raw = s.ask(t)
	}
	c.Send(raw)
	if s.get != nil {
		return s.get(t, c)
	}
	return isAnswered(t, c, method)
}

// isAnswered fails the case unless the first client gets its answer or an error, and
// reports whether its connection goes on.
func isAnswered(t *T, c *Client, method string) (open bool) {
	r := c.Final(method)
	if r.Problem != "" {
		t.Fatalf("the first client: %s", r.Problem)
	}
	if r.Status < 400 && len(r.Body) > 0 {
		t.SameBody("the first client", r.Body, []byte("first"))
	}
	return !r.Names("Connection", "close") && r.Ended != "close"
}

// last is the last part of a request's path.
func last(q *Request) string { return q.Target[strings.LastIndexByte(q.Target, '/')+1:] }

// answer answers a request of an asker, so that its connection may stay.
func answer(x *Exchange, q *Request) {
	x.RequestBody(q)
	x.Send(Kept(200, "for "+last(q)))
}

// asker asks with a new name each time, so that each answer can be told from all others.
type asker struct {
	t *T
	n int
}

// ask sends n requests over c, or fewer if the proxy says that it closes, and wants
// the answers to them. It reports whether the connection stays open.
func (a *asker) ask(who string, c *Client, n int) (open bool) {
	for range n {
		a.n++
		name := fmt.Sprintf("n%d", a.n)
		c.Send(a.t.Get(name, "Connection: keep-alive"))
		r := c.Final("GET")
		if r.Status == 0 {
			a.t.Fatalf("%s, which asked next (request %d), got no answer: %s", who, a.n, r.Problem)
		}
		if r.Status != 200 || r.Problem != "" || string(r.Body) != "for "+name {
			a.t.Fatalf("%s, which asked next, got %s with %s, and not its answer; %s", who,
				Visible(r.Start, 60), Visible(string(r.Body), 60), r.Problem)
		}
		if r.Names("Connection", "close") {
			return false
		}
	}
	return true
}

// pass lets two goroutines of a case go on together.
func pass(t *T, c chan bool) {
	select {
	case c <- true:
	case <-c:
	case <-t.Done:
	}
}

// extraRows are the cases of a whole response that nobody asked for, behind each
// kind of response: at once, and later, when the connection is idle. That behind a
// Content-Length at once is resp-extra-bytes, which needs no pool.
func extraRows() (all []Case) {
	for _, k := range []struct{ name, method, reply, what string }{
		{"length", "GET", Kept(200, "first"), "a response with a Content-Length"},
		{"chunked", "GET", framed("chunked", "first", ""), "the last chunk"},
		{"head", "HEAD", Kept(200, "first")[:len(Kept(200, "first"))-len("first")],
			"the answer to HEAD"},
		{"204", "GET", Kept(204, ""), "a 204"},
		{"304", "GET", Kept(304, ""), "a 304"},
		{"empty", "GET", Kept(200, ""), "a response with Content-Length: 0"},
	} {
		s := scene{rfc: "RFC 9112 §6.3", level: Must, method: k.method}
		if k.name != "length" {
			s.id, s.reply = "pool-extra-"+k.name, k.reply+stray
			s.why = "A second response right behind " + k.what + " is nobody's: kept with the " +
				"connection, it answers the next client."
			all = append(all, s.poolCase())
		}
		s.id, s.reply = "pool-late-"+k.name, k.reply
		s.why = "A second response 50 ms after " + k.what + ", when the connection is idle: that " +
			"is looked at before it is used again."
		s.idle = func(x *Exchange) {
			time.Sleep(50 * time.Millisecond)
			x.Send(stray)
		}
		all = append(all, s.poolCase())
	}
	return all
}

// raceCase has the backend end a connection by the request that comes over it
// again: once, for nginx counts it as a failure of that backend.
func raceCase(id string, l Level, why string, end func(x *Exchange)) Case {
	s := scene{id: id, rfc: "RFC 9112 §9.5", level: l, why: why, reply: Kept(200, "first")}
	c := s.poolCase()
	c.Run = func(t *T) {
		var races atomic.Int64
		s.later = func(x *Exchange) bool {
			if x.Number == 1 || races.Add(1) > 1 {
				return false
			}
			end(x)
			return true
		}
		s.run(t)
		if races.Load() == 0 {
			t.Skip("no request came over a connection that had carried one")
		}
	}
	return c
}

// unsent is a case of a request whose body the backend answers before it has it.
type unsent struct {
	id, why     string
	field, part string // of the request: a further field line, and how its body begins
	status      int
}

func (u unsent) poolCase() Case {
	body := strings.Repeat("b", 40)
	return scene{id: u.id, rfc: "RFC 9112 §9.3", level: Must, why: u.why,
		ask: func(t *T) string {
			return strings.Replace(post(t, fmt.Sprintf("%sContent-Length: %d\r\n", u.field,
				len(body)), u.part), "/s ", "/first ", 1)
		},
		serve: func(t *T, x *Exchange, q *Request) {
			x.Send(Kept(u.status, "first"))
			// It goes on to read the body, as it must if its connection is to stay.
			foreign := func(b []byte) bool {
				return !strings.HasPrefix(body, string(b[:min(len(b), len(body))]))
			}
			x.Wait(suite.CaseTime, t.Done,
				func(b []byte) bool { return len(b) >= len(body) || foreign(b) })
			if foreign(x.Take(len(body))) {
				t.Errorf("another request came where the backend waits for the rest of the body")
				x.Reset()
			}
		},
		// The client keeps the rest for itself, unless it is asked for it: by a 100,
		// or by a proxy that waits for it and answers only then.
		get: func(t *T, c *Client) bool {
			c.Wait(300*time.Millisecond, t.Done,
				func(b []byte) bool { return suite.HeadEnd(b) >= 0 })
			n, _ := c.State()
			r := &Response{}
			if n > 0 {
				r = c.Response("POST")
			}
			if r.Status < 200 {
				c.Send(body[len(u.part):])
				r = c.Final("POST")
			}
			if r.Status != u.status && r.Status < 400 || r.Problem != "" {
				t.Fatalf("the first client got %s; %s", Visible(r.Start, 60), r.Problem)
			}
			return false // what it sent next would be the body
		}}.poolCase()
}

// expectHead: the 100 to a request without a body, and a HEAD behind it.
var expectHead = scene{id: "pool-expect-head", rfc: "RFC 9110 §10.1.1", level: Must,
	why: "A GET with Expect, and behind it a HEAD, at once: who counts the 100 as an answer, or " +
		"forgets that HEAD has no body, shifts all answers by one (Netty, CVE-2026-100666).",
	ask: func(t *T) string {
		return t.Get("first-1", "Connection: keep-alive", "Expect: 100-continue") +
			t.Req("HEAD", "first-2", "", "Connection: keep-alive") +
			t.Get("first-3", "Connection: keep-alive")
	},
	serve: func(t *T, x *Exchange, q *Request) {
		reply := Kept(200, last(q))
		if q.Method == "HEAD" {
			reply, _, _ = strings.Cut(reply, "\r\n\r\n")
			reply += "\r\n\r\n"
		}
		if q.Names("Expect", "100-continue") {
			reply = "HTTP/1.1 100 Continue\r\n\r\n" + reply
		}
		x.Send(reply)
	},
	get: func(t *T, c *Client) bool {
		for i, method := range []string{"GET", "HEAD", "GET"} {
			r := c.Final(method)
			if i == 0 && r.Status == 417 { // an answer as well
				return false
			}
			t.Whole(r, 200)
			if want := fmt.Sprintf("first-%d", i+1); method == "GET" {
				t.SameBody("the first client", r.Body, []byte(want))
			}
			if r.Names("Connection", "close") {
				return false
			}
		}
		return true
	}}

// hint: a backend that says how long it will wait. It does not close here, so that
// a request which comes later than that is seen.
var hint = scene{id: "pool-hint", rfc: "RFC 9112 §9.5", level: Quality,
	why: "A backend that says Keep-Alive: timeout=1 gets no request over that connection 1.1 s " +
		"later: it would close just then, and a POST that meets the end is lost.",
	serve: func(t *T, x *Exchange, q *Request) {
		x.Send(Kept(200, "first", "Keep-Alive: timeout=1"))
		x.Wait(suite.CaseTime, t.Done, func(b []byte) bool { return len(b) > 0 })
		if n, _ := x.State(); n > 0 {
			t.Errorf("a request came over a connection that was said to end 100 ms before")
			x.Reset()
		}
	},
	get: func(t *T, c *Client) bool {
		t.Whole(c.Final("GET"), 200)
		select {
		case <-time.After(time.Second + t.Within(100*time.Millisecond)):
		case <-t.Done:
		}
		return false
	}}

// limitTime is how long a proxy may take for the requests of requestLimit. One that takes
// longer is slow, not wrong: then nothing is known of its limit.
const limitTime = time.Minute

// requestLimit sends more requests over one connection than nginx takes by default
// (1,000), and then one of another client.
func requestLimit(t *T) {
	t.Serve(func(x *Exchange) {
		answer(x, x.RequestHead())
		x.Keep()
	})
	next := &asker{t: t}
	left := t.Span(limitTime)
	c := t.Dial()
	for open := true; open && next.n < 1100; {
		if left() <= 0 {
			t.Skip(fmt.Sprintf("%d requests over one connection took %v", next.n, limitTime))
		}
		open = next.ask("the client", c, 1)
	}
	c.Close()
	c = t.Dial()
	next.ask("another client", c, 1)
	c.Close()
}

// ownBackend asks over kept connections and counts who is asked.
func ownBackend(t *T) {
	counts := make([]int, len(t.Lab.Farm.Backends))
	if len(counts) < 2 {
		t.Skip("the proxy has one backend")
	}
	var mu sync.Mutex
	t.Serve(func(x *Exchange) {
		mu.Lock()
		counts[x.Backend]++
		mu.Unlock()
		answer(x, x.RequestHead())
		x.Keep()
	})
	next := &asker{t: t}
	const each = 10
	for range each {
		c := t.Dial()
		next.ask("a client", c, len(counts))
		c.Close()
	}
	mu.Lock()
	defer mu.Unlock()
	for i, k := range counts {
		if k < each/2 {
			t.Errorf("backend %d got %d of %d requests: %v", i+1, k, each*len(counts), counts)
		}
	}
}
