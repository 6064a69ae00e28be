package http1

import (
	"bytes"
	"math"
)

// Request is a request's header.
type Request struct {
	Message
	Method  []byte
	Target  []byte // in origin-form ("/path?query") or "*"
	Host    []byte // empty only in a request of HTTP/1.0, or if the field is empty
	Upgrade []byte // the protocol the client wants to change to; nil: none
}

// What a request is refused for.
var (
	errTLS      = bad("this looks like TLS: use http://")
	errThree    = bad("the request line is not: method, target, version")
	errMethod   = bad("the method is not a token")
	errVersion  = bad("the version is not HTTP/1.0 or HTTP/1.1")
	errMajor    = &Error{505, "only HTTP/1.0 and HTTP/1.1 are spoken here"}
	errConnect  = &Error{501, "CONNECT is for forward proxies"}
	errBadURI   = bad("the target holds a byte that no URI may hold")
	errNoURI    = bad("the target is neither a path nor a URI")
	errURIHost  = bad("the target's host is malformed")
	errNoHost   = bad("no Host")
	errTwoHosts = bad("more than one Host")
	errHost     = bad("the Host is malformed")
	errBoth     = bad("both Content-Length and Transfer-Encoding")
	errCoding10 = bad("Transfer-Encoding in HTTP/1.0")
	errCoding   = bad("the Transfer-Encoding does not end in one chunked")
	errCodings  = &Error{501, "no Transfer-Encoding but chunked is known here"}
	errLengths  = bad("more than one Content-Length")
	errLength   = bad("the Content-Length is not a number")
	errHops     = bad("the Max-Forwards is not one number")
	errLineSize = &Error{414, "the request line is longer than 8 KiB"}
)

// Parse reads a whole header, up to where HeadEnd says it ends, and checks it.
// What could be understood in two ways is refused: the error is an *Error with
// the status to answer with. r may have been used before; after an error its
// Method is what was read of it.
func (r *Request) Parse(head []byte) error {
	*r = Request{Message: Message{Fields: r.Fields[:0], Size: len(head)}}
	if err := r.parse(head); err != nil {
		return err
	}
	return nil
}

func (r *Request) parse(head []byte) *Error {
	rest, err := r.parseLine(head)
	if err != nil {
		return err
	}
	if err := r.parseFields(rest); err != nil {
		return err
	}
	if err := r.checkTarget(); err != nil {
		return err
	}
	if err := r.checkHost(); err != nil {
		return err
	}
	if err := r.checkFraming(); err != nil {
		return err
	}
	if r.counts[maxForwards] > 0 {
		if _, ok := r.MaxForwards(); !ok && r.counted() {
			return errHops
		}
	}
	r.checkUpgrade()
	return nil
}

// RefuseRequest looks at the beginning of a request whose header is not whole
// yet, and returns an *Error as soon as it can become none: at the first byte
// that no request line has, at a malformed line, at too many bytes. from is how
// many bytes of head an earlier call has looked at.
func RefuseRequest(head []byte, from int) error {
	first := func() *Error {
		_, err := new(Request).parseLine(head)
		return err
	}
	err := refuse(head, from, first, func(line []byte) *Error {
		line, _, err := cutLine(line)
		if err == nil && len(line) > 0 {
			err = new(Field).parse(line)
		}
		return err
	})
	if err != nil {
		return err
	}
	return nil
}

// parseLine parses "METHOD SP target SP HTTP/1.x CRLF" (RFC 9112, section 3), or
// as much of it as is there; rest is what stands behind it.
func (r *Request) parseLine(b []byte) (rest []byte, err *Error) {
	end := bytes.IndexByte(b[:min(len(b), MaxLine)], '\n')
	if end < 0 && len(b) >= MaxLine {
		return nil, errLineSize
	}
	line := b
	if end >= 0 {
		line = b[:end+1]
	}
	i := 0
	for i < len(line) && isToken[line[i]] {
		i++
	}
	r.Method = line[:i]
	if i == len(line) {
		return nil, nil
	}
	j := i + 1
	for j < len(line) && isTarget[line[j]] {
		j++
	}
	if i == 0 || line[i] != ' ' || j == i+1 && j < len(line) {
		return nil, explain(line)
	}
	if j == len(line) {
		return nil, nil
	}
	version := line[j+1:]
	if line[j] != ' ' || !like(version, "HTTP/1.1\r\n") {
		return nil, explain(line)
	}
	if end < 0 {
		return nil, nil
	}
	r.Target = line[i+1 : j]
	r.Minor, _ = parseVersion(version[:8])
	switch {
	case r.Minor < 0:
		return nil, errMajor
	case string(r.Method) == "CONNECT":
		return nil, errConnect
	}
	return b[end+1:], nil
}

