//go:build linux

package loop

import (
	"io"
	"strconv"
	"time"

	"reverseproxy/ch2_basic_proxy/forward"
	"reverseproxy/ch2_basic_proxy/http1"
)

// A transfer is a message's body on its way from one socket to the other. It
// streams: what has come is sent on before more is read, and nothing more is read
// while the other side does not take it (backpressure).
type transfer struct {
	src, dst *socket
	message  *http1.Message
	out      http1.Framing // how it is written
	left     int64         // bytes still to be read, if the framing is http1.Length
	limit    int64         // the most bytes if its length is not known before; 0: any
	idle     time.Duration // the longest silence of src, and of dst

	chunks http1.Chunks // where a chunked one is
	ended  bool         // it has been read to its end
	total  int64        // bytes of it so far
	pipe   *pipe        // splice's; nil: none
	writes bool         // an error is that of dst
	drops  bool         // it is only read
	lost   bool         // how much of it has been read is not known
}

// run moves what can be moved; errWait: that was not all. A body that ends too early
// gives io.ErrUnexpectedEOF, and its end is not written either, so that a body cut
// short never looks complete.
func (t *transfer) run() error {
	for {
		t.writes = true
		if err := t.dst.flush(t.idle); err != nil {
			return err
		}
		if t.ended {
			return nil
		}
		t.writes = false
		var err error
		switch t.message.Framing {
		case http1.Length:
			err = t.length()
		case http1.Chunked:
			err = t.chunked()
		case http1.UntilClose:
			err = t.toEnd()
		default:
			t.ended = true
		}
		if err == errWait && !t.writes {
			t.src.ackAtOnce()
		}
		if err != nil {
			return err
		}
	}
}

// next returns what comes next, at most n bytes of it: what is held, or what a read
// brings.
func (t *transfer) next(n int) ([]byte, error) {
	s := t.src
	if held := s.held(); len(held) > 0 {
		held = held[:min(n, len(held))]
		s.r += len(held)
		return held, nil
	}
	got, err := s.read(s.loop.in[:min(n, scratchSize)], t.idle)
	return s.loop.in[:got], err
}

// write writes a part of the body.
func (t *transfer) write(b []byte) error {
	if t.drops {
		return nil
	}
	t.writes = true
	_, err := t.dst.write(b)
	return err
}

// length moves a part of a body whose length is known.
func (t *transfer) length() error {
	if t.left == 0 && t.pipe == nil { // or its last bytes are in there
		t.ended = true
		return nil
	}
	long := t.left > spliceFrom && t.src.loop.use.Splice && !t.drops && !t.src.urgent
	if long && len(t.src.held()) == 0 || t.pipe != nil {
		if handled, err := t.splice(); handled {
			return err
		}
	}
	part, err := t.next(int(min(t.left, scratchSize)))
	if err != nil {
		return early(err)
	}
	t.left -= int64(len(part))
	return t.write(part)
}

// chunked moves a part of a chunked body (RFC 9112, section 7.1), and its trailers.
// Chunk extensions are dropped, as section 7.1.1 allows; the chunks are cut anew, so
// that nobody behind this proxy has to read them as the sender meant.
func (t *transfer) chunked() error {
	in, err := t.next(scratchSize)
	if err != nil {
		return early(err)
	}
	// The data moves together: what is between, the sizes, goes.
	data := t.src.loop.out[frameRoom/2:]
	size, used := 0, 0
	for used < len(in) && !t.ended && err == nil {
		var part []byte
		var n int
		part, n, t.ended, err = t.chunks.Next(in[used:])
		size += copy(data[size:], part)
		used += n
	}
	if t.ended {
		t.giveBack(in[used:])
	}
	t.total += int64(size)
	tooLong := t.limit > 0 && t.total > t.limit
	if t.lost = tooLong || err != nil; tooLong {
		return forward.ErrBodySize
	}
	if size > 0 {
		if err := t.write(t.frame(size, t.ended)); err != nil {
			return err
		}
	} else if t.ended {
		return t.writeEnd()
	}
	t.writes = false
	return err
}

// giveBack gives back what lies beyond the body's end.
func (t *transfer) giveBack(b []byte) {
	if s := t.src; len(b) > 0 && s.r >= len(b) && &s.in[s.r-len(b)] == &b[0] {
		s.r -= len(b) // it was held
	} else {
		s.unread(b)
	}
}

// toEnd moves a part of a body that ends with the connection.
func (t *transfer) toEnd() error {
	in, err := t.next(scratchSize)
	switch {
	case err == io.EOF:
		t.ended = true
		return t.writeEnd()
	case err != nil:
		return err
	case t.out != http1.Chunked:
		return t.write(in)
	}
	size := copy(t.src.loop.out[frameRoom/2:], in)
	return t.write(t.frame(size, false))
}

// frame returns the data that lies in the loop's out, so many bytes, as a chunk if it
// is to be one; with the body's end behind it, if that is so.
func (t *transfer) frame(size int, end bool) []byte {
	out := t.src.loop.out[:]
	from, to := frameRoom/2, frameRoom/2+size
	if t.out != http1.Chunked {
		return out[from:to]
	}
	var digits [16]byte
	head := append(strconv.AppendInt(digits[:0], int64(size), 16), "\r\n"...)
	from -= copy(out[from-len(head):], head)
	b := append(out[from:to], "\r\n"...)
	if end {
		b = t.message.AppendLastChunk(b, t.chunks.Trailers)
	}
	return b
}

// writeEnd ends a chunked body; others end without a mark.
func (t *transfer) writeEnd() error {
	if t.out != http1.Chunked {
		return nil
	}
	return t.write(t.message.AppendLastChunk(t.src.loop.out[:0], t.chunks.Trailers))
}

// early is the error of a body that was not at its end.
func early(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
