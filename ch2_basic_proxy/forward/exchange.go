package forward

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"reverseproxy/internal/cli"
	"reverseproxy/internal/narrate"
)

// Limits are the bounds of an exchange. A limit of 0 means none, except that
// of the timeouts, which must be positive.
type Limits struct {
	Connect time.Duration // for a backend to accept the connection
	Request time.Duration // for a client to send its header
	Server  time.Duration // for a backend to begin its response
	Idle    time.Duration // for a body or a tunnel that stands still
	MaxBody int64         // bytes of a request's body
}

// Flags registers the flags that set the limits, with HAProxy's and nginx's
// usual values as defaults, and has app check them.
func Flags(app *cli.App) *Limits {
	l, fs := &Limits{}, app.Flags
	app.Check(l.Check)
	fs.DurationVar(&l.Connect, "connect-timeout", 5*time.Second, "`time` a backend has to accept a connection (504 after it)")
	fs.DurationVar(&l.Request, "request-timeout", 10*time.Second, "`time` a client has to send its header (408 after it)")
	fs.DurationVar(&l.Server, "server-timeout", 15*time.Second, "`time` a backend has to begin its response (504 after it)")
	fs.DurationVar(&l.Idle, "idle-timeout", 60*time.Second, "`time` a body or a WebSocket may stand still")
	fs.Int64Var(&l.MaxBody, "max-body", 0, "largest request body in `bytes` (413 above it); 0 means any")
	return l
}

// Check returns an error that names the flag with an unusable value.
func (l *Limits) Check() error {
	for name, d := range map[string]time.Duration{"connect-timeout": l.Connect, "request-timeout": l.Request,
		"server-timeout": l.Server, "idle-timeout": l.Idle} {
		if d <= 0 {
			return errors.New("-" + name + " must be more than 0, such as 10s")
		}
	}
	if l.MaxBody < 0 {
		return errors.New("-max-body must not be negative")
	}
	return nil
}

// Sizes and times of an exchange.
const (
	firstRead      = 512                   // bytes of a client's first read
	maxInterim     = 64                    // interim responses (1xx) to one request
	halfCloseGrace = 1 * time.Second       // for a client that has sent FIN, without progress
	dialPause      = 10 * time.Millisecond // between looks for a free descriptor
	lingerPause    = 1 * time.Second       // the longest silence while lingering
	lingerTotal    = 5 * time.Second       // the longest time of lingering
)

// Exchange is one request and its response, each on a connection of its own.
// Its methods are called in the order of the steps:
//
//	ReadRequest (5), Connect (6), SendRequest (7),
//	ReadResponse (8), SendResponse (9), Close (10)
//
// The first error ends it; Close then tells the client, if it can be told.
type Exchange struct {
	client, backend peer
	via             string // this proxy's name in Via
	limits          *Limits
	log             *narrate.Conn
	first           [firstRead]byte

	req       *Request
	resp      *Response
	answered  int  // status of the response that the client has begun to see
	truncated bool // and that it will not see to its end

	// The request's side runs beside the response's: see sendBody.
	requestSide chan struct{} // closed when sendBody has ended; nil if it never ran
	over        chan struct{} // closed when the response's side has ended, or a tunnel begins
	overOnce    sync.Once
	mu          sync.Mutex // guards the rest
	responding  bool       // the response has begun: the server timeout is met
	complete    bool       // the request has been read and sent to its end
	switching   bool       // the response is 101: what the client sends next is the tunnel's
	more        bool       // the client sent something behind its request
	requestErr  error      // what ended the request's side before its time
}

// NewExchange prepares the exchange with a client that has just been accepted.
// From now on client belongs to it; Close closes it. via is this proxy's name.
func NewExchange(client net.Conn, via string, limits *Limits, log *narrate.Conn) *Exchange {
	x := &Exchange{via: via, limits: limits, log: log}
	x.client.Conn = client
	x.client.writeIdle = limits.Idle
	return x
}

// ReadRequest is step 5: it reads the request's header and refuses what must
// not be forwarded.
func (x *Exchange) ReadRequest() error {
	n, err := x.awaitRequest()
	switch err {
	case nil:
		err = x.readRequest(n)
	case io.EOF:
		err = errNoRequest
	default:
		err = requestError(err)
	}
	return x.tellRequest(err)
}

