package forward

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// What must not come too early or too late is measured here with a clock of the test's own
// (testing/synctest). It moves on only when everybody waits: that the machine is slow
// changes nothing.

// A duplex is one end of a connection in memory, of which each direction ends on its own.
// Nothing lies between the ends: a write returns when it has been read.
type duplex struct {
	net.Conn // what is read
	out      net.Conn
	t        *testing.T
}

func newDuplex(t *testing.T) (one, other duplex) {
	in, out := net.Pipe()
	back, forth := net.Pipe()
	return duplex{in, forth, t}, duplex{back, out, t}
}

func (d duplex) Write(b []byte) (int, error) { return d.out.Write(b) }
func (d duplex) CloseWrite() error           { return d.out.Close() }
func (d duplex) Close() error                { d.out.Close(); return d.Conn.Close() }

// A pipe whose other end is closed refuses deadlines; a socket does not.
func (d duplex) SetReadDeadline(t time.Time) error  { d.Conn.SetReadDeadline(t); return nil }
func (d duplex) SetWriteDeadline(t time.Time) error { d.out.SetWriteDeadline(t); return nil }

// send has s written in a goroutine, which ends when that has been read.
func (d duplex) send(s string) {
	if s != "" { // a pipe would pass it on
		go io.WriteString(d, s)
	}
}

// until reads up to and including mark.
func (d duplex) until(mark string) {
	d.t.Helper()
	var got []byte
	for b := make([]byte, 1); !strings.HasSuffix(string(got), mark); {
		if _, err := d.Read(b); err != nil {
			d.t.Fatalf("waits for %q: %v after %q", mark, err, got)
		}
		got = append(got, b[0])
	}
}

// expect reads as many bytes as want has, and compares.
func (d duplex) expect(want string) {
	d.t.Helper()
	got := make([]byte, len(want))
	n, err := io.ReadFull(d, got)
	if diff := cmp.Diff(want, masked(got[:n])); diff != "" {
		d.t.Fatalf("read (%v), -want +got:\n%s", err, diff)
	}
}

// end reads to the end of the connection, and compares.
func (d duplex) end(want string) {
	d.t.Helper()
	got, err := io.ReadAll(d)
	if diff := cmp.Diff(want, masked(got)); diff != "" {
		d.t.Fatalf("read (%v), -want +got:\n%s", err, diff)
	}
}

// An exchange in memory: who plays the client, who plays the backend, and the proxy's view
// of both.
type clocked struct {
	t               *testing.T
	client, backend duplex
	proxy           *Client
	to              *Backend
	over            chan error // what became of each request; closed behind the last
}

// withClock runs a test of some requests, one after the other on one connection to each
// side, with a clock of its own.
func withClock(t *testing.T, limits *Settings, requests int, test func(c clocked)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := newClocked(t, limits, requests)
		test(c)
		c.client.Close()
		c.backend.Close()
		for range c.over {
		}
	})
}

func newClocked(t *testing.T, limits *Settings, requests int) clocked {
	c := clocked{t: t, over: make(chan error, requests)}
	var in, out duplex
	c.client, in = newDuplex(t)
	out, c.backend = newDuplex(t)
	c.proxy = NewClient(in, limits, silent())
	c.to = &Backend{Addr: "backend:80", Connection: "close", settings: limits}
	c.to.Conn, c.to.writeIdle = out, limits.Idle
	if requests > 1 {
		c.proxy.Connection, c.to.Connection = "", ""
	}
	go func() { // ends with the last request
		defer close(c.over)
		var err error
		for range requests {
			var request *Request
			if request, err = ReadRequest(c.proxy); err == nil {
				request.Keep(1000)
				err = steps(t, request, c.to)
			}
			if err == nil && requests > 1 {
				if ok, reason := request.Again(); !ok {
					t.Errorf("the request cannot be written again: %s", reason)
				}
				if ok, reason := c.to.Reusable(); !ok {
					t.Errorf("the backend's connection carries nothing more: %s", reason)
				}
			}
			c.proxy.End(&err)
			c.over <- err
		}
		c.to.Close()
		c.proxy.Close(&err)
	}()
	return c
}

// wantError fails unless the request has failed so.
func (c clocked) wantError(by Side, status int) {
	c.t.Helper()
	var e *Error
	if err := <-c.over; !errors.As(err, &e) || e.By != by || e.Status != status {
		c.t.Errorf("the exchange ended with %#v, want an *Error by %v, Status %d", err, by, status)
	}
}

func (c clocked) wantSuccess() {
	c.t.Helper()
	if err := <-c.over; err != nil {
		c.t.Errorf("the exchange failed: %v", err)
	}
}

// forwardedTo is a header as the backend gets it from a client that has no address.
func forwardedTo(head string) string {
	return strings.Replace(head, "X-Forwarded-For: 127.0.0.1\r\n", "", 1)
}

// nearly is what is less than d by too little to matter.
func nearly(d time.Duration) time.Duration { return d - time.Millisecond }

