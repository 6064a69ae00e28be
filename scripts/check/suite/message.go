package suite

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Message is a request or a response as it was read off one connection.
type Message struct {
	Head
	Body     []byte
	Trailers []Field
	Ended    string // how the body ended: "length", "chunked", "close", "none"
	Problem  string // why the message is not whole, or ""
	Odd      []string
	Chunks   int // data chunks read
	discard  bool
	BodyLen  int64
	sum      uint64 // running check of a body that is not kept
}

// Response is what a client got.
type Response struct {
	Message
	Status  int
	Version string // "HTTP/1.1"
	Interim []*Response
}

// Request is what a backend got.
type Request struct {
	Message
	Method, Target, Version string
}

// What the suite reads at most, in bytes: of a head, of a body that a case
// keeps, of one that is only summed, of a trailer section.
const (
	maxHead     = 4 << 20
	maxKept     = 16 << 20
	maxSummed   = 256 << 20
	maxTrailers = 1 << 20
)

// reader reads messages off a stream for one case.
type reader struct {
	*stream
	t *T
}

// await waits for ready with the case's patience and notes a stall.
func (r reader) await(ready func([]byte) bool) error {
	err := r.stream.wait(r.t.patience(), r.t.done, ready)
	if errors.Is(err, errStalled) {
		r.t.noteStall()
	}
	return err
}

// head waits for a whole head and takes it.
func (r reader) head() (Head, error) {
	end := -1
	r.setWant(maxHead)
	err := r.await(func(b []byte) bool {
		end = headEnd(b)
		return end >= 0 || len(b) >= maxHead
	})
	if end < 0 {
		n, _ := r.state()
		h := parseHead(r.take(n))
		if err == nil {
			err = fmt.Errorf("the head passes %d bytes", maxHead)
		}
		return h, err
	}
	return parseHead(r.take(end)), nil
}

// line waits for one line and takes it, with its line end.
func (r reader) line() ([]byte, error) {
	end := -1
	err := r.await(func(b []byte) bool {
		end = bytes.IndexByte(b, '\n')
		return end >= 0 || len(b) > 64<<10
	})
	if end < 0 {
		if err == nil {
			err = errors.New("a line passes 64 KiB")
		}
		return nil, err
	}
	return r.take(end + 1), nil
}

// some waits for at least one byte and takes up to n.
func (r reader) some(n int64) ([]byte, error) {
	if err := r.await(func(b []byte) bool { return len(b) > 0 }); err != nil {
		return nil, err
	}
	have, _ := r.state()
	return r.take(int(min(int64(have), n))), nil
}

// add appends body bytes, or only counts and sums them; it reports whether the
// body may go on.
func (m *Message) add(p []byte) bool {
	m.BodyLen += int64(len(p))
	limit := int64(maxKept)
	if m.discard {
		limit = maxSummed
		m.sum = patternSum(m.sum, p)
	} else {
		m.Body = append(m.Body, p...)
	}
	if m.BodyLen > limit {
		m.Problem = fmt.Sprintf("the body has no end: the checker reads no more than %d MiB",
			limit>>20)
	}
	return m.Problem == ""
}

// readLength reads a body of n bytes.
func (r reader) readLength(m *Message, n int64) {
	m.Ended = "length"
	for left := n; left > 0; {
		p, err := r.some(left)
		if err != nil {
			m.Problem = fmt.Sprintf("the connection %s after %d of %d body bytes", howEnded(err),
				n-left, n)
			return
		}
		if !m.add(p) {
			return
		}
		left -= int64(len(p))
	}
}

// readClose reads a body that the end of the connection delimits.
func (r reader) readClose(m *Message) {
	m.Ended = "close"
	for {
		p, err := r.some(1 << 20)
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			m.Problem = fmt.Sprintf("the connection %s after %d bytes of a body that ends with "+
				"the connection",
				howEnded(err), m.BodyLen)
			return
		}
		if !m.add(p) {
			return
		}
	}
}

// readChunked reads a chunked body with its trailer section (RFC 9112 §7.1).
func (r reader) readChunked(m *Message) {
	m.Ended = "chunked"
	for {
		n, ok := r.chunkSize(m)
		if !ok {
			return
		}
		if n == 0 {
			break
		}
		m.Chunks++
		for left := n; left > 0; {
			p, err := r.some(left)
			if err != nil {
				m.Problem = fmt.Sprintf("the connection %s inside a chunk, after %d body bytes",
					howEnded(err), m.BodyLen)
				return
			}
			if !m.add(p) {
				return
			}
			left -= int64(len(p))
		}
		end, err := r.line()
		if err != nil || string(end) != "\r\n" {
			m.Problem = "no CRLF after a chunk's data: " + Visible(string(end), 40)
			return
		}
	}
	r.trailers(m)
}

