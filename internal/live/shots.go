package live

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"reverseproxy/internal/narrate"
)

// What the buttons can do is bounded: fixed requests to the proxy, so many at
// once, so many a second.
const (
	maxShots       = 64                // clients at work at once
	shotsPerSecond = 40.0              // clients started a second
	shotsBurst     = 60.0              // of which so many at once
	shotTimeout    = 120 * time.Second // for a client from dial to end
	silence        = 60 * time.Second  // how long a silent client waits to be cut off
	halfPause      = time.Second       // before a client leaves in the middle
	inARow         = 6                 // requests of a client that keeps its connection
	rowPause       = 150 * time.Millisecond
	leaveAfter     = 1 << 20 // bytes of an answer before a client leaves
	shotGrace      = 100 * time.Millisecond
)

// shot is one kind of client that a button starts.
type shot struct {
	clients int
	run     func(c net.Conn, host string) (status int, bytes int64, err error)
}

// shots are all the kinds there are, by the button's name.
var shots = map[string]shot{
	"one":    {1, get("/api/data")},
	"ten":    {10, get("/slow?ms=200")},
	"row":    {1, sendRow},
	"slow":   {1, get("/slow?ms=2000")},
	"big":    {1, get("/bytes?n=50000000")},
	"drop":   {1, get("/drop?after=1000")},
	"silent": {1, beSilent},
	"half":   {1, sendHalf},
	"leave":  {1, leaveHalfway},
}

// shooter starts clients that send real requests through the proxy.
type shooter struct {
	col     *collector
	slots   chan struct{} // one for each client at work
	last    atomic.Uint64
	running sync.WaitGroup

	mu     sync.Mutex
	rate   bucket
	closed bool
	conns  map[net.Conn]bool // open ones, for close
}

func newShooter(col *collector) *shooter {
	return &shooter{col: col, slots: make(chan struct{}, maxShots), conns: make(map[net.Conn]bool),
		rate: bucket{rate: shotsPerSecond, burst: shotsBurst, tokens: shotsBurst}}
}

// fire starts the clients of the named button, or says why not.
func (s *shooter) fire(proxy, name string) error {
	kind, ok := shots[name]
	if !ok {
		return errRefused("there is no such button")
	}
	if proxy == "" {
		return errRefused("the proxy does not listen yet")
	}
	if err := s.reserve(kind.clients); err != nil {
		return err
	}
	for range kind.clients {
		go func() { // ends with its connection, after shotTimeout at the latest
			defer func() { <-s.slots; s.running.Done() }()
			s.client(dialable(proxy), name, kind)
		}()
	}
	return nil
}

// reserve takes slots and tokens for n clients, all or none.
func (s *shooter) reserve(n int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errRefused("the program is ending")
	}
	if len(s.slots)+n > maxShots {
		return errRefused(fmt.Sprintf("%d clients are at work already: wait for some to end",
			len(s.slots)))
	}
	for range n {
		if !s.rate.take(s.col.now()) {
			return errRefused("too many clients in one second")
		}
	}
	for range n {
		s.slots <- struct{}{} // room was checked under the lock; only fire adds
	}
	s.running.Add(n)
	return nil
}

// client is one client, from dial to end; each stage is recorded.
func (s *shooter) client(proxy, name string, kind shot) {
	r := record{Shot: s.last.Add(1), Name: name, Text: "dialling"}
	begin := time.Now()
	s.col.dial()
	s.col.client(r)
	c, err := net.DialTimeout("tcp", proxy, shotTimeout)
	if err != nil {
		s.col.dialled("")
		r.Text, r.Err = "done", narrate.Clean(err.Error())
		s.col.client(r)
		return
	}
	defer c.Close()
	if !s.hold(c) {
		s.col.dialled("")
		return
	}
	defer s.release(c)
	r.Peer, r.Text = c.LocalAddr().String(), "connected"
	s.col.dialled(r.Peer)
	defer s.col.gone(r.Peer)
	s.col.client(r)
	c.SetDeadline(time.Now().Add(shotTimeout))
	r.Status, r.Bytes, err = kind.run(c, proxy)
	r.Text, r.Elapsed = "done", time.Since(begin).Microseconds()
	if err != nil {
		r.Err = narrate.Clean(err.Error())
	}
	s.col.client(r)
}

// hold remembers an open connection for close; false if the program ends.
func (s *shooter) hold(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[c] = true
	return !s.closed
}

func (s *shooter) release(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

// close lets clients that are nearly done finish, ends the others and waits.
func (s *shooter) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	ended := make(chan struct{})
	go func() { // ends when all clients have, which the loop below sees to
		s.running.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return
	case <-time.After(shotGrace):
	}
	s.mu.Lock()
	for c := range s.conns {
		c.Close()
	}
	s.mu.Unlock()
	<-ended
}

// get returns a client that sends a whole request and reads the whole answer.
func get(path string) func(net.Conn, string) (int, int64, error) {
	return func(c net.Conn, host string) (int, int64, error) {
		if err := sendRequest(c, host, path, "Connection: close\r\n"); err != nil {
			return 0, 0, err
		}
		return readAnswer(bufio.NewReader(c))
	}
}

func sendRequest(c net.Conn, host, path, fields string) error {
	_, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\n"+
		"User-Agent: live-page\r\n%s\r\n", path, host, fields)
	return err
}

func readAnswer(r *bufio.Reader) (status int, bytes int64, err error) {
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		return 0, 0, err
	}
	n, err := io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, n, err
}

// sendRow sends one request after another on its connection, and leaves.
func sendRow(c net.Conn, host string) (status int, bytes int64, err error) {
	r := bufio.NewReader(c)
	for i := range inARow {
		if i > 0 {
			time.Sleep(rowPause)
		}
		if err := sendRequest(c, host, "/slow?ms=100", ""); err != nil {
			return status, bytes, err
		}
		answered, n, err := readAnswer(r)
		if err != nil {
			return status, bytes, fmt.Errorf("request %d of %d: %w", i+1, inARow, err)
		}
		status, bytes = answered, bytes+n
	}
	return status, bytes, nil
}

// beSilent connects and says nothing until it is cut off.
func beSilent(c net.Conn, host string) (int, int64, error) {
	c.SetDeadline(time.Now().Add(silence))
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return 0, 0, errors.New("cut off without an answer")
	}
	if err != nil {
		return 0, 0, err
	}
	n, err := io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, n, err
}

// sendHalf leaves in the middle of its request.
func sendHalf(c net.Conn, host string) (int, int64, error) {
	if _, err := fmt.Fprintf(c, "GET /api/data HTTP/1.1\r\nHost: %s\r\nX-Half-", host); err != nil {
		return 0, 0, err
	}
	c.SetReadDeadline(time.Now().Add(halfPause))
	c.Read(make([]byte, 1)) // the pause, shorter if the proxy closes first
	return 0, 0, errors.New("left in the middle of its request")
}

// leaveHalfway resets its connection in the middle of a big answer.
func leaveHalfway(c net.Conn, host string) (int, int64, error) {
	if err := sendRequest(c, host, "/bytes?n=50000000", "Connection: close\r\n"); err != nil {
		return 0, 0, err
	}
	n, err := io.CopyN(io.Discard, c, leaveAfter)
	if err != nil {
		return 0, n, err
	}
	time.Sleep(halfPause) // so that the transfer stalls visibly
	if t, ok := c.(*net.TCPConn); ok {
		t.SetLinger(0) // close sends a reset
	}
	return 0, n, errors.New("left in the middle of the answer")
}

// dialable returns an address to dial for one that was listened on.
func dialable(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}
