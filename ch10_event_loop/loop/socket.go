//go:build linux

package loop

import (
	"errors"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"reverseproxy/ch2_basic_proxy/forward"
	"reverseproxy/ch2_basic_proxy/http1"
)

const (
	usualFields = 16 // fields that a header has room for at first
	mostFields  = 64 // of which the room is kept for the next header
)

// errWait says that a call would have to wait.
var errWait = errors.New("not now")

// errLate says that a deadline has passed.
var errLate = os.ErrDeadlineExceeded

// A socket is one connection as the kernel knows it: what is known of it, what has
// come from it, and what it has not taken yet.
type socket struct {
	loop       *Loop
	fd         int      // -1: closed
	generation int32    // tells it from others that have had its descriptor
	conn       *Conn    // who goes on when something happens; nil: it is idle
	backend    *backend // whose it is; nil: a client's

	readable bool // a read may bring something
	writable bool // a write may take something
	ended    bool // nothing follows what is there: FIN or RST has come
	broken   bool // RST has come
	urgent   bool // a byte has come that was sent as urgent (MSG_OOB)

	in      []byte // what has come and is not used is in[r:w]; nil: no buffer
	r, w    int    // what is before r stays as it is: headers are slices of it
	looked  int    // bytes of a header that have been looked at
	skipped int    // bytes of empty lines before it
	out     []byte // what the kernel has not taken yet
	last    bool   // what is written now is the last: FIN follows at once
	acks    bool   // the kernel acknowledges at once; see ackAtOnce
	got     int64  // bytes read from it so far
	sent    int64  // bytes written to it so far, and taken

	sentAt                  time.Duration // when the last of them was taken
	readBy, writeBy, restBy time.Duration // deadlines, since the loop's start; 0: none
	fixed                   bool          // readBy is for a whole header, not for a byte
	place                   int           // in the timers' heap, from 1; 0: it is not there
	queued                  time.Duration // with this deadline
}

// init makes s the socket behind a descriptor.
func (s *socket) init(l *Loop, fd int) { s.loop, s.fd = l, fd }

// earliest returns the deadline that passes first; 0: none.
func (s *socket) earliest() time.Duration { return s.next(-1) }

// next returns the deadline that passes first after now; 0: none.
func (s *socket) next(now time.Duration) (by time.Duration) {
	for _, d := range [...]time.Duration{s.readBy, s.writeBy, s.restBy} {
		if d > now && d != 0 && (by == 0 || d < by) {
			by = d
		}
	}
	return by
}

// by sets the time by which something must have come; 0: none.
func (s *socket) by(d time.Duration) {
	s.readBy, s.fixed = d, d != 0
	if d != 0 {
		s.loop.timers.set(s)
	}
}

// within sets it to so long from now.
func (s *socket) within(d time.Duration) { s.by(s.loop.nano + d) }

// late reports whether the time has passed by which something must have come.
func (s *socket) late() bool { return s.readBy != 0 && s.loop.nano >= s.readBy }

// read reads what has come, without waiting: errWait if nothing has. idle is how
// long it may then take until something comes; 0: until by.
func (s *socket) read(b []byte, idle time.Duration) (int, error) {
	for s.readable && s.loop.myTurn(s.conn) {
		n, err := s.loop.use.recv(s.fd, b)
		switch {
		case n > 0:
			// Less than there was room for is all there is. What comes from now on is
			// told of, except the end, if that has been told of already. But at an urgent
			// byte a read ends, whatever is behind it.
			s.readable = n == len(b) || s.ended || s.urgent || !s.loop.use.ShortRead
			s.got += int64(n)
			if !s.fixed {
				s.readBy = 0
			}
			return n, nil
		case err == nil && forward.EndedByReset(s.fd, s.got): // and a write was told
			return 0, unix.ECONNRESET
		case err == nil:
			return 0, io.EOF
		case err == unix.EAGAIN:
			s.readable = false
		case err != unix.EINTR:
			return 0, err
		}
	}
	if s.late() && !s.readable {
		return 0, errLate
	}
	if s.readBy == 0 && idle > 0 {
		s.readBy = s.loop.nano + idle
		s.loop.timers.set(s)
	}
	return 0, errWait
}

// look asks the kernel whether something has come that epoll_wait has not told of yet.
func (s *socket) look() {
	_, err := recv(s.fd, s.loop.in[:1], unix.MSG_PEEK)
	s.readable = s.readable || err != unix.EAGAIN && err != unix.EINTR
}

// held returns what has come and has not been used.
func (s *socket) held() []byte { return s.in[s.r:s.w] }

// fill reads once, behind what is held. What is before stays where it is, unless
// there is no room left: then what is held moves to a larger buffer.
func (s *socket) fill(idle time.Duration) error {
	switch {
	case !s.readable:
		_, err := s.read(nil, idle)
		return err
	case s.in == nil:
		s.in, s.r, s.w = s.loop.free.buffer(), 0, 0
	case s.w == len(s.in):
		grown := make([]byte, max(s.loop.free.size, 2*len(s.held())))
		s.r, s.w = 0, copy(grown, s.held())
		s.in = grown
	}
	n, err := s.read(s.in[s.w:], idle)
	s.w += n
	return err
}

