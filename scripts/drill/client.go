package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"
)

// client is a client with one connection at a time, which it keeps as long as
// it may. It repeats nothing by itself.
type client struct {
	addr     string
	patience time.Duration // for an answer
	idle     time.Duration // after which the proxy closes the connection
	conn     *net.TCPConn  // nil: none
	r        *bufio.Reader
	mayEnd   bool      // the proxy may have closed the connection
	used     time.Time // when it was used last
}

// outcome is what became of a request.
type outcome struct {
	status  int
	err     error  // the connection ended, or stood still, before the answer did
	foreign string // bytes came that do not belong to the answer
}

func (c *client) close() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

// connect makes a connection, if there is none, and sets the time by which all
// must be over.
func (c *client) connect() error {
	c.mayEnd = false
	if time.Since(c.used) > c.idle/2 { // this program has stood still
		c.close()
	}
	by := time.Now().Add(c.patience)
	if c.conn == nil {
		conn, err := net.DialTimeout("tcp", c.addr, c.patience)
		if err != nil {
			return err
		}
		c.conn = conn.(*net.TCPConn)
		c.r = bufio.NewReader(conn)
	}
	c.used = time.Now()
	return c.conn.SetDeadline(by)
}

// write sends all in one write. That it fails is seen by who reads the answer.
func (c *client) write(all ...[]byte) { c.conn.Write(bytes.Join(all, nil)) }

// ask sends a request and reads its answer.
func (c *client) ask(q *query) outcome {
	for {
		again := c.mayEnd && q.method != "POST"
		if c.mayEnd && !again {
			c.close()
		}
		if err := c.connect(); err != nil {
			return outcome{err: err}
		}
		var o outcome
		switch {
		case q.leave != "":
			return c.leave(q)
		case q.fault != nil && q.fault.ask != nil:
			o = q.fault.ask(c, q)
		default:
			c.write(q.appendHead(nil), content(q.id, q.body))
			o = c.read(q)
		}
		if o.err != nil || o.foreign != "" {
			c.close()
		}
		if !again || o.err == nil || o.status != 0 {
			return o
		}
	}
}

// appendHead appends the request's header.
func (q *query) appendHead(b []byte) []byte {
	b = fmt.Appendf(b, "%s %s HTTP/1.1\r\nHost: drill\r\n", q.method, q.target())
	if q.method == "POST" {
		b = fmt.Appendf(b, "Content-Length: %d\r\n", q.body)
	}
	if q.fault != nil {
		b = append(b, q.fault.head...)
	}
	return append(b, "\r\n"...)
}

// read reads the answer to q, and looks at each byte.
func (c *client) read(q *query) outcome {
	resp, err := http.ReadResponse(c.r, &http.Request{Method: q.method})
	for err == nil && resp.StatusCode < 200 && resp.StatusCode != 101 {
		resp, err = http.ReadResponse(c.r, &http.Request{Method: q.method})
	}
	switch {
	case err != nil && brokeOff(err):
		return outcome{err: err}
	case err != nil:
		return outcome{foreign: err.Error()}
	}
	o := outcome{status: resp.StatusCode}
	body, err := io.ReadAll(resp.Body)
	id := resp.Header.Get("X-Id")
	want := q.expected()
	switch {
	case q.path != "": // any answer is right
	case id == "" && resp.StatusCode >= 400: // the proxy's own
	case id != strconv.Itoa(q.id):
		o.foreign = fmt.Sprintf("an answer %q for request %q: %.60q", resp.Status, id, body)
	case !bytes.HasPrefix(want, body), err == nil && len(want) != len(body):
		o.foreign = fmt.Sprintf("its body begins with %.60q, not with %.60q", body, want)
	case err == nil && !resp.Close && c.r.Buffered() > 0 && (q.fault == nil || q.fault.ask == nil):
		o.foreign = "bytes behind the answer"
	}
	o.err = err
	if resp.Close && o.err == nil {
		c.close()
	}
	return o
}

// The moments at which clients leave.
var leaves = []string{"in-header", "asked", "asked-reset", "in-body", "in-answer"}

// leave sends a request, or a part of it, and leaves. What comes of the answer
// by then must be its own.
func (c *client) leave(q *query) (o outcome) {
	head, body := q.appendHead(nil), content(q.id, q.body)
	switch q.leave {
	case "in-header":
		c.write(head[:len(head)/2])
	case "in-body":
		c.write(head, body[:len(body)/2])
	default:
		c.write(head, body)
	}
	if q.leave == "in-answer" {
		resp, err := http.ReadResponse(c.r, &http.Request{Method: q.method})
		if err == nil {
			part := make([]byte, q.size/4)
			n, _ := io.ReadFull(resp.Body, part)
			id := resp.Header.Get("X-Id")
			if id != "" && (id != strconv.Itoa(q.id) ||
				!bytes.HasPrefix(q.expected(), part[:n])) {
				o.foreign = fmt.Sprintf("an answer for request %q: %.60q", id, part[:n])
			}
		}
	}
	if q.leave == "asked-reset" {
		c.conn.SetLinger(0)
	}
	c.close()
	return o
}
