//go:build linux

package main

import (
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reverseproxy/internal/harness"
	"reverseproxy/internal/narrate"
	"reverseproxy/internal/proc"
)

// What has come in the same moment is known before anybody is served: a POST does not go
// over a connection whose end lies behind it in the same list of events.
func TestIdleConnectionEndsInTheSameMoment(t *testing.T) {
	p := harness.StartWithBackend(t, harness.Chapter(10), "-reuse", "always")
	c := p.Dial(t)
	c.Send(request)
	b := p.Backend.Accept(t)
	b.Head()
	b.Send(response)
	c.TryResponse("GET")
	p.WaitEvent(t, "an idle connection", func(e narrate.Event) bool {
		return e.Kind == narrate.KindPool && e.State == narrate.Kept
	})

	p.Freeze(t)
	c.Send("POST /mine HTTP/1.1\r\nHost: loop.test\r\nContent-Length: 4\r\n\r\nbody")
	b.Close()
	p.Thaw(t)
	b = p.Backend.Accept(t)
	b.Head()
	b.Send(response)
	if r, _, err := c.TryResponse("POST"); err != nil || r.StatusCode != 200 {
		t.Errorf("the POST is answered with %+v, %v, want 200", r, err)
	}
}

// A client that was told close and sends more all the same gets its answer whole: what it
// has sent is seen, if it came in the same moment as the answer's end.
func TestMoreInTheSameMomentAsTheEnd(t *testing.T) {
	p := harness.StartWithBackend(t, harness.Chapter(10), "-keepalive-requests", "1")
	c := p.Dial(t)
	c.Send(request)
	b := p.Backend.Accept(t)
	b.Head()
	b.Send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nx")
	c.Head()
	p.Freeze(t)
	b.Send("y")
	c.Send(request)
	p.Thaw(t)
	body, err := io.ReadAll(c.R)
	if string(body) != "xy" || err != nil {
		t.Errorf("the body is %q, and then %v, want %q and the end", body, err, "xy")
	}
}

// The time for a client's first header runs from the moment when it was accepted; a byte
// just before its end does not begin it anew.
func TestFirstByteShortBeforeTheEnd(t *testing.T) {
	t.Parallel()
	const timeout = 10 * time.Second
	p := harness.Start(t, harness.Chapter(10), "-request-timeout", fmt.Sprint(timeout))
	began := time.Now()
	c := p.Dial(t)
	time.Sleep(timeout * 2 / 3)
	c.Send("G")
	if r := c.Response("GET"); r.Status != 408 {
		t.Errorf("it is answered with %d, want 408", r.Status)
	}
	if d := time.Since(began); d >= timeout*2/3+timeout {
		t.Errorf("it is answered after %v, want %v", d, timeout)
	}
}

// A client that says nothing sends no request, which is not a malformed one.
func TestSilentClientSentNoRequest(t *testing.T) {
	p := harness.Start(t, harness.Chapter(10), "-request-timeout", "50ms")
	p.Dial(t).Gone()
	p.WaitEvent(t, "why the client's connection is closed", func(e narrate.Event) bool {
		return e.Kind == narrate.KindPool && e.Text == "it sent no request"
	})
}

// Pipes for long bodies have their own part of the descriptors: a body can do without
// one, a connection cannot do without its socket.
func TestPipesLeaveDescriptorsForSockets(t *testing.T) {
	const clients = 60
	b := harness.NewBackend(t)
	p := harness.Launch{Model: harness.Chapter(10), Under: proc.Limited(192),
		Flags: []string{"-backends", b.Addr}}.Start(t)
	body := strings.Repeat("x", 6<<20) // more than the kernel takes
	for i := range clients {
		c := p.Dial(t)
		c.Send(request)
		s := b.Accept(t)
		s.Head()
		s.Send(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(body)))
		if head := c.Head(); !strings.Contains(head, " 200 ") {
			t.Fatalf("client %d: %s", i+1, head)
		}
		go io.WriteString(s, body) // ends with the connection
		if _, err := c.R.ReadByte(); err != nil {
			t.Fatalf("client %d: %v", i+1, err)
		}
	}
}

// The last part of a long body may wait in the pipe for a client that does not read yet: it
// is not forgotten. Which length is just too much for the kernel's buffers, nobody knows.
func TestEndOfTheBodyWaitsInThePipe(t *testing.T) {
	const step, longest = 64 << 10, 6 << 20
	b := harness.NewBackend(t)
	body := make([]byte, longest)
	b.Serve(t, func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.URL.Query().Get("n"))
		w.Header().Set("Content-Length", strconv.Itoa(n))
		w.(http.Flusher).Flush()
		w.Write(body[:n])
	})
	p := harness.Launch{Model: harness.Chapter(10), Flags: []string{"-backends", b.Addr}}.Start(t)
	var clients []*harness.Conn
	for n := 2 * step; n <= longest; n += step {
		c := p.Dial(t)
		c.Send(fmt.Sprintf("GET /?n=%d HTTP/1.1\r\nHost: loop.test\r\n\r\n", n))
		c.Head()
		clients = append(clients, c)
	}
	p.WaitIdle(t)
	for i, c := range clients {
		n := int64(i+2) * step
		c.SetReadDeadline(time.Now().Add(harness.Patience))
		if got, err := io.CopyN(io.Discard, c.R, n); err != nil {
			t.Errorf("%d bytes of %d have come: %v", got, n, err)
		}
	}
}

