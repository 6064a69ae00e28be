package suite

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// refProxy is a small proxy that does everything right, with switches that
// make it do one thing wrong. It shares the raw stream and the head parser
// with the suite, nothing else; the chapters prove the suite independently.
type refProxy struct {
	ln       net.Listener
	backends []string
	fault    map[string]bool
	to       Timeouts

	next   atomic.Uint64
	mu     sync.Mutex
	pool   map[string][]idleRef
	shared []byte     // fault crosstalk: one buffer for all
	one    sync.Mutex // fault serial
	dead   atomic.Bool
	gone   map[string]bool // fault never-returns
	leaked []*stream       // fault leaks-backend
}

func startRef(listen string, backends []string, to Timeouts, faults ...string) (*refProxy, error) {
	ln, err := net.Listen("tcp", listen)
	if err != nil {
		return nil, err
	}
	p := &refProxy{ln: ln, backends: backends, to: to, fault: map[string]bool{},
		pool: map[string][]idleRef{}, gone: map[string]bool{}}
	for _, f := range faults {
		p.fault[f] = true
	}
	// Ends when the listener is closed.
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			if p.dead.Load() {
				c.Close()
				continue
			}
			// Ends with the client's connection.
			go p.serve(newStream(c))
		}
	}()
	return p, nil
}

// idleRef is an idle connection to a backend.
type idleRef struct {
	*stream
	until time.Time // as the backend said
}

// refReq is a request that was found sound.
type refReq struct {
	Head
	method, target, host string
	minor                int // of HTTP/1.x
	frame                Framing
	close                bool
	upgrade              string
	forgets              bool // fault forgets-head: that HEAD has no body
	kept                 refBody
}

// refBody is the first of a request's body, for another try. What uploads it may go on
// for a moment after the try.
type refBody struct {
	mu   sync.Mutex
	body []byte
	lost bool // there was more, or not all of it has come
}

// add keeps a piece, if that is still possible; may says that it is wished.
func (k *refBody) add(piece []byte, may, cut bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	fits := len(k.body)+len(piece) <= 64<<10 && may
	if fits {
		k.body = append(k.body, piece...)
	}
	k.lost = k.lost || !fits && !cut
}

// get returns what was kept, and whether that is not all; more says that there is more.
func (k *refBody) get(more bool) (body []byte, lost bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.lost = k.lost || more
	return slices.Clone(k.body), k.lost
}

var (
	emptyLine      = regexp.MustCompile(`\n\r?\n`)
	hostPattern    = regexp.MustCompile(`^[A-Za-z0-9._~%:\[\]-]*$`)
	upgradePattern = regexp.MustCompile(`^[\w!#$%&'*+.^|~-]+(/[\w!#$%&'*+.^|~-]+)?$`)
)

func (p *refProxy) serve(c *stream) {
	if p.fault["serial"] {
		p.one.Lock()
		defer p.one.Unlock()
	}
	defer c.close()
	for expected, n := false, 1; ; n++ {
		q, status := p.readRequest(c)
		if status != 0 {
			if status > 0 {
				p.fail(c, status, q != nil && q.method == "HEAD")
			}
			if p.fault["goes-on-after-400"] && status == 400 {
				continue
			}
			p.linger(c)
			return
		}
		q.forgets = p.fault["forgets-head"] && expected
		expected = expected || q.Has("Expect")
		if again := p.exchange(c, q); !again || p.fault["limit-silent"] && n >= 1000 {
			return
		}
		if p.fault["drops-pipeline"] {
			n, _ := c.State()
			c.Take(n)
		}
	}
}

