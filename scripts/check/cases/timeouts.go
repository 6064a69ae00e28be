package cases

import (
	"strconv"
	"strings"
	"time"

	"reverseproxy/scripts/check/suite"
)

var timeoutsCases = group("timeouts",
	Case{ID: "timeout-silent-client", Level: Should, RFC: "RFC 9112 §9.5", Mode: Timed,
		Why: "A client that connects and says nothing is cut off: else a few thousand of them " +
			"use up the proxy.",
		Run: func(t *T) {
			limit := timeLimit(t, t.Lab.Timeouts.Header)
			c := t.Dial()
			if _, ended := c.AwaitEnd(limit); !ended {
				t.Errorf("%v after it had connected, the silent client was still served", limit)
			}
		}},
	Case{ID: "timeout-slow-header", Level: Should, RFC: "RFC 9112 §9.5", Mode: Timed,
		Why: "A head that drips in byte by byte is cut off too: the limit is for the whole head, " +
			"not for each byte (slowloris).",
		Run: slowHeader},
	Case{ID: "timeout-408", Level: Quality, RFC: "RFC 9110 §15.5.9", Mode: Timed,
		Why: "A client that is too slow with its head is told so: 408 Request Timeout.",
		Run: func(t *T) {
			limit := timeLimit(t, t.Lab.Timeouts.Header)
			c := t.Dial()
			c.Send("GET " + t.Path("slow") + " HTTP/1.1\r\nHost: " + Host + "\r\n")
			rest, _ := c.AwaitEnd(limit)
			if !strings.HasPrefix(rest, "HTTP/1.1 408 ") {
				t.Errorf("the client got %s", Visible(rest, 80))
			}
		}},
	Case{ID: "timeout-backend", Level: Should, Hurts: true, RFC: "RFC 9110 §15.6.5", Mode: Timed,
		Why: "A backend that does not answer gets the client an error after a while, not an " +
			"endless wait.",
		Run: func(t *T) { silentBackend(t, false) }},
	Case{ID: "timeout-504", Level: Quality, Hurts: true, RFC: "RFC 9110 §15.6.5", Mode: Timed,
		Why: "The right answer for a backend that is too slow is 504 Gateway Timeout.",
		Run: func(t *T) { silentBackend(t, true) }},
	Case{ID: "timeout-body-stalls", Level: Quality, Hurts: true, RFC: "RFC 9112 §8", Mode: Timed,
		Why: "A response that stands still for longer than the idle timeout is broken off, " +
			"visibly.",
		Run: func(t *T) {
			limit := idleLimit(t)
			c := t.Dial()
			c.Send(t.Get("stall"))
			x := t.Expect(c)
			x.Request()
			x.Send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this")
			if _, ended := c.AwaitEnd(limit); !ended {
				t.Errorf("%v after the last byte the client was still waiting", limit)
			}
		}},
	Case{ID: "timeout-upload-stalls", Level: Quality, Hurts: true, RFC: "RFC 9110 §15.5.9",
		Mode: Timed,
		Why: "An upload that stands still for longer than the idle timeout is broken off: it " +
			"holds a backend.",
		Run: func(t *T) {
			limit := idleLimit(t)
			t.Serve(func(x *Exchange) {
				x.RequestHead()
				x.AwaitEnd(suite.CaseTime)
			})
			c := t.Dial()
			c.Send(post(t, "Content-Length: 100\r\n", "only this"))
			if _, ended := c.AwaitEnd(limit); !ended {
				t.Errorf("%v after the last byte the upload was still open", limit)
			}
		}},
	Case{ID: "timeout-tunnel-alive", Level: Quality, RFC: "RFC 9110 §7.8", Mode: Timed,
		Why: "A tunnel outlives the timeout for responses: a WebSocket may be silent for longer " +
			"than an answer may take.",
		Run: func(t *T) {
			if t.Lab.Timeouts.Server == 0 || t.Lab.Timeouts.Server > 3*time.Second ||
				t.Lab.Timeouts.Idle < t.Lab.Timeouts.Server+300*time.Millisecond {
				t.Skip("the proxy's timeouts are not short or not known")
			}
			to := t.Lab.Timeouts
			pause := (to.Server + to.Idle) / 2
			for try := 1; ; try++ {
				began := time.Now()
				c, x, r := tryTunnel(t, "")
				opened := time.Since(began)
				time.Sleep(pause)
				x.Send("still there?")
				// On a busy machine the pause may have grown over the idle timeout, or the
				// backend's answer come after that of the server's.
				steady := opened < min(to.Header, to.Server)/2 &&
					time.Since(began) < to.Idle-100*time.Millisecond
				if steady || try == 5 {
					t.MustBe(r, 101)
					arrives(t, "the client", c.Reader, "still there?")
					return
				}
				c.Close()
			}
		}},
	Case{ID: "timeout-slow-body", Level: Should, RFC: "RFC 9112 §9.5", Mode: Timed,
		Why: "A body that comes slowly but steadily is not broken off, although it takes longer " +
			"in all than any timeout.",
		Run: slowBody},
	Case{ID: "timeout-connect", Level: Quality, RFC: "RFC 9110 §15.6.5", Mode: TimedAlone,
		Why: "A backend that does not even accept (a host that is gone) gets the client an error " +
			"after the connect timeout.",
		Run: blackHole},
)

