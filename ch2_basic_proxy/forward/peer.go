package forward

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"reverseproxy/ch2_basic_proxy/http1"
)

// Sizes of what is held of a message at any time.
const (
	headSize = 4 << 10  // bytes of a connection's buffer, enough for most headers
	bodySize = 32 << 10 // bytes of a body copied at once
	sizeRoom = 8        // bytes before a chunk's data: its size in hex, CRLF
)

// A body's buffer has room around it for what makes the data a chunk.
type bodyBuffer [sizeRoom + bodySize + len("\r\n")]byte

var (
	headBuffers = sync.Pool{New: func() any { return new([headSize]byte) }}
	bodyBuffers = sync.Pool{New: func() any { return new(bodyBuffer) }}
)

// watchAfter is how long a backend has before the client is watched.
const watchAfter = 10 * time.Millisecond

// past is a deadline that ends every wait at once.
var past = time.Unix(1, 0)

// A peer is one connection and what has come from it. Two goroutines may use it
// at a time, one that reads and one that writes.
type peer struct {
	net.Conn
	buf       []byte          // what has come and is not used is buf[r:w]
	r, w      int             // what is before r stays as it is: headers are slices of it
	pooled    *[headSize]byte // buf, if that is from headBuffers
	readIdle  time.Duration   // the longest wait in one read; 0: until by
	by        time.Time       // the zero time means no end
	writeIdle time.Duration   // the longest wait in one write
	slow      func()          // called once, when a read takes longer than watchAfter; or nil
	got       int64           // bytes read from it so far
	sent      atomic.Int64    // bytes written to it so far
	writing   atomic.Bool     // a write is waiting for it to take bytes
	wasReset  atomic.Bool     // a write was told of its RST

	mu                sync.Mutex // keeps deadlines and these in step
	noReads, noWrites bool       // set by stop: the other goroutine has given up
}

// Read fills b: with what has come before, or with what comes now.
func (p *peer) Read(b []byte) (int, error) {
	if p.r < p.w {
		n := copy(b, p.buf[p.r:p.w])
		p.r += n
		return n, nil
	}
	return p.read(b)
}

// read waits for bytes, but not longer than readIdle.
func (p *peer) read(b []byte) (n int, err error) {
	slow := p.slow != nil
	if slow {
		soon := time.Now().Add(watchAfter)
		if !p.by.IsZero() && p.by.Before(soon) {
			soon = p.by
		}
		if err := p.readBy(soon); err != nil {
			return 0, err
		}
		if n, err = p.take(b); n > 0 || !isTimeout(err) {
			return n, err
		}
		p.wake()
	}
	if p.readIdle > 0 {
		err = p.readBy(time.Now().Add(p.readIdle))
	} else if slow {
		err = p.readBy(p.by)
	}
	if err != nil {
		return 0, err
	}
	return p.take(b)
}

// wake calls slow, if that has not been done.
func (p *peer) wake() {
	if slow := p.slow; slow != nil {
		p.slow = nil
		slow()
	}
}

// take reads once. An end of file may be a reset in truth: the kernel tells of that
// once, and may have told a write.
func (p *peer) take(b []byte) (int, error) {
	n, err := p.Conn.Read(b)
	p.got += int64(n)
	if err == io.EOF && p.endedByReset() {
		err = syscall.ECONNRESET
	}
	return n, err
}

// held returns what has come and has not been used.
func (p *peer) held() []byte { return p.buf[p.r:p.w] }

// fill reads once, behind what is held. What is before stays where it is, unless
// there is no room left: then what is held moves to a larger buffer.
func (p *peer) fill() error {
	if p.w == len(p.buf) {
		p.grow()
	}
	n, err := p.read(p.buf[p.w:])
	p.w += n
	if n > 0 {
		return nil
	}
	return err
}

// grow makes room: with the pool's buffer first, then twice as much each time.
func (p *peer) grow() {
	held, old := p.held(), p.pooled
	p.pooled = nil
	if len(held) < headSize/2 && old == nil {
		p.pooled = headBuffers.Get().(*[headSize]byte)
		p.buf = p.pooled[:]
	} else {
		p.buf = make([]byte, max(headSize, 2*len(held)))
	}
	p.r, p.w = 0, copy(p.buf, held)
}