// What goes on, however slowly, is not cut off: the limits are for standing still.
func TestAliveToTheLastMoment(t *testing.T) {
	limits := generous()
	limits.Idle, limits.Server = time.Minute, time.Minute
	for name, body := range map[string]struct{ head, part, end string }{
		"length":  {"Content-Length: 16\r\n", "x", ""},
		"chunked": {chunks, "1\r\nx\r\n", "0\r\n\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			withClock(t, limits, 1, func(c clocked) {
				c.client.send("POST / HTTP/1.1\r\nHost: a\r\n" + body.head + "\r\n")
				c.backend.until("\r\n\r\n")
				for range 16 {
					time.Sleep(nearly(limits.Idle))
					c.client.send(body.part)
					c.backend.expect(body.part)
				}
				c.client.send(body.end)
				c.backend.expect(body.end)
				time.Sleep(nearly(limits.Server))
				c.backend.send(status + body.head + "\r\n")
				c.client.until("\r\n\r\n")
				for range 16 {
					time.Sleep(nearly(limits.Idle))
					c.backend.send(body.part)
					c.client.expect(body.part)
				}
				c.backend.send(body.end)
				c.client.end(body.end)
				c.wantSuccess()
			})
		})
	}
}

// The whole header of a response has to come in time, also if its bytes come faster than
// the client would be watched.
func TestDrippingResponse(t *testing.T) {
	limits := generous()
	limits.Server = time.Second
	for _, pause := range []time.Duration{nearly(watchAfter), 2 * watchAfter} {
		withClock(t, limits, 1, func(c clocked) {
			c.client.send(get)
			c.backend.until("\r\n\r\n")
			began, dripped := time.Now(), make(chan struct{})
			go func() { // ends with the connection
				defer close(dripped)
				drip(c.backend, status+"X: "+strings.Repeat("x", 1000), pause)
			}()
			c.client.end(page("504 Gateway Timeout", "the backend did not answer in time"))
			wantTook(c.t, began, limits.Server)
			c.wantError(ByBackend, 504)
			<-dripped
		})
	}
}

// A backend may have a request's last byte, and have answered, before the goroutine that
// has written that byte has come to say so. The request was whole all the same.
func TestAnswerBeforeTheWriteReturns(t *testing.T) {
	for name, body := range map[string]struct{ head, body string }{
		"length":  {"Content-Length: 4\r\n\r\n", "body"},
		"chunked": {chunks + "\r\n", "4\r\nbody\r\n0\r\n\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			withClock(t, generous(), 2, func(c clocked) {
				c.to.Conn = late{c.to.Conn}
				for range 2 {
					c.client.send("PUT / HTTP/1.1\r\nHost: a\r\n" + body.head)
					c.backend.until("\r\n\r\n")
					time.Sleep(time.Second)
					c.client.send(body.body)
					c.backend.until(body.body)
					c.backend.send(ok)
					c.client.until("hi")
					c.wantSuccess()
				}
			})
		})
	}
}

// late is a connection whose writes return when what they have written has long been read.
type late struct{ net.Conn }

func (l late) Write(b []byte) (int, error) {
	n, err := l.Conn.Write(b)
	time.Sleep(endGrace * 9 / 10)
	return n, err
}

// A client that has nothing more to say (nc -N) still gets its answer, for a second.
func TestHalfClosedClientsSecond(t *testing.T) {
	const grace = HalfCloseGrace
	for _, body := range []struct{ name, in, out string }{
		{"no body", get, getOut},
		{"length", postTen + "0123456789", postTenOut + "0123456789"},
		{"chunked", chunkedPost + "0\r\n\r\n", chunkedOut + "0\r\n\r\n"},
	} {
		start := func(c clocked) {
			c.client.send(body.in)
			c.backend.expect(forwardedTo(body.out))
			c.client.CloseWrite()
		}
		t.Run(body.name+", answered in time", func(t *testing.T) {
			withClock(t, generous(), 1, func(c clocked) {
				start(c)
				time.Sleep(nearly(grace))
				c.backend.send(ok)
				c.client.end(okOut)
				c.wantSuccess()
			})
		})
		t.Run(body.name+", not answered", func(t *testing.T) {
			withClock(t, generous(), 1, func(c clocked) {
				start(c)
				began := time.Now()
				c.client.end(page("408 Request Timeout", ErrHalfClosed.Reason))
				wantTook(c.t, began, grace)
				c.wantError(ByClient, 408)
			})
		})
		t.Run(body.name+", half an answer", func(t *testing.T) {
			withClock(t, generous(), 1, func(c clocked) {
				start(c)
				for range 3 { // the second runs from the last byte that was sent to it
					time.Sleep(grace / 2)
					c.backend.send("HTTP/1.1 103 Early Hints\r\n\r\n")
					c.client.until("\r\n\r\n")
				}
				time.Sleep(grace / 2)
				c.backend.send(status + "Content-Length: 10\r\n\r\n")
				c.client.until("\r\n\r\n")
				began := time.Now()
				c.client.end("")
				wantTook(c.t, began, grace)
				c.wantError(ByClient, 408)
			})
		})
	}
	t.Run("an answer that it does not read for long", func(t *testing.T) {
		withClock(t, generous(), 1, func(c clocked) {
			c.client.send(get)
			c.backend.until("\r\n\r\n")
			c.client.CloseWrite()
			c.backend.send(ok)
			time.Sleep(5 * grace / 2) // it is busy elsewhere
			c.client.end(okOut)
			c.wantSuccess()
		})
	})
	t.Run("a change of the protocol", func(t *testing.T) {
		withClock(t, generous(), 1, func(c clocked) {
			c.client.send(upgrade)
			c.backend.until("\r\n\r\n")
			c.client.CloseWrite()
			time.Sleep(nearly(grace))
			c.backend.send(switches)
			c.client.until("\r\n\r\n")
			c.backend.end("")
			time.Sleep(2 * grace) // it is no half-closed request any more
			c.backend.send("hello")
			c.client.expect("hello")
			c.backend.Close()
			c.client.end("")
			c.wantSuccess()
		})
	})
}

