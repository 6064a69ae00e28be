package suite

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// requestHead writes the head for the backend.
func (p *refProxy) requestHead(q *refReq) string {
	var s strings.Builder
	target := q.target
	if p.fault["decodes-path"] {
		target, _ = url.PathUnescape(target)
		target = strings.ReplaceAll(target, " ", "+")
	}
	if p.fault["drops-query"] {
		target, _, _ = strings.Cut(target, "?")
	}
	fmt.Fprintf(&s, "%s %s HTTP/1.1\r\n", q.method, target)
	host := q.host
	if p.fault["wrong-host"] {
		host = "localhost"
	}
	fmt.Fprintf(&s, "Host: %s\r\n", host)
	if p.fault["takes-two-hosts"] {
		for _, h := range q.Values("Host")[1:] {
			fmt.Fprintf(&s, "Host: %s\r\n", h)
		}
	}
	drop := p.hop(&q.Head, "Host", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto",
		"Max-Forwards")
	for _, f := range q.Fields {
		name := strings.ToLower(f.Name)
		if !drop[name] {
			value := f.Value
			if p.fault["takes-obs-fold"] {
				value = strings.ReplaceAll(value, " ", "\r\n ")
			}
			fmt.Fprintf(&s, "%s: %s\r\n", f.Name, value)
		}
	}
	p.addForwarding(&s, q)
	p.addFraming(&s, q)
	s.WriteString("\r\n")
	return s.String()
}

// hop returns the lower-case names of fields that are not passed on.
func (p *refProxy) hop(h *Head, more ...string) map[string]bool {
	drop := map[string]bool{"content-length": true, "transfer-encoding": true}
	for _, n := range append(more, "Connection", "Keep-Alive", "Proxy-Connection", "TE",
		"Upgrade") {
		drop[strings.ToLower(n)] = true
	}
	for _, n := range h.List("Connection") {
		if !p.fault["keeps-named"] {
			drop[strings.ToLower(n)] = true
		}
	}
	if p.fault["keeps-hop"] {
		delete(drop, "keep-alive")
		delete(drop, "proxy-connection")
	}
	return drop
}

func (p *refProxy) addForwarding(s *strings.Builder, q *refReq) {
	if !p.fault["no-via"] {
		fmt.Fprintf(s, "Via: 1.%d ref\r\n", q.minor)
	}
	chain := q.List("X-Forwarded-For")
	if p.fault["cuts-chain"] {
		chain = nil
	}
	if !p.fault["no-xff"] {
		fmt.Fprintf(s, "X-Forwarded-For: %s\r\n", strings.Join(append(chain, "127.0.0.1"), ", "))
	}
	fmt.Fprintf(s, "X-Forwarded-Host: %s\r\nX-Forwarded-Proto: http\r\n", q.host)
	if m, err := strconv.Atoi(q.Get("Max-Forwards")); err == nil {
		fmt.Fprintf(s, "Max-Forwards: %d\r\n", m-1)
	}
	if p.fault["asks-gzip"] {
		s.WriteString("Accept-Encoding: gzip\r\n")
	}
}

func (p *refProxy) addFraming(s *strings.Builder, q *refReq) {
	if q.upgrade != "" {
		fmt.Fprintf(s, "Connection: Upgrade\r\nUpgrade: %s\r\n", q.upgrade)
	}
	switch {
	case p.fault["takes-any-te"] && q.Has("Transfer-Encoding") && !q.frame.Chunked:
		fmt.Fprintf(s, "Transfer-Encoding: %s\r\nContent-Length: %d\r\n",
			q.Get("Transfer-Encoding"), q.frame.Length)
	case q.frame.Chunked:
		s.WriteString("Transfer-Encoding: chunked\r\n")
		if p.fault["both-lengths"] && q.frame.Length >= 0 {
			fmt.Fprintf(s, "Content-Length: %d\r\n", q.frame.Length)
		}
	case q.frame.Length >= 0:
		fmt.Fprintf(s, "Content-Length: %d\r\n", q.frame.Length)
	}
}

var errChunk = errors.New("bad chunk")

