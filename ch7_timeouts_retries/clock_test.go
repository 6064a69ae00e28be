//go:build unix

package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"reverseproxy/internal/harness"
	"reverseproxy/internal/narrate"
)

// credit is how long a client may be as slow as it likes. How long things take to the
// moment, package retry tests with a clock of its own.
const credit = 5 * time.Second

// ended waits until a request has failed for a reason, and wants no backend to be blamed.
func ended(t *testing.T, p *harness.Proxy, why string) {
	t.Helper()
	e := p.WaitEvent(t, why, func(e narrate.Event) bool {
		return e.Kind == narrate.KindRequest && strings.Contains(e.Err, why)
	})
	if e.Fault == "backend" {
		t.Errorf("a backend is to blame: %+v", e)
	}
}

// -total-timeout ends a request whatever its tries do, and no backend is to blame.
func TestTotal(t *testing.T) {
	t.Parallel()
	const total = 2 * time.Second
	pause := func(_ int, _ *http.Request, conn *net.TCPConn) bool {
		conn.SetReadDeadline(time.Now().Add(time.Minute))
		io.Copy(io.Discard, conn)
		return false
	}
	slowly := func(_ int, _ *http.Request, conn *net.TCPConn) bool {
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n")
		for range 100 {
			if _, err := io.WriteString(conn, "."); err != nil {
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
		return false
	}
	for _, test := range []struct {
		name, request string
		flags         string
		does          func(int, *http.Request, *net.TCPConn) bool
		status        string // "": the answer breaks off
	}{
		{"no answer", "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "", pause, "504"},
		{"no answer, twice", "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
			"-server-timeout 1500ms -retry-on timeout", pause, "504"},
		{"the body does not come",
			"PUT / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 9\r\n\r\nhalf",
			"", pause, "504"},
		{"a slow answer", "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "", slowly, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			f := newFarm(t, test.does)
			p := harness.Start(t, harness.Retries, append(strings.Fields(test.flags),
				"-total-timeout", total.String(), "-backends", f.flag())...)
			c, began := p.Dial(t), time.Now()
			c.Send(test.request)
			b, err := io.ReadAll(c)
			took, got := time.Since(began), string(b)
			if ended(t, p, "-total-timeout"); took < total {
				t.Errorf("it took %v", took)
			}
			if test.status == "" && err == nil || !strings.HasPrefix(got, "HTTP/1.1 "+test.status) {
				t.Errorf("the client reads %q, %v", got, err)
			}
		})
	}
}

// A client that sends its body too slowly gets 408, one that takes its answer too
// slowly is reset; one that sends and takes 1 kB a second is served.
func TestMinRate(t *testing.T) {
	t.Parallel()
	eager := append(harness.Retries.Demo(1), "-min-rate", "1000000")
	t.Run("it sends 1 B/s", func(t *testing.T) {
		t.Parallel()
		p := harness.Start(t, harness.Retries, "-backends", newFarm(t, breaks).flag())
		sendsSlowly(t, p, p.Dial(t))
	})
	t.Run("it sends 1 B/s, after much on the same connections", func(t *testing.T) {
		t.Parallel()
		p := harness.Start(t, harness.Retries, "-backends", newFarm(t, serves).addrs[0])
		c := p.Dial(t)
		c.Send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n" +
			strings.Repeat(".", 100000))
		if _, _, err := c.TryResponse("POST"); err != nil {
			t.Fatal(err)
		}
		p.WaitPooled(t, 1)
		sendsSlowly(t, p, c)
	})
	t.Run("it sends nothing before the backend says 100", func(t *testing.T) {
		t.Parallel()
		f := newFarm(t, func(n int, r *http.Request, conn *net.TCPConn) bool {
			time.Sleep(8 * time.Second)
			io.WriteString(conn, "HTTP/1.1 100 Continue\r\n\r\n")
			return serves(n, r, conn)
		})
		p := harness.Start(t, harness.Retries, "-backends", f.flag())
		c := p.Dial(t)
		c.Send("PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
		if head := c.Head(); !strings.HasPrefix(head, "HTTP/1.1 100 ") {
			t.Fatalf("the client reads %q", head)
		}
		c.Send("body")
		if r, _, err := c.TryResponse("PUT"); err != nil || r.StatusCode != 200 {
			t.Errorf("%v, %v", r, err)
		}
	})
	t.Run("it sends nothing after the backend has said 100", func(t *testing.T) {
		t.Parallel()
		f := newFarm(t, func(n int, r *http.Request, conn *net.TCPConn) bool {
			io.WriteString(conn, "HTTP/1.1 100 Continue\r\n\r\n")
			return serves(n, r, conn)
		})
		p := harness.Start(t, harness.Retries, "-backends", f.flag())
		c := p.Dial(t)
		began := time.Now()
		c.Send("PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
		c.Head()
		r, _, err := c.TryResponse("PUT")
		took := time.Since(began)
		if err != nil || r.StatusCode != 408 || took < credit {
			t.Errorf("after %v: %v, %v", took, r, err)
		}
		ended(t, p, "comes too slowly")
	})
	t.Run("it takes 1 B/s", func(t *testing.T) {
		t.Parallel()
		p := harness.Start(t, harness.Retries, eager...)
		c := p.Dial(t)
		takesSlowly(t, p, c)
	})
	t.Run("it takes 1 B/s, after much on the same connection", func(t *testing.T) {
		t.Parallel()
		p := harness.Start(t, harness.Retries, eager...)
		c := p.Dial(t)
		c.Send("GET /bytes?n=20000000 HTTP/1.1\r\nHost: a\r\n\r\n")
		if _, _, err := c.TryResponse("GET"); err != nil {
			t.Fatal(err)
		}
		takesSlowly(t, p, c)
	})
	t.Run("it sends and takes 1 kB/s", func(t *testing.T) {
		t.Parallel()
		p := harness.Start(t, harness.Retries, harness.Retries.Demo(1)...)
		c := p.Dial(t)
		const n = 8000
		c.Send(fmt.Sprintf("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", n))
		go drip(c, strings.Repeat(".", 100), 100*time.Millisecond) // ends with the connection
		r, body, err := c.TryResponse("POST")
		if err != nil || r.StatusCode != 200 {
			t.Errorf("%v, %v, %d bytes", r, err, len(body))
		}
	})
}

// sendsSlowly sends a request's body at 1 B/s, and wants 408 when the credit of 5
// seconds is used up.
func sendsSlowly(t *testing.T, p *harness.Proxy, c *harness.Conn) {
	t.Helper()
	began := time.Now()
	c.Send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")
	go drip(c, ".", time.Second) // ends with the connection
	r, _, err := c.TryResponse("POST")
	if took := time.Since(began); err != nil || r.StatusCode != 408 || took < credit {
		t.Errorf("after %v: %v, %v", took, r, err)
	}
	ended(t, p, "comes too slowly")
}

// takesSlowly takes an answer at 1 B/s, and wants a reset when the credit of 5
// seconds is used up.
func takesSlowly(t *testing.T, p *harness.Proxy, c *harness.Conn) {
	t.Helper()
	c.SetReadBuffer(4 << 10)
	began := time.Now()
	c.Send("GET /bytes?n=100000000 HTTP/1.1\r\nHost: a\r\n\r\n")
	over, read := make(chan bool), make(chan bool)
	go func() { // ends with over: the reset is for the last reader
		defer close(read)
		for b := make([]byte, 1); ; {
			select {
			case <-over:
				return
			case <-time.After(time.Second):
				c.Read(b)
			}
		}
	}()
	ended(t, p, "takes its answer too slowly")
	close(over)
	<-read
	if took := time.Since(began); took < credit {
		t.Errorf("it is given up after %v", took)
	}
	if _, err := io.ReadAll(c); err == nil || !strings.Contains(err.Error(), "reset") {
		t.Errorf("the client reads %v, want a reset", err)
	}
}

// drip writes s again and again, until that fails. It catches up if this machine is busy.
func drip(w io.Writer, s string, pause time.Duration) {
	for due := time.Now(); ; due = due.Add(pause) {
		time.Sleep(time.Until(due))
		if _, err := io.WriteString(w, s); err != nil {
			return
		}
	}
}