// awaitRequest waits for the first bytes. Thousands of clients may be connected
// and silent, so a waiting one must be cheap: only a small buffer, and so
// little on the stack that a goroutine's first 2 KiB are enough.
func (x *Exchange) awaitRequest() (n int, err error) {
	// The whole header has to be here by then, however slowly it drips in.
	x.client.SetReadDeadline(time.Now().Add(x.limits.Request))
	n, err = x.client.Conn.Read(x.first[:])
	if n > 0 {
		x.log.Begin()
	}
	return n, err
}

// tellRequest narrates step 5.
//
//go:noinline
func (x *Exchange) tellRequest(err error) error {
	if err != nil {
		return x.stepFailed(narrate.ReadRequest, err, narrate.Event{Calls: "read"})
	}
	if x.log.On() {
		x.log.Step(narrate.ReadRequest, narrate.Event{Calls: "read", Bytes: int64(x.req.size),
			Text: x.req.Method + " " + x.req.Target})
	}
	return nil
}

// readRequest reads the header, of which the first n bytes are in x.first.
func (x *Exchange) readRequest(n int) (err error) {
	x.client.early = x.first[:n]
	x.client.buf = newReader(&x.client)
	if x.req, err = ReadRequest(x.client.buf); err != nil {
		return requestError(err)
	}
	x.client.readIdle = x.limits.Idle

	hops, ok := x.req.maxForwards()
	switch {
	case ok && hops == 0 && x.req.Method == http.MethodOptions:
		return refuse(http.StatusOK, "this proxy is the final recipient")
	case ok && hops == 0:
		return refuse(http.StatusNotImplemented, "this proxy is the final recipient, and knows no TRACE")
	case len(x.req.tokens("Via")) >= maxHops:
		return refuse(http.StatusLoopDetected, "the request runs in a circle")
	case x.limits.MaxBody > 0 && x.req.Length > x.limits.MaxBody:
		return refuse(http.StatusRequestEntityTooLarge, "the body is larger than -max-body allows")
	}
	return nil
}

// Connect is step 6: it connects to the backend at addr (host:port).
func (x *Exchange) Connect(addr string) error {
	conn, err := x.dial(addr)
	if err != nil {
		return x.stepFailed(narrate.Connect, connectError(err, addr), narrate.Event{Calls: "socket, connect", Peer: addr})
	}
	x.backend.Conn = conn
	x.backend.writeIdle = x.limits.Idle
	x.backend.buf = newReader(&x.backend)
	x.log.Step(narrate.Connect, narrate.Event{Calls: "socket, connect", Peer: addr, Text: "inside net.Dial"})
	return nil
}

// dial connects within the connect timeout. Without a free descriptor it waits
// for one: exchanges that end give theirs back.
func (x *Exchange) dial(addr string) (net.Conn, error) {
	dialer := net.Dialer{
		Deadline:  time.Now().Add(x.limits.Connect),
		KeepAlive: -1, // no probes: every wait here has its timeout
	}
	for {
		conn, err := dialer.Dial("tcp", addr)
		if !errors.Is(err, syscall.EMFILE) || time.Until(dialer.Deadline) < dialPause {
			return conn, err
		}
		time.Sleep(dialPause)
	}
}

// SendRequest is step 7: it writes the request's header to the backend, with
// as much of the body as is there. The rest of the body follows while the
// response is awaited, because a backend may answer before it has read it all.
func (x *Exchange) SendRequest() error {
	head := make([]byte, 0, x.req.size+256)
	head = x.req.appendHead(head, x.backend.RemoteAddr().String(), x.client.RemoteAddr().String(), x.via)
	head, rest := withBody(head, &x.client, x.req.Message)
	if _, err := x.backend.Write(head); err != nil {
		return x.stepFailed(narrate.ForwardRequest, responseError(err), narrate.Event{Calls: "write"})
	}
	x.log.Step(narrate.ForwardRequest, narrate.Event{Calls: "write", Bytes: int64(len(head))})
	x.over, x.requestSide = make(chan struct{}), make(chan struct{})
	go x.sendBody(rest)
	return nil
}