// isAnswered has the backend answer c's request, over a new connection.
func isAnswered(t *testing.T, p *harness.Proxy, c *harness.Conn) {
	t.Helper()
	b := p.Backend.Accept(t)
	b.Request()
	b.Send(response)
	if r, _, err := c.TryResponse("GET"); err != nil || r.StatusCode != 200 {
		t.Errorf("it is answered with %+v, %v, want 200", r, err)
	}
}

// urge sends a byte as urgent: it is no part of what is sent.
func urge(t *testing.T, c *harness.Conn) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) { err = unix.Send(int(fd), []byte("!"), unix.MSG_OOB) })
	if err != nil {
		t.Fatal(err)
	}
}

// A read ends at an urgent byte, though more may lie behind it, of which epoll has told
// already; and splice does not get past it.
func TestUrgentByte(t *testing.T) {
	const never = "10m" // no deadline has it looked at before this test's patience ends
	part := strings.Repeat("x", 200_000)
	for name, parts := range map[string][2]string{
		"in a header": {request[:10], request[10:]},
		"in a long body": {"POST / HTTP/1.1\r\nHost: loop.test\r\nContent-Length: 400000\r\n\r\n" +
			part, part},
	} {
		t.Run(name, func(t *testing.T) {
			p := harness.StartWithBackend(t, harness.Chapter(10), "-request-timeout", never,
				"-server-timeout", never, "-idle-timeout", never)
			c := p.Dial(t)
			p.WaitEvent(t, "accept", func(e narrate.Event) bool {
				return e.Step == narrate.Accept
			})
			p.Freeze(t)
			for i, part := range parts {
				if i > 0 {
					urge(t, c)
				}
				c.Send(part)
			}
			p.Thaw(t)
			isAnswered(t, p, c)
		})
	}
}

// An accept that fails is not tried again at once: the reason may stay.
func TestAcceptFails(t *testing.T) {
	harness.Need(t, "strace")
	p := harness.Launch{Model: harness.Chapter(10), Under: []string{"strace", "-f", "-qq", "-o",
		"/dev/null", "-e", "inject=accept4:error=EPERM:when=1..3"}}.StartWithBackend(t)
	c := p.Dial(t)
	failed := p.WaitEvents(t, "accept fails", 3, func(e narrate.Event) bool {
		return e.Kind == narrate.KindProblem
	})
	if d := failed[2].Time.Sub(failed[0].Time); d < 50*time.Millisecond {
		t.Errorf("after %v it has been tried three times", d)
	}
	c.Send(request)
	isAnswered(t, p, c)
}

// What a backend has sent before it resets a tunnel reaches the client, though something
// that the client sends meets the reset first.
func TestLastWordInATunnel(t *testing.T) {
	p := harness.StartWithBackend(t, harness.Chapter(10))
	c := p.Dial(t)
	const upgrade = "Connection: Upgrade\r\nUpgrade: echo\r\n\r\n"
	c.Send("GET / HTTP/1.1\r\nHost: loop.test\r\n" + upgrade)
	b := p.Backend.Accept(t)
	b.Head()
	b.Send("HTTP/1.1 101 Switching Protocols\r\n" + upgrade)
	c.Head()
	p.Freeze(t)
	c.Send("more")
	b.Send("goodbye")
	b.Reset()
	p.Thaw(t)
	if last, _ := io.ReadAll(c.R); string(last) != "goodbye" {
		t.Errorf("the client reads %q", last)
	}
}

// However long a timeout is, it ends later than it began.
func TestEndlessTimeouts(t *testing.T) {
	var flags []string
	for _, name := range []string{"connect", "request", "server", "idle", "keepalive"} {
		flags = append(flags, "-"+name+"-timeout", time.Duration(math.MaxInt64).String())
	}
	p := harness.StartWithBackend(t, harness.Chapter(10), flags...)
	c := p.Dial(t)
	var b *harness.Conn
	for range 2 { // the second goes over connections that were idle
		c.Send("POST / HTTP/1.1\r\nHost: loop.test\r\nContent-Length: 2\r\n\r\nx")
		if b == nil {
			b = p.Backend.Accept(t)
		}
		b.Head()
		c.Send("y")
		b.Send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nx")
		c.Head()
		b.Send("y")
		io.ReadFull(b.R, make([]byte, 2))
		if _, err := io.ReadFull(c.R, make([]byte, 2)); err != nil {
			t.Fatalf("the answer does not end: %v", err)
		}
	}
}