// copyBody reads a body from s and gives its pieces to emit; the trailers go
// into m. It is strict with chunks. waits is true while nothing comes.
func (p *refProxy) copyBody(s *stream, f Framing, waits *atomic.Bool, emit func([]byte) error,
	m *Message) error {
	idle := p.to.Idle
	if p.fault["no-timeouts"] {
		idle = time.Hour
	}
	wait := func(ready func([]byte) bool) error {
		defer waits.Store(false)
		return s.Wait(idle, nil, func(b []byte) bool {
			yes := ready(b)
			waits.Store(!yes)
			return yes
		})
	}
	some := func(n int64) ([]byte, error) {
		if err := wait(func(b []byte) bool { return len(b) > 0 }); err != nil {
			return nil, err
		}
		have, _ := s.State()
		return s.Take(int(min(int64(have), n))), nil
	}
	line := func() (string, error) {
		end := -1
		err := wait(func(b []byte) bool {
			end = bytes.IndexByte(b, '\n')
			return end >= 0 || len(b) > 16<<10
		})
		if end < 0 {
			return "", errors.Join(errChunk, err)
		}
		text, ok := strings.CutSuffix(string(s.Take(end+1)), "\r\n")
		if !ok || strings.ContainsAny(text, "\r\n\x00") {
			return "", errChunk
		}
		return text, nil
	}
	copyN := func(n int64) error {
		for n > 0 {
			b, err := some(n)
			if err != nil {
				return err
			}
			n -= int64(len(b))
			if err := emit(b); err != nil {
				return err
			}
		}
		return nil
	}
	switch {
	case f.Chunked:
		return p.copyChunks(line, copyN, m)
	case f.Length >= 0:
		return copyN(f.Length)
	}
	return nil
}

var chunkPattern = regexp.MustCompile(`^0*([0-9a-fA-F]{1,15})[ \t]*` +
	`(\s*;\s*[\w-]+(\s*=\s*([\w-]+|"[^"]*"))?)*$`)

func (p *refProxy) copyChunks(line func() (string, error), copyN func(int64) error,
	m *Message) error {
	for over := int64(0); ; {
		text, err := line()
		if err != nil {
			return err
		}
		if p.fault["takes-empty-ext"] {
			text, _, _ = strings.Cut(text, ";")
		}
		match := chunkPattern.FindStringSubmatch(text)
		if match == nil {
			return errChunk
		}
		n, _ := strconv.ParseInt(match[1], 16, 64)
		if n == 0 {
			break
		}
		free := 16 + 2*n
		if p.fault["overhead-in-all"] {
			free = 0
		}
		over = max(0, over+int64(len(text))-free)
		if over > 16<<10 && !p.fault["takes-overhead"] {
			return errChunk
		}
		if err := copyN(n); err != nil {
			return err
		}
		if text, err := line(); err != nil || text != "" {
			return errors.Join(errChunk, err)
		}
	}
	for {
		text, err := line()
		if err != nil || text == "" {
			return err
		}
		name, value, _ := strings.Cut(text, ":")
		switch strings.ToLower(name) {
		case "content-length", "transfer-encoding", "host", "authorization":
			continue
		}
		if !isToken(name) {
			return errChunk
		}
		m.Trailers = append(m.Trailers, Field{name, strings.TrimSpace(value)})
	}
}

// sendBody is emit for a destination, chunked or not.
func (p *refProxy) sendBody(to *stream, chunked bool) func([]byte) error {
	return func(b []byte) error {
		if chunked {
			return p.write(to, []byte(fmt.Sprintf("%x\r\n%s\r\n", len(b), b)))
		}
		return p.write(to, b)
	}
}

func (p *refProxy) lastChunk(to *stream, m *Message) error {
	s := "0\r\n"
	for _, f := range m.Trailers {
		if !p.fault["drops-trailers"] {
			s += f.Name + ": " + f.Value + "\r\n"
		}
	}
	return p.write(to, []byte(s+"\r\n"))
}

// upload copies the request's body to the backend.
type upload struct {
	done  atomic.Bool // all of it is sent
	err   atomic.Value
	end   chan struct{}
	waits atomic.Bool // for the client's next bytes
}

// settle waits for an upload that is sent: it is done in a moment, which may be long on a
// busy machine. One that the client keeps waiting is not; nor, perhaps, one that the
// backend does.
func (u *upload) settle() {
	for tries := 0; tries < 1000 && !u.waits.Load(); tries++ {
		select {
		case <-u.end:
			return
		case <-time.After(time.Millisecond):
		}
	}
}