// chunkSize reads one chunk-size line; ok is false when there is none.
func (r reader) chunkSize(m *Message) (n int64, ok bool) {
	line, err := r.line()
	if err != nil {
		m.Problem = fmt.Sprintf("the connection %s before the last chunk, after %d body bytes",
			howEnded(err), m.BodyLen)
		return 0, false
	}
	text, crlf := strings.CutSuffix(string(line), "\r\n")
	if (!crlf || strings.ContainsAny(text, "\r\n")) && len(m.Odd) < 8 {
		m.Odd = append(m.Odd, "chunk-size line "+Visible(string(line), 60)+" with a bare CR or LF")
	}
	size, _, _ := strings.Cut(strings.TrimRight(text, "\n"), ";")
	size = strings.TrimRight(size, " \t")
	v, err := strconv.ParseUint(size, 16, 62)
	if err != nil || size == "" || strings.ContainsAny(size, "+-_x") {
		m.Problem = "bad chunk size " + Visible(string(line), 60)
		return 0, false
	}
	return int64(v), true
}

// trailers reads the trailer section.
func (r reader) trailers(m *Message) {
	raw := []byte("trailers\r\n")
	for {
		line, err := r.line()
		if err != nil {
			m.Problem = fmt.Sprintf("the connection %s before the empty line after the last chunk",
				howEnded(err))
			return
		}
		if s := string(line); s == "\r\n" || s == "\n" {
			if s == "\n" {
				m.Odd = append(m.Odd, "the trailer section ends in a bare LF")
			}
			break
		}
		if raw = append(raw, line...); len(raw) > maxTrailers {
			m.Problem = "the trailer section has no end"
			return
		}
	}
	h := parseHead(raw)
	m.Trailers = h.Fields
	m.Odd = append(m.Odd, h.Faults...)
}

// trailer returns the value of a trailer field, or "".
func (m *Message) trailer(name string) string {
	for _, f := range m.Trailers {
		if strings.EqualFold(f.Name, name) {
			return f.Value
		}
	}
	return ""
}

// response reads one response head and, unless it is interim, its body.
// method is the request's: a HEAD has no body.
func (r reader) response(method string) *Response {
	m := &Response{}
	head, err := r.head()
	m.Head = head
	if err != nil {
		m.Problem = "no response: the connection " + howEnded(err)
		if len(head.Raw) > 0 {
			m.Problem = "no whole response head: the connection " + howEnded(err) + " after " +
				Visible(string(head.Raw), 120)
		}
		return m
	}
	version, rest, _ := strings.Cut(m.Start, " ")
	m.Version = version
	code, _, _ := strings.Cut(rest, " ")
	m.Status, err = strconv.Atoi(code)
	if err != nil || !strings.HasPrefix(version, "HTTP/1.") || m.Status < 100 || m.Status > 999 {
		m.Problem = "no status line but " + Visible(m.Start, 120)
		return m
	}
	if m.Status < 200 || m.Status == 204 || m.Status == 304 || method == "HEAD" {
		m.Ended = "none"
		return m
	}
	r.responseBody(m)
	return m
}

func (r reader) responseBody(m *Response) {
	f := m.frame()
	m.Odd = append(m.Odd, f.faults...)
	switch {
	case f.chunked || m.Has("Transfer-Encoding") && len(m.List("Transfer-Encoding")) > 0 &&
		strings.EqualFold(m.List("Transfer-Encoding")[len(m.List("Transfer-Encoding"))-1],
			"chunked"):
		r.readChunked(&m.Message)
	case f.length >= 0 && !m.Has("Transfer-Encoding"):
		r.readLength(&m.Message, f.length)
	default:
		r.readClose(&m.Message)
	}
}

// request reads one request with its body.
func (r reader) request() *Request {
	q := r.requestHead()
	if q.Problem == "" {
		r.requestBody(q)
	}
	return q
}

// requestHead reads the head of a request.
func (r reader) requestHead() *Request {
	q := &Request{}
	head, err := r.head()
	q.Head = head
	if err != nil {
		q.Problem = "no whole request head: the connection " + howEnded(err) + " after " +
			Visible(string(head.Raw), 200)
		return q
	}
	parts := strings.Split(q.Start, " ")
	if len(parts) != 3 || !isToken(parts[0]) || parts[1] == "" ||
		parts[2] != "HTTP/1.1" && parts[2] != "HTTP/1.0" {
		q.fault("request line %s", Visible(q.Start, 120))
		q.Problem = "bad request line " + Visible(q.Start, 120)
		return q
	}
	q.Method, q.Target, q.Version = parts[0], parts[1], parts[2]
	return q
}

// requestBody reads the body of q as its framing fields say.
func (r reader) requestBody(q *Request) {
	f := q.frame()
	q.Odd = append(q.Odd, f.faults...)
	switch {
	case f.chunked:
		r.readChunked(&q.Message)
	case f.length >= 0:
		r.readLength(&q.Message, f.length)
	default:
		q.Ended = "none"
	}
}

// faults returns everything that makes a forwarded request ambiguous or
// malformed: for the backend there must be one reading of it only.
func (q *Request) faults() []string {
	out := append([]string(nil), q.Faults...)
	out = append(out, q.Odd...)
	if q.Ended == "" { // body not read yet
		out = append(out, q.frame().faults...)
	}
	if n := len(q.Values("Host")); n != 1 && !(n == 0 && q.Version == "HTTP/1.0") {
		out = append(out, fmt.Sprintf("%d Host fields", n))
	}
	return out
}