// readRequest returns a sound request, or the status to refuse it with (-1:
// close without a word).
func (p *refProxy) readRequest(c *stream) (*refReq, int) {
	stop := make(chan struct{})
	if !p.fault["no-timeouts"] {
		defer time.AfterFunc(p.to.Header, func() { close(stop) }).Stop()
	}
	limit, end, status := 64<<10, -1, 0
	if p.fault["endless-head"] {
		limit = 64 << 20
	}
	c.setWant(limit)
	seen := 0
	err := c.Wait(time.Hour, stop, func(b []byte) bool {
		from := max(0, seen-len("\r\n\r"))
		seen = len(b)
		if from < 4 || emptyLine.Match(b[from:]) { // else a long head would take very long
			end = HeadEnd(b)
		}
		if status = 0; limit == 64<<10 && !p.fault["waits-for-lines"] {
			status = p.hopeless(b)
		}
		return end >= 0 || status > 0 || len(b) >= limit
	})
	n, _ := c.State()
	switch {
	case status > 0:
		return nil, status
	case end >= 0:
	case err == nil:
		line := c.Take(n)
		if headless := strings.IndexByte(string(line), '\n'); headless < 0 {
			return nil, 414
		}
		return nil, 431
	case errors.Is(err, ErrStalled):
		return nil, 408
	default:
		return nil, -1
	}
	raw := c.Take(end)
	if string(raw[:2]) == "\r\n" {
		raw = raw[2:]
	}
	if p.fault["takes-leading-lf"] && raw[0] == '\n' {
		raw = raw[1:]
	}
	return p.parse(ParseHead(raw))
}

// hopeless returns the status for a beginning that no request can come of.
func (p *refProxy) hopeless(b []byte) int {
	line, _, ended := bytes.Cut(bytes.TrimPrefix(b, []byte("\r\n")), []byte("\n"))
	method, rest, spaced := strings.Cut(string(line), " ")
	switch {
	case ended && len(line) == 0 && !p.fault["takes-leading-lf"], len(line) > 0 &&
		line[0] != '\r' && !isToken(method):
		return 400
	case ended && len(line) > 0 && (!spaced || !strings.Contains(rest, " ")):
		return 400
	case !ended && len(line) > 8192:
		return 414
	}
	return 0
}

// noStatusLine reports whether no response can begin with these bytes.
func noStatusLine(b []byte) bool {
	const begin = "HTTP/1."
	n := min(len(b), len(begin))
	return string(b[:n]) != begin[:n]
}

func (p *refProxy) parse(h Head) (*refReq, int) {
	q := &refReq{Head: h}
	parts := strings.Split(h.Start, " ")
	if len(parts) != 3 || !isToken(parts[0]) {
		return nil, 400
	}
	q.method, q.target = parts[0], parts[1]
	switch parts[2] {
	case "HTTP/1.1":
		q.minor = 1
	case "HTTP/1.0":
	default:
		if strings.HasPrefix(parts[2], "HTTP/") && len(parts[2]) == 8 {
			return nil, 505
		}
		return nil, 400
	}
	faults := h.Faults
	if p.fault["takes-obs-fold"] || p.fault["takes-space-colon"] || p.fault["takes-nul"] {
		faults = nil
	}
	high := func(r rune) bool { return r >= 0x7f && !p.fault["takes-high-bytes"] }
	if len(faults) > 0 || strings.ContainsFunc(q.target, high) ||
		len(q.Values("Max-Forwards")) > 1 && !p.fault["takes-two-max-forwards"] {
		return nil, 400
	}
	if q.method == "CONNECT" {
		return q, 405
	}
	if status := p.parseHost(q); status != 0 {
		return q, status
	}
	return q, p.parseFraming(q)
}

func (p *refProxy) parseHost(q *refReq) int {
	hosts := q.Values("Host")
	if p.fault["takes-two-hosts"] && len(hosts) > 1 {
		hosts = hosts[:1]
	}
	if len(hosts) > 1 || len(hosts) == 0 && q.minor == 1 {
		return 400
	}
	if len(hosts) == 1 {
		q.host = hosts[0]
	}
	if !hostPattern.MatchString(q.host) {
		return 400
	}
	if rest, ok := strings.CutPrefix(q.target, "http://"); ok {
		i := strings.IndexByte(rest, '/')
		if i < 0 {
			rest, i = rest+"/", len(rest)
		}
		q.host, q.target = rest[:i], rest[i:]
	}
	if q.host == "" {
		q.host = p.backends[0]
	}
	if q.target[0] != '/' && !(q.target == "*" && q.method == "OPTIONS") {
		return 400
	}
	return 0
}