func (p *refProxy) startUpload(c, b *stream, q *refReq, buffered []byte) *upload {
	u := &upload{end: make(chan struct{})}
	// Ends with the body, or when either connection ends.
	go func() {
		defer close(u.end)
		m := &Message{}
		send := p.sendBody(b, q.frame.Chunked)
		if p.fault["cuts-request"] {
			inner, left := send, 4095
			send = func(d []byte) error {
				d = d[:min(len(d), left)]
				left -= len(d)
				if len(d) == 0 {
					return nil
				}
				return inner(d)
			}
		}
		var err error
		if buffered != nil {
			err = send(buffered)
		} else if !p.fault["buffers-request"] {
			inner := send
			err = p.copyBody(c, q.frame, &u.waits, func(d []byte) error {
				q.kept.add(d, !p.fault["no-retry-body"], p.fault["retries-cut-body"])
				return inner(d)
			}, m)
		}
		if err != nil {
			u.err.Store(err)
			if p.fault["completes-upload"] && q.frame.Chunked {
				p.lastChunk(b, m)
			} else if own := errors.Is(err, net.ErrClosed); !(own && p.fault["keeps-half-sent"]) &&
				!strings.Contains(err.Error(), "write") { // the client's fault
				b.close()
			}
			return
		}
		if q.frame.Chunked {
			p.lastChunk(b, m)
		}
		u.done.Store(true)
	}()
	return u
}

// attempt does the exchange on one backend connection; retry says that
// nothing of a response came.
func (p *refProxy) attempt(c *stream, q *refReq, b *stream, addr string, kept,
	further bool, buffered []byte) (again, retry bool) {
	keep := false
	defer func() {
		if !keep {
			b.close()
		}
	}()
	head := p.requestHead(q)
	if p.fault["sends-twice"] && !q.frame.Chunked && q.frame.Length < 0 {
		head += head
	}
	if p.write(b, []byte(head)) != nil {
		return false, true
	}
	if p.fault["tunnels-early"] && q.upgrade != "" {
		n, _ := c.State()
		p.write(b, c.Take(n))
	}
	up := p.startUpload(c, b, q, buffered)
	if p.fault["writes-then-reads"] {
		<-up.end
	}
	stop := make(chan struct{})
	unwatch := sync.OnceFunc(func() { close(stop) })
	defer unwatch()
	if !p.fault["ignores-leavers"] {
		// Ends when the exchange ends or the client breaks off.
		go func() {
			select {
			case <-c.over:
				if _, err := c.State(); !errors.Is(err, io.EOF) {
					if p.fault["dies"] {
						p.dead.Store(true)
					}
					b.close()
				}
			case <-stop:
			}
		}()
	}
	r, status, err := p.readResponse(c, q, b, up)
	if err != nil {
		if uerr, _ := up.err.Load().(error); uerr != nil && !strings.Contains(uerr.Error(),
			"write") {
			status = 400
			if errors.Is(uerr, ErrStalled) {
				status = 408
			}
		}
		if status == 0 {
			up.settle()
			q.kept.get(!up.done.Load())
			return false, true
		}
		p.fail(c, status, q.method == "HEAD")
		p.linger(c)
		return false, false
	}
	if r.Status == 101 && q.upgrade != "" {
		p.tunnel(c, b)
		return false, false
	}
	if r.Status == 408 && kept && r.Names("Connection", "close") && !p.fault["passes-408"] {
		return false, true // it was sent before the request came
	}
	_, lost := q.kept.get(false)
	if r.Status == 503 && further && !lost &&
		(!r.Has("Retry-After") || p.fault["ignores-retry-after"]) {
		return false, true
	}
	if r.Status == 503 && p.fault["own-503"] {
		p.fail(c, 503, q.method == "HEAD")
		p.linger(c)
		return false, false
	}
	up.settle()
	whole, again := p.respond(c, q, b, addr, r, up, &keep, unwatch)
	return again, !whole && p.fault["retries-begun"]
}

func (p *refProxy) respond(c *stream, q *refReq, b *stream, addr string, r *Response, up *upload,
	keep *bool, unwatch func()) (whole, again bool) {
	whole, reusable := p.sendResponse(c, q, b, r, up)
	if !whole {
		if !p.fault["retries-begun"] {
			c.reset()
		}
		return false, false
	}
	unwatch()
	left, _ := b.State()
	if reusable && (up.done.Load() || p.fault["keeps-half-sent"]) &&
		(left == 0 || p.fault["keeps-poison"]) {
		*keep = true
		p.keep(addr, b, r)
	}
	if !up.done.Load() {
		p.linger(c)
		return true, false
	}
	if q.close && !p.fault["goes-on-after-close"] || p.fault["always-closes"] {
		p.linger(c)
		return true, false
	}
	return true, true
}

