// Package origin is the backend that proxies are measured against: HTTP/1.1
// GET on one thread in an epoll loop, lean enough not to be what limits the run.
//
//	/             24 bytes of text
//	/slow?ms=200  the same, 200 ms later, with X-Arrived: the clock when the
//	              request had come (CLOCK_MONOTONIC, nanoseconds)
//	/bytes?n=100  100 bytes
//
// It keeps a connection open unless the request says Connection: close or is
// HTTP/1.0; then it closes first, so that TIME_WAIT stays on its own side and
// the proxy's ports are free again at once.
package origin

import (
	"bytes"
	"container/heap"
	"fmt"
	"net"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"reverseproxy/scripts/bench/rawsock"
)

// Body is what "/" and "/slow" answer with.
const Body = "Hello from the backend.\n"

const (
	maxHead   = 16 << 10  // bytes of a request head
	chunkSize = 256 << 10 // bytes handed to the kernel at once by /bytes
)

type conn struct {
	in     []byte // request bytes not yet answered
	out    []byte // head and small bodies not yet written
	left   int64  // bytes of /bytes still to be written after out
	close  bool   // close when everything is written
	gen    int32  // tells a reused descriptor from its predecessor
	open   bool
	paused bool  // a /slow request is waiting for its time
	full   bool  // the socket's buffer is: watched for Out, not In
	since  int64 // when that request had come
}

type timer struct {
	at  int64
	fd  int
	gen int32
}

type timers []timer

func (t timers) Len() int           { return len(t) }
func (t timers) Less(i, j int) bool { return t[i].at < t[j].at }
func (t timers) Swap(i, j int)      { t[i], t[j] = t[j], t[i] }
func (t *timers) Push(x any)        { *t = append(*t, x.(timer)) }
func (t *timers) Pop() any {
	x := (*t)[len(*t)-1]
	*t = (*t)[:len(*t)-1]
	return x
}

type server struct {
	poll      *rawsock.Poller
	listeners map[int32]bool
	conns     []conn // indexed by descriptor
	timers    timers
	buf       []byte
	zeros     []byte
}

// Run serves on the listeners until the process ends. It takes the calling
// goroutine's thread for itself.
func Run(lns []*net.TCPListener) error {
	runtime.LockOSThread()
	p, err := rawsock.NewPoller()
	if err != nil {
		return err
	}
	s := &server{poll: p, listeners: map[int32]bool{}, buf: make([]byte, maxHead),
		zeros: bytes.Repeat([]byte("0123456789abcde\n"), chunkSize/16)}
	for _, ln := range lns {
		f, err := ln.File() // a duplicate; set back to non-blocking below
		if err != nil {
			return err
		}
		fd := int(f.Fd())
		if err := unix.SetNonblock(fd, true); err != nil {
			return err
		}
		s.listeners[int32(fd)] = true
		if err := p.Add(fd, rawsock.In, int32(fd), -1); err != nil {
			return err
		}
		defer f.Close()
	}
	s.loop()
	return nil
}

func (s *server) loop() {
	evs := make([]rawsock.Event, 256)
	for {
		n := s.poll.Wait(evs, s.untilTimer())
		for _, ev := range evs[:n] {
			if ev.Pad < 0 {
				s.accept(int(ev.Fd))
			} else if c := &s.conns[ev.Fd]; c.open && c.gen == ev.Pad {
				s.ready(int(ev.Fd), c, ev.Events)
			}
		}
		s.fire()
	}
}

func (s *server) untilTimer() time.Duration {
	if len(s.timers) == 0 {
		return -1
	}
	return max(0, time.Duration(s.timers[0].at-rawsock.Now()))
}

// fire answers the /slow requests whose time has come.
func (s *server) fire() {
	for len(s.timers) > 0 && s.timers[0].at <= rawsock.Now() {
		t := heap.Pop(&s.timers).(timer)
		c := &s.conns[t.fd]
		if !c.open || c.gen != t.gen {
			continue
		}
		c.paused = false
		c.answer(int64(len(Body)), "X-Arrived: "+strconv.FormatInt(c.since, 10)+"\r\n")
		c.out = append(c.out, Body...)
		s.flush(t.fd, c)
		s.serve(t.fd, c)
	}
}

func (s *server) accept(ln int) {
	for {
		fd, err := rawsock.Accept(ln)
		if err != nil {
			return // EAGAIN: all taken; anything else shows up as a failure at the client
		}
		for fd >= len(s.conns) {
			s.conns = append(s.conns, make([]conn, 1024)...)
		}
		c := &s.conns[fd]
		*c = conn{in: c.in[:0], out: c.out[:0], gen: (c.gen + 1) & 0x3fffffff, open: true}
		_ = rawsock.SetInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		if s.poll.Add(fd, rawsock.In, int32(fd), c.gen) != nil {
			s.drop(fd, c)
		}
	}
}

