package forward

import (
	"io"
	"net/http"
	"strconv"

	"reverseproxy/ch2_basic_proxy/http1"
)

// A body is a message's body on its way. When copy has been stopped, another
// can go on where it was, for as long as lost is false.
type body struct {
	message *http1.Message
	left    int64         // bytes still to be read, if the framing is http1.Length
	out     http1.Framing // how it is written
	limit   int64         // the most bytes if its length is not known before; 0 means any
	last    func()        // called before the write that ends it; or nil

	keep   int          // the most bytes that are kept; 0: none, or it is too long for that
	kept   []byte       // what has been written, as it was written
	chunks http1.Chunks // where a chunked one is
	ended  bool         // a chunked one has been read to its end
	total  int64        // bytes of it so far
	lost   bool         // how much of it has been read is not known
}

// copy moves the body from src to dst. It streams: what has arrived is sent on
// before more is awaited, and nothing more is read while dst does not take it
// (backpressure). A body that ends too early gives io.ErrUnexpectedEOF, and its
// end is not written either, so that a body cut short never looks complete.
func (b *body) copy(dst, src *peer) error {
	switch b.message.Framing {
	case http1.Length:
		return b.copyLength(dst, src)
	case http1.Chunked:
		return b.copyChunked(dst, src)
	case http1.UntilClose:
		return b.copyToEnd(dst, src)
	}
	return nil
}

// copyLength moves the bytes that are left. A long body goes through the kernel
// alone where that can be done; see splice.
func (b *body) copyLength(dst, src *peer) error {
	if b.left == 0 {
		return nil
	}
	buf := bodyBuffers.Get().(*bodyBuffer)
	defer bodyBuffers.Put(buf)
	for b.left > 0 {
		if b.left > bodySize && b.keep == 0 && len(src.held()) == 0 {
			src.wake() // the kernel will not say that it takes long
			if handled, err := splice(dst, src, b.left, b.ending); handled {
				b.lost = err != nil
				return err
			}
		}
		got, err := src.Read(buf[:min(b.left, bodySize)])
		if b.left -= int64(got); b.left == 0 {
			b.ending()
		}
		if got > 0 {
			err = b.write(dst, buf[:got]) // an error of the read comes back with the next
		} else if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// copyChunked moves a chunked body (RFC 9112, section 7.1) with its trailers.
// Chunk extensions are dropped, as section 7.1.1 allows; the chunks are cut
// anew, so that nobody behind this proxy has to read them as the sender meant.
func (b *body) copyChunked(dst, src *peer) error {
	buf := bodyBuffers.Get().(*bodyBuffer)
	defer bodyBuffers.Put(buf)
	for {
		if b.ended {
			return b.writeEnd(dst, b.chunks.Trailers)
		}
		in := buf[sizeRoom : sizeRoom+bodySize]
		n, err := src.Read(in)
		if n == 0 {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
		// The data moves together to the buffer's front: what is between, the
		// sizes, goes.
		size, refused := 0, error(nil)
		for used := 0; used < n && !b.ended && refused == nil; {
			var data []byte
			var k int
			data, k, b.ended, refused = b.chunks.Next(in[used:n])
			size += copy(in[size:], data)
			if used += k; b.ended {
				src.unread(in[used:n])
			}
		}
		b.total += int64(size)
		tooLong := b.limit > 0 && b.total > b.limit
		if b.lost = tooLong || refused != nil; tooLong {
			return ErrBodySize
		}
		if size > 0 {
			if err := b.write(dst, frame(buf, size, b.out)); err != nil {
				return err
			}
		}
		if refused != nil {
			return refused
		}
	}
}

// ending says that the next write ends the body.
func (b *body) ending() {
	if b.last != nil {
		b.last()
	}
}

// write writes a part of the body, and keeps it if it is to be kept.
func (b *body) write(dst *peer, part []byte) error {
	if b.total > int64(b.keep) {
		b.keep, b.kept = 0, nil
	}
	if b.keep > 0 {
		b.kept = append(b.kept, part...)
	}
	_, err := dst.Write(part)
	return err
}

// copyToEnd moves what comes until the sender closes the connection.
func (b *body) copyToEnd(dst, src *peer) error {
	buf := bodyBuffers.Get().(*bodyBuffer)
	defer bodyBuffers.Put(buf)
	for {
		n, err := src.Read(buf[sizeRoom : sizeRoom+bodySize])
		switch {
		case n > 0:
			err = b.write(dst, frame(buf, n, b.out))
		case err == io.EOF:
			return b.writeEnd(dst, nil)
		}
		if err != nil {
			return err
		}
	}
}

// writeEnd ends a chunked body; others end without a mark.
func (b *body) writeEnd(dst *peer, trailers []http1.Field) error {
	if b.out != http1.Chunked {
		return nil
	}
	b.ending()
	last := b.message.AppendLastChunk(nil, trailers)
	_, err := dst.Write(last)
	if err == nil && b.keep > 0 {
		b.kept = append(b.kept, last...)
	}
	return err
}

// frame returns the n bytes of data in buf, as a chunk if out is Chunked: the
// size goes into the room before them and CRLF behind, so that a chunk is one
// write.
func frame(buf *bodyBuffer, n int, out http1.Framing) []byte {
	if out != http1.Chunked {
		return buf[sizeRoom : sizeRoom+n]
	}
	var digits [sizeRoom]byte
	size := append(strconv.AppendInt(digits[:0], int64(n), 16), "\r\n"...)
	start := sizeRoom - len(size)
	copy(buf[start:], size)
	copy(buf[sizeRoom+n:], "\r\n")
	return buf[start : sizeRoom+n+2]
}

// ErrBodySize is the error of a request whose body is longer than -max-body.
var ErrBodySize = refuse(http.StatusRequestEntityTooLarge,
	"the body is larger than -max-body allows")
