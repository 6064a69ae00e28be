package suite

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"
)

// errCaseOver says that a client came too late to its case.
var errCaseOver = errors.New("the case was closed by the checker")

// Client is one connection of the suite to the proxy.
type Client struct {
	Reader
	release func() // gives back the turn of a one-shot program; may be called again
}

// Dial connects to the proxy. A proxy that serves one client and exits is
// started again first.
func (t *T) Dial() *Client { return t.dial(true) }

// DialBeside connects while another client of the same case is connected.
func (t *T) DialBeside() *Client { return t.dial(false) }

func (t *T) dial(slot bool) *Client {
	c, err := t.TryDial(slot)
	if err != nil {
		t.Fatalf("cannot connect to the proxy: %v", err)
	}
	return c
}

// TryDial connects; any goroutine of the case may call it.
func (t *T) TryDial(slot bool) (*Client, error) {
	release := func() {}
	if t.over() {
		return nil, errCaseOver
	}
	limit := besideTime
	if slot {
		limit = dialTime
		release = t.Lab.acquire(t.over, t.Done)
	}
	if t.over() {
		release()
		return nil, errCaseOver
	}
	conn, err := t.Lab.dial(limit)
	if err != nil {
		release()
		return nil, err
	}
	c := &Client{Reader{newStream(conn), t}, release}
	t.mu.Lock()
	t.clients = append(t.clients, c)
	n := len(t.clients)
	ended := t.ended
	t.mu.Unlock()
	if ended {
		c.Close()
		return nil, net.ErrClosed
	}
	t.wired("client "+itoa(n), c.stream)
	return c, nil
}

// over reports whether the case has nothing more to find out.
func (t *T) over() bool {
	select {
	case <-t.Done:
		return true
	default:
		return t.Lab.Serial && t.Failed() // each further client would cost time
	}
}

// Close ends the connection: with a FIN, or with a RST when the proxy may be
// a program that could not bind its port again after the FIN.
func (c *Client) Close() {
	if c.t.Lab.fixedPort() {
		c.reset()
	}
	c.close()
	c.release()
}

// Reset ends the connection with a RST.
func (c *Client) Reset() {
	c.reset()
	c.close()
	c.release()
}

// Send writes s; an error means that the proxy does not read it.
func (r Reader) Send(s string) error { return r.SendBytes([]byte(s)) }

// SendBytes writes p; each part of 256 KiB has the case's patience.
func (r Reader) SendBytes(p []byte) error {
	for len(p) > 0 {
		part, left := p[:min(len(p), 256<<10)], r.t.Span(r.t.Patience())
		p = p[len(part):]
		for {
			n, err := r.WriteWithin(part, max(left(), time.Millisecond))
			part = part[n:]
			if err == nil {
				break
			}
			if !errors.Is(err, os.ErrDeadlineExceeded) || left() <= 0 {
				return err
			}
		}
	}
	return nil
}

// write sends p within d and records what was taken.
func (s *stream) WriteWithin(p []byte, d time.Duration) (int, error) {
	s.conn.SetWriteDeadline(time.Now().Add(d))
	n, err := s.conn.Write(p)
	s.out.add(p[:n])
	return n, err
}

// SendPieces writes text in pieces of n bytes, each in a segment of its own.
func (r Reader) SendPieces(text string, n int) {
	for len(text) > 0 {
		k := min(n, len(text))
		if r.Send(text[:k]) != nil {
			return
		}
		text = text[k:]
		time.Sleep(time.Millisecond) // lets the segment leave by itself
	}
}

// Response reads one response, interim or final.
func (c *Client) Response(method string) *Response { return c.response(method) }

// Final reads responses up to the final one and keeps the interim ones in it.
func (c *Client) Final(method string) *Response {
	var interim []*Response
	for size := 0; ; {
		r := c.response(method)
		if r.Problem != "" || r.Status >= 200 || r.Status == 101 {
			r.Interim = interim
			return r
		}
		if size += len(r.Raw); size > maxInterim {
			r.Interim, r.Problem = interim, fmt.Sprintf("no final response after %d interim ones",
				len(interim))
			return r
		}
		interim = append(interim, r)
	}
}

// maxInterim is how much the suite takes of interim responses to one request,
// in bytes.
const maxInterim = 1 << 20

// AwaitEnd waits until the proxy ends the connection and returns the first bytes
// of what came before that.
func (r Reader) AwaitEnd(d time.Duration) (rest string, ended bool) {
	left := r.t.Span(d)
	var all []byte
	for {
		n, err := r.State()
		p := r.Take(n)
		all = append(all, p[:min(n, max(0, tapeFirst-len(all)))]...)
		if n == 0 && err != nil {
			return string(all), !errors.Is(err, net.ErrClosed)
		}
		if left() <= 0 {
			return string(all), false
		}
		r.Wait(left(), r.t.Done, func(b []byte) bool { return len(b) > 0 })
	}
}

// Do sends a request on a connection of its own and reads the final response;
// the backend answers by the handler given to Serve.
func (t *T) Do(raw, method string) *Response {
	c := t.Dial()
	defer c.Close()
	if err := c.Send(raw); err != nil {
		if n, _ := c.State(); n == 0 {
			t.Fatalf("the proxy does not take the request: %v", err)
		}
	}
	return c.Final(method)
}

// Whole fails the case unless r is a whole, well-formed response of that status.
func (t *T) Whole(r *Response, status int) {
	t.MustBe(r, status)
	if r.Problem != "" {
		t.Fatalf("%s", r.Problem)
	}
	for _, f := range append(r.Faults, r.Odd...) {
		t.Errorf("the response is malformed: %s", f)
	}
}

// MustBe fails the case unless a head of that status came.
func (t *T) MustBe(r *Response, status int) {
	if r.Status == 0 {
		t.Fatalf("%s", r.Problem)
	}
	if r.Status != status {
		t.Fatalf("the client got status %d instead of %d (%s)", r.Status, status,
			Visible(string(r.Body), 120))
	}
}

// SameBody fails the case unless the body is want.
func (t *T) SameBody(who string, got, want []byte) {
	if d := FirstDifference(got, want); d != "" {
		t.Fatalf("%s got another body than was sent: %s", who, d)
	}
}
