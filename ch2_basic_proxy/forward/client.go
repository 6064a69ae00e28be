package forward

import (
	"bytes"
	"errors"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"reverseproxy/ch2_basic_proxy/http1"
	"reverseproxy/internal/narrate"
)

// Sizes and times of a client's connection.
const (
	firstRead   = 512              // bytes of the first read
	LingerPause = 5 * time.Second  // the longest silence of one that is sending a body, as in nginx
	RefusePause = 1 * time.Second  // the same of one whose request could not be read
	LingerTotal = 30 * time.Second // the longest time of lingering
)

// Client is a client's connection. It serves one request after another; in
// chapters 2 to 5 one, after which it is closed.
type Client struct {
	peer
	Connection string      // what responses say of it: "close" unless it is changed to ""
	Since      time.Time   // when it was accepted
	Requests   int         // requests that have been read from it, or waited for
	Last       func() bool // asked when a response begins: is it the last? nil: no

	settings *Settings
	log      *narrate.Conn
	first    [firstRead]byte

	previous, next *Client     // while it waits: its neighbours in the settings' list
	unwanted       atomic.Bool // EndWait has been called

	request  *Request // the one in hand; nil: none has come whole
	head     bool     // it is a HEAD request, as far as it has come
	refused  bool     // it cannot be told where it ends
	failure  error    // what it ended with
	closing  bool     // the client has been told "close"
	answered int      // status of the response that the client has begun to see
	whole    bool     // and has seen to its end
	marked   bool     // which it can tell from the end of the connection
	before   int64    // bytes sent to it before this request
}

// NewClient takes a client's connection over, which has just been accepted.
// From now on it belongs to the Client; Close closes it.
func NewClient(conn net.Conn, settings *Settings, log *narrate.Conn) *Client {
	c := &Client{Connection: "close", Since: time.Now(), settings: settings, log: log}
	c.Conn = conn
	c.buf = c.first[:]
	c.writeIdle = settings.Idle
	return c
}

// ReadRequest is step 5: it reads a request's header from the client and refuses
// what must not be forwarded. The Request before it is void from now on.
func ReadRequest(c *Client) (*Request, error) {
	c.forget()
	c.Requests++
	switch err := c.await(); {
	case err == nil:
		c.log.Begin()
		err = c.readRequest()
		return c.request, c.tellRequest(err)
	case isTimeout(err) && !c.settings.stopping.Load():
		return nil, c.tellRequest(RequestError(err))
	default:
		return nil, c.tellRequest(ErrNoRequest)
	}
}

// forget forgets the request before, and moves what came behind it to the front:
// of the small buffer, if it is little.
func (c *Client) forget() {
	c.request, c.head, c.refused, c.answered, c.whole = nil, false, false, 0, false
	c.failure, c.before, c.readIdle = nil, c.sent.Load(), 0
	held := c.held()
	if len(held) > len(c.first) {
		c.r, c.w = 0, copy(c.buf, held)
		return
	}
	n := copy(c.first[:], held)
	c.free()
	c.buf, c.w = c.first[:], n
}

// await waits for a request's first bytes. Thousands of clients may be connected
// and silent, so a waiting one must be cheap: only a small buffer, and so little
// on the stack that a goroutine's first 2 KiB are enough.
func (c *Client) await() error {
	// The whole header has to be here by then, however slowly it drips in.
	by := time.Now().Add(c.settings.Request)
	if c.w > 0 {
		return c.SetReadDeadline(by)
	}
	err := c.waitUntil(by)
	if err == nil && c.settings.stopping.Load() {
		c.SetReadDeadline(by) // Stop may have changed it
	}
	return err
}

// waitUntil waits for the first bytes, until that time or Stop.
func (c *Client) waitUntil(by time.Time) error {
	c.readIdle = 0
	c.SetReadDeadline(by)
	if c.settings.wait(c) {
		c.SetReadDeadline(time.Now().Add(stopGrace))
	}
	if c.unwanted.Load() {
		c.SetReadDeadline(past)
	}
	n, err := c.take(c.buf)
	c.settings.waited(c)
	if c.w = n; n > 0 {
		return nil
	}
	return err
}

// readRequest reads the rest of the header and decides whether the request can
// be forwarded.
func (c *Client) readRequest() error {
	head, err := c.readHead(http1.RefuseRequest)
	c.head = bytes.HasPrefix(c.buf[c.r-len(head):c.w], []byte("HEAD "))
	if err != nil {
		c.refused = true
		return RequestError(err)
	}
	r := &Request{Client: c}
	r.Fields = r.fields[:0]
	if err := r.Parse(head); err != nil {
		c.refused = true
		return RequestError(err)
	}
	if r.Framing == http1.Length {
		r.body = c.held()[:min(r.Length, int64(len(c.held())))]
		c.r += len(r.body)
	}
	r.rest = body{message: &r.Message, left: r.Length - int64(len(r.body)), out: r.Framing,
		limit: c.settings.MaxBody}
	r.read = r.Framing != http1.Chunked && r.rest.left == 0
	c.request = r
	return Refused(&r.Request, c.settings.MaxBody)
}

