package forward

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"runtime/pprof"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"reverseproxy/internal/narrate"
)

// patience is how long a test waits for something that must happen. Only a
// test that fails ever waits that long.
const patience = 20 * time.Second

// short is the limit under test where nothing has to come in time; enough is that where
// something has to, on a machine that stands still for seconds.
const (
	short  = time.Second
	enough = 4 * time.Second
)

// TestMain lets more tests run side by side than there are processors, because
// they wait most of the time.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "16"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// generous returns settings with limits that no test reaches: its patience ends before.
func generous() *Settings {
	const limit = 2 * patience
	return &Settings{Name: "test", Connect: limit, Request: limit, Server: limit, Idle: limit}
}

// rig is a proxy in front of a backend that the test plays itself, byte by
// byte, as it plays the client.
type rig struct {
	t        testing.TB
	limits   *Settings
	proxy    net.Listener
	backend  net.Listener
	target   string         // where the proxy connects to; the backend's address
	results  chan error     // what handleClient returned, one for each client
	handlers sync.WaitGroup // running handlers, and the accept loop
	narrator *narrate.Narrator
	prepare  func(net.Conn)       // done to a client's connection before the exchange
	before   func(*Request) error // called between steps 5 and 6
}

// newRig starts a proxy and a backend's listener. When the test ends, it
// checks that every goroutine of the exchanges has ended.
func newRig(t testing.TB, limits *Settings, options ...func(*rig)) *rig {
	t.Helper()
	r := &rig{t: t, limits: limits, results: make(chan error, 1000),
		narrator: narrate.New(narrate.Off)}
	r.proxy, r.backend = listen(t), listen(t)
	r.target = r.backend.Addr().String()
	for _, o := range options {
		o(r)
	}
	label := fmt.Sprintf("%s %p", t.Name(), r)
	r.handlers.Add(1)
	go pprof.Do(context.Background(), pprof.Labels("rig", label),
		func(context.Context) { r.serve() })
	t.Cleanup(func() {
		r.proxy.Close()
		r.backend.Close()
		ended := make(chan struct{})
		go func() { r.handlers.Wait(); close(ended) }() // ends with the last handler
		select {
		case <-ended:
		case <-time.After(patience):
			t.Errorf("a handler has not ended:\n%s", goroutines())
		}
		noGoroutines(t, label)
	})
	return r
}

// serve is the loop of ch4: a goroutine for each client, so that a test can
// watch several. It ends when the listener is closed.
func (r *rig) serve() {
	defer r.handlers.Done()
	for {
		client, err := r.proxy.Accept()
		if err != nil {
			return
		}
		if r.prepare != nil {
			r.prepare(client)
		}
		r.handlers.Add(1)
		go func() { // ends with the exchange
			defer r.handlers.Done()
			r.results <- r.handleClient(client, r.narrator.Accept(client))
		}()
	}
}

// handleClient is every chapter's.
func (r *rig) handleClient(conn net.Conn, log *narrate.Conn) (err error) {
	client := NewClient(conn, r.limits, log)
	defer client.Close(&err)
	request, err := ReadRequest(client)
	if err != nil {
		return err
	}
	if r.before != nil {
		if err := r.before(request); err != nil {
			return err
		}
	}
	backend, err := Connect(r.target, request)
	if err != nil {
		return err
	}
	defer backend.Close()
	if err := request.Write(backend); err != nil {
		return err
	}
	response, err := ReadResponse(backend, request)
	if err != nil {
		return err
	}
	return response.Write(client)
}

// result returns what the next handler to end returned.
func (r *rig) result() error {
	r.t.Helper()
	select {
	case err := <-r.results:
		return err
	case <-time.After(patience):
		r.t.Fatalf("no handler has ended:\n%s", goroutines())
		return nil
	}
}

// wantClientsFault fails unless the exchange failed because of the client.
func (r *rig) wantClientsFault() *Error {
	r.t.Helper()
	return r.wantError(ByClient, -1)
}

// wantBackendsFault fails unless the exchange failed because of the backend,
// with this status.
func (r *rig) wantBackendsFault(status int) *Error {
	r.t.Helper()
	return r.wantError(ByBackend, status)
}

