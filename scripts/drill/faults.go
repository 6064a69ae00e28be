package main

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// fault is what a backend, or a client, does wrong or at a bad moment with one
// request of the drill -pool.
type fault struct {
	name   string
	method string // "" is any
	shape  string // of the answer; "" is any
	head   string // more fields of the request
	after  string // what follows the answer in the same write
	idle   string // what the backend does while the connection is idle
	ends   string // why the backend's connection may carry no other request; "" if it may

	// How the backend answers and the client asks, unless that is as usual.
	answer func(c *session, q *query, r *http.Request) error
	ask    func(c *client, q *query) outcome

	// What the client must get: the answer with this status; 0 is the usual one.
	// With cut, the answer must be seen to be incomplete, or be a 502.
	status int
	cut    bool
}

// stray is an answer that nobody has asked for.
const stray = "HTTP/1.1 200 OK\r\nX-Id: 0\r\nContent-Length: 6\r\n\r\nstray\n"

// The shapes of an answer: how its end is told.
var shapes = []string{"length", "chunked", "head", "204", "304", "empty"}

// faults are the cases of group pool in scripts/check, and three answers that
// are broken.
var faults = func() (all []*fault) {
	for _, shape := range shapes {
		all = append(all,
			&fault{name: "append-" + shape, shape: shape, after: stray,
				ends: "had a second answer on it"},
			&fault{name: "late-" + shape, shape: shape, idle: "stray"})
	}
	return append(all,
		&fault{name: "longer", shape: "length", after: "more than its length",
			ends: "had more bytes than its answer's length on it"},
		&fault{name: "idle-408", idle: "408"},
		&fault{name: "idle-fin", idle: "fin"},
		&fault{name: "idle-rst", idle: "rst"},
		&fault{name: "keep-alive-timeout", idle: "timeout"},
		&fault{name: "next-fin", idle: "next-fin"},
		&fault{name: "next-rst", idle: "next-rst"},
		&fault{name: "early-413", method: "POST", shape: "length", status: 413,
			answer: early(413), ask: askEarly},
		&fault{name: "expect-200", method: "POST", shape: "length", head: expect,
			answer: early(200), ask: askExpect},
		&fault{name: "expect-417", method: "POST", shape: "length", head: expect, status: 417,
			answer: early(417), ask: askExpect},
		&fault{name: "expect-get-then-head", method: "GET", shape: "length", head: expect,
			ask: askTwo},
		&fault{name: "upgrade-body", method: "POST", head: upgrade},
		&fault{name: "upgrade-pipelined", method: "GET", head: upgrade, ask: askUpgrade},
		&fault{name: "unasked-101", method: "GET", status: 502, ends: "has changed its protocol",
			answer: says("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n" +
				"Upgrade: drill\r\n\r\n")},
		&fault{name: "malformed", status: 502, ends: "had a malformed answer on it",
			answer: says("HTTP/1.1 200 OK\r\nX-Id 0\r\n\r\n")},
		&fault{name: "cut-length", shape: "length", cut: true, answer: cutShort},
		&fault{name: "cut-chunked", shape: "chunked", cut: true, answer: cutShort},
	)
}()

const (
	expect  = "Expect: 100-continue\r\n"
	upgrade = "Connection: Upgrade\r\nUpgrade: drill\r\n"
)

// query is a request of the drill -pool. What is asked for stands in its target,
// so that the backend knows it too.
type query struct {
	id     int
	method string
	fault  *fault        // nil: none
	shape  string        // of the answer
	size   int           // bytes of the answer's body, where it has one
	body   int           // bytes of the request's body
	wait   time.Duration // of the backend, in the middle of its answer
	leave  string        // when the client leaves; "" if it stays
	path   string        // the target, if the backends are not the drill's own
}

// none stands in a target for no fault.
const none = "none"

func (q *query) target() string {
	if q.path != "" {
		return q.path
	}
	name := none
	if q.fault != nil {
		name = q.fault.name
	}
	return fmt.Sprintf("/%d/%s/%s/%d/%d/%d", q.id, name, q.shape, q.size, q.body,
		q.wait.Milliseconds())
}

// parse reads a target.
func parse(r *http.Request) (*query, error) {
	part := strings.Split(r.URL.Path, "/")
	if len(part) != 7 {
		return nil, fmt.Errorf("nobody has asked for %q", r.URL.Path)
	}
	q := &query{method: r.Method, shape: part[3]}
	var wait int
	for i, n := range map[int]*int{1: &q.id, 4: &q.size, 5: &q.body, 6: &wait} {
		var err error
		if *n, err = strconv.Atoi(part[i]); err != nil {
			return nil, err
		}
	}
	q.wait = time.Duration(wait) * time.Millisecond
	for _, f := range faults {
		if f.name == part[2] {
			q.fault = f
		}
	}
	return q, nil
}