// Refused returns why a request that is well-formed must not be forwarded, or nil.
func Refused(r *http1.Request, maxBody int64) error {
	hops, counted := r.MaxForwards()
	switch {
	case counted && hops == 0 && string(r.Method) == http.MethodOptions:
		return refuse(http.StatusOK, "this proxy is the final recipient")
	case counted && hops == 0:
		return refuse(http.StatusNotImplemented,
			"this proxy is the final recipient, and knows no TRACE")
	case r.Hops() >= maxHops:
		return refuse(http.StatusLoopDetected, "the request runs in a circle")
	case maxBody > 0 && r.Length > maxBody:
		return ErrBodySize
	}
	return nil
}

// maxHops is how many proxies a request may have passed before it is taken to
// run in a circle.
const maxHops = 32

// tellRequest narrates step 5.
//
//go:noinline
func (c *Client) tellRequest(err error) error {
	e := narrate.Event{Calls: "read"}
	if err != nil {
		return stepFailed(c.log, narrate.ReadRequest, err, e)
	}
	if c.log.On() {
		e.Bytes = int64(c.request.Size)
		e.Text = string(c.request.Method) + " " + string(c.request.Target)
		c.log.Step(narrate.ReadRequest, e)
	}
	return nil
}

// stepFailed narrates that a step has failed, and returns its error.
func stepFailed(log *narrate.Conn, step narrate.Step, err error, e narrate.Event) error {
	if log.On() {
		e.Err, e.Fault = err.Error(), Fault(err)
		log.Step(step, e)
	}
	return err
}

// Address returns the client's address as other hosts may know it: without the
// port, and without the zone of an IPv6 address, which means something on this
// host only. It is "" for a client that had left before it was accepted.
func (c *Client) Address() string {
	if tcp, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap().WithZone("").String()
	}
	return ""
}

// hop is what this proxy says of the client's connection: to one that is to be
// kept, "close" where it will not be all the same, and "keep-alive" where the
// client would not know (RFC 9112, section 9.3).
func (c *Client) hop() http1.Hop {
	h, r := http1.Hop{Via: c.settings.Name, Connection: c.Connection}, c.request
	switch {
	case h.Connection == "close":
	case c.refused, r == nil, r.Close, r.Minor == 0 && !r.KeepAlive, c.unwanted.Load(),
		c.settings.stopping.Load(), c.Last != nil && c.Last():
		h.Connection = "close"
	case r.Minor == 0:
		h.Connection = "keep-alive"
	}
	return h
}

// Next waits for the next request of a client that has been answered, no longer
// than idle, and reports whether one has begun, and if not, why. Empty lines,
// which some clients send behind a body, begin none.
func (c *Client) Next(idle time.Duration) (ok bool, reason string) {
	c.forget()
	for by := time.Now().Add(idle); ; {
		c.r += http1.Blank(c.held())
		if len(c.held()) > 0 {
			return true, ""
		}
		c.log.Idle(true)
		c.r = 0
		err := c.waitUntil(by)
		switch {
		case err == nil:
		case c.unwanted.Load():
			return false, "its place was needed"
		case c.settings.stopping.Load():
			return false, "the proxy ends"
		case isTimeout(err):
			return false, "it was idle too long"
		default:
			return false, "it left"
		}
	}
}

// Drain reads what is left of the request's body, up to where the next request
// begins. It reports whether that was there within the time, and no longer than
// most bytes.
func (c *Client) Drain(most int64, within time.Duration) bool {
	r := c.request
	if r == nil || r.rest.lost || r.rest.left > most || r.Get("Expect") != nil {
		return false // after Expect, the body may come or not
	}
	r.rest.limit, r.rest.keep = r.rest.total+most, 0
	c.readIdle = 0
	c.SetReadDeadline(time.Now().Add(within))
	r.read = r.rest.copy(&peer{Conn: nowhere{}}, &c.peer) == nil
	return r.read
}

// EndWait ends the client's wait in Next, or the one it will begin next: its place
// is needed. Any goroutine may call it.
func (c *Client) EndWait() {
	c.unwanted.Store(true)
	c.SetReadDeadline(past)
}

// nowhere is a connection that takes everything.
type nowhere struct{ net.Conn }

