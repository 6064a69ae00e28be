package backends

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/coder/websocket"
)

// Bounds of what a request may ask for.
const (
	maxBytes     = 16 << 30         // bytes of /bytes and /drop: 16 GiB
	maxWaitMS    = 60_000           // milliseconds of /slow, and between events of /stream
	maxEvents    = 1_000_000        // events of /stream
	maxMessage   = 1 << 20          // bytes of one WebSocket message: 1 MiB
	maxDiscard   = 1 << 20          // bytes of a request body that /slow and /stream read first
	messageWait  = 10 * time.Minute // for the next WebSocket message
	dropMissing  = 1000             // bytes that /drop announces but never sends
	defaultBytes = 1024             // bytes of /bytes without n
)

// Endpoints is one line on each path that a backend answers, for usage texts.
// In every response the field X-Backend names the backend by its port.
const Endpoints = `/                  a page that names the backend and links to the rest
/api/data          JSON: backend (its port, a string), request (the how many-th
                   request for /api/data since the backend's start), path
/slow?ms=1000      the answer after so many milliseconds, at most 60000
/bytes?n=1024      n bytes of numbered 16-byte lines, at most 16 GiB;
                   &chunked=1 sends them without Content-Length
/echo              what the backend received: request line and fields as text, an
                   empty line, the body byte for byte; request trailers come back as trailers
/status/404        that status, 200 to 599; 100 and 102 to 199 come before a 200
/stream?n=5&ms=500 n server-sent events, the first at once, then one every ms milliseconds
/ws                WebSocket: every message comes back, at most 1 MiB each
/drop?after=100    announces 1000 bytes more than it sends, breaks off after so many
                   bytes; &reset=1 breaks off with a TCP RST, which may overtake
                   bytes still on their way
/health            200; 404 after a POST to /leave, which /leave?on=0 takes back;
                   with ?deep=1 503 while what all backends depend on is off:
                   a POST to /dependency?on=0, or on=1, of any of them
`

//go:embed page.html
var page string

// badRequest is a sentence for the client on what is wrong with its request.
type badRequest string

func (b badRequest) Error() string { return string(b) }

// ServeHTTP answers one request. It ends when the response is out, the client
// has left, or the backend is stopped.
func (l *life) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !l.enter() {
		panic(http.ErrAbortHandler) // stopped while the request arrived
	}
	defer l.handlers.Done()
	l.backend.requests.Add(1)
	w.Header().Set("X-Backend", l.backend.port)
	extendWrite(w)

	err := l.route(w, r)
	var bad badRequest
	switch {
	case err == nil:
	case errors.As(err, &bad):
		text(w, http.StatusBadRequest, bad.Error())
	default:
		// net/http closes the connection without ending the body, so that what
		// has arrived so far does not look like a whole response.
		panic(http.ErrAbortHandler)
	}
}

// route calls the endpoint for the path. An endpoint returns nil after a whole
// response, a badRequest before it has written anything, and any other
// error to break the connection off.
func (l *life) route(w http.ResponseWriter, r *http.Request) error {
	if l.queue != nil {
		switch err := l.queue.wait(r.Context()); {
		case err == errFull:
			text(w, http.StatusServiceUnavailable, "The queue is full.")
			return nil
		case err != nil:
			return err
		}
	}
	if d := time.Duration(l.backend.latency.Load()); d > 0 && r.URL.Path != "/health" {
		select {
		case <-time.After(d):
		case <-r.Context().Done():
			return r.Context().Err()
		}
	}
	switch path := r.URL.Path; path {
	case "/":
		return l.home(w)
	case "/api/data":
		return l.apiData(w)
	case "/slow":
		return l.slow(w, r)
	case "/bytes":
		return sendBytes(w, r)
	case "/echo":
		return echo(w, r)
	case "/stream":
		return l.stream(w, r)
	case "/ws":
		return webSocket(w, r)
	case "/drop":
		return drop(w, r)
	case "/health":
		return l.health(w, r)
	case "/dependency":
		return l.dependency(w, r)
	case "/leave":
		return l.leave(w, r)
	default:
		if code, ok := strings.CutPrefix(path, "/status/"); ok {
			return l.status(w, r, code)
		}
		text(w, http.StatusNotFound, fmt.Sprintf("Backend %s has nothing at %s; / lists what it "+
			"has.",
			l.backend.port, visible(path)))
		return nil
	}
}

func (l *life) home(w http.ResponseWriter) error {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	// The port is digits only, so it needs no escaping.
	_, err := io.WriteString(w, strings.ReplaceAll(page, "{{backend}}", l.backend.port))
	return err
}

func (l *life) apiData(w http.ResponseWriter) error {
	w.Header().Set("Content-Type", "application/json")
	_, err := fmt.Fprintf(w, `{"backend":"%s","request":%d,"path":"/api/data"}`+"\n",
		l.backend.port, l.data.Add(1))
	return err
}