// isTarget says which bytes a target may have. Beyond those of RFC 3986 there
// are the ones that browsers send, such as " and |.
var isTarget = bytesOf(func(c byte) bool { return c > ' ' && c < 0x7f && c != '#' })

// like reports whether s is the beginning of pattern, in which a digit stands
// for any digit, or all of it.
func like(s []byte, pattern string) bool {
	if len(s) > len(pattern) {
		return false
	}
	for i, c := range s {
		if c != pattern[i] && !(isDigit(c) && isDigit(pattern[i])) {
			return false
		}
	}
	return true
}

// explain says what is wrong with a request line, whole or not.
func explain(line []byte) *Error {
	if line[0] == 0x16 && (len(line) < 2 || line[1] == 3) { // a TLS handshake record
		return errTLS
	}
	text, whole := bytes.CutSuffix(line, []byte("\n"))
	if whole && !bytes.HasSuffix(text, []byte("\r")) {
		return errBareLF
	}
	text = bytes.TrimSuffix(text, []byte("\r"))
	parts := bytes.Split(text, []byte(" "))
	switch {
	case bytes.ContainsAny(text, "\r\x00"):
		return errBareCR
	case whole && len(parts) != 3, len(parts) > 3, len(parts) == 3 && len(parts[1]) == 0:
		return errThree
	case !token(parts[0]):
		return errMethod
	case len(parts) == 3 && !like(parts[2], "HTTP/1.1"), whole && len(parts[2]) != len("HTTP/1.1"):
		return errVersion
	}
	return errBadURI
}

// checkTarget wants a path, "*" for OPTIONS, or a URI, which it turns into a
// path: the host in it overrides the Host field (RFC 9112, section 3.2).
func (r *Request) checkTarget() *Error {
	t := r.Target
	switch {
	case t[0] == '/', len(t) == 1 && t[0] == '*' && string(r.Method) == "OPTIONS":
		return nil
	case len(t) > 7 && fold(t[:7], "http://"):
		t = t[7:]
	case len(t) > 8 && fold(t[:8], "https://"):
		t = t[8:]
	case fold(t, "http://"), fold(t, "https://"):
		return errURIHost
	default:
		return errNoURI
	}
	end := bytes.IndexAny(t, "/?")
	if end < 0 {
		end = len(t)
	}
	r.Host, r.Target = t[:end], t[end:]
	if len(r.Host) == 0 || !validHost(r.Host) {
		return errURIHost
	}
	switch {
	case len(r.Target) == 0 && string(r.Method) == "OPTIONS":
		r.Target = []byte("*")
	case len(r.Target) == 0 || r.Target[0] != '/':
		r.Target = append([]byte("/"), r.Target...)
	}
	return nil
}

// checkHost wants exactly one Host in HTTP/1.1 (RFC 9112, section 3.2).
func (r *Request) checkHost() *Error {
	switch n := r.count(host); {
	case n > 1:
		return errTwoHosts
	case n == 0 && r.Minor == 1:
		return errNoHost
	}
	value := r.value(host)
	if !validHost(value) {
		return errHost
	}
	if r.Host == nil {
		r.Host = value
	}
	return nil
}