// withBody appends to head what the reader already holds of a body of known
// length, so that both go out in one write. It returns the rest's message.
func withBody(head []byte, src *peer, m Message) ([]byte, Message) {
	if m.Framing == Length {
		n := min(int64(src.buf.Buffered()), m.Length)
		part, _ := src.buf.Peek(int(n))
		head = append(head, part...)
		src.buf.Discard(int(n))
		m.Length -= n
	}
	return head, m
}

// sendBody is the request's side of the exchange, beside the goroutine that
// awaits the response: it sends the rest of the body, starts the server
// timeout, and then watches whether the client leaves. It ends with the
// exchange: Close stops the reads and writes it waits in.
func (x *Exchange) sendBody(m Message) {
	defer close(x.requestSide)
	defer func() {
		if p := recover(); p != nil {
			x.abandon(panicError(p))
		}
	}()
	hadBody := m.Framing == Chunked || m.Length > 0
	err := copyBody(&x.backend, &x.client, &m, m.Framing, x.limits.MaxBody)
	switch {
	case err == nil:
		if hadBody {
			x.log.Body(x.backend.sent.Load())
		}
		if !x.await(true) {
			x.watchClient()
		}
	case isWriteError(err) && isTimeout(err):
		x.abandon(&Error{Status: http.StatusGatewayTimeout, Reason: "the backend does not take the request"})
	case isWriteError(err):
		x.await(false) // it does not want the rest; perhaps it has answered
	default:
		x.abandon(requestError(err))
	}
}

// await starts the server timeout, unless the response has already begun. It
// reports whether that was 101, so that nobody is to read from the client.
func (x *Exchange) await(complete bool) (switching bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.complete = complete
	if !x.responding {
		x.backend.readBy(time.Now().Add(x.limits.Server))
	}
	return x.switching
}

// begun notes that a response has begun or, after an interim one, that the
// next is awaited.
func (x *Exchange) begun(responding bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.responding = responding
	switch {
	case x.complete && responding:
		// The server timeout runs already, and for the whole header.
	case x.complete || responding:
		x.backend.readBy(time.Now().Add(x.limits.Server))
	default:
		x.backend.readBy(time.Time{}) // the request is still being sent
	}
}

// abandon gives the exchange up because of the request's side: the backend's
// work is cancelled, and the response's side learns the reason.
func (x *Exchange) abandon(err error) {
	x.mu.Lock()
	if x.requestErr == nil {
		x.requestErr = err
	}
	x.mu.Unlock()
	x.backend.stop(true, true)
}

// watchClient waits, while the backend works, for a client that goes away.
func (x *Exchange) watchClient() {
	x.client.readIdle = 0
	if x.client.readBy(time.Time{}) != nil {
		return // it is all over already
	}
	_, err := x.client.buf.Peek(1)
	for n := 0; err == nil; _, err = x.client.buf.Peek(1) {
		// More than the request was sent. For a tunnel that is its beginning;
		// otherwise nobody will read it, but the client may still leave.
		held := x.client.buf.Buffered()
		if n += held; x.req.Upgrade != "" || n > maxHead {
			return
		}
		x.client.buf.Discard(held)
		x.mu.Lock()
		x.more = true
		x.mu.Unlock()
	}
	switch {
	case isTimeout(err):
		// Close stopped the wait.
	case err == io.EOF:
		x.halfClosed()
	default:
		x.abandon(clientGone(err))
	}
}

// halfClosed decides about a client that has sent FIN. It may be gone, or it
// may only have nothing more to say (nc -N). TCP does not tell which: it is
// taken to be gone after a second in which there was nothing to send to it; one
// that is gone answers what is sent with RST.
func (x *Exchange) halfClosed() {
	for {
		before := x.client.sent.Load()
		select {
		case <-x.over:
			return
		case <-time.After(halfCloseGrace):
		}
		if x.client.sent.Load() == before && !x.client.writing.Load() {
			x.abandon(refuse(http.StatusRequestTimeout,
				"the client left, or ended its sending, and no answer came within a second"))
			return
		}
	}
}