func (r *rig) wantError(by Side, status int) *Error {
	r.t.Helper()
	err := r.result()
	var e *Error
	if !errors.As(err, &e) || e.By != by || status >= 0 && e.Status != status {
		r.t.Errorf("the exchange ended with %#v, want an *Error by %v, Status %d", err, by, status)
		return &Error{}
	}
	return e
}

// wantSuccess fails if the exchange failed.
func (r *rig) wantSuccess() {
	r.t.Helper()
	if err := r.result(); err != nil {
		r.t.Errorf("the exchange failed: %v", err)
	}
}

// untouched fails if anybody has connected to the backend.
func (r *rig) untouched() {
	r.t.Helper()
	own, err := net.Dial("tcp", r.backend.Addr().String())
	if err != nil {
		r.t.Fatal(err)
	}
	defer own.Close()
	first := r.accept() // whoever has connected before stands before it in the queue
	if first.RemoteAddr().String() != own.LocalAddr().String() {
		got, _ := io.ReadAll(first)
		r.t.Errorf("the backend was reached, with %q", got)
	}
}

// refused returns an address where connections are refused, and that nobody else gets
// before the test's end: that of a client.
func refused(t testing.TB) string {
	l := listen(t)
	defer l.Close()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn.LocalAddr().String()
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// wire is one connection in the test's hands. Each read and write has the test's
// patience.
type wire struct {
	*net.TCPConn
	t   testing.TB
	who string
}

func (w *wire) Read(b []byte) (int, error) {
	w.SetReadDeadline(time.Now().Add(patience))
	return w.TCPConn.Read(b)
}

func (w *wire) Write(b []byte) (int, error) {
	w.SetWriteDeadline(time.Now().Add(patience))
	return w.TCPConn.Write(b)
}

// ReadFrom and WriteTo hide those of TCPConn, which know no patience.
func (w *wire) ReadFrom(r io.Reader) (int64, error) { return io.Copy(struct{ io.Writer }{w}, r) }

func (w *wire) WriteTo(to io.Writer) (int64, error) { return io.Copy(to, struct{ io.Reader }{w}) }

// dial connects a client to the proxy.
func (r *rig) dial() *wire {
	r.t.Helper()
	conn, err := net.Dial("tcp", r.proxy.Addr().String())
	if err != nil {
		r.t.Fatal(err)
	}
	return newWire(r.t, conn, "client")
}

// send connects a client that sends s.
func (r *rig) send(s string) *wire {
	r.t.Helper()
	c := r.dial()
	c.send(s)
	return c
}

// accept returns the proxy's next connection to the backend.
func (r *rig) accept() *wire {
	r.t.Helper()
	r.backend.(*net.TCPListener).SetDeadline(time.Now().Add(patience))
	conn, err := r.backend.Accept()
	if err != nil {
		r.t.Fatalf("the proxy does not connect to the backend: %v\n%s", err, goroutines())
	}
	return newWire(r.t, conn, "backend")
}

func newWire(t testing.TB, conn net.Conn, who string) *wire {
	t.Cleanup(func() { conn.Close() })
	return &wire{conn.(*net.TCPConn), t, who}
}

func (w *wire) send(s string) {
	w.t.Helper()
	if _, err := io.WriteString(w, s); err != nil {
		w.t.Fatalf("%s: %v", w.who, err)
	}
}

// expect reads as many bytes as want has and compares them.
func (w *wire) expect(want string) {
	w.t.Helper()
	buf := make([]byte, len(want))
	n, err := io.ReadFull(w, buf)
	if diff := cmp.Diff(want, masked(buf[:n])); diff != "" {
		w.t.Fatalf("%s read (%v), -want +got:\n%s", w.who, err, diff)
	}
}

// until reads up to and including mark and returns what it read.
func (w *wire) until(mark string) string {
	w.t.Helper()
	var got []byte
	for b := make([]byte, 1); !bytes.HasSuffix(got, []byte(mark)); {
		if _, err := w.Read(b); err != nil {
			w.t.Fatalf("%s waits for %q: %v after %q", w.who, mark, err, got)
		}
		got = append(got, b[0])
	}
	return string(got)
}

// end reads to the end of file, which must come, and compares all of it.
func (w *wire) end(want string) {
	w.t.Helper()
	got, err := io.ReadAll(w)
	if err != nil {
		w.t.Errorf("%s: %v, want end of file", w.who, err)
	}
	if diff := cmp.Diff(want, masked(got)); diff != "" {
		w.t.Errorf("%s read, -want +got:\n%s", w.who, diff)
	}
}

// endsInReset reads up to a reset, which must come, and returns what it read.
func (w *wire) endsInReset() string {
	w.t.Helper()
	got, err := io.ReadAll(w)
	if !errors.Is(err, syscall.ECONNRESET) {
		w.t.Errorf("%s: read %q and %v, want a reset", w.who, got, err)
	}
	return masked(got)
}

// gone waits until the other side has closed or reset the connection, and
// returns what came before that.
func (w *wire) gone() string {
	w.t.Helper()
	got, err := io.ReadAll(w)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		w.t.Errorf("%s: the connection stays open", w.who)
	}
	return masked(got)
}

