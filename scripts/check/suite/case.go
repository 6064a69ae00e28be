package suite

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Level says how much a case weighs.
type Level int

// The three levels. A must is a MUST of the RFCs or what safety demands, a
// should is a SHOULD or a robustness that every production proxy has, quality
// is what a very good proxy does beyond that.
const (
	Must Level = iota
	Should
	Quality
)

// String returns "must", "should" or "quality".
func (l Level) String() string { return [...]string{"must", "should", "quality"}[l] }

// MarshalText makes the level readable in JSON.
func (l Level) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// Mode says beside what a case may run.
type Mode int

// Together: side by side with others. Timed: waits for a timeout of the proxy;
// runs on a proxy with short timeouts where the checker can start one. Alone:
// with no other on the same proxy. TimedAlone: both. Plain: alone, on a proxy that uses
// its backends' connections as it does by default, and tries again after a 503, where the
// checker can start one. Checked: alone, on a proxy that often asks its backends how they
// are, likewise. Last: when all is done.
const (
	Together Mode = iota
	Timed
	Alone
	TimedAlone
	Plain
	Checked
	Last
)

// Need names what a case cannot do without; else it is not applicable.
type Need int

// NeedsSeveral wants two backends or more, NeedsProcess a proxy that the
// checker started (so that it can look at the process), NeedsPool one that sends
// a backend more than one request over a connection.
const (
	NeedsNothing Need = iota
	NeedsSeveral
	NeedsProcess
	NeedsPool
)

// Case is one thing that is tested.
type Case struct {
	ID    string
	Group string
	Level Level
	RFC   string // where the rule is written
	Why   string // what is tested and why it matters, for a student
	Mode  Mode
	Need  Need
	Turns bool          // counts on backends that have their turns, of equal parts
	Limit time.Duration // for a case that may take longer than others
	Hurts bool          // the backend misbehaves: a proxy may take it out of service
	Run   func(*T)
}

// T is one run of a case. Its methods belong to the goroutine of the case,
// unless they say otherwise.
type T struct {
	Lab   *Lab
	c     *Case
	Token string
	Done  chan struct{} // closed at the case's deadline and at its end

	incoming chan *Exchange

	mu       sync.Mutex
	problems []string
	skipped  string
	stalls   int
	wires    []wire
	clients  []*Client
	served   []*Exchange
	lent     []*stream // closed at the end of the case
	ended    bool
	slow     atomic.Int64 // patience for this case when it is over the usual, in nanoseconds
}

// wire is one connection's record for the report.
type wire struct {
	peer    string // "client 1", "backend 2"
	in, out *tape  // in: what the checker received
}

// stop is what Fatalf panics with.
type stop struct{}

// Errorf notes a failure; the case goes on. Any goroutine may call it.
func (t *T) Errorf(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := fmt.Sprintf(format, args...)
	if len(t.problems) > 0 && (strings.Contains(text, "by the checker") || strings.Contains(text,
		"use of closed")) {
		return // what follows when a case is cut short
	}
	if len(t.problems) < 8 {
		t.problems = append(t.problems, text)
	}
}

// Fatalf notes a failure and ends the case.
func (t *T) Fatalf(format string, args ...any) {
	t.Errorf(format, args...)
	panic(stop{})
}

// Skip ends the case as not applicable.
func (t *T) Skip(why string) {
	t.mu.Lock()
	t.skipped = why
	t.mu.Unlock()
	panic(stop{})
}

// Failed reports whether a failure has been noted.
func (t *T) Failed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.problems) > 0
}

// Patience is how long this case waits for the next byte, by the checker's clock.
func (t *T) Patience() time.Duration {
	return max(t.Lab.patience(), time.Duration(t.slow.Load()))
}

// Within is how long a thing may take that takes d at most on a machine with
// nothing else to do. Wait, AwaitEnd and Span need it not: they go by the checker's clock.
func (t *T) Within(d time.Duration) time.Duration { return t.Lab.pulse.scale(d) }

// Span starts a time of d by the checker's clock, in which a busy machine's seconds count
// less; left says how much of it is left.
func (t *T) Span(d time.Duration) (left func() time.Duration) { return t.Lab.pulse.span(d) }

// Late returns a channel that is closed when d has passed by the checker's clock, unless
// stop is called before.
func (t *T) Late(d time.Duration) (late <-chan struct{}, stop func()) {
	c := make(chan struct{})
	return c, after(t.Span(d), func() { close(c) })
}

// SetSlow gives the case at least that much patience.
func (t *T) SetSlow(d time.Duration) { t.slow.Store(max(t.slow.Load(), int64(d))) }

// NoteStall notes that the proxy let the case wait for too long: a failure may be
// looked at again.
func (t *T) NoteStall() {
	t.mu.Lock()
	t.stalls++
	t.mu.Unlock()
}

// wired adds a connection to the record.
func (t *T) wired(peer string, s *stream) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.wires) < 12 {
		t.wires = append(t.wires, wire{peer, s.in, s.out})
	}
}

// Path returns a path that carries the case's token.
func (t *T) Path(rest string) string { return "/" + t.Token + "/" + rest }

// Host is what requests name as their host.
const Host = "www.example.test"

// Get returns a GET request for a path under the token, with further field
// lines (without line ends).
func (t *T) Get(rest string, fields ...string) string {
	return t.Req("GET", rest, "", fields...)
}

// Req returns a request with its body and further field lines. It asks for
// the connection to be closed, unless a field names Connection.
func (t *T) Req(method, rest, body string, fields ...string) string {
	var b strings.Builder
	b.WriteString(method + " " + t.Path(rest) + " HTTP/1.1\r\nHost: " + Host + "\r\n")
	connection := false
	for _, f := range fields {
		connection = connection || strings.HasPrefix(strings.ToLower(f), "connection:")
		b.WriteString(f + "\r\n")
	}
	if body != "" {
		b.WriteString("Content-Length: " + itoa(len(body)) + "\r\n")
	}
	if !connection {
		b.WriteString("Connection: close\r\n")
	}
	b.WriteString("\r\n" + body)
	return b.String()
}

// Reply returns a response with a body that names its length and closes.
func Reply(status int, body string, fields ...string) string {
	return Kept(status, body, append([]string{"Connection: close"}, fields...)...)
}

// Kept returns a response that leaves the connection open.
func Kept(status int, body string, fields ...string) string {
	var b strings.Builder
	b.WriteString("HTTP/1.1 " + itoa(status) + " " + reason(status) + "\r\n")
	for _, f := range fields {
		b.WriteString(f + "\r\n")
	}
	b.WriteString("Date: Tue, 01 Jul 2025 10:00:00 GMT\r\n")
	if status != 204 && status != 304 {
		b.WriteString("Content-Length: " + itoa(len(body)) + "\r\n")
	}
	b.WriteString("\r\n" + body)
	return b.String()
}

func reason(status int) string {
	switch status {
	case 200:
		return "OK"
	case 404:
		return "Not Found"
	}
	return "Status"
}

// Chunked writes body as chunks of at most n bytes, with a trailer section of
// the lines given.
func Chunked(body string, n int, trailers ...string) string {
	var b strings.Builder
	for len(body) > 0 {
		k := min(n, len(body))
		fmt.Fprintf(&b, "%x\r\n%s\r\n", k, body[:k])
		body = body[k:]
	}
	b.WriteString("0\r\n")
	for _, l := range trailers {
		b.WriteString(l + "\r\n")
	}
	b.WriteString("\r\n")
	return b.String()
}

func itoa(n int) string { return strconv.Itoa(n) }