// ReadResponse is step 8: it reads the response's header. Interim responses
// (100 Continue, 103 Early Hints) are passed on as they come.
func (x *Exchange) ReadResponse() error {
	err := x.readResponse()
	if err != nil {
		x.mu.Lock()
		if x.requestErr != nil {
			err = x.requestErr // the reason why the read was stopped
		}
		x.mu.Unlock()
		return x.stepFailed(narrate.ReadResponse, err, narrate.Event{Calls: "read"})
	}
	x.log.Step(narrate.ReadResponse, narrate.Event{Calls: "read", Bytes: int64(x.resp.size),
		Status: x.resp.Status, Text: x.resp.Reason})
	return nil
}

func (x *Exchange) readResponse() error {
	for range maxInterim {
		if _, err := x.backend.buf.Peek(1); err != nil {
			return responseError(err)
		}
		x.begun(true)
		resp, err := ReadResponse(x.backend.buf, x.req.Method)
		if err != nil {
			return responseError(err)
		}
		if resp.Status >= 200 || resp.Status == http.StatusSwitchingProtocols {
			if resp.Status < 200 && (x.req.Upgrade == "" || lower(resp.Get("Upgrade")) != lower(x.req.Upgrade)) {
				return &Error{Status: http.StatusBadGateway, Reason: "the backend changed the protocol unasked"}
			}
			x.resp = resp
			x.backend.readIdle = x.limits.Idle
			return nil
		}
		x.begun(false)
		if x.req.Minor == 1 { // HTTP/1.0 knows no interim responses
			if _, err := x.client.Write(resp.appendHead(nil, NoBody, x.via)); err != nil {
				return clientGone(err)
			}
		}
	}
	return &Error{Status: http.StatusBadGateway, Reason: "the backend sends interim responses without end"}
}

// SendResponse is step 9: it writes the response to the client, header and
// body, as it comes from the backend.
func (x *Exchange) SendResponse() error {
	err := x.sendResponse()
	e := narrate.Event{Calls: "write", Bytes: x.client.sent.Load(), Status: x.resp.Status}
	if err != nil {
		x.truncated = true
		return x.stepFailed(narrate.SendResponse, err, e)
	}
	x.log.Step(narrate.SendResponse, e)
	return nil
}

func (x *Exchange) sendResponse() error {
	m := x.resp.Message
	out := m.Framing
	switch {
	case x.req.Minor == 0 && out == Chunked:
		out = UntilClose // HTTP/1.0 knows no chunks
	case x.req.Minor == 1 && out == UntilClose:
		out = Chunked // so that a body cut short does not look complete
	}
	head := x.resp.appendHead(make([]byte, 0, x.resp.size+256), out, x.via)
	head, m = withBody(head, &x.backend, m)
	x.answered = x.resp.Status
	_, err := x.client.Write(head)
	if err == nil {
		if x.resp.Status == http.StatusSwitchingProtocols {
			return x.tunnel()
		}
		if out == UntilClose {
			// Until it is whole, any end is a reset, even that of this process.
			reset(x.client.Conn)
		}
		err = copyBody(&x.client, &x.backend, &m, out, 0)
	}
	if err == nil {
		if out == UntilClose {
			unreset(x.client.Conn)
		}
		return nil
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case x.requestErr != nil:
		return x.requestErr
	case isWriteError(err):
		return clientGone(err)
	case isTimeout(err):
		return &Error{Status: http.StatusGatewayTimeout, Reason: "the backend's response stood still", Err: err}
	}
	return &Error{Status: http.StatusBadGateway, Reason: "the backend's response broke off", Err: err}
}

// stepFailed narrates that a step has failed, and returns its error.
func (x *Exchange) stepFailed(step narrate.Step, err error, e narrate.Event) error {
	e.Err = err.Error()
	e.Fault = faultOf(err)
	x.log.Step(step, e)
	return err
}

func faultOf(err error) string {
	var known *Error
	if errors.As(err, &known) {
		return known.fault()
	}
	return ""
}

// Close is step 10: it ends what is still under way, tells the client what
// failed, if the response has not begun, and closes both connections. Called
// by defer, it also turns a panic into a failure of this exchange alone.
func (x *Exchange) Close(failure *error) {
	if p := recover(); p != nil {
		*failure = panicError(p)
	}
	defer func() {
		if p := recover(); p != nil { // once more, while cleaning up
			*failure = panicError(p)
		}
		x.client.Close()
		if x.backend.Conn != nil {
			x.backend.Close()
		}
		x.log.End(x.outcome(*failure))
		x.log.Close(*failure, failed(*failure), x.answered)
	}()
	x.endRequestSide()
	x.endResponse(*failure)
	freeReader(&x.client)
	freeReader(&x.backend)
}

