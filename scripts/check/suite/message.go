package suite

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
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
	Discard  bool
	BodyLen  int64
	Sum      uint64 // running check of a body that is not kept
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

// Reader reads messages off a stream for one case.
type Reader struct {
	*stream
	t *T
}

// Impatient is the reader with d left for all that it reads.
func (r Reader) Impatient(d time.Duration) Reader {
	lab := &Lab{stalls: &atomic.Int64{}, pulse: r.t.Lab.pulse, left: r.t.Span(d)}
	return Reader{r.stream, &T{Lab: lab, c: r.t.c, Done: r.t.Done}}
}

// Wait is that of the stream, by the checker's clock.
func (r Reader) Wait(timeout time.Duration, stop <-chan struct{}, ready func([]byte) bool) error {
	return r.stream.wait(func() func() time.Duration { return r.t.Span(timeout) }, stop, ready)
}

// Await waits for ready with the case's patience and notes a stall.
func (r Reader) Await(ready func([]byte) bool) error {
	err := r.Wait(r.t.Patience(), r.t.Done, ready)
	if errors.Is(err, ErrStalled) {
		r.t.NoteStall()
	}
	return err
}

// head waits for a whole head and takes it.
func (r Reader) ReadHead() (Head, error) {
	end := -1
	r.setWant(maxHead)
	err := r.Await(func(b []byte) bool {
		end = HeadEnd(b)
		return end >= 0 || len(b) >= maxHead
	})
	if end < 0 {
		n, _ := r.State()
		h := ParseHead(r.Take(n))
		if err == nil {
			err = fmt.Errorf("the head passes %d bytes", maxHead)
		}
		return h, err
	}
	return ParseHead(r.Take(end)), nil
}

// line waits for one line and takes it, with its line end.
func (r Reader) line() ([]byte, error) {
	end := -1
	err := r.Await(func(b []byte) bool {
		end = bytes.IndexByte(b, '\n')
		return end >= 0 || len(b) > 64<<10
	})
	if end < 0 {
		if err == nil {
			err = errors.New("a line passes 64 KiB")
		}
		return nil, err
	}
	return r.Take(end + 1), nil
}

// some waits for at least one byte and takes up to n.
func (r Reader) ReadSome(n int64) ([]byte, error) {
	if err := r.Await(func(b []byte) bool { return len(b) > 0 }); err != nil {
		return nil, err
	}
	have, _ := r.State()
	return r.Take(int(min(int64(have), n))), nil
}

// add appends body bytes, or only counts and sums them; it reports whether the
// body may go on.
func (m *Message) add(p []byte) bool {
	m.BodyLen += int64(len(p))
	limit := int64(maxKept)
	if m.Discard {
		limit = maxSummed
		m.Sum = PatternSum(m.Sum, p)
	} else {
		m.Body = append(m.Body, p...)
	}
	if m.BodyLen > limit {
		m.Problem = fmt.Sprintf("the body has no end: the checker reads no more than %d MiB",
			limit>>20)
	}
	return m.Problem == ""
}

// ReadLength reads a body of n bytes.
func (r Reader) ReadLength(m *Message, n int64) {
	m.Ended = "length"
	for left := n; left > 0; {
		p, err := r.ReadSome(left)
		if err != nil {
			m.Problem = fmt.Sprintf("the connection %s after %d of %d body bytes", HowEnded(err),
				n-left, n)
			return
		}
		if !m.add(p) {
			return
		}
		left -= int64(len(p))
	}
}

// ReadClose reads a body that the end of the connection delimits.
func (r Reader) ReadClose(m *Message) {
	m.Ended = "close"
	for {
		p, err := r.ReadSome(1 << 20)
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			m.Problem = fmt.Sprintf("the connection %s after %d bytes of a body that ends with "+
				"the connection",
				HowEnded(err), m.BodyLen)
			return
		}
		if !m.add(p) {
			return
		}
	}
}

// ReadChunked reads a chunked body with its trailer section (RFC 9112 §7.1).
func (r Reader) ReadChunked(m *Message) {
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
			p, err := r.ReadSome(left)
			if err != nil {
				m.Problem = fmt.Sprintf("the connection %s inside a chunk, after %d body bytes",
					HowEnded(err), m.BodyLen)
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
func (r Reader) chunkSize(m *Message) (n int64, ok bool) {
	line, err := r.line()
	if err != nil {
		m.Problem = fmt.Sprintf("the connection %s before the last chunk, after %d body bytes",
			HowEnded(err), m.BodyLen)
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
func (r Reader) trailers(m *Message) {
	raw := []byte("trailers\r\n")
	for {
		line, err := r.line()
		if err != nil {
			m.Problem = fmt.Sprintf("the connection %s before the empty line after the last chunk",
				HowEnded(err))
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
	h := ParseHead(raw)
	m.Trailers = h.Fields
	m.Odd = append(m.Odd, h.Faults...)
}

// Trailer returns the value of a trailer field, or "".
func (m *Message) Trailer(name string) string {
	for _, f := range m.Trailers {
		if strings.EqualFold(f.Name, name) {
			return f.Value
		}
	}
	return ""
}

// response reads one response head and, unless it is interim, its body.
// method is the request's: a HEAD has no body.
func (r Reader) response(method string) *Response {
	m := &Response{}
	head, err := r.ReadHead()
	m.Head = head
	if err != nil {
		m.Problem = "no response: the connection " + HowEnded(err)
		if len(head.Raw) > 0 {
			m.Problem = "no whole response head: the connection " + HowEnded(err) + " after " +
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

func (r Reader) responseBody(m *Response) {
	f := m.Frame()
	m.Odd = append(m.Odd, f.Faults...)
	switch {
	case f.Chunked || m.Has("Transfer-Encoding") && len(m.List("Transfer-Encoding")) > 0 &&
		strings.EqualFold(m.List("Transfer-Encoding")[len(m.List("Transfer-Encoding"))-1],
			"chunked"):
		r.ReadChunked(&m.Message)
	case f.Length >= 0 && !m.Has("Transfer-Encoding"):
		r.ReadLength(&m.Message, f.Length)
	default:
		r.ReadClose(&m.Message)
	}
}

// request reads one request with its body.
func (r Reader) request() *Request {
	q := r.RequestHead()
	if q.Problem == "" {
		r.RequestBody(q)
	}
	return q
}

// RequestHead reads the head of a request.
func (r Reader) RequestHead() *Request {
	q := &Request{}
	head, err := r.ReadHead()
	q.Head = head
	if err != nil {
		q.Problem = "no whole request head: the connection " + HowEnded(err) + " after " +
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

// RequestBody reads the body of q as its framing fields say.
func (r Reader) RequestBody(q *Request) {
	f := q.Frame()
	q.Odd = append(q.Odd, f.Faults...)
	switch {
	case f.Chunked:
		r.ReadChunked(&q.Message)
	case f.Length >= 0:
		r.ReadLength(&q.Message, f.Length)
	default:
		q.Ended = "none"
	}
}

// faults returns everything that makes a forwarded request ambiguous or
// malformed: for the backend there must be one reading of it only.
func (q *Request) Ambiguities() []string {
	out := append([]string(nil), q.Faults...)
	out = append(out, q.Odd...)
	if q.Ended == "" { // body not read yet
		out = append(out, q.Frame().Faults...)
	}
	if n := len(q.Values("Host")); n != 1 && !(n == 0 && q.Version == "HTTP/1.0") {
		out = append(out, fmt.Sprintf("%d Host fields", n))
	}
	return out
}
