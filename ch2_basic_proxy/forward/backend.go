package forward

import (
	"context"
	"net"
	"strconv"
	"strings"
	"syscall"
	"time"

	"reverseproxy/ch2_basic_proxy/http1"
	"reverseproxy/internal/narrate"
)

// dialPause is how long is waited before another look for a free descriptor or
// port.
const dialPause = 10 * time.Millisecond

// Backend is a connection to a backend.
type Backend struct {
	peer
	Addr       string    // host:port
	Reused     bool      // it has carried a request before this one
	Connection string    // what requests say of the connection: "close" unless it is changed to ""
	Since      time.Time // when it was made
	Requests   int       // requests it has carried

	settings *Settings
	try      *try            // the request it carries, or has carried; nil: none
	response *Response       // to that, once its header has come
	wrote    bool            // a byte of the request has been written
	heard    bool            // a byte of the response has come
	broken   error           // why the request's header could not be written
	whole    bool            // the response has been read to its end
	raw      syscall.RawConn // for Quiet; nil: not needed so far
}

// Connect is step 6: it connects to the backend at addr (host:port), for this
// request. Without a free descriptor or port it waits for one, within the connect
// timeout. It ends early when the client leaves.
func Connect(addr string, r *Request) (*Backend, error) {
	settings, log := r.Client.settings, r.Client.log
	e := narrate.Event{Calls: "socket, connect", Peer: addr}
	var conn net.Conn
	err := r.Wait(settings.Connect, func(ctx context.Context) (failure *Error) {
		var err error
		if conn, err = dial(ctx, addr); err != nil {
			failure = ConnectError(err, addr)
		}
		return failure
	})
	if err != nil {
		return nil, stepFailed(log, narrate.Connect, err, e)
	}
	e.Text = "inside net.Dial"
	log.Step(narrate.Connect, e)
	b := &Backend{Addr: addr, Connection: "close", Since: time.Now(), settings: settings}
	b.Conn = conn
	b.writeIdle = settings.Idle
	return b, nil
}

func dial(ctx context.Context, addr string) (net.Conn, error) {
	dialer := net.Dialer{KeepAlive: -1} // no probes: every wait here has its timeout
	for {
		conn, err := dialer.DialContext(ctx, "tcp", addr)
		if err == nil || !Exhausted(err) {
			return conn, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(dialPause):
		}
	}
}

// begin makes the connection carry a request.
func (b *Backend) begin(t *try) {
	b.Requests++
	b.Reused = b.Requests > 1
	b.try, b.response, b.wrote, b.heard, b.whole, b.broken = t, nil, false, false, false, nil
	b.r, b.w, b.readIdle = 0, 0, 0
	if b.Reused {
		b.readBy(time.Time{}) // the limit of the request before
	}
}

// hop is what this proxy says of the connection to the backend.
func (b *Backend) hop(r *Request) http1.Hop {
	h := http1.Hop{Via: b.settings.Name, For: r.Client.Address(), Connection: b.Connection}
	if r.Host == nil {
		h.Host = HostOf(b.Addr)
	}
	return h
}

// HostOf returns the Host of the backend at addr (host:port), for a request that
// names none. An IPv6 address's zone means something on this host only.
func HostOf(addr string) string {
	before, zone, _ := strings.Cut(addr, "%")
	return before + zone[max(strings.IndexByte(zone, ']'), 0):]
}

// Reusable reports whether the connection can carry another request, and if not,
// why (RFC 9112, section 9.3): request and response must have been passed on to
// their ends, and nothing more may have come. It ends what runs beside them.
func (b *Backend) Reusable() (ok bool, reason string) {
	t, r := b.try, b.response
	if t == nil {
		return true, "" // it is fresh
	}
	t.request.endTry()
	u := Use{Broke: b.broken != nil, GivenUp: t.err != nil, Whole: b.whole, Complete: t.complete,
		More: len(b.held()) > 0, Request: &t.request.Request}
	if r != nil {
		u.Response = &r.Response
	}
	return u.Reusable()
}

// Use is what became of a request on a connection to a backend.
type Use struct {
	Request  *http1.Request
	Response *http1.Response // nil: none has come
	Broke    bool            // the request's header could not be written
	GivenUp  bool            // because of the client, or of time
	Complete bool            // the request has been sent to its end
	Whole    bool            // the response has been read to its end
	More     bool            // something has come behind it
}

// Reusable does what Backend.Reusable does, of what became of its last request.
func (u Use) Reusable() (ok bool, reason string) {
	switch q, r := u.Request, u.Response; {
	case u.Broke:
		return false, "it broke while the request was written"
	case u.GivenUp && !u.Whole:
		return false, "its request was given up"
	case !u.Whole:
		return false, "its response was not read to the end"
	case !u.Complete:
		return false, "it answered before it had the whole request"
	case u.GivenUp:
		return false, "the client left just then"
	case q.Upgrade != nil:
		return false, "it was asked to change the protocol"
	case r.Framing == http1.UntilClose:
		return false, "its response ends with the connection"
	case r.Close:
		return false, "it said close"
	case r.Minor == 0 && !r.KeepAlive:
		return false, "it speaks HTTP/1.0, and did not offer to stay"
	case u.More:
		return false, "it sent more than its response"
	}
	return true, ""
}

// Close is step 10: it ends what is still under way between the client and this
// backend, and closes the connection.
func (b *Backend) Close() {
	if b.try != nil {
		b.try.request.endTry()
	}
	b.Conn.Close()
	b.free()
}

// Timeout returns how long the backend will keep the connection idle, as its
// last response said: Keep-Alive: timeout=5, in seconds.
func (b *Backend) Timeout() (d time.Duration, ok bool) {
	if b.response == nil {
		return 0, false
	}
	return IdleTimeout(&b.response.Response)
}

// IdleTimeout returns what Backend.Timeout does, of a response.
func IdleTimeout(r *http1.Response) (d time.Duration, ok bool) {
	value := r.Get("Keep-Alive")
	if value == nil {
		return 0, false
	}
	for part := range strings.SplitSeq(string(value), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		n, err := strconv.Atoi(strings.Trim(value, `" `))
		if strings.EqualFold(name, "timeout") && err == nil && n >= 0 {
			return time.Duration(n) * time.Second, true
		}
	}
	return 0, false
}
