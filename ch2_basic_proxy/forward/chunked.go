package forward

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// maxChunkExtra is how many bytes of extensions and blanks the chunks of a body
// may carry beside their data, as against a sender of nothing else.
const maxChunkExtra = 16 << 10 // bytes

// A chunkReader reads the data of a chunked body (RFC 9112, section 7.1). A Read
// returns what has arrived, across chunks, and waits only if nothing has. The
// chunk of size 0 is io.EOF; what comes behind it, the trailers, is not read.
type chunkReader struct {
	r     *bufio.Reader
	left  int64 // bytes of the current chunk still to come
	begun bool  // the CRLF of a chunk is still to come
	extra int   // bytes of extensions so far
}

// Read implements io.Reader. A body that ends too early is io.ErrUnexpectedEOF,
// a malformed one an *Error.
func (c *chunkReader) Read(b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		if n > 0 && !c.arrived() {
			return n, nil
		}
		if c.left == 0 {
			err = c.next()
			continue
		}
		var k int
		k, err = c.r.Read(b[n:min(int64(len(b)), int64(n)+c.left)])
		n += k
		c.left -= int64(k)
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
	}
	return n, err
}

// arrived reports whether data, or a whole line, can be read without waiting.
func (c *chunkReader) arrived() bool {
	if c.left > 0 {
		return c.r.Buffered() > 0
	}
	held, _ := c.r.Peek(c.r.Buffered())
	if c.begun {
		held = held[min(len("\r\n"), len(held)):]
	}
	return bytes.IndexByte(held, '\n') >= 0
}

// next reads the end of the chunk before and the size of the next.
func (c *chunkReader) next() error {
	if c.begun {
		if end, err := c.line(); err != nil {
			return err
		} else if end != "" {
			return malformedChunk("more data than its size says")
		}
		c.begun = false
	}
	line, err := c.line()
	if err != nil {
		return err
	}
	size, _, _ := strings.Cut(line, ";") // an extension may follow; it is dropped
	size = strings.TrimRight(size, " \t")
	if c.extra += len(line) - len(size); c.extra > maxChunkExtra {
		return malformedChunk("too many extensions")
	}
	for i := 0; i < len(size); i++ {
		if !isDigit(size[i]) && (size[i]|0x20 < 'a' || size[i]|0x20 > 'f') {
			return malformedChunk("a size that is not a hexadecimal number")
		}
	}
	c.left, err = strconv.ParseInt(size, 16, 64)
	if err != nil || len(size) > 16 {
		return malformedChunk("a size that is not below 2^63")
	}
	if c.left == 0 {
		return io.EOF
	}
	c.begun = true
	return nil
}

// line reads up to CRLF and returns the line without it.
func (c *chunkReader) line() (string, error) {
	line, err := c.r.ReadSlice('\n')
	switch {
	case err == bufio.ErrBufferFull:
		return "", malformedChunk("a line that is too long")
	case err == io.EOF:
		return "", io.ErrUnexpectedEOF
	case err != nil:
		return "", err
	case !bytes.HasSuffix(line, []byte("\r\n")) || bytes.IndexByte(line, '\r') < len(line)-2 || bytes.IndexByte(line, 0) >= 0:
		return "", malformedChunk("a line that does not end in CRLF")
	}
	return string(line[:len(line)-2]), nil
}

// malformedChunk is the error of a chunked body that cannot be read.
func malformedChunk(why string) error {
	e := refuse(http.StatusBadRequest, "the chunked body is malformed")
	e.Err = errors.New("a chunk with " + why)
	return e
}