// unread gives back b, the last bytes of a Read, which lie beyond the end of a
// body.
func (p *peer) unread(b []byte) {
	switch {
	case p.r < p.w: // they are held as well
		p.r -= len(b)
		return
	case len(b) > len(p.buf)-p.w:
		p.buf, p.pooled, p.w = make([]byte, len(b)+headSize), nil, 0
	}
	p.r = p.w
	p.w += copy(p.buf[p.w:], b)
}

// free gives the buffer back. Headers that are slices of it are void then.
func (p *peer) free() {
	if p.pooled != nil {
		headBuffers.Put(p.pooled)
	}
	p.buf, p.pooled, p.r, p.w = nil, nil, 0, 0
}

// readHead reads until a whole header is held and returns it; refuse says what
// can be refused before. Empty lines before the header are skipped. At end of
// file the error is io.EOF if nothing was there, io.ErrUnexpectedEOF otherwise.
func (p *peer) readHead(refuse func(head []byte, from int) error) (head []byte, err error) {
	for skipped, from := 0, 0; ; {
		if from == 0 {
			n := http1.Blank(p.held())
			p.r += n
			if skipped += n; skipped > http1.MaxHead {
				return nil, http1.ErrHeadSize
			}
		}
		held := p.held()
		if end := http1.HeadEnd(held, from); end > 0 {
			p.r += end
			return held[:end], nil
		}
		if len(held) > 0 && string(held) != "\r" {
			if err := refuse(held, from); err != nil {
				return nil, err
			}
			from = len(held)
		}
		if err := p.fill(); err == io.EOF && skipped+len(held) > 0 {
			return nil, io.ErrUnexpectedEOF
		} else if err != nil {
			return nil, err
		}
	}
}

// Write writes b, but does not wait longer than writeIdle for the peer to take
// it. An error is a writeError.
func (p *peer) Write(b []byte) (int, error) {
	err := p.writeBy(time.Now().Add(p.writeIdle))
	n := 0
	if err == nil {
		p.writing.Store(true)
		n, err = p.Conn.Write(b)
		p.sent.Add(int64(n))
	}
	err = p.writeFailed(err)
	p.writing.Store(false)
	return n, err
}

// writeFailed returns err, if it is one, as a writeError.
func (p *peer) writeFailed(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, syscall.ECONNRESET) {
		p.wasReset.Store(true)
	}
	return writeError{err}
}

// readBy sets the time by which a read must be over; the zero time means none.
// It fails once the peer has been stopped.
func (p *peer) readBy(t time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.noReads {
		return os.ErrDeadlineExceeded
	}
	return p.SetReadDeadline(t)
}

// answerBy sets by, for a read that may be under way.
func (p *peer) answerBy(t time.Time) {
	p.by = t
	if p.slow == nil {
		p.readBy(t)
	}
}

// writeBy does the same as readBy for a write.
func (p *peer) writeBy(t time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.noWrites {
		return os.ErrDeadlineExceeded
	}
	return p.SetWriteDeadline(t)
}

// stop ends reads and writes that are waiting, and lets none wait any more.
func (p *peer) stop(reads, writes bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if reads {
		p.noReads = true
		p.SetReadDeadline(past)
	}
	if writes {
		p.noWrites = true
		p.SetWriteDeadline(past)
	}
}

// resume takes stop back: reads wait again, without a deadline.
func (p *peer) resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.noReads, p.noWrites = false, false
	p.SetReadDeadline(time.Time{})
}

// stopped reports whether stop has been called for reads.
func (p *peer) stopped() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.noReads
}

// rawConn gives access to a connection's descriptor.
func rawConn(conn net.Conn) (syscall.RawConn, error) {
	if c, ok := conn.(syscall.Conn); ok {
		return c.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}

// closeWrite ends the sending side: the peer reads end of file.
func (p *peer) closeWrite() {
	if c, ok := p.Conn.(interface{ CloseWrite() error }); ok {
		c.CloseWrite()
	}
}

// setReset makes closing the connection send RST instead of FIN, or no more.
func (p *peer) setReset(reset bool) {
	if tcp, ok := p.Conn.(*net.TCPConn); ok {
		tcp.SetLinger(map[bool]int{true: 0, false: -1}[reset])
	}
}

// A writeError is a failure of the peer that is written to, where a copy could
// also fail because of the one that is read.
type writeError struct{ error }

// Unwrap returns the failure.
func (w writeError) Unwrap() error { return w.error }

func isWriteError(err error) bool {
	var w writeError
	return errors.As(err, &w)
}