// reset closes the connection with RST.
func (w *wire) reset() {
	w.SetLinger(0)
	w.Close()
}

// dates matches the value of a Date field that the proxy made.
var dates = regexp.MustCompile(
	`Date: [A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT\r\n`)

// masked replaces the dates, which differ from run to run.
func masked(b []byte) string {
	return string(dates.ReplaceAll(b, []byte("Date: now\r\n")))
}

// page is the proxy's own response for an error.
func page(status, reason string) string {
	body := status + ": " + reason + "\n"
	return fmt.Sprintf("HTTP/1.1 %s\r\nDate: now\r\nContent-Type: text/plain; charset=utf-8\r\n"+
		"X-Content-Type-Options: nosniff\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
		status, len(body), body)
}

// forwarded are the fields that the proxy adds to a request from HTTP/1.1.
func forwarded(host string) string {
	return "Via: 1.1 test\r\nX-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Host: " + host +
		"\r\nX-Forwarded-Proto: http\r\n"
}

// Messages that many tests use: what goes in, and what has to come out.
const (
	get    = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
	getOut = "GET / HTTP/1.1\r\nHost: a\r\nVia: 1.1 test\r\nX-Forwarded-For: 127.0.0.1\r\n" +
		"X-Forwarded-Host: a\r\nX-Forwarded-Proto: http\r\nConnection: close\r\n\r\n"
	ok    = "HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: 2\r\n\r\nhi"
	okOut = "HTTP/1.1 200 OK\r\nDate: x\r\nVia: 1.1 test\r\nContent-Length: 2\r\n" +
		"Connection: close\r\n\r\nhi"
)

// exchange is a whole exchange: what the client sends, what has to reach the
// backend, what that answers, and what has to reach the client.
type exchange struct {
	name       string
	request    string
	wantSent   string
	response   string
	backendEnd bool // the backend ends its sending after the response
	wantAnswer string
}

func (e exchange) run(t *testing.T) {
	t.Helper()
	r := newRig(t, generous())
	client := r.send(e.request)
	backend := r.accept()
	backend.expect(e.wantSent)
	backend.send(e.response)
	if e.backendEnd {
		backend.CloseWrite()
	}
	client.end(e.wantAnswer)
	client.Close()
	backend.end("") // nothing more than what was wanted
	r.wantSuccess()
}

func runAll(t *testing.T, table []exchange) {
	for _, e := range table {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			e.run(t)
		})
	}
}

// goroutines returns the stacks of those that are inside this package.
func goroutines() string {
	var b strings.Builder
	pprof.Lookup("goroutine").WriteTo(&b, 1)
	var of []string
	for _, g := range strings.Split(b.String(), "\n\n") {
		if strings.Contains(g, "forward.(*") {
			of = append(of, g)
		}
	}
	return strings.Join(of, "\n\n")
}

// noGoroutines fails if goroutines that were started under the label stay.
func noGoroutines(t testing.TB, label string) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		var b strings.Builder
		pprof.Lookup("goroutine").WriteTo(&b, 1)
		if !strings.Contains(b.String(), fmt.Sprintf("%q:%q", "rig", label)) {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("goroutines are left over:\n%s", goroutines())
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}