func (s *server) drop(fd int, c *conn) {
	c.open = false
	rawsock.Close(fd)
}

func (s *server) ready(fd int, c *conn, bits uint32) {
	if bits&rawsock.Out != 0 {
		s.flush(fd, c)
		return
	}
	n, err := rawsock.Read(fd, s.buf)
	if err == unix.EAGAIN {
		return
	}
	if err != nil || n == 0 || len(c.in)+n > maxHead {
		s.drop(fd, c)
		return
	}
	c.in = append(c.in, s.buf[:n]...)
	s.serve(fd, c)
}

// serve answers the requests that have come whole, in their order.
func (s *server) serve(fd int, c *conn) {
	for c.open && !c.paused && !c.close && c.left == 0 {
		end := bytes.Index(c.in, []byte("\r\n\r\n"))
		if end < 0 {
			break
		}
		s.request(fd, c, c.in[:end+2])
		c.in = c.in[:copy(c.in, c.in[end+4:])]
	}
	if c.open && (len(c.out) > 0 || c.left > 0) {
		s.flush(fd, c)
	}
}

func (s *server) request(fd int, c *conn, head []byte) {
	line, fields, _ := bytes.Cut(head, []byte("\r\n"))
	method, rest, _ := bytes.Cut(line, []byte(" "))
	target, version, _ := bytes.Cut(rest, []byte(" "))
	if i := bytes.Index(target, []byte("://")); i >= 0 { // absolute form
		target = target[i+3:]
		target = target[max(0, bytes.IndexByte(target, '/')):]
	}
	c.close = hasClose(fields) || string(version) != "HTTP/1.1"
	path, query, _ := bytes.Cut(target, []byte("?"))
	switch {
	case string(method) != "GET":
		c.close = true
		c.out = append(c.out, "HTTP/1.1 501 Not Implemented\r\nContent-Length: 0\r\n"+
			"Connection: close\r\n\r\n"...)
	case string(path) == "/slow":
		c.since = rawsock.Now()
		c.paused = true
		at := c.since + number(query, "ms=")*int64(time.Millisecond)
		heap.Push(&s.timers, timer{at, fd, c.gen})
	case string(path) == "/bytes":
		c.left = number(query, "n=")
		c.answer(c.left, "")
	default:
		c.answer(int64(len(Body)), "")
		c.out = append(c.out, Body...)
	}
}

func (c *conn) answer(length int64, extra string) {
	c.out = append(c.out, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: "...)
	c.out = strconv.AppendInt(c.out, length, 10)
	c.out = append(c.out, "\r\n"...)
	c.out = append(c.out, extra...)
	if c.close {
		c.out = append(c.out, "Connection: close\r\n"...)
	}
	c.out = append(c.out, "\r\n"...)
}

// flush writes what is due and, when the socket is full, waits for room.
func (s *server) flush(fd int, c *conn) {
	for len(c.out) > 0 || c.left > 0 {
		b, small := c.out, len(c.out) > 0
		if !small {
			b = s.zeros[:min(c.left, chunkSize)]
		}
		n, err := rawsock.Write(fd, b)
		if err != nil && err != unix.EAGAIN {
			s.drop(fd, c)
			return
		}
		n = max(n, 0)
		if small {
			c.out = c.out[:copy(c.out, c.out[n:])]
		} else {
			c.left -= int64(n)
		}
		if n < len(b) {
			c.full = true
			_ = s.poll.Mod(fd, rawsock.Out, int32(fd), c.gen)
			return
		}
	}
	if c.close && !c.paused {
		s.drop(fd, c)
	} else if c.full {
		c.full = false
		_ = s.poll.Mod(fd, rawsock.In, int32(fd), c.gen)
	}
}

func number(query []byte, key string) int64 {
	_, v, ok := bytes.Cut(query, []byte(key))
	if !ok {
		return 0
	}
	v, _, _ = bytes.Cut(v, []byte("&"))
	n, err := strconv.ParseInt(string(v), 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// hasClose reports a field "Connection: close" in any case.
func hasClose(fields []byte) bool {
	for len(fields) > 0 {
		var f []byte
		f, fields, _ = bytes.Cut(fields, []byte("\r\n"))
		if len(f) > 11 && (f[0] == 'C' || f[0] == 'c') && f[10] == ':' &&
			bytes.EqualFold(f[:10], []byte("connection")) {
			return bytes.EqualFold(bytes.TrimSpace(f[11:]), []byte("close"))
		}
	}
	return false
}

// Listen opens n listeners on loopback ports of the kernel's choice.
func Listen(n int) ([]*net.TCPListener, []string, error) {
	var lns []*net.TCPListener
	var addrs []string
	for range n {
		ln, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			return nil, nil, fmt.Errorf("backend: %w", err)
		}
		lns = append(lns, ln.(*net.TCPListener))
		addrs = append(addrs, ln.Addr().String())
	}
	return lns, addrs, nil
}
