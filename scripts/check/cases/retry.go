package cases

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// retryCases are about a request that is sent again when a backend fails: whether
// that is done, and that it is not where it would do harm. The tries are counted at
// the backends.
var retryCases = group("retry",
	Case{ID: "retry-broken", Level: Quality, RFC: "RFC 9110 §9.2.2", Mode: Alone,
		Need: NeedsSeveral, Hurts: true,
		Why: "A backend that takes a GET and ends the connection without an answer: another one " +
			"can answer, and the client notices nothing.",
		Run: func(t *T) { newTrial(t, breaks("")).succeeds("GET", "") }},
	retryCase("retry-in-head", Quality, "RFC 9110 §9.2.2", "The same in the middle of the "+
		"response's head: the client has nothing of it yet.",
		breaks("HTTP/1.1 200 OK\r\nContent-Le"),
		func(t *T, tr *trial) { tr.succeeds("GET", "") }),
	retryCase("retry-body", Quality, "RFC 9110 §9.2.2", "A PUT may be done twice, and a body of "+
		"60 KiB can be kept for that: the second backend gets all of it.",
		breaks(""), func(t *T, tr *trial) { tr.succeeds("PUT", string(pattern(51, 60<<10))) }),
	retryCase("retry-body-large", Must, "RFC 9112 §8", "Nobody can keep every body: a PUT of "+
		"1 MiB may fail, but no second backend gets a part of it for the whole.",
		breaks(""), func(t *T, tr *trial) {
			r, _ := tr.try("put", "PUT", string(pattern(52, 1<<20)))
			if r.Status != 200 && r.Status < 500 {
				t.Errorf("the client got %s; %s", Visible(r.Start, 60), r.Problem)
			}
		}),
	retryCase("retry-patch", Must, "RFC 9110 §9.2.2", "PATCH, like POST, may not be done twice: "+
		"what a backend has read of it is not sent again.",
		breaks(""), func(t *T, tr *trial) {
			r := tr.once("patch", "PATCH", "add=1")
			if r.Status >= 200 && r.Status < 500 {
				t.Errorf("the client was told %q although the backend never answered", r.Start)
			}
		}),
	retryCase("retry-begun", Must, "RFC 9112 §8", "When the client has a part of the answer, the "+
		"request is not sent again: two halves are no answer.",
		breaks("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this"),
		func(t *T, tr *trial) {
			if r := tr.once("begun", "GET", ""); r.Status < 500 && r.Problem == "" {
				t.Errorf("the client got an answer that looks complete")
			}
		}),
	retryCase("retry-each-once", Should, "RFC 9110 §15.6.3", "When all backends fail, each was "+
		"asked once at most, and the client is told: a storm of retries begins with one request.",
		func(x *Exchange, name string, try int) {
			if name == "probe" && try > 1 {
				x.Send(Reply(200, "for probe"))
			}
		}, func(t *T, tr *trial) {
			r, asked := tr.try("all", "GET", "")
			slices.Sort(asked)
			if len(slices.Compact(slices.Clone(asked))) < len(asked) {
				t.Errorf("these backends were asked: %v", asked)
			}
			if r.Status < 500 {
				t.Errorf("the client got %s; %s", Visible(r.Start, 60), r.Problem)
			}
		}),
	Case{ID: "retry-refused", Level: Quality, RFC: "RFC 9110 §9.2.2", Mode: Alone,
		Need: NeedsSeveral, Limit: 30 * time.Second,
		Why: "While all backends but one refuse, every request is answered, POSTs too: nobody " +
			"has seen anything of it, so it goes on to the next until one takes it.",
		Run: mostRefuse},
	// Mode Plain, in these two: there a chapter is asked to retry on 503.
	Case{ID: "retry-last-answer", Level: Must, RFC: "RFC 9110 §15.6.4", Mode: Plain,
		Hurts: true,
		Why: "A 503 is a backend's answer: if none has a better one, the client gets that of the " +
			"last, with its fields and body.",
		Run: func(t *T) {
			r, asked := newTrial(t, busy).try("busy", "GET", "")
			t.Whole(r, 503)
			t.SameBody("the client", r.Body, []byte(fmt.Sprintf("try %d is too much", len(asked))))
			sameFields(t, "the client", &r.Head, "X-Busy: yes")
		}},
	Case{ID: "retry-after", Level: Should, RFC: "RFC 9110 §10.2.3", Mode: Plain,
		Need: NeedsSeveral, Hurts: true,
		Why: "A 503 with Retry-After says when to come again: a proxy that tries again after a " +
			"503 passes this one on instead.",
		Run: func(t *T) {
			tr := newTrial(t, busy)
			if _, asked := tr.try("busy", "GET", ""); len(asked) == 1 {
				t.Skip("the proxy does not try again after a 503")
			}
			r := tr.once("later", "GET", "")
			t.Whole(r, 503)
			sameFields(t, "the client", &r.Head, "Retry-After: 7")
		}},
)

// trial has one client's requests tried at the backends, and counts.
type trial struct {
	t  *T
	mu sync.Mutex
	// asked are, by a request's name, the backends that it came to, from 1.
	asked map[string][]int
	body  string       // what every try must bring
	idle  map[int]bool // backends whose last request came over a connection that was idle
}