func (nowhere) Write(b []byte) (int, error)      { return len(b), nil }
func (nowhere) SetWriteDeadline(time.Time) error { return nil }

// Unread is the reason that Drain may remove.
const Unread = "its request's body was not read to the end"

// Reusable reports whether the connection can carry another request, and if not,
// why (RFC 9112, section 9.3): a request must have been answered to its end, and
// it must be clear where the next begins.
func (c *Client) Reusable() (ok bool, reason string) {
	r := c.request
	switch {
	case c.refused:
		return false, "its request was malformed"
	case r == nil:
		return false, "it sent no request"
	case r.Close:
		return false, "it said close"
	case r.Minor == 0 && !r.KeepAlive:
		return false, "it speaks HTTP/1.0, and did not ask to be kept"
	case c.answered == http.StatusSwitchingProtocols:
		return false, "it speaks another protocol now"
	case !c.whole:
		return false, "its answer is not complete"
	case !c.marked:
		return false, "its answer ends with the connection"
	case c.closing:
		return false, "it was told close"
	case !r.read:
		return false, Unread
	}
	return true, ""
}

// End ends the request in hand: it stops what is still under way and tells the
// client what failed, if the response has not begun. Called by defer, it also
// turns a panic into a failure of this request alone.
func (c *Client) End(failure *error) {
	if p := recover(); p != nil {
		*failure = PanicError(p)
	}
	c.end(failure)
}

func (c *Client) end(failure *error) {
	if c.request != nil {
		c.request.endTry() // a chapter may have forgotten to close the backend
	}
	if c.failure = *failure; c.failure != nil {
		c.tell(c.failure)
	}
	end := narrate.Event{Status: c.answered, Bytes: c.sent.Load() - c.before,
		Failed: Failed(*failure)}
	if *failure != nil && c.log.On() {
		end.Err, end.Fault = (*failure).Error(), Fault(*failure)
	}
	c.log.End(end)
}

// tell tells the client what failed, unless its response has begun.
func (c *Client) tell(failure error) {
	var e *Error
	if !errors.As(failure, &e) || e.Status == 0 || c.answered != 0 {
		return
	}
	h := c.hop()
	h.Date = Date()
	if e.Status == http.StatusRequestTimeout || e.Status == http.StatusInternalServerError {
		h.Connection = "close"
	}
	c.answered, c.closing = e.Status, h.Connection == "close"
	_, err := c.Write(http1.AppendPage(nil, e.Status, e.Reason, c.head, h))
	c.whole, c.marked = err == nil, true
}

// Close is step 10: it ends the request in hand, as End does unless that has been
// called, and closes the connection.
func (c *Client) Close(failure *error) {
	if p := recover(); p != nil {
		*failure = PanicError(p)
	}
	defer func() {
		if p := recover(); p != nil { // once more, while cleaning up
			*failure = PanicError(p)
		}
		c.Conn.Close()
		c.log.Close(*failure, Failed(*failure), c.answered)
	}()
	if *failure == nil {
		*failure = c.failure
	}
	c.end(failure)
	var e *Error
	if errors.As(*failure, &e) && e.Answered && c.request.abandoned() {
		c.setReset(true)
	}
	if c.unread(*failure) {
		c.linger()
	}
	c.free()
}

// unread reports whether the client may have sent, or be sending, something
// that was not read.
func (c *Client) unread(failure error) bool {
	var e *Error
	switch {
	case errors.As(failure, &e) &&
		(e.Status == 0 || e.Status == http.StatusRequestTimeout || e.Answered):
		return false // it is gone, or silent, or is to see that something broke
	case c.request == nil:
		return failure != nil
	}
	return len(c.held()) > 0 || !c.request.read || c.more()
}

// linger ends the sending side and reads what still comes, for a while.
// Closing at once would make the kernel answer the client's bytes with RST,
// which can destroy the response before the client has read it (RFC 9112,
// section 9.6).
func (c *Client) linger() {
	c.closeWrite()
	pause := LingerPause
	if c.request == nil {
		pause = RefusePause
	}
	buf := bodyBuffers.Get().(*bodyBuffer)
	defer bodyBuffers.Put(buf)
	for end := time.Now().Add(LingerTotal); time.Now().Before(end); {
		c.SetReadDeadline(time.Now().Add(pause))
		if c.settings.wait(c) {
			c.SetReadDeadline(past)
		}
		_, err := c.Conn.Read(buf[:])
		c.settings.waited(c)
		if err != nil || c.settings.stopping.Load() {
			return
		}
	}
}

// Date returns the time as Date has it (RFC 9110, section 5.6.7).
func Date() string { return time.Now().UTC().Format(http.TimeFormat) }
