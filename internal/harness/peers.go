//go:build unix

package harness

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Conn is one end of a connection that the test holds: a client's or a
// backend's. Its methods fail the test after Patience, and must be called from
// the test's goroutine, except those that return an error.
type Conn struct {
	*net.TCPConn
	R *bufio.Reader // what the other end sent
	t T

	once bool // what it sends says that it is the last request on the connection
}

func newConn(t T, c net.Conn) *Conn {
	tcp := c.(*net.TCPConn)
	tcp.SetDeadline(time.Now().Add(2 * Patience))
	t.Cleanup(func() { tcp.Close() })
	return &Conn{TCPConn: tcp, R: bufio.NewReader(tcp), t: t}
}

// Dial connects to the proxy as a client.
func (p *Proxy) Dial(t T) *Conn {
	t.Helper()
	c, err := net.DialTimeout("tcp", p.Addr, Patience)
	if err != nil {
		t.Fatalf("a client cannot connect to %s: %v", p.Model.Name, err)
	}
	conn := newConn(t, c)
	conn.once = p.Model.Keeps()
	return conn
}

// hostLine is the Host of the requests that the scenarios send.
const hostLine = "Host: proxy.test\r\n"

// Send sends s. To a proxy that would keep the connection, a request to the host
// proxy.test says Connection: close, so that it ends as it does with the others.
func (c *Conn) Send(s string) {
	c.t.Helper()
	if c.once {
		s = strings.Replace(s, hostLine, hostLine+"Connection: close\r\n", 1)
	}
	if _, err := io.WriteString(c, s); err != nil {
		c.t.Fatalf("send: %v", err)
	}
}

// mayTake says how long all that is still to come may take.
func (c *Conn) mayTake(d time.Duration) { c.SetDeadline(time.Now().Add(d)) }

// Reset closes the connection so that the other end reads an error (RST).
func (c *Conn) Reset() {
	c.SetLinger(0)
	c.Close()
}

// Head reads up to the empty line and returns that part.
func (c *Conn) Head() string {
	c.t.Helper()
	var head strings.Builder
	for {
		line, err := c.R.ReadString('\n')
		head.WriteString(line)
		if err != nil {
			c.t.Fatalf("the header ends after %q: %v", head.String(), err)
		}
		if line == "\r\n" || line == "\n" {
			return head.String()
		}
	}
}

// Request is a request as a backend received it, without what differs from run
// to run.
type Request struct {
	Line    string // "POST /echo HTTP/1.1"
	Fields  map[string]string
	Body    string
	Trailer map[string]string
}

// Request reads a whole request.
func (c *Conn) Request() Request {
	c.t.Helper()
	r, err := http.ReadRequest(c.R)
	if err != nil {
		c.t.Fatalf("the backend reads no request: %v", err)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		c.t.Fatalf("the request's body breaks off after %d bytes: %v", len(body), err)
	}
	fields := flat(r.Header)
	if len(r.TransferEncoding) > 0 {
		fields["Transfer-Encoding"] = strings.Join(r.TransferEncoding, ", ")
	}
	return Request{r.Method + " " + r.RequestURI + " " + r.Proto, fields, string(body),
		flat(r.Trailer)}
}

// Response is a response as a client received it, without what differs from run
// to run.
type Response struct {
	Status  int
	Fields  map[string]string // without Date and Via
	Body    string
	Trailer map[string]string
	End     string // what came after it, see Conn.End
}

// Response reads a whole response to a request with the given method, and then
// what comes behind it.
func (c *Conn) Response(method string) Response {
	c.t.Helper()
	r, body, err := c.TryResponse(method)
	if err != nil {
		c.t.Fatalf("the client reads no whole response: %v (after %d bytes of the body)", err,
			len(body))
	}
	fields := flat(r.Header)
	delete(fields, "Date")
	delete(fields, "Via")
	if len(r.TransferEncoding) > 0 {
		fields["Transfer-Encoding"] = strings.Join(r.TransferEncoding, ", ")
	}
	if r.Close {
		fields["Connection"] = "close"
	}
	return Response{r.StatusCode, fields, body, flat(r.Trailer), c.End()}
}

// TryResponse reads one response; the error says why it is not a whole one.
func (c *Conn) TryResponse(method string) (*http.Response, string, error) {
	r, err := http.ReadResponse(c.R, &http.Request{Method: method})
	if err != nil {
		return nil, "", err
	}
	body, err := io.ReadAll(r.Body)
	return r, string(body), err
}

// flat joins the values of each field.
func flat(h http.Header) map[string]string {
	var m map[string]string
	for name, values := range h {
		if m == nil {
			m = map[string]string{}
		}
		m[name] = strings.Join(values, ", ")
	}
	return m
}