// readResponse reads up to the final response head; it passes on interim ones.
func (p *refProxy) readResponse(c *stream, q *refReq, b *stream, up *upload) (*Response, int,
	error) {
	for size := 0; ; {
		end := -1
		var deadline chan struct{}
		if !p.fault["no-timeouts"] {
			late := make(chan struct{})
			deadline = late
			// Ends when the upload is over: then the backend's time begins.
			go func() {
				<-up.end
				time.AfterFunc(p.to.Server, func() { close(late) })
			}()
		}
		b.setWant(64 << 10)
		err := b.Wait(time.Hour, deadline, func(x []byte) bool {
			end = HeadEnd(x)
			return end >= 0 || len(x) >= 64<<10 || noStatusLine(x) && !p.fault["waits-for-lines"]
		})
		if end < 0 {
			if errors.Is(err, ErrStalled) {
				return nil, 504, err
			}
			if n, _ := b.State(); err == nil || n > 0 && p.fault["no-retry-in-head"] {
				return nil, 502, errors.New("no head")
			}
			return nil, 0, err
		}
		if size += end; size > 256<<10 && !p.fault["endless-interim"] || size > 4<<10 &&
			p.fault["few-interim"] {
			return nil, 502, errors.New("interim responses without an end")
		}
		h := ParseHead(b.Take(end))
		r := &Response{Message: Message{Head: h}}
		version, rest, _ := strings.Cut(h.Start, " ")
		code, _, _ := strings.Cut(rest, " ")
		r.Version = version
		r.Status, err = strconv.Atoi(code)
		if err != nil || len(code) != 3 || version != "HTTP/1.1" && version != "HTTP/1.0" ||
			len(h.Faults) > 0 && !p.fault["passes-bad-fields"] {
			return nil, 502, errors.New("bad head")
		}
		switch {
		case r.Status == 101 && q.upgrade == "" && !p.fault["takes-101"]:
			return nil, 502, errors.New("unasked")
		case r.Status == 101 && q.upgrade != "":
			p.write(c,
				[]byte("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"+p.fields(r,
					"Upgrade")+"\r\n"))
			return r, 0, nil
		case r.Status < 200 && r.Status != 101 && !p.fault["takes-103-as-final"]:
			if q.minor == 1 && !p.fault["swallows-100"] || p.fault["1xx-to-http10"] {
				p.write(c, []byte(h.Start+"\r\n"+p.fields(r)+"\r\n"))
			}
			continue
		}
		return r, 0, nil
	}
}

// fields writes the end-to-end fields of a response, and those named.
func (p *refProxy) fields(r *Response, also ...string) string {
	drop := p.hop(&r.Head)
	if p.fault["keeps-named-response"] {
		drop = p.hop(&Head{})
	}
	for _, n := range also {
		delete(drop, strings.ToLower(n))
	}
	var s strings.Builder
	cookies := []string{}
	for _, f := range r.Fields {
		if strings.EqualFold(f.Name, "Set-Cookie") && p.fault["merges-cookies"] {
			cookies = append(cookies, f.Value)
			continue
		}
		if !drop[strings.ToLower(f.Name)] {
			fmt.Fprintf(&s, "%s: %s\r\n", f.Name, f.Value)
		}
	}
	if len(cookies) > 0 {
		fmt.Fprintf(&s, "Set-Cookie: %s\r\n", strings.Join(cookies, ", "))
	}
	return s.String()
}