// content is n bytes that belong to a request's id.
func content(id, n int) []byte {
	b := make([]byte, 0, n+16)
	for line := 0; len(b) < n; line++ {
		x := uint64(id)<<24 | uint64(line) // mixed as in splitmix64
		x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
		x = (x ^ x>>27) * 0x94d049bb133111eb
		b = strconv.AppendUint(b, x^x>>31|1<<63, 16) // 16 digits
	}
	return b[:n]
}

// expected is the body of q's answer.
func (q *query) expected() []byte {
	if q.shape == "length" || q.shape == "chunked" {
		return content(q.id, q.size)
	}
	return nil
}

// statusOf is the status of q's answer, if all goes well.
func (q *query) statusOf() int {
	switch {
	case q.fault != nil && q.fault.status != 0:
		return q.fault.status
	case q.shape == "204" || q.shape == "304":
		n, _ := strconv.Atoi(q.shape)
		return n
	}
	return http.StatusOK
}

// response is q's answer with that status, ready to be written.
func (q *query) response(status int) []byte {
	b := fmt.Appendf(nil, "HTTP/1.1 %d Drill\r\nX-Id: %d\r\n", status, q.id)
	if q.fault != nil && q.fault.idle == "timeout" {
		b = append(b, "Keep-Alive: timeout=1\r\n"...)
	}
	body := q.expected()
	switch q.shape {
	case "length":
		b = fmt.Appendf(b, "Content-Length: %d\r\n\r\n%s", len(body), body)
	case "chunked":
		half := (len(body) + 1) / 2
		b = append(b, "Transfer-Encoding: chunked\r\n\r\n"...)
		for _, part := range [][]byte{body[:half], body[half:]} {
			if len(part) > 0 {
				b = fmt.Appendf(b, "%x\r\n%s\r\n", len(part), part)
			}
		}
		b = append(b, "0\r\n\r\n"...)
	case "head":
		b = fmt.Appendf(b, "Content-Length: %d\r\n\r\n", q.size)
	case "empty":
		b = append(b, "Content-Length: 0\r\n\r\n"...)
	default:
		b = append(b, "\r\n"...)
	}
	return b
}

// usual answers as an honest backend does, but for what the fault adds.
func usual(c *session, q *query, r *http.Request) error {
	if r.Header.Get("Expect") != "" {
		io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n")
	}
	b := q.response(q.statusOf())
	if q.fault != nil {
		b = append(b, q.fault.after...)
	}
	if q.wait > 0 {
		half := len(b) / 2
		c.Write(b[:half])
		time.Sleep(q.wait)
		b = b[half:]
	}
	_, err := c.Write(b)
	return err
}

// early answers before it has read the request's body.
func early(status int) func(*session, *query, *http.Request) error {
	return func(c *session, q *query, _ *http.Request) error {
		_, err := c.Write(q.response(status))
		return err
	}
}

// says sends this, whatever was asked.
func says(text string) func(*session, *query, *http.Request) error {
	return func(c *session, _ *query, _ *http.Request) error {
		_, err := io.WriteString(c, text)
		return err
	}
}

// cutShort closes the connection in the middle of the answer's body.
func cutShort(c *session, q *query, _ *http.Request) error {
	b := q.response(q.statusOf())
	c.Write(b[:len(b)-q.size/2])
	return io.EOF
}

// askEarly sends half of the body, and the rest when the answer is there.
func askEarly(c *client, q *query) outcome {
	body := content(q.id, q.body)
	c.write(q.appendHead(nil), body[:q.body/2])
	o := c.read(q)
	c.write(body[q.body/2:])
	c.mayEnd = true // the proxy need not wait for the rest
	return o
}

// askExpect sends no body, as it is not told to.
func askExpect(c *client, q *query) outcome {
	c.write(q.appendHead(nil))
	o := c.read(q)
	c.close()
	return o
}

// askTwo sends a HEAD right behind the request, and reads both answers.
func askTwo(c *client, q *query) outcome {
	second := &query{id: q.id, method: "HEAD", shape: "head", size: q.size}
	c.write(second.appendHead(q.appendHead(nil)))
	if o := c.read(q); o.err != nil || o.foreign != "" || c.conn == nil {
		return o // after "close", the second one is not answered
	}
	return c.read(second)
}

// askUpgrade sends bytes of another protocol right behind the request.
func askUpgrade(c *client, q *query) outcome {
	c.write(q.appendHead(nil), []byte("\x01 bytes of another protocol\r\n\r\n"))
	o := c.read(q)
	c.close()
	return o
}
