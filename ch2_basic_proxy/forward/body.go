package forward

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Sizes of what is held of a body at any time.
const (
	readSize    = 4 << 10  // bytes of a connection's read buffer
	bufferSize  = 32 << 10 // bytes copied at once
	sizeRoom    = 8        // bytes before a chunk's data: its size in hex, CRLF
	maxTrailers = 8 << 10  // bytes of a trailer section
)

var (
	readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, readSize) }}
	buffers = sync.Pool{New: func() any { return new([sizeRoom + bufferSize + 2]byte) }}
)

// resetGrace is how long a read that meets the end of file waits for a write.
const resetGrace = 100 * time.Millisecond

// past is a deadline that ends every wait at once.
var past = time.Unix(1, 0)

// A peer is one of an exchange's two connections. Two goroutines may use it at
// a time, one that reads and one that writes.
type peer struct {
	net.Conn
	buf       *bufio.Reader // reads from the peer itself, see Read
	early     []byte        // what was read before there was a buffer
	readIdle  time.Duration // the longest wait in one read; 0: the deadline that is set
	writeIdle time.Duration // the longest wait in one write
	sent      atomic.Int64  // bytes written to it so far
	writing   atomic.Bool   // a write is waiting for it to take bytes
	wasReset  atomic.Bool   // a write has met its RST

	mu                sync.Mutex // keeps deadlines and these in step
	noReads, noWrites bool       // set by stop: the other goroutine has given up
}

// Read fills the buffer: it waits for bytes, but not longer than readIdle.
func (p *peer) Read(b []byte) (int, error) {
	if len(p.early) > 0 {
		n := copy(b, p.early)
		p.early = p.early[n:]
		return n, nil
	}
	if p.readIdle > 0 {
		if err := p.readBy(time.Now().Add(p.readIdle)); err != nil {
			return 0, err
		}
	}
	n, err := p.Conn.Read(b)
	if err == io.EOF && p.resetSeen() {
		err = syscall.ECONNRESET
	}
	return n, err
}

// resetSeen reports whether an end of file is a reset in truth. The kernel tells
// of a reset once, and may have told a write that is still under way: after a
// reset that write ends at once; one that waits for a longer time is none.
func (p *peer) resetSeen() bool {
	for end := time.Now().Add(resetGrace); p.writing.Load() && !p.wasReset.Load() && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	return p.wasReset.Load()
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

// writeBy does the same for a write.
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
	if p.Conn == nil {
		return
	}
	if reads {
		p.noReads = true
		p.SetReadDeadline(past)
	}
	if writes {
		p.noWrites = true
		p.SetWriteDeadline(past)
	}
}

// resume lets reads wait again, without a deadline.
func (p *peer) resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.noReads = false
	p.SetReadDeadline(time.Time{})
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

// copyBody moves one body, as m frames it, from src to dst, where it is framed
// as out. It streams: what has arrived is sent on before more is awaited, and
// nothing more is read while dst does not take it (backpressure). A body that
// ends too early gives io.ErrUnexpectedEOF, and its end is not written either,
// so that a body cut short never looks complete. limit is the most bytes of a
// body whose length is not known beforehand; 0 means any.
func copyBody(dst, src *peer, m *Message, out Framing, limit int64) error {
	switch m.Framing {
	case Length:
		return copyLength(dst, src, m.Length)
	case Chunked:
		return copyChunked(dst, src, m, out, limit)
	case UntilClose:
		if err := copyReader(dst, src.buf, out, limit); err != nil {
			return err
		}
		return writeEnd(dst, out, nil, nil)
	}
	return nil
}

// copyLength moves exactly n bytes. A long body goes through the kernel alone
// where that can be done; see splice.
func copyLength(dst, src *peer, n int64) error {
	for n > 0 {
		if n > bufferSize && src.buf.Buffered() == 0 {
			handled, err := splice(dst, src, n)
			if handled {
				return err
			}
		}
		moved, err := copyOnce(dst, src, n)
		if n -= moved; err != nil {
			return err
		}
	}
	return nil
}

// copyOnce reads once, at most n bytes, and writes what it got.
func copyOnce(dst, src *peer, n int64) (int64, error) {
	buf := buffers.Get().(*[sizeRoom + bufferSize + 2]byte)
	defer buffers.Put(buf)
	got, err := src.buf.Read(buf[:min(n, bufferSize)])
	if got > 0 {
		_, err = dst.Write(buf[:got]) // an error of the read comes back with the next
	} else if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return int64(got), err
}