// checkFraming finds out where a request's body ends (RFC 9112, section 6).
// Two answers to that question are how requests are smuggled: refused.
func (r *Request) checkFraming() *Error {
	codings, lengths := r.count(transferEncoding), r.count(contentLength)
	switch {
	case codings > 0 && lengths > 0:
		return errBoth
	case codings > 0 && r.Minor == 0:
		return errCoding10
	case codings > 0:
		r.Framing = Chunked
		if codings > 1 || !fold(r.value(transferEncoding), "chunked") {
			return r.refuseCoding()
		}
	case lengths > 1:
		return errLengths
	case lengths == 1:
		n, ok := parseLength(r.value(contentLength))
		if !ok {
			return errLength
		}
		r.Framing, r.Length = Length, n
	}
	return nil
}

// refuseCoding answers a Transfer-Encoding other than "chunked": 501 for one
// that ends in it, and has other codings before, which this proxy does not know;
// 400 for all else, whose end cannot be found (RFC 9112, section 6.1 and 6.3).
func (r *Request) refuseCoding() *Error {
	n := 0
	for t, rest := element(r.Get("Transfer-Encoding")); t != nil; t, rest = element(rest) {
		n++
		coding, _, _ := bytes.Cut(t, []byte(";")) // parameters may follow
		if !token(trim(coding)) || fold(trim(coding), "chunked") != (len(rest) == 0) {
			return errCoding
		}
		if len(rest) == 0 && n > 1 && fold(t, "chunked") {
			return errCodings
		}
	}
	return errCoding
}

// checkUpgrade notes the protocol that the client wants to change to, if it can
// be passed on: one only, and none of HTTP's own, which would carry requests
// past this proxy's eyes in a protocol that it does not speak. Another Upgrade
// is ignored, as a server may (RFC 9110, section 7.8).
func (r *Request) checkUpgrade() {
	if !r.upgrade || r.Minor == 0 {
		return
	}
	n, protocol := r.elements(upgrade)
	product, version, versioned := bytes.Cut(protocol, []byte("/"))
	switch {
	case n != 1 || !token(product) || versioned && !token(version):
	case fold(product, "h2c"), fold(product, "h2"), fold(product, "h3"), fold(product, "http"):
	case len(product) >= 3 && fold(product[:3], "h2c"),
		len(product) >= 4 && fold(product[:4], "http"):
	default:
		r.Upgrade = protocol
	}
}

// counted reports whether every proxy counts the request's Max-Forwards down:
// that of OPTIONS and TRACE (RFC 9110, section 7.6.2).
func (r *Request) counted() bool {
	return string(r.Method) == "OPTIONS" || string(r.Method) == "TRACE"
}

// MaxForwards returns how many proxies an OPTIONS or TRACE request may still
// pass; ok is false if it does not say so.
func (r *Request) MaxForwards() (hops int64, ok bool) {
	if !r.counted() || r.count(maxForwards) != 1 {
		return 0, false
	}
	value := r.value(maxForwards)
	if hops, ok = parseLength(value); !ok && len(value) > 0 && allDigits(value) {
		return math.MaxInt64, true // more than can be counted is as many as can be
	}
	return hops, ok
}

// Hops returns how many proxies the request has passed: the elements of Via.
func (r *Request) Hops() int {
	n, _ := r.elements(via)
	return n
}

// validHost reports whether s can be a Host: uri-host [ ":" port ] (RFC 9110,
// section 7.2), or empty.
func validHost(s []byte) bool {
	host, port, literal := s, []byte(nil), false
	if i := bytes.LastIndexByte(s, ':'); i > bytes.LastIndexByte(s, ']') {
		host, port = s[:i], s[i+1:]
	}
	if len(host) > 0 && host[0] == '[' {
		if host[len(host)-1] != ']' {
			return false
		}
		host = host[1 : len(host)-1]
		literal = bytes.IndexByte(host, ':') >= 0
	}
	for _, c := range host {
		if !isHost[c] && !(literal && c == ':') {
			return false
		}
	}
	return allDigits(port) && (len(host) > 0 || len(s) == 0)
}

// isHost says which bytes a host's name may have.
var isHost = bytesOf(func(c byte) bool {
	return isDigit(c) || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' ||
		bytes.IndexByte([]byte("-._~!$&'()*+,;=%"), c) >= 0
})