// margin is what a timeout may be late, in a busy machine too.
const margin = 2500 * time.Millisecond

// limit is how long a case waits for a timeout of d (or an unknown one).
func timeLimit(t *T, d time.Duration) time.Duration {
	if d == 0 {
		d = 5 * time.Second
	}
	if t.Lab.Serial && t.Lab.Single() && d > 4*time.Second {
		t.Skip("the proxy serves one client at a time, and its timeouts are not known to be " +
			"short (-timeouts)")
	}
	d += margin
	t.SetSlow(d)
	return min(d, suite.TimedTime-time.Second)
}

// idleLimit is limit for the idle timeout, which must be known and short.
func idleLimit(t *T) time.Duration {
	if t.Lab.Timeouts.Idle == 0 || t.Lab.Timeouts.Idle > 8*time.Second {
		t.Skip("the proxy's idle timeout is not short or not known")
	}
	return timeLimit(t, t.Lab.Timeouts.Idle)
}

// slowHeader sends a byte now and then, for longer than the timeout.
func slowHeader(t *T) {
	limit := timeLimit(t, t.Lab.Timeouts.Header)
	c := t.Dial()
	c.Send("GET " + t.Path("slow") + " HTTP/1.1\r\nHost: " + Host + "\r\nX-Slow: ")
	for left := t.Span(limit); left() > 0; {
		if c.Send("z") != nil || c.Ended() {
			return
		}
		if rest, ended := c.AwaitEnd(200 * time.Millisecond); ended || rest != "" {
			return
		}
	}
	t.Errorf("%v after it had begun, the head that drips in was still accepted", limit)
}

// silentBackend never answers.
func silentBackend(t *T, strict bool) {
	// It may try them all.
	limit := timeLimit(t, t.Lab.Timeouts.Server*time.Duration(len(t.Lab.Farm.Backends)))
	c := t.Dial()
	c.Send(t.Get("never"))
	x := t.Expect(c)
	x.Request()
	rest, ended := c.AwaitEnd(limit)
	switch {
	case strict && !strings.HasPrefix(rest, "HTTP/1.1 504 "):
		t.Errorf("the client got %s", Visible(rest, 80))
	case !strict && rest == "" && !ended:
		t.Errorf("%v after its request the client had no answer", limit)
	case !strict && !strings.HasPrefix(rest, "HTTP/1.1 5"):
		t.Errorf("the client got %s instead of an error", Visible(rest, 80))
	}
}

// slowBody sends a byte at a time, over more than the timeouts.
func slowBody(t *T) {
	to := t.Lab.Timeouts
	if to.Idle == 0 || to.Idle > 3*time.Second {
		t.Skip("the proxy's timeouts are not short or not known")
	}
	n := int((max(to.Idle, to.Server, to.Header)+700*time.Millisecond)/(250*time.Millisecond)) + 1
	for try := 1; ; try++ {
		c, began := t.Dial(), time.Now()
		c.Send(t.Get("drip"))
		x := t.Expect(c)
		x.Request()
		x.Send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: " +
			strconv.Itoa(n) + "\r\n\r\n")
		// On a busy machine a pause may have grown over a timeout.
		steady := time.Since(began) < min(to.Header, to.Server)/2
		for i := 0; i < n; i++ {
			sent := time.Now()
			x.Send("b")
			time.Sleep(250 * time.Millisecond)
			steady = steady && time.Since(sent) < to.Idle/2
		}
		x.Close()
		r := c.Final("GET")
		if (r.Status != 200 || r.Problem != "") && !steady && try < 5 {
			c.Close()
			continue
		}
		t.Whole(r, 200)
		t.SameBody("the client", r.Body, []byte(strings.Repeat("b", n)))
		return
	}
}

// blackHole makes the backends accept no more.
func blackHole(t *T) {
	if t.Lab.Timeouts.Connect == 0 {
		t.Skip("the proxy's connect timeout is not known")
	}
	limit := timeLimit(t, t.Lab.Timeouts.Connect*time.Duration(2*len(t.Lab.Farm.Backends)))
	t.Down(t.Lab.Farm.Backends...)
	defer func() {
		for _, b := range t.Lab.Farm.Backends {
			b.Listen()
		}
		recovered(t)
	}()
	var deaf []func()
	defer func() {
		for _, hear := range deaf {
			hear()
		}
	}()
	for _, b := range t.Lab.Farm.Backends {
		hear, err := b.Deafen()
		if err != nil {
			t.Skip("this system cannot play a backend that does not accept: " + err.Error())
		}
		deaf = append(deaf, hear)
	}
	c := t.Dial()
	c.Send(t.Get("hole"))
	rest, ended := c.AwaitEnd(limit)
	if rest == "" && !ended {
		t.Fatalf("%v after its request the client had no answer", limit)
	}
	if !strings.HasPrefix(rest, "HTTP/1.1 5") {
		t.Errorf("the client got %s instead of an error", Visible(rest, 80))
	}
}