func (p *refProxy) parseFraming(q *refReq) int {
	q.frame = q.Head.Frame()
	q.close = q.minor == 0 || q.Names("Connection", "close")
	if q.Names("Connection", "upgrade") && !p.fault["no-upgrade"] {
		if q.upgrade = q.Get("Upgrade"); !upgradePattern.MatchString(q.upgrade) &&
			!p.fault["takes-any-upgrade"] {
			q.upgrade = ""
		}
	}
	if p.fault["drops-upgrade-body"] && q.upgrade != "" {
		q.frame = Framing{Length: -1}
	}
	if len(q.frame.Faults) == 0 && !(q.frame.Chunked && q.minor == 0) {
		return 0
	}
	switch {
	case p.fault["takes-last-length"] && len(q.Values("Content-Length")) > 1:
		return 0
	case p.fault["takes-any-te"] && q.Has("Transfer-Encoding") && q.Has("Content-Length"):
		q.frame.Chunked = false
		return 0
	case p.fault["te-413"] && q.Has("Transfer-Encoding"):
		return 413
	case strings.HasSuffix(strings.Join(q.List("Transfer-Encoding"), ","), "foo,chunked"):
		return 501
	case p.fault["both-lengths"] && q.frame.Chunked:
		return 0
	}
	return 400
}

// fail answers with an error of the proxy's own.
func (p *refProxy) fail(c *stream, status int, head bool) {
	if p.fault["no-errors"] {
		return
	}
	body := fmt.Sprintf("The proxy answers %d.\n", status)
	if p.fault["error-tells"] {
		body += "backend " + p.backends[0] + "\n"
	}
	text := fmt.Sprintf("HTTP/1.1 %d Error\r\nContent-Length: %d\r\nConnection: close\r\n\r\n",
		status, len(body))
	if !head || p.fault["error-head-body"] {
		text += body
	}
	p.write(c, []byte(text))
}

func (p *refProxy) write(c *stream, b []byte) error {
	c.conn.SetWriteDeadline(time.Now().Add(20 * time.Second))
	_, err := c.conn.Write(b)
	return err
}

// linger lets the client read the answer before unread bytes reset the
// connection.
func (p *refProxy) linger(c *stream) {
	if p.fault["no-linger"] {
		return
	}
	c.CloseWrite()
	for until := time.Now().Add(time.Second); time.Now().Before(until); {
		n, err := c.State()
		c.Take(n)
		if err != nil {
			return
		}
		c.Wait(100*time.Millisecond, nil, func(b []byte) bool { return len(b) > 0 })
	}
}

// backendFor returns a connection to a backend: a kept one, or a new one.
func (p *refProxy) backendFor(q *refReq, tried map[string]bool) (b *stream, addr string,
	kept bool, err error) {
	n := len(p.backends)
	first := int(p.next.Add(1)-1) % n
	if p.fault["uneven"] {
		first = max(0, first-1)
	}
	if p.fault["first-only"] {
		first = 0
	}
	safe := (q.method == "GET" || q.method == "HEAD" || p.fault["posts-on-kept"] ||
		p.fault["replays"]) && q.upgrade == ""
	err = errors.New("none left")
	for i := 0; i < n; i++ {
		addr = p.backends[(first+i)%n]
		if p.fault["never-returns"] && p.isGone(addr) || tried[addr] {
			continue
		}
		if safe {
			if b := p.kept(addr); b != nil {
				return b, addr, true, nil
			}
		}
		var conn net.Conn
		conn, err = net.DialTimeout("tcp", addr, p.to.Connect)
		if err == nil {
			return newStream(conn), addr, false, nil
		}
		p.mu.Lock()
		p.gone[addr] = true
		p.mu.Unlock()
		if p.fault["no-failover"] {
			break
		}
	}
	return nil, "", false, err
}

func (p *refProxy) isGone(addr string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.gone[addr]
}

func (p *refProxy) kept(addr string) *stream {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := p.key(addr)
	for l := p.pool[key]; len(l) > 0; l = p.pool[key] {
		b := l[len(l)-1]
		p.pool[key] = l[:len(l)-1]
		n, err := b.State()
		if (err == nil || p.fault["keeps-dead"] || p.fault["notices-late"]) &&
			(n == 0 || p.fault["keeps-poison"]) && time.Now().Before(b.until) {
			return b.stream
		}
		b.close()
	}
	return nil
}

func (p *refProxy) keep(addr string, b *stream, r *Response) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fault["leaks-backend"] {
		p.leaked = append(p.leaked, b)
		return
	}
	key := p.key(addr)
	if len(p.pool[key]) >= 4 || p.fault["no-reuse"] {
		b.close()
		return
	}
	until := time.Now().Add(time.Hour)
	var n int
	if _, err := fmt.Sscanf(r.Get("Keep-Alive"), "timeout=%d", &n); err == nil &&
		!p.fault["ignores-hint"] {
		until = time.Now().Add(time.Duration(n-1) * time.Second)
	}
	p.pool[key] = append(p.pool[key], idleRef{b, until})
	if !p.fault["keeps-dead"] {
		go p.watch(key, b) // ends with the connection
	}
}