// fillWith is how many requests succeed before a request is to fail: a proxy may
// allow only so many retries for so many successes.
const fillWith = 120

// newTrial answers all requests but those whose tries are counted: with them fail
// does what it wants, the first try being 1. Each connection is closed, and it goes on
// until those are used up that the case before has left idle at some backend, so that
// no try goes over one that was idle: that is for the group pool.
func newTrial(t *T, fail func(x *Exchange, name string, try int)) *trial {
	tr := &trial{t: t, asked: map[string][]int{}, idle: map[int]bool{}}
	t.Serve(func(x *Exchange) {
		q := x.Request()
		name := last(q)
		if strings.HasPrefix(name, "n") {
			tr.mu.Lock()
			if x.Number > 1 {
				tr.idle[x.Backend] = true
			} else {
				delete(tr.idle, x.Backend)
			}
			tr.mu.Unlock()
			x.Send(Reply(200, "for "+name))
			return
		}
		tr.mu.Lock()
		tr.asked[name] = append(tr.asked[name], x.Backend+1)
		try, body := len(tr.asked[name]), tr.body
		tr.mu.Unlock()
		if body != "" {
			checkUpload(t, q, body)
		}
		fail(x, name, try)
	})
	for next := (&asker{t: t}); next.n < fillWith || tr.someIdle() && next.n < 3*fillWith; {
		c := t.Dial()
		next.ask("a client", c, max(1, fillWith-next.n))
		c.Close()
	}
	return tr
}

// someIdle reports whether further requests may go over connections that were idle.
func (tr *trial) someIdle() bool {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return len(tr.idle) > 0
}

// try sends a request and returns its response and the backends that were asked.
func (tr *trial) try(name, method, body string) (r *Response, asked []int) {
	tr.mu.Lock()
	tr.body = body
	tr.mu.Unlock()
	r = tr.t.Do(tr.t.Req(method, name, body), method)
	time.Sleep(tr.t.Within(quietBackend)) // a further try may be on its way
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.body = ""
	if asked = slices.Clone(tr.asked[name]); len(asked) == 0 {
		tr.t.Fatalf("no backend was asked; the client got %s", Visible(r.Start, 60))
	}
	return r, asked
}

// succeeds fails the case unless another backend has answered.
func (tr *trial) succeeds(method, body string) {
	r, asked := tr.try("try", method, body)
	tr.t.Whole(r, 200)
	tr.t.SameBody("the client", r.Body, []byte("for try"))
	if asked[0] == asked[1] {
		tr.t.Errorf("the backend that had failed was asked again: %v", asked)
	}
}

// once fails the case unless one backend was asked, once.
func (tr *trial) once(name, method, body string) *Response {
	r, asked := tr.try(name, method, body)
	if len(asked) > 1 {
		tr.t.Errorf("the request came to backends %v", asked)
	}
	return r
}

// retryCase is a case for proxies that try again at all.
func retryCase(id string, l Level, rfc, why string, fail func(x *Exchange, name string, try int),
	run func(t *T, tr *trial)) Case {
	return Case{ID: id, Level: l, RFC: rfc, Why: why, Mode: Alone, Need: NeedsSeveral, Hurts: true,
		Run: func(t *T) {
			tr := newTrial(t, fail)
			if _, asked := tr.try("probe", "GET", ""); len(asked) == 1 {
				t.Skip("the proxy does not try again")
			}
			run(t, tr)
		}}
}

// breaks has the first try end after part of a response; probe's after none.
func breaks(part string) func(x *Exchange, name string, try int) {
	return func(x *Exchange, name string, try int) {
		switch {
		case try > 1:
			x.Send(Reply(200, "for "+name))
		case name != "probe":
			x.Send(part)
		}
	}
}

// busy answers 503, and says to "later" when to come again.
func busy(x *Exchange, name string, try int) {
	fields := []string{"X-Busy: yes"}
	if name == "later" {
		fields = append(fields, "Retry-After: 7")
	}
	x.Send(Reply(503, fmt.Sprintf("try %d is too much", try), fields...))
}

// mostRefuse leaves the last backend only, and asks.
func mostRefuse(t *T) {
	farm := t.Lab.Farm
	only := len(farm.Backends) - 1
	var asked atomic.Bool
	t.Serve(func(x *Exchange) {
		x.Request()
		if x.Backend == only {
			asked.Store(true)
		}
		x.Send(Reply(200, "ok"))
	})
	// The one that stays may still be out of service, for what the case before had it do.
	for i, left := 0, t.Span(OutTime); !asked.Load() && left() > 0; i++ {
		t.Do(t.Get(fmt.Sprintf("%d/d", i)), "GET")
		time.Sleep(50 * time.Millisecond)
	}
	down := farm.Backends[:only]
	t.Down(down...)
	defer func() {
		for _, b := range down {
			b.Listen()
		}
		recovered(t)
	}()
	for i := range 2 * len(farm.Backends) {
		method, body := "GET", ""
		if i%2 > 0 {
			method, body = "POST", "amount=100"
		}
		if r := t.Do(t.Req(method, "d", body), method); r.Status != 200 {
			t.Fatalf("request %d (%s) got %q; %s", i+1, method, r.Start, r.Problem)
		}
	}
}