// sendResponse passes the final response on.
func (p *refProxy) sendResponse(c *stream, q *refReq, b *stream, r *Response, up *upload) (whole,
	reusable bool) {
	f := r.Frame()
	te := r.Has("Transfer-Encoding")
	if len(f.Faults) > 0 && !(f.Chunked && len(r.Values("Transfer-Encoding")) == 1) {
		p.fail(c, 502, q.method == "HEAD")
		return true, false
	}
	none := q.method == "HEAD" && !p.fault["head-waits"] && !q.forgets || r.Status == 101 ||
		r.Status == 204 || r.Status == 304
	toClose := !none && !te && f.Length < 0
	var s strings.Builder
	status := r.Status
	if p.fault["rewrites-status"] && status > 511 {
		status = 500
	}
	also := []string{}
	if status == 426 && !p.fault["drops-upgrade"] {
		also = append(also, "Upgrade")
	}
	fmt.Fprintf(&s, "HTTP/1.1 %d %s\r\n%s", status, reason(status), p.fields(r, also...))
	if !r.Has("Date") {
		s.WriteString("Date: " + time.Now().UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT") + "\r\n")
	}
	chunked := !none && (te || toClose) && (q.minor == 1 || p.fault["chunks-http10"])
	if chunked {
		s.WriteString("Transfer-Encoding: chunked\r\n")
	} else if f.Length >= 0 && !te && r.Status != 204 {
		fmt.Fprintf(&s, "Content-Length: %d\r\n", f.Length)
	}
	if (q.close || !up.done.Load() || p.fault["always-closes"]) && !p.fault["closes-silently"] {
		q.close = true
		s.WriteString("Connection: close\r\n")
	}
	s.WriteString("\r\n")
	if p.fault["closes-silently"] {
		q.close = true
	}
	if p.fault["delays"] && te { // such as resp-held-latency has
		time.Sleep(6 * time.Second) // longer than the client waits: no busy machine hides it
	}
	head := s.String()
	reusable = r.Version == "HTTP/1.1" && !r.Names("Connection", "close") && !toClose
	if none {
		p.write(c, []byte(head))
		return true, reusable
	}
	return p.sendResponseBody(c, b, head, f, toClose, chunked), reusable
}

func (p *refProxy) sendResponseBody(c, b *stream, head string, f Framing, toClose,
	chunked bool) bool {
	m := &Message{}
	send := p.sendBody(c, chunked)
	if p.fault["buffers-response"] || p.fault["crosstalk"] || p.fault["waits-for-close"] ||
		p.fault["no-backpressure"] {
		return p.sendWhole(c, b, head, f, toClose, chunked)
	}
	p.write(c, []byte(head))
	if p.fault["cuts-response"] {
		inner, left := send, 4095
		send = func(d []byte) error {
			if len(d) > left {
				inner(d[:left])
				return io.ErrShortWrite
			}
			left -= len(d)
			return inner(d)
		}
	}
	if p.fault["sends-more"] {
		inner := send
		send = func(d []byte) error { return inner(append(d[:len(d):len(d)], "\r\n"...)) }
	}
	if p.fault["stops-at-nul"] {
		inner := send
		send = func(d []byte) error {
			if i := strings.IndexByte(string(d), 0); i >= 0 {
				return inner([]byte(strings.ReplaceAll(string(d), "\x00", " ")))
			}
			return inner(d)
		}
	}
	err := p.download(b, f, toClose, send, m)
	if err != nil && !p.fault["completes-response"] {
		return false
	}
	if chunked {
		p.lastChunk(c, m)
	}
	return true
}

// download copies a response's body.
func (p *refProxy) download(b *stream, f Framing, toClose bool, send func([]byte) error,
	m *Message) error {
	if !toClose {
		return p.copyBody(b, f, &atomic.Bool{}, send, m)
	}
	err := p.copyBody(b, Framing{Length: 1 << 60}, &atomic.Bool{}, send, m)
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// sendWhole collects the response before it sends it, as several faults do.
func (p *refProxy) sendWhole(c, b *stream, head string, f Framing, toClose, chunked bool) bool {
	m := &Message{}
	var mu sync.Mutex
	err := p.download(b, f, toClose,
		func(d []byte) error { mu.Lock(); m.add(d); mu.Unlock(); return nil }, m)
	if err != nil {
		return false
	}
	if p.fault["waits-for-close"] {
		b.Wait(time.Hour, nil, func([]byte) bool { return false })
	}
	body := m.Body
	if p.fault["crosstalk"] {
		p.mu.Lock()
		p.shared = append([]byte(nil), body...)
		p.mu.Unlock()
		time.Sleep(3 * time.Millisecond)
		p.mu.Lock()
		if len(p.shared) == len(body) {
			body = p.shared
		}
		p.mu.Unlock()
	}
	p.write(c, []byte(head))
	if len(body) > 0 {
		p.sendBody(c, chunked)(body)
	}
	if chunked {
		p.lastChunk(c, m)
	}
	return true
}

// tunnel passes bytes both ways until both sides have finished.
func (p *refProxy) tunnel(c, b *stream) {
	var wg sync.WaitGroup
	pipe := func(from, to *stream) {
		defer wg.Done()
		for {
			err := from.Wait(time.Minute, nil, func(x []byte) bool { return len(x) > 0 })
			n, _ := from.State()
			if n > 0 && p.write(to, from.Take(n)) == nil {
				continue
			}
			if !errors.Is(err, io.EOF) || p.fault["no-half-close"] {
				from.close()
				to.close()
				return
			}
			to.CloseWrite()
			return
		}
	}
	wg.Add(2)
	// Both end when their side has finished.
	go pipe(c, b)
	go pipe(b, c)
	wg.Wait()
}