func (l *life) slow(w http.ResponseWriter, r *http.Request) error {
	ms, err := number(r, "ms", 1000, 0, maxWaitMS)
	if err != nil {
		return err
	}
	if err := discardBody(w, r); err != nil {
		return err
	}
	if err := wait(r.Context(), ms); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	_, err = fmt.Fprintf(w, `{"backend":"%s","waited_ms":%d}`+"\n", l.backend.port, ms)
	return err
}

func sendBytes(w http.ResponseWriter, r *http.Request) error {
	n, err := number(r, "n", defaultBytes, 0, maxBytes)
	if err != nil {
		return err
	}
	chunked, err := number(r, "chunked", 0, 0, 1)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	if chunked == 0 {
		w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
	}
	if r.Method == http.MethodHead {
		return nil
	}
	if chunked == 1 {
		// A flushed head cannot get a Content-Length any more, however short the body.
		if err := http.NewResponseController(w).Flush(); err != nil {
			return err
		}
	}
	_, err = io.Copy(patientWriter{w}, Content(n))
	return err
}

// echo sends the request back while it is still arriving.
func echo(w http.ResponseWriter, r *http.Request) error {
	head := requestHead(r)
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff") // the body is the client's
	if r.ContentLength >= 0 {
		w.Header().Set("Content-Length", strconv.FormatInt(int64(len(head))+r.ContentLength, 10))
	}
	for name := range r.Trailer {
		w.Header().Add("Trailer", name)
	}
	if strings.EqualFold(r.Header.Get("Expect"), "100-continue") && r.ProtoAtLeast(1, 1) {
		w.WriteHeader(http.StatusContinue) // before the response, or the body never comes
	}
	control := http.NewResponseController(w)
	if err := control.EnableFullDuplex(); err != nil {
		return err
	}
	if _, err := io.WriteString(w, head); err != nil {
		return err
	}
	if r.ContentLength != 0 { // a body follows, and its answer need not wait for it
		if err := control.Flush(); err != nil {
			return err
		}
	}
	if err := copyBody(flushWriter{w}, w, r.Body); err != nil {
		return err
	}
	for name, values := range r.Trailer { // complete only now, after the body
		for _, value := range values {
			w.Header().Add(name, value)
		}
	}
	return nil
}

// requestHead renders the request line and the fields, sorted by name, and the
// empty line after them. net/http keeps neither the fields' order nor their
// spelling, and has taken some of them out, which come back here.
func requestHead(r *http.Request) string {
	fields := r.Header.Clone()
	if r.Host != "" {
		fields.Set("Host", r.Host)
	}
	if len(r.TransferEncoding) > 0 {
		fields.Set("Transfer-Encoding", strings.Join(r.TransferEncoding, ", "))
	}
	for name := range r.Trailer {
		fields.Add("Trailer", name)
	}
	names := make([]string, 0, len(fields))
	for name := range fields {
		names = append(names, name)
	}
	sort.Strings(names)
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %s\r\n", visible(r.Method), visible(r.RequestURI), visible(r.Proto))
	for _, name := range names {
		for _, value := range fields[name] {
			fmt.Fprintf(&b, "%s: %s\r\n", visible(name), visible(value))
		}
	}
	b.WriteString("\r\n")
	return b.String()
}

// status answers with the code in the path. A 1xx is followed by a 200, as
// RFC 9110 section 15.2 has it: informational responses come before the final one.
func (l *life) status(w http.ResponseWriter, r *http.Request, digits string) error {
	code, err := strconv.Atoi(digits)
	if err != nil || len(digits) != 3 || code < 100 || code > 599 ||
		code == http.StatusSwitchingProtocols {
		return badRequest(fmt.Sprintf("%s is no status that can be sent here: give 200 to 599, "+
			"or 100, "+
			"or 102 to 199 (101 belongs to /ws).", visible(digits)))
	}
	h := w.Header()
	switch code {
	case 103:
		h.Set("Link", "</>; rel=preload; as=document")
	case 301, 302, 303, 307, 308:
		h.Set("Location", "/")
	case 401:
		h.Set("WWW-Authenticate", "Demo") // a scheme browsers do not ask a password for
	case 405:
		h.Set("Allow", "GET")
	case 407:
		h.Set("Proxy-Authenticate", "Demo")
	}
	if code < 200 {
		if r.ProtoAtLeast(1, 1) { // an HTTP/1.0 client does not know 1xx
			w.WriteHeader(code)
		}
		h.Del("Link")
		text(w, http.StatusOK, fmt.Sprintf("Backend %s sent %s before this 200.",
			l.backend.port, title(code)))
		return nil
	}
	if code == 204 || code == 205 || code == 304 { // these have no body
		w.WriteHeader(code)
		return nil
	}
	text(w, code, fmt.Sprintf("Backend %s answers %s.", l.backend.port, title(code)))
	return nil
}

// title is a status code with its name, if it has one: "404 Not Found".
func title(code int) string {
	return strings.TrimSpace(strconv.Itoa(code) + " " + http.StatusText(code))
}

