package http1

import "bytes"

// Response is a response's header.
type Response struct {
	Message
	Status  int
	Reason  []byte
	Upgrade []byte // the protocol of 101, or those that 426 asks for; nil: none
}

// What a response is refused for.
var (
	errStatusLine  = &Error{502, "malformed status line"}
	errReason      = &Error{502, "a control byte in the reason phrase"}
	errResponseLen = &Error{502, "malformed or differing Content-Length"}
	errResponseTwo = &Error{502, "both Content-Length and Transfer-Encoding"}
	errResponseTE  = &Error{502, "a Transfer-Encoding that is not chunked, or in HTTP/1.0"}
)

// Parse reads a whole header, up to where HeadEnd says it ends, of a response to
// a request with this method. A bare LF and a folded line, which old servers
// send, are forgiven; what is ambiguous is an *Error. r may have been used
// before.
func (r *Response) Parse(head []byte, method string) error {
	err := r.parse(head)
	if err != nil {
		if plain := unfold(head); plain != nil {
			err = r.parse(plain)
		}
	}
	if err == nil {
		err = r.checkFraming(method)
	}
	if err != nil {
		return &Error{502, err.Reason}
	}
	r.Size = len(head)
	if r.Status == 101 || r.Status == 426 {
		r.Upgrade = r.Get("Upgrade")
	}
	return nil
}

func (r *Response) parse(head []byte) *Error {
	*r = Response{Message: Message{Fields: r.Fields[:0]}}
	rest, err := r.parseLine(head)
	if err != nil {
		return err
	}
	return r.parseFields(rest)
}

// RefuseResponse looks at the beginning of a response whose header is not whole
// yet, and returns an *Error as soon as it can become none; see RefuseRequest.
func RefuseResponse(head []byte, from int) error {
	first := func() *Error {
		_, err := new(Response).parseLine(head)
		if err == errBareLF {
			return nil // forgiven
		}
		return err
	}
	err := refuse(head, from, first, func(line []byte) *Error {
		line = bytes.TrimSuffix(line[:len(line)-1], []byte("\r"))
		if len(line) == 0 || line[0] == ' ' || line[0] == '\t' { // folded: forgiven
			if !printable(line) {
				return errControl
			}
			return nil
		}
		err := new(Field).parse(line)
		return err
	})
	switch err {
	case nil:
		return nil
	case ErrHeadSize:
		return err
	}
	return &Error{502, err.Reason}
}

// parseLine parses "HTTP/1.x SP status SP reason CRLF" (RFC 9112, section 4), or
// as much of it as is there, but not more than MaxLine bytes. The space before an
// empty reason may be missing.
func (r *Response) parseLine(b []byte) (rest []byte, err *Error) {
	const start = "HTTP/1.1 200"
	if !like(b[:min(len(b), len(start))], start) || len(b) > 5 && b[5] != '1' ||
		len(b) > len("HTTP/1.1 ") && b[len("HTTP/1.1 ")] == '0' {
		return nil, errStatusLine
	}
	if len(b) <= len(start) {
		return nil, nil
	}
	r.Minor = min(int(b[7]-'0'), 1)
	r.Status = int(b[9]-'0')*100 + int(b[10]-'0')*10 + int(b[11]-'0')
	end := bytes.IndexByte(b[:min(len(b), MaxLine)], '\n')
	if end < 0 && len(b) >= MaxLine {
		return nil, errStatusLine
	}
	line, bare := b[len(start):], false
	if end >= 0 {
		line, rest, bare = b[len(start):end], b[end+1:], b[end-1] != '\r'
	}
	line = bytes.TrimSuffix(line, []byte("\r"))
	switch {
	case len(line) > 0 && line[0] != ' ':
		return nil, errStatusLine
	case !printable(line):
		return nil, errReason
	case bare:
		return nil, errBareLF
	}
	r.Reason = bytes.TrimPrefix(line, []byte(" "))
	return rest, nil
}

// unfold returns head with a CR before every bare LF, and spaces for the break
// of every folded line (RFC 9112, section 5.2); nil if there was neither.
// Nothing is folded into the first line: what stands there is no field, and is
// refused as one.
func unfold(head []byte) []byte {
	crlf := []byte("\r\n")
	bare := bytes.Count(head, []byte("\n")) != bytes.Count(head, crlf)
	folded := bytes.Contains(head, []byte("\n ")) || bytes.Contains(head, []byte("\n\t"))
	if !bare && !folded {
		return nil
	}
	head = bytes.ReplaceAll(bytes.ReplaceAll(head, crlf, []byte("\n")), []byte("\n"), crlf)
	line, fields, _ := bytes.Cut(head, crlf)
	if folded && len(fields) > 0 && fields[0] != ' ' && fields[0] != '\t' {
		fields = bytes.ReplaceAll(fields, []byte("\r\n "), []byte("   "))
		fields = bytes.ReplaceAll(fields, []byte("\r\n\t"), []byte("   "))
	}
	return append(append(bytes.Clone(line), crlf...), fields...)
}

// checkFraming finds out where a response's body ends (RFC 9112, section 6.3).
func (r *Response) checkFraming(method string) *Error {
	codings, lengths := r.count(transferEncoding), r.count(contentLength)
	chunked := codings == 1 && fold(r.value(transferEncoding), "chunked")
	switch {
	case codings > 0 && lengths > 0:
		return errResponseTwo
	case codings > 0 && (!chunked || r.Minor == 0):
		return errResponseTE
	}
	if lengths > 0 {
		first := true
		t, rest := element(r.Get("Content-Length"))
		for ; t != nil || first; t, rest = element(rest) {
			n, ok := parseLength(t)
			if !ok || !first && n != r.Length {
				return errResponseLen
			}
			r.Length, first = n, false
		}
	}
	switch {
	case method == "HEAD", r.Status < 200, r.Status == 204, r.Status == 304:
		r.Framing = NoBody
	case chunked:
		r.Framing = Chunked
	case lengths > 0:
		r.Framing = Length
	default:
		r.Framing = UntilClose
	}
	return nil
}

// Interim reports whether another response follows this one (1xx, but not 101).
func (r *Response) Interim() bool { return r.Status < 200 && r.Status != 101 }

// Dated reports whether the response has a Date.
func (r *Response) Dated() bool { return r.count(date) > 0 }

// Switches reports whether the response changes the protocol (101), to the one
// that the request asked for (RFC 9110, section 7.8).
func (r *Response) Switches(q *Request) bool {
	return r.Status == 101 && q.Upgrade != nil && len(r.Upgrade) > 0 &&
		fold(r.Upgrade, string(q.Upgrade))
}