// outcome says how the request ended.
func (x *Exchange) outcome(failure error) narrate.Event {
	e := narrate.Event{Status: x.answered, Bytes: x.client.sent.Load(), Failed: failed(failure)}
	if failure != nil && x.log.On() {
		e.Err, e.Fault = failure.Error(), faultOf(failure)
	}
	return e
}

// endResponse brings the client's side to an end that says how it went.
func (x *Exchange) endResponse(failure error) {
	var e *Error
	if errors.As(failure, &e) && e.Status != 0 && x.answered == 0 {
		x.answered = e.Status
		x.client.Write(errorPage(e, x.req != nil && x.req.Method == http.MethodHead))
	}
	switch {
	case x.truncated && x.answered == http.StatusSwitchingProtocols:
		reset(x.client.Conn)
		reset(x.backend.Conn)
	case x.truncated && x.unmarkedEnd():
		reset(x.client.Conn)
	case !x.truncated && x.unread(e):
		if x.backend.Conn != nil {
			x.backend.Close() // it need not wait for the client
		}
		linger(x.client.Conn)
	}
}

// failed reports whether a client with this error was left without the answer
// it asked for.
func failed(err error) bool {
	var e *Error
	return err != nil && !(errors.As(err, &e) && (e == errNoRequest || e.Status == http.StatusOK))
}

// endRequestSide stops sendBody and waits for its end.
func (x *Exchange) endRequestSide() {
	if x.requestSide == nil {
		return
	}
	x.overOnce.Do(func() { close(x.over) })
	x.client.stop(true, false)
	x.mu.Lock()
	sending := !x.complete
	x.mu.Unlock()
	if sending {
		x.backend.stop(true, true)
	}
	<-x.requestSide
}

// unmarkedEnd reports whether the client takes the connection's end for the
// end of the body; then only a reset shows that something is missing.
func (x *Exchange) unmarkedEnd() bool {
	return x.req.Minor == 0 && x.resp.Framing != NoBody && x.resp.Framing != Length
}

// unread reports whether the client may have sent, or be sending, something
// that was not read.
func (x *Exchange) unread(e *Error) bool {
	switch {
	case e != nil && (e.Status == 0 || e.Status == http.StatusRequestTimeout):
		return false // it is gone, or silent
	case x.req == nil:
		return e != nil
	case x.client.buf.Buffered() > 0 || x.more:
		return true
	}
	return !x.complete && x.req.Framing != NoBody
}

// reset makes closing conn send RST instead of FIN; unreset takes that back.
func reset(conn net.Conn)   { setLinger(conn, 0) }
func unreset(conn net.Conn) { setLinger(conn, -1) }

func setLinger(conn net.Conn, seconds int) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		tcp.SetLinger(seconds)
	}
}

// linger ends the sending side and reads what still comes, for a while.
// Closing at once would make the kernel answer the client's bytes with RST,
// which can destroy the response before the client has read it (RFC 9112,
// section 9.6).
func linger(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		tcp.CloseWrite()
	}
	buf := buffers.Get().(*[sizeRoom + bufferSize + 2]byte)
	defer buffers.Put(buf)
	for end := time.Now().Add(lingerTotal); time.Now().Before(end); {
		conn.SetReadDeadline(time.Now().Add(lingerPause))
		if _, err := conn.Read(buf[:]); err != nil {
			return
		}
	}
}

func panicError(p any) *Error {
	return &Error{Status: http.StatusInternalServerError, Reason: "the proxy failed",
		Err: fmt.Errorf("panic: %v\n%s", p, debug.Stack())}
}

// newReader returns a reader on p from the pool.
func newReader(p *peer) *bufio.Reader {
	r := readers.Get().(*bufio.Reader)
	r.Reset(p)
	return r
}

// freeReader gives p's reader back to the pool.
func freeReader(p *peer) {
	if p.buf != nil {
		p.buf.Reset(nil)
		readers.Put(p.buf)
		p.buf = nil
	}
}
