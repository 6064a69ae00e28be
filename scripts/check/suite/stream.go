package suite

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// ErrStalled says that nothing came for as long as the suite waits; errOver, which is an
// ErrStalled, that it waits no longer, as the case has to end.
var (
	ErrStalled = errors.New("nothing more came")
	errOver    = fmt.Errorf("%w before the time of the case was over", ErrStalled)
)

// readAhead is how many unread bytes the pump keeps before it stops reading,
// so that a case which does not read lets the peer feel it.
const readAhead = 256 << 10

// tape keeps what went over one direction of a connection: the first and the
// last bytes, and how many in all.
type tape struct {
	mu    sync.Mutex
	first []byte
	last  []byte
	total int64
}

// Sizes of what a tape keeps, in bytes.
const (
	tapeFirst = 64 << 10
	tapeLast  = 512
)

func (t *tape) add(p []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.total += int64(len(p))
	if room := tapeFirst - len(t.first); room > 0 {
		n := min(room, len(p))
		t.first = append(t.first, p[:n]...)
		p = p[n:]
	}
	t.last = append(t.last, p...)
	if len(t.last) > tapeLast {
		t.last = append([]byte(nil), t.last[len(t.last)-tapeLast:]...)
	}
}

// text returns what was kept, with a mark where bytes were left out.
func (t *tape) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	gap := ""
	if left := t.total - int64(len(t.first)+len(t.last)); left > 0 {
		gap = fmt.Sprintf("…(%d bytes)…", left)
	}
	return string(t.first) + gap + string(t.last)
}

func (t *tape) size() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.total
}

// stream is one TCP connection of the suite. A pump reads it all the time
// (up to readAhead bytes), so that a case can wait for bytes with a deadline
// and can watch several connections at once. One goroutine consumes it.
type stream struct {
	conn net.Conn
	act  chan struct{} // one token when buf or err has changed
	over chan struct{} // closed when the pump has ended

	mu   sync.Mutex
	cond *sync.Cond // the pump waits here for room
	buf  []byte
	want int   // the consumer waits for this many bytes, over readAhead
	err  error // why the pump ended: io.EOF, a reset, closed
	in   *tape
	out  *tape

	finished atomic.Bool // CloseWrite was called
}

func newStream(c net.Conn) *stream {
	s := &stream{conn: c, act: make(chan struct{}, 1), over: make(chan struct{}), in: &tape{},
		out: &tape{}}
	s.cond = sync.NewCond(&s.mu)
	// The pump ends when the connection ends or is closed.
	go s.pump()
	return s
}

func (s *stream) pump() {
	defer close(s.over)
	chunk := make([]byte, 64<<10)
	for {
		s.mu.Lock()
		for len(s.buf) >= max(readAhead, s.want) && s.err == nil {
			s.cond.Wait()
		}
		stop := s.err != nil
		s.mu.Unlock()
		if stop {
			return
		}
		n, err := s.conn.Read(chunk)
		s.mu.Lock()
		s.buf = append(s.buf, chunk[:n]...)
		s.in.add(chunk[:n])
		if err != nil && s.err == nil {
			s.err = err
		}
		s.mu.Unlock()
		s.wake()
		if err != nil {
			return
		}
	}
}

func (s *stream) wake() {
	select {
	case s.act <- struct{}{}:
	default:
	}
}

// newTapes starts fresh records: a kept connection goes to its next case.
func (s *stream) newTapes() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.in, s.out = &tape{}, &tape{}
	s.in.add(s.buf)
}

// Wait blocks until ready(buf) is true, the stream has ended, nothing has come for as
// long as the timeout, or stop comes. ready runs under the lock.
func (s *stream) Wait(timeout time.Duration, stop <-chan struct{}, ready func([]byte) bool) error {
	return s.wait(func() func() time.Duration {
		until := time.Now().Add(timeout)
		return func() time.Duration { return time.Until(until) }
	}, stop, ready)
}

// wait is Wait by any clock: begin starts the timeout and returns what is left of it.
func (s *stream) wait(begin func() (left func() time.Duration), stop <-chan struct{},
	ready func([]byte) bool) error {
	var timer *time.Timer // most often there is nothing to wait for
	var left func() time.Duration
	for {
		s.mu.Lock()
		ok, err, got := ready(s.buf), s.err, s.in.size()
		s.mu.Unlock()
		if ok {
			return nil
		}
		if err != nil {
			return err
		}
		if timer == nil {
			left = begin()
			timer = time.NewTimer(left())
			defer timer.Stop()
		}
		select {
		case <-s.act:
		case <-timer.C:
		case <-stop:
			return errOver
		}
		if s.moved(got) { // perhaps when it was late already
			left = begin()
		} else if left() <= 0 {
			return ErrStalled
		}
		timer.Reset(max(left(), time.Millisecond))
	}
}

// moved reports whether more than so many bytes have come, or the end.
func (s *stream) moved(got int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.in.size() != got || s.err != nil
}

// Take removes n bytes from the buffer.
func (s *stream) Take(n int) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	n = min(n, len(s.buf))
	p := append([]byte(nil), s.buf[:n]...)
	s.buf = s.buf[n:]
	if len(s.buf) == 0 {
		s.buf = nil
	}
	s.want = 0
	s.cond.Signal()
	return p
}

// State returns how many bytes are unread and why the stream ended, if it has.
func (s *stream) State() (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.buf), s.err
}

// Ended reports whether the peer has finished or broken the connection.
func (s *stream) Ended() bool {
	_, err := s.State()
	return err != nil
}

// ReadBuffer sets how much the kernel keeps for the checker, in bytes.
func (s *stream) ReadBuffer(n int) {
	if tc, ok := s.conn.(*net.TCPConn); ok {
		tc.SetReadBuffer(n)
	}
}

// Received is how many bytes have come.
func (s *stream) Received() int64 { return s.in.size() }

func (s *stream) setWant(n int) {
	s.mu.Lock()
	s.want = n
	s.mu.Unlock()
	s.cond.Signal()
}

// close ends the stream and its pump. A peer that has already sent its FIN
// gets a reset: so no socket of its lingers in TIME_WAIT, and a program
// without SO_REUSEADDR can be started again at once.
func (s *stream) close() {
	s.mu.Lock()
	eof := s.err != nil && errors.Is(s.err, io.EOF)
	if s.err == nil {
		s.err = net.ErrClosed
	}
	s.mu.Unlock()
	s.cond.Broadcast()
	s.wake() // the pump may not have begun to read, or have no room: it tells nobody
	if eof {
		s.reset()
		return
	}
	s.conn.Close()
}

// reset closes the connection with a RST.
func (s *stream) reset() {
	if tc, ok := s.conn.(*net.TCPConn); ok {
		tc.SetLinger(0)
	}
	s.conn.Close()
}

// CloseWrite sends a FIN and keeps the other direction open.
func (s *stream) CloseWrite() {
	s.finished.Store(true)
	if tc, ok := s.conn.(*net.TCPConn); ok {
		tc.CloseWrite()
	}
}

// HowEnded puts the end of a stream into words.
func HowEnded(err error) string {
	switch {
	case err == nil:
		return "is still open"
	case errors.Is(err, io.EOF):
		return "was closed"
	case errors.Is(err, errOver):
		return "was silent, or too slow, when the time of the case was over"
	case errors.Is(err, ErrStalled):
		return "went silent"
	case errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) ||
		strings.Contains(err.Error(), "forcibly closed"):
		return "was reset"
	case errors.Is(err, net.ErrClosed):
		return "was closed by the checker"
	}
	return "broke: " + err.Error()
}