// watch takes a connection that has ended while it was idle out of the pool, and then
// ends the proxy's side.
func (p *refProxy) watch(key string, b *stream) {
	<-b.over
	if p.fault["notices-late"] { // as on a busy machine
		time.Sleep(250 * time.Millisecond)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pool[key] = slices.DeleteFunc(p.pool[key], func(i idleRef) bool {
		if i.stream == b {
			b.close()
		}
		return i.stream == b
	})
}

// key is where a backend's idle connections are.
func (p *refProxy) key(addr string) string {
	if p.fault["shares-backends"] {
		return ""
	}
	return addr
}

// exchange forwards one request; again says that the client's connection goes on.
func (p *refProxy) exchange(c *stream, q *refReq) (again bool) {
	if m := q.Get("Max-Forwards"); q.method == "OPTIONS" && m == "0" {
		p.write(c, []byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"))
		return false
	}
	var buffered []byte
	if p.fault["buffers-request"] {
		m := &Message{}
		if err := p.copyBody(c, q.frame, &atomic.Bool{}, func(b []byte) error {
			m.add(b)
			return nil
		}, m); err != nil {
			return false
		}
		buffered = m.Body
	}
	tried := map[string]bool{} // backends that have seen it and have not answered
	for try := 0; ; try++ {
		b, addr, kept, err := p.backendFor(q, tried)
		if err != nil {
			p.failed(c, q, err)
			return false
		}
		further := len(tried) == 0 && len(p.backends) > 1 && idempotent[q.method] &&
			!p.fault["tries-once"]
		again, retry := p.attempt(c, q, b, addr, kept, further, buffered)
		if _, gone := c.State(); gone != nil && !errors.Is(gone, io.EOF) {
			return false
		}
		body, lost := q.kept.get(false)
		switch {
		case !retry:
			return again
		case kept && q.method == "GET" && !p.fault["tries-once"] && try < 3:
		case further && !lost:
			if !p.fault["retries-on"] || try > 3 {
				tried[addr] = true
			}
			if len(body) > 0 {
				buffered = body
			}
		case p.fault["replays"] && try < 3:
		default:
			p.failed(c, q, io.EOF)
			return again
		}
	}
}

// idempotent are the methods that are tried again over a fresh connection.
var idempotent = map[string]bool{"GET": true, "HEAD": true, "PUT": true, "DELETE": true}

func (p *refProxy) failed(c *stream, q *refReq, err error) {
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		p.fail(c, 504, q.method == "HEAD")
	} else {
		p.fail(c, 502, q.method == "HEAD")
	}
	p.linger(c)
}

// RunRef is the reference proxy as a program; it ends by a signal.
func RunRef() {
	var faults []string
	if f := os.Getenv("REFPROXY_FAULTS"); f != "" {
		faults = strings.Split(f, ",")
	}
	to := shortTimeouts
	listen := os.Getenv("REFPROXY_LISTEN")
	if listen == "" {
		listen = "127.0.0.1:0"
	}
	p, err := startRef(listen, strings.Split(os.Getenv("REFPROXY_BACKENDS"), ","), to, faults...)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("Ready on", p.ln.Addr())
	select {}
}

// RefSubject starts the reference proxy with faults in this process.
func RefSubject(t *testing.T, backends int, faults ...string) *Subject {
	t.Helper()
	spawned := []*refProxy{}
	var mu sync.Mutex
	t.Cleanup(func() {
		mu.Lock()
		defer mu.Unlock()
		for _, p := range spawned {
			p.ln.Close()
		}
	})
	return &Subject{Name: "reference " + strings.Join(faults, " "), Count: backends,
		Timeouts: shortTimeouts,
		Running: func(addrs []string, to Timeouts) (string, error) {
			p, err := startRef("127.0.0.1:0", addrs, to, faults...)
			if err != nil {
				return "", err
			}
			mu.Lock()
			spawned = append(spawned, p)
			mu.Unlock()
			return p.ln.Addr().String(), nil
		}}
}