// unread gives back b, the last bytes of a read, which lie beyond the end of a body.
func (s *socket) unread(b []byte) {
	if len(b) == 0 {
		return
	}
	held := s.held()
	in := make([]byte, len(held)+len(b)+s.loop.free.size)
	s.w = copy(in, b) + copy(in[len(b):], held)
	s.in, s.r = in, 0
}

// rest gives the buffer back if nothing is in it. Headers in it are void then.
func (s *socket) rest() {
	if s.in != nil && s.r == s.w {
		s.loop.free.giveBack(s.in)
		s.in, s.r, s.w = nil, 0, 0
	}
}

// header returns a whole header as soon as that has come, and errWait before. refuse
// says what can be refused before. Empty lines before the header are skipped. At end
// of file the error is io.EOF if nothing was there, io.ErrUnexpectedEOF otherwise.
func (s *socket) header(refuse func(head []byte, from int) error) (head []byte, err error) {
	for {
		if s.looked == 0 {
			n := http1.Blank(s.held())
			s.r += n
			if s.skipped += n; s.skipped > http1.MaxHead {
				return nil, http1.ErrHeadSize
			}
		}
		held := s.held()
		if end := http1.HeadEnd(held, s.looked); end > 0 {
			s.r += end
			s.looked, s.skipped = 0, 0
			return held[:end], nil
		}
		if len(held) > s.looked && string(held) != "\r" {
			if err := refuse(held, s.looked); err != nil {
				return nil, err
			}
			s.looked = len(held)
		}
		switch err := s.fill(0); {
		case err == errWait:
			s.ackAtOnce()
			return nil, err
		case err == io.EOF && s.skipped+len(held) > 0:
			return nil, io.ErrUnexpectedEOF
		case err != nil:
			return nil, err
		}
	}
}

// write writes b. What the kernel does not take now is kept, and sent by flush. An
// error is the connection's end.
func (s *socket) write(b []byte) (int, error) {
	if len(s.out) > 0 { // an error page, say, behind an interim response
		s.out = append(s.out, b...)
		return 0, nil
	}
	n, err := s.send(b)
	if err == errWait {
		s.out = append(s.out, b[n:]...)
		return n, nil
	}
	return n, err
}

// send writes as much of b as the kernel takes.
func (s *socket) send(b []byte) (n int, err error) {
	for n < len(b) {
		if !s.writable {
			return n, errWait
		}
		k, err := s.loop.use.send(s.fd, b[n:], s.last)
		switch {
		case err == nil:
			n += k
			s.took(k)
			s.writeBy = 0
			s.writable = n == len(b) // all there was room for
		case err == unix.EAGAIN:
			s.writable = false
		case err != unix.EINTR:
			return n, err
		}
	}
	return n, nil
}

// took notes that the kernel has taken n bytes.
func (s *socket) took(n int) {
	s.sent, s.sentAt, s.acks = s.sent+int64(n), s.loop.nano, false
}

// flush sends what was kept by write; errWait: not all of it yet. The peer must take
// something within idle.
func (s *socket) flush(idle time.Duration) error {
	if len(s.out) == 0 {
		return nil
	}
	n, err := s.send(s.out)
	if s.out = s.out[n:]; len(s.out) == 0 {
		s.out, s.writeBy = nil, 0
	}
	if err == errWait {
		return s.waitWrite(idle)
	}
	return err
}

// waitWrite has the peer take something within idle.
func (s *socket) waitWrite(idle time.Duration) error {
	if s.writeBy != 0 && s.loop.nano >= s.writeBy {
		return errLate
	}
	if s.writeBy == 0 {
		s.writeBy = s.loop.nano + idle
		s.loop.timers.set(s)
	}
	return errWait
}

// ackAtOnce has the kernel acknowledge at once what comes, until something is sent. Without
// that it waits for something to send, for 40 ms, and some senders wait for it before they
// send the rest (Nagle's algorithm).
func (s *socket) ackAtOnce() {
	if s.loop.use.Piggyback && !s.acks {
		unix.SetsockoptInt(s.fd, unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1)
		s.acks = true
	}
}

// closeWrite ends the sending side: the peer reads end of file.
func (s *socket) closeWrite() { unix.Shutdown(s.fd, unix.SHUT_WR) }

// setReset makes closing the connection send RST instead of FIN, or no more.
func (s *socket) setReset(reset bool) {
	linger := unix.Linger{}
	if reset {
		linger.Onoff = 1
	}
	unix.SetsockoptLinger(s.fd, unix.SOL_SOCKET, unix.SO_LINGER, &linger)
}

// close closes the connection; the kernel sends what it has taken.
func (s *socket) close() {
	if s.fd < 0 {
		return
	}
	s.loop.forget(s)
	if s.last { // the kernel holds it, and would drop it if something has come unread
		s.closeWrite()
	}
	unix.Close(s.fd)
	s.r, s.w = 0, 0
	s.rest()
	s.fd, s.conn, s.backend, s.out = -1, nil, nil, nil
}