// stream sends server-sent events (the text/event-stream format of the HTML standard).
func (l *life) stream(w http.ResponseWriter, r *http.Request) error {
	n, err := number(r, "n", 86_400, 1, maxEvents)
	if err != nil {
		return err
	}
	ms, err := number(r, "ms", 1000, 0, maxWaitMS)
	if err != nil {
		return err
	}
	if err := discardBody(w, r); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	if r.Method == http.MethodHead {
		return nil
	}
	control := http.NewResponseController(w)
	for i := int64(1); i <= n; i++ {
		if i > 1 {
			if err := wait(r.Context(), ms); err != nil {
				return err
			}
		}
		extendWrite(w)
		_, err := fmt.Fprintf(w, "id: %d\ndata: {\"backend\":\"%s\",\"event\":%d}\n\n",
			i, l.backend.port, i)
		if err != nil {
			return err
		}
		if err := control.Flush(); err != nil {
			return err
		}
	}
	return nil
}

// webSocket sends every message back until the peer closes or leaves, sends one
// that is too long, or says nothing for messageWait.
func webSocket(w http.ResponseWriter, r *http.Request) error {
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{
		InsecureSkipVerify: true, // any Origin: behind a proxy, Host may be another one
	})
	if err != nil {
		return nil // Accept has answered with the reason
	}
	defer conn.CloseNow()
	conn.SetReadLimit(maxMessage)
	for {
		ctx, cancel := context.WithTimeout(r.Context(), messageWait)
		kind, message, err := conn.Read(ctx)
		if err == nil {
			err = conn.Write(ctx, kind, message)
		}
		cancel()
		if err != nil {
			return nil
		}
	}
}

// drop announces more than it sends. Without reset the connection ends with a
// FIN after the last byte, with reset in an RST.
func drop(w http.ResponseWriter, r *http.Request) error {
	after, err := number(r, "after", 0, 0, maxBytes)
	if err != nil {
		return err
	}
	reset, err := number(r, "reset", 0, 0, 1)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.FormatInt(after+dropMissing, 10))
	if _, err := io.Copy(patientWriter{w}, Content(after)); err != nil {
		return err
	}
	control := http.NewResponseController(w)
	if err := control.Flush(); err != nil {
		return err
	}
	if reset == 0 {
		return errors.New("broken off as asked")
	}
	conn, _, err := control.Hijack()
	if err != nil {
		return err
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // close(2) now sends RST
	}
	return conn.Close()
}

// text answers with one line of text.
func text(w http.ResponseWriter, code int, line string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	_, _ = io.WriteString(w, line+"\n") // a client that has left needs no answer
}

// number reads a query parameter as a whole number from low to high; without
// the parameter it is the default. The error is a badRequest.
func number(r *http.Request, name string, byDefault, low, high int64) (int64, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return 0, badRequest("The query of this request cannot be read: " +
			visible(err.Error()) + ".")
	}
	if !query.Has(name) {
		return byDefault, nil
	}
	n, err := strconv.ParseInt(query.Get(name), 10, 64)
	if err != nil || n < low || n > high {
		return 0, badRequest(fmt.Sprintf("The parameter %s must be a whole number from %d to %d, "+
			"not \"%s\".",
			name, low, high, visible(query.Get(name))))
	}
	return n, nil
}

// visible replaces everything that is not printable ASCII by \xNN, byte by
// byte, so that no client's bytes can command a terminal.
func visible(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c >= 0x20 && c <= 0x7e {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, `\x%02x`, c)
		}
	}
	return b.String()
}

// wait returns after so many milliseconds, or with an error as soon as the
// client has left or the backend is stopped.
func wait(ctx context.Context, ms int64) error {
	timer := time.NewTimer(time.Duration(ms) * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// discardBody reads a request body away: net/http notices that a client has
// left only when it has no body to read any more.
func discardBody(w http.ResponseWriter, r *http.Request) error {
	return copyBody(io.Discard, w, io.LimitReader(r.Body, maxDiscard))
}

// copyBody copies a request body to dst and gives up if it stands still for
// stallTimeout.
func copyBody(dst io.Writer, w http.ResponseWriter, body io.Reader) error {
	control := http.NewResponseController(w)
	buffer := make([]byte, 32<<10)
	for {
		_ = control.SetReadDeadline(time.Now().Add(stallTimeout))
		n, err := body.Read(buffer)
		if n > 0 {
			if _, err := dst.Write(buffer[:n]); err != nil {
				return err
			}
		}
		if err != nil {
			_ = control.SetReadDeadline(time.Time{})
			if err == io.EOF {
				return nil
			}
			return err
		}
	}
}

// extendWrite gives the client another stallTimeout to take what is written.
func extendWrite(w http.ResponseWriter) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(stallTimeout))
}

// patientWriter writes a body of any length: the time limit is for each piece.
type patientWriter struct{ w http.ResponseWriter }

func (p patientWriter) Write(b []byte) (int, error) {
	extendWrite(p.w)
	return p.w.Write(b)
}

// flushWriter writes a body that is sent on piece by piece, as it arrives.
type flushWriter struct{ w http.ResponseWriter }

func (f flushWriter) Write(b []byte) (int, error) {
	extendWrite(f.w)
	n, err := f.w.Write(b)
	if err != nil {
		return n, err
	}
	return n, http.NewResponseController(f.w).Flush()
}
