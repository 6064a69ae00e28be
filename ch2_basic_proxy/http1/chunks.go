package http1

import (
	"bytes"
	"strconv"
)

// Sizes of what a chunked body may carry beside its data.
const (
	maxChunkLine = 4 << 10  // bytes of a line with a size
	freePerChunk = 16       // bytes that a chunk may take beside its data, and twice its data,
	maxExcess    = 16 << 10 // bytes; and this much more over the whole body
	maxTrailers  = 8 << 10  // bytes of a trailer section
)

// Chunks takes a chunked body (RFC 9112, section 7.1), cut anyhow. Its zero
// value is at the beginning of one.
type Chunks struct {
	Trailers []Field // the fields behind the last chunk, when the end has come

	state  chunkState
	left   int64  // bytes of the current chunk still to come
	excess int64  // bytes beyond what is free
	line   []byte // of the current line, what came in earlier pieces
	size   int    // bytes of trailers
}

type chunkState uint8

const (
	inSize    chunkState = iota // a line with a size is to come
	inData                      // data
	inDataEnd                   // the CRLF behind it
	inTrailers
	atEnd
)

// Next takes the next part of in: data is what it holds of the body, a slice of
// in, and used how many bytes of in are done with. It is to be called again with
// the rest until all of in is used or the end has come, behind the trailers.
// A malformed body is an *Error with the status to answer with.
//
// Overhead is bounded in relation to the data, as in Go's net/http: against a
// sender of nothing else, not against one of many small chunks.
func (c *Chunks) Next(in []byte) (data []byte, used int, end bool, err error) {
	for used < len(in) {
		if c.state == inData {
			n := int(min(c.left, int64(len(in)-used)))
			if c.left -= int64(n); c.left == 0 {
				c.state = inDataEnd
			}
			return in[used : used+n], used + n, false, nil
		}
		line, n, err := c.cut(in[used:])
		used += n
		if err != nil {
			return nil, used, false, err
		}
		if line == nil {
			break
		}
		if err := c.take(line); err != nil {
			return nil, used, false, err
		}
		if c.state == atEnd {
			return nil, used, true, nil
		}
	}
	return nil, used, false, nil
}

// cut takes a line off in, without its CRLF, and returns how many bytes it has
// used; nil if the line does not end in it. Of such a line it keeps what is
// there, and refuses what can become none.
func (c *Chunks) cut(in []byte) (line []byte, used int, err *Error) {
	i := bytes.IndexByte(in, '\n')
	limit := maxChunkLine
	if c.state == inTrailers {
		limit = maxTrailers
	}
	if i < 0 && len(c.line)+len(in) <= limit {
		c.line = append(c.line, in...)
		return nil, len(in), c.refuse()
	}
	line, used = in[:i+1], i+1
	if len(c.line) > 0 && i >= 0 {
		line = append(c.line, line...)
		c.line = line[:0]
	}
	switch {
	case i < 0 || len(line) > limit:
		if c.state == inTrailers {
			return nil, used, errTrailers
		}
		return nil, used, badChunk("a line that is too long")
	case c.state == inTrailers:
		line, _, err = cutLine(line)
	case len(line) < 2 || line[len(line)-2] != '\r':
		err = badChunk("a line that does not end in CRLF")
	default:
		line = line[:len(line)-2]
	}
	return line, used, err
}

// refuse checks a line that is not whole yet.
func (c *Chunks) refuse() *Error {
	switch c.state {
	case inDataEnd:
		if len(c.line) > 1 || c.line[0] != '\r' {
			return errChunkEnd
		}
	case inSize:
		n := 0
		for n < len(c.line) && isHex(c.line[n]) {
			n++
		}
		rest := trim(c.line[n:])
		if n == 0 || len(rest) > 0 && rest[0] != ';' && string(rest) != "\r" {
			return errChunkSize
		}
	}
	return nil
}

// take acts on a whole line.
func (c *Chunks) take(line []byte) *Error {
	switch c.state {
	case inDataEnd:
		if len(line) > 0 {
			return errChunkEnd
		}
		c.state = inSize
	case inSize:
		n := 0
		for n < len(line) && isHex(line[n]) {
			n++
		}
		size, err := strconv.ParseInt(string(line[:n]), 16, 64)
		switch {
		case n == 0, n < len(line) && line[n] != ';' && line[n] != ' ' && line[n] != '\t':
			return errChunkSize
		case err != nil:
			return badChunk("a size that is not below 2^63")
		case !extensions(line[n:]):
			return badChunk("a malformed extension")
		}
		c.excess = max(0, c.excess+int64(len(line)+2)-freePerChunk-2*min(size, maxExcess))
		if c.excess > maxExcess {
			return badChunk("too many extensions")
		}
		if c.left, c.state = size, inData; size == 0 {
			c.state = inTrailers
		}
	case inTrailers:
		if c.size += len(line) + 2; c.size > maxTrailers {
			return errTrailers
		}
		if len(line) == 0 {
			c.state = atEnd
			return nil
		}
		if len(c.Trailers) == MaxFields {
			return errTrailerCount
		}
		var f Field
		if err := f.parse(bytes.Clone(line)); err != nil { // what it came in will be written over
			return err
		}
		c.Trailers = append(c.Trailers, f)
	}
	return nil
}

var (
	errChunkSize    = badChunk("a size that is not a hexadecimal number")
	errChunkEnd     = badChunk("more data than its size says")
	errTrailers     = &Error{431, "the trailers are larger than 8 KiB"}
	errTrailerCount = &Error{431, "more than 200 trailers"}
)

func badChunk(with string) *Error {
	return bad("the chunked body is malformed: a chunk with " + with)
}

// extensions reports whether s is *( BWS ";" BWS name [ BWS "=" BWS value ] ),
// where a value is a token or a quoted string (RFC 9112, section 7.1.1), with
// white space behind it, which old senders pad a size with.
func extensions(s []byte) bool {
	for s = trim(s); len(s) > 0; s = trim(s) {
		if s[0] != ';' {
			return false
		}
		name := word(trim(s[1:]))
		if len(name) == 0 {
			return false
		}
		if s = trim(trim(s[1:])[len(name):]); len(s) == 0 || s[0] != '=' {
			continue
		}
		s = trim(s[1:])
		value := word(s)
		if len(value) == 0 {
			if value = quoted(s); value == nil {
				return false
			}
		}
		s = s[len(value):]
	}
	return true
}

// word returns the token that s begins with.
func word(s []byte) []byte {
	n := 0
	for n < len(s) && isToken[s[n]] {
		n++
	}
	return s[:n]
}

// quoted returns the quoted string that s begins with; nil if there is none
// (RFC 9110, section 5.6.4).
func quoted(s []byte) []byte {
	if len(s) == 0 || s[0] != '"' {
		return nil
	}
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '"':
			return s[:i+1]
		case s[i] == '\\' && i+1 < len(s):
			i++
		}
		if isControl[s[i]] {
			return nil
		}
	}
	return nil
}

func isHex(c byte) bool { return isDigit(c) || 'a' <= c|0x20 && c|0x20 <= 'f' }