// copyChunked moves a chunked body (RFC 9112, section 7.1) with its trailers.
// Chunk extensions are dropped, as section 7.1.1 allows; the chunks are cut
// anew, so that nobody behind this proxy has to read them as the sender meant.
func copyChunked(dst, src *peer, m *Message, out Framing, limit int64) error {
	if err := copyReader(dst, &chunkReader{r: src.buf}, out, limit); err != nil {
		return err
	}
	trailers, err := readTrailers(src.buf)
	if err != nil {
		return err
	}
	return writeEnd(dst, out, trailers, m.named())
}

// copyReader copies from r to its end, each read as a chunk of its own if out
// is Chunked.
func copyReader(dst *peer, r io.Reader, out Framing, limit int64) error {
	buf := buffers.Get().(*[sizeRoom + bufferSize + 2]byte)
	defer buffers.Put(buf)
	for total := int64(0); ; {
		n, err := r.Read(buf[sizeRoom : sizeRoom+bufferSize])
		if total += int64(n); limit > 0 && total > limit {
			return refuse(http.StatusRequestEntityTooLarge, "the body is larger than -max-body allows")
		}
		if n > 0 {
			if _, err := dst.Write(frame(buf, n, out)); err != nil {
				return err
			}
		}
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
	}
}

// frame returns the n bytes of data in buf, as a chunk if out is Chunked: the
// size goes into the room before them and CRLF behind, so that a chunk is one
// write.
func frame(buf *[sizeRoom + bufferSize + 2]byte, n int, out Framing) []byte {
	if out != Chunked {
		return buf[sizeRoom : sizeRoom+n]
	}
	size := strconv.FormatInt(int64(n), 16) + "\r\n"
	start := sizeRoom - len(size)
	copy(buf[start:], size)
	copy(buf[sizeRoom+n:], "\r\n")
	return buf[start : sizeRoom+n+2]
}

// readTrailers reads the fields behind the last chunk, up to the empty line.
func readTrailers(r *bufio.Reader) ([]Field, error) {
	var trailers []Field
	for size := 0; ; {
		if len(trailers) > maxFields {
			return nil, refuse(http.StatusRequestHeaderFieldsTooLarge, "more than 200 trailers")
		}
		line, err := r.ReadSlice('\n')
		if size += len(line); err == bufio.ErrBufferFull || size > maxTrailers {
			return nil, refuse(http.StatusRequestHeaderFieldsTooLarge, "the trailers are larger than 8 KiB")
		}
		if err == io.EOF {
			return nil, io.ErrUnexpectedEOF
		}
		if err != nil {
			return nil, err
		}
		if string(line) == "\r\n" {
			return trailers, nil
		}
		text, _, err := cutLine(string(line))
		if err != nil {
			return nil, err
		}
		f, err := parseField(text)
		if err != nil {
			return nil, err
		}
		trailers = append(trailers, f)
	}
}

// notInTrailers are fields that change how a message is read, routed or
// trusted; behind the body they come too late (RFC 9110, section 6.5.1).
var notInTrailers = map[string]bool{
	"host": true, "trailer": true, "via": true, "max-forwards": true, "expect": true,
	"authorization": true, "cookie": true, "set-cookie": true, "cache-control": true,
	"content-type": true, "content-encoding": true, "content-range": true,
	"x-forwarded-for": true, "x-forwarded-host": true, "x-forwarded-proto": true,
}

// writeEnd ends a chunked body: the chunk of size 0, the trailers that may be
// forwarded, the empty line. Other bodies end without a mark. named are the
// fields that Connection names, in trailers too (RFC 9110, section 7.6.1).
func writeEnd(dst *peer, out Framing, trailers []Field, named map[string]bool) error {
	if out != Chunked {
		return nil
	}
	end := []byte("0\r\n")
	for _, f := range trailers {
		if name := lower(f.Name); !hopByHop[name] && !notInTrailers[name] && !named[name] {
			end = appendField(end, f.Name, f.Value)
		}
	}
	_, err := dst.Write(append(end, "\r\n"...))
	return err
}