// End reads to the connection's end and returns how it ended: "closed",
// "reset", or what else was seen.
func (c *Conn) End() string {
	rest, err := io.ReadAll(io.LimitReader(c.R, 1<<20))
	switch {
	case len(rest) > 0:
		return "more bytes: " + string(rest[:min(len(rest), 100)])
	case err == nil:
		return "closed"
	case errors.Is(err, syscall.ECONNRESET):
		return "reset"
	}
	return err.Error()
}

// Gone waits until the other end has closed or reset the connection, whatever
// it sends before.
func (c *Conn) Gone() {
	c.t.Helper()
	_, err := io.Copy(io.Discard, c.R)
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		c.t.Fatalf("the other end has not closed the connection")
	}
}

// Backend is a backend that the test plays.
type Backend struct {
	Addr     string
	listener *net.TCPListener
}

// NewBackend listens on a free port.
func NewBackend(t T) *Backend {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("the test's backend: %v", err)
	}
	t.Cleanup(func() { l.Close() })
	return &Backend{l.Addr().String(), l.(*net.TCPListener)}
}

// Refused returns an address where connections are refused, and that nobody else gets
// before the test's end: it is bound, and nobody listens there.
func Refused(t T) (addr string) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatalf("a socket: %v", err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	syscall.CloseOnExec(fd)
	err = syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	if err != nil {
		t.Fatalf("a port: %v", err)
	}
	bound, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatalf("its number: %v", err)
	}
	return "127.0.0.1:" + strconv.Itoa(bound.(*syscall.SockaddrInet4).Port)
}

// Accept waits for the proxy to connect.
func (b *Backend) Accept(t T) *Conn {
	t.Helper()
	return b.acceptWithin(t, Patience)
}

func (b *Backend) acceptWithin(t T, limit time.Duration) *Conn {
	t.Helper()
	b.listener.SetDeadline(time.Now().Add(limit))
	c, err := b.listener.Accept()
	if err != nil {
		t.Fatalf("the proxy has not connected to the backend: %v", err)
	}
	return newConn(t, c)
}

// drain closes connections that an earlier check has left unanswered: all that stand in the
// listener's queue before one of its own.
func (b *Backend) drain(t T) {
	t.Helper()
	own, err := net.DialTimeout("tcp", b.Addr, Patience)
	if err != nil {
		t.Fatalf("the test's backend: %v", err)
	}
	defer own.Close()
	for last := false; !last; {
		c := b.Accept(t)
		last = c.RemoteAddr().String() == own.LocalAddr().String()
		c.Close()
	}
}

// Serve answers every request with handler's response, from now to the test's
// end, in goroutines.
func (b *Backend) Serve(t T, handler http.HandlerFunc) {
	t.Helper()
	b.listener.SetDeadline(time.Time{})
	server := &http.Server{Handler: handler}
	// Ends when the test ends and closes the server.
	go server.Serve(b.listener)
	t.Cleanup(func() { server.Close() })
}

// Get sends a GET for target on a connection of its own and reads the whole
// response.
func (p *Proxy) Get(t T, target string) Response {
	t.Helper()
	c := p.Dial(t)
	defer c.Close()
	c.Send("GET " + target + " HTTP/1.1\r\nHost: proxy.test\r\n\r\n")
	return c.Response("GET")
}

// TryGet is Get for goroutines: it returns the body, or an error also for a
// status other than 200.
func (p *Proxy) TryGet(target string) (string, error) {
	conn, err := net.DialTimeout("tcp", p.Addr, Patience)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(2 * Patience))
	if _, err := io.WriteString(conn,
		"GET "+target+" HTTP/1.1\r\nHost: proxy.test\r\n\r\n"); err != nil {
		return "", err
	}
	r, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return "", err
	}
	body, err := io.ReadAll(r.Body)
	if err == nil && r.StatusCode != http.StatusOK {
		err = errors.New(r.Status + ": " + string(bytes.TrimSpace(body)))
	}
	return string(body), err
}

// Chunked frames data as a chunked body in pieces of n bytes, with the given
// trailer lines.
func Chunked(data string, n int, trailers ...string) string {
	var b bytes.Buffer
	for len(data) > 0 {
		piece := data[:min(n, len(data))]
		data = data[len(piece):]
		b.WriteString(strconv.FormatInt(int64(len(piece)), 16) + "\r\n" + piece + "\r\n")
	}
	b.WriteString("0\r\n")
	for _, line := range trailers {
		b.WriteString(line + "\r\n")
	}
	b.WriteString("\r\n")
	return b.String()
}