// wantTook fails unless it has been d since then, or as much more as it takes to look.
func wantTook(t *testing.T, since time.Time, d time.Duration) {
	t.Helper()
	if took := time.Since(since); took < d || took > d*12/10 {
		t.Errorf("it took %v, want %v", took, d)
	}
}

// A tunnel ends when both ways are silent. One side alone keeps it alive.
func TestTunnelsSilence(t *testing.T) {
	limits := generous()
	limits.Idle = time.Minute
	withClock(t, limits, 1, func(c clocked) {
		c.client.send(upgrade)
		c.backend.until("\r\n\r\n")
		c.backend.send(switches)
		c.client.until("\r\n\r\n")
		for range 5 {
			time.Sleep(nearly(limits.Idle))
			c.backend.send("tick")
			c.client.expect("tick")
		}
		for range 5 {
			time.Sleep(nearly(limits.Idle))
			c.client.send("tock")
			c.backend.expect("tock")
		}
		began := time.Now()
		c.client.end("")
		c.backend.end("")
		if took := time.Since(began); took < limits.Idle || took > 2*limits.Idle {
			c.t.Errorf("it ends after %v of silence, want %v", took, limits.Idle)
		}
		c.wantError(ByClient, 0)
	})
}

// No time limit of one request is left to the next on the same connection.
func TestLimitsEndWithTheirRequest(t *testing.T) {
	limits := generous()
	limits.Server = time.Second
	withClock(t, limits, 2, func(c clocked) {
		c.client.send(get)
		c.backend.until("\r\n\r\n")
		c.backend.send(ok)
		c.client.until("hi")
		c.client.send(chunkedPost)
		c.backend.until("\r\n\r\n")
		time.Sleep(2 * limits.Server) // the body takes longer than a backend may
		c.client.send("5\r\nhello\r\n0\r\n\r\n")
		c.backend.until("0\r\n\r\n")
		c.backend.send(ok)
		c.client.until("hi")
		c.wantSuccess()
		c.wantSuccess()
	})
}

// The beginning of a request that came with the one before has its time limit,
// too, and for the whole header.
func TestHalfARequestBehindAnother(t *testing.T) {
	limits := generous()
	limits.Request = time.Second
	withClock(t, limits, 2, func(c clocked) {
		c.client.send(get + "GET / HTTP/1.1\r\nX: ")
		c.backend.until("\r\n\r\n")
		c.backend.send(ok)
		c.client.until("hi")
		began := time.Now()
		dripped := make(chan struct{})
		go func() { // ends with the connection
			defer close(dripped)
			drip(c.client, "y", limits.Request/20)
		}()
		c.client.until("the request did not come in time\n")
		wantTook(c.t, began, limits.Request)
		c.wantSuccess()
		c.wantError(ByClient, 408)
		c.client.Close()
		<-dripped
	})
}

// Stop ends the wait for clients that have nothing in hand, and only that.
func TestStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := generous()
		var all []clocked
		connect := func(says string) clocked {
			c := newClocked(t, limits, 1)
			all = append(all, c)
			c.client.send(says)
			return c
		}
		answered := func(c clocked) {
			t.Helper()
			c.backend.expect(forwardedTo(getOut))
			c.backend.send(ok)
			c.client.end(okOut)
			c.wantSuccess()
		}
		quiet, busy, part := connect(""), connect(get), connect("GET / HTTP/1.1\r\n")
		lingering := connect("GET /\x80") // it has been answered, and does not leave
		lingering.client.until("no URI may hold\n")
		synctest.Wait()
		began := time.Now()
		limits.Stop()
		for _, c := range []clocked{quiet, lingering} {
			c.client.end("")
			if took := time.Since(began); took > stopGrace {
				t.Errorf("a client that has nothing in hand stays for %v", took)
			}
		}
		lingering.wantError(ByClient, 400)
		if err := <-quiet.over; err != ErrNoRequest {
			t.Errorf("a silent client ended with %v", err)
		}
		late, tooLate := connect(""), connect("") // accepted after Stop
		time.Sleep(nearly(stopGrace))             // its request is on its way
		late.client.send(get)
		answered(late)
		tooLate.client.end("")
		part.client.send("Host: a\r\n\r\n")
		answered(part)
		answered(busy)
		for _, c := range all {
			c.client.Close()
			c.backend.Close()
		}
	})
}
