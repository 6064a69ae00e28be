// Package forward carries one HTTP/1.1 message from one connection to another
// as a reverse proxy must: it reads strictly, forwards what the other side
// needs to know, and never holds a whole body in memory.
//
// An Exchange is one request and its response; its methods are the steps 5–10
// of every chapter. The rules are those of RFC 9110 and RFC 9112.
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

// Sizes of what a header may take.
const (
	maxRequestLine = 8 << 10  // bytes; a longer one is answered with 414
	maxHead        = 64 << 10 // bytes; a longer header is answered with 431 (or 502)
	maxFields      = 200      // fields; a header with more is answered likewise
)

// A Field is one line of a header, as it came: name and value keep their
// spelling and the lines keep their order.
type Field struct{ Name, Value string }

// Framing says where a message's body ends (RFC 9112, section 6.3).
type Framing int

// The four ways.
const (
	NoBody     Framing = iota // there is none
	Length                    // after Content-Length bytes
	Chunked                   // after the chunk of size 0, and the trailers
	UntilClose                // where the connection ends (responses only)
)

// Message is what a request and a response have in common.
type Message struct {
	Minor   int // HTTP/1.Minor: 0 or 1
	Fields  []Field
	Framing Framing
	Length  int64 // bytes of the body if Framing is Length

	size int // bytes of the header as it came
}

// Request is a request's header.
type Request struct {
	Message
	Method  string
	Target  string // in origin-form ("/path?query") or "*"
	Host    string // "" only in a request of HTTP/1.0
	Upgrade string // the protocol the client wants to change to, or ""
}

// Response is a response's header.
type Response struct {
	Message
	Status int
	Reason string
}

// Get returns the values of all fields called name, joined with ", ", as RFC
// 9110, section 5.3 allows.
func (m *Message) Get(name string) string {
	value, n := "", 0
	for _, f := range m.Fields {
		if strings.EqualFold(f.Name, name) {
			if n++; n > 1 {
				value += ", "
			}
			value += f.Value
		}
	}
	return value
}

// count returns how many fields are called name.
func (m *Message) count(name string) (n int) {
	for _, f := range m.Fields {
		if strings.EqualFold(f.Name, name) {
			n++
		}
	}
	return n
}

// tokens returns the elements of a comma-separated list field, in lower case.
func (m *Message) tokens(name string) []string {
	var list []string
	for _, f := range m.Fields {
		if strings.EqualFold(f.Name, name) {
			for _, t := range strings.Split(f.Value, ",") {
				if t = strings.Trim(t, " \t"); t != "" {
					list = append(list, lower(t))
				}
			}
		}
	}
	return list
}

// named returns the names, in lower case, of the fields that Connection declares
// to be for this connection only.
func (m *Message) named() map[string]bool {
	named := map[string]bool{}
	for _, t := range m.tokens("Connection") {
		named[t] = true
	}
	return named
}

// Errors of readHead.
var (
	errLineTooLong = errors.New("the first line is too long")
	errHeadTooLong = errors.New("the header is too long")
)

// readHead reads up to and including the empty line that ends a header and
// returns it all. Empty lines before the first are skipped (RFC 9112, section
// 2.2). At end of file it returns what there was, with io.EOF if that was
// nothing and io.ErrUnexpectedEOF otherwise.
func readHead(r *bufio.Reader, maxLine int) ([]byte, error) {
	var head []byte
	first, start, skipped := true, 0, 0 // start: where the current line begins
	for {
		part, err := r.ReadSlice('\n')
		head = append(head, part...)
		switch {
		case first && len(head)-start > maxLine:
			return head, errLineTooLong
		case len(head)+skipped > maxHead:
			return head, errHeadTooLong
		case err == bufio.ErrBufferFull:
			continue // the rest of the line comes next
		case err == io.EOF && len(head) > 0:
			return head, io.ErrUnexpectedEOF
		case err != nil:
			return head, err
		}
		empty := len(bytes.TrimRight(head[start:], "\r\n")) == 0
		switch {
		case !empty:
			first, start = false, len(head)
		case first:
			skipped += len(head)
			head = head[:0]
		default:
			return head, nil
		}
	}
}

// ReadRequest reads a request's header and checks it. What could be
// understood in two ways is refused: the error is an *Error that holds the
// status to answer with. A connection that ends before the first byte gives
// io.EOF.
func ReadRequest(r *bufio.Reader) (*Request, error) {
	head, err := readHead(r, maxRequestLine)
	switch {
	case err == errLineTooLong:
		return nil, refuse(http.StatusRequestURITooLong, "the request line is longer than 8 KiB")
	case err == errHeadTooLong:
		return nil, refuse(http.StatusRequestHeaderFieldsTooLarge, "the header is larger than 64 KiB")
	case err != nil:
		return nil, err
	}
	return parseRequest(string(head))
}

func parseRequest(head string) (*Request, error) {
	line, rest, err := cutLine(head)
	if err != nil {
		return nil, err
	}
	req := &Request{}
	req.size = len(head)
	if err := req.parseLine(line); err != nil {
		return nil, err
	}
	if err := req.parseFields(rest); err != nil {
		return nil, err
	}
	if err := req.checkHost(); err != nil {
		return nil, err
	}
	if err := req.checkFraming(); err != nil {
		return nil, err
	}
	// Only WebSocket and its like: h2c would carry requests past this proxy's
	// eyes in a protocol that it does not speak.
	if up := req.tokens("Upgrade"); len(up) == 1 && req.Minor == 1 &&
		!strings.HasPrefix(up[0], "h2c") && !strings.HasPrefix(up[0], "http") &&
		contains(req.tokens("Connection"), "upgrade") {
		req.Upgrade = strings.Trim(req.Get("Upgrade"), " \t,")
	}
	return req, nil
}

// cutLine takes the first line off s. A line ends in CRLF; a bare CR or LF is
// refused, because the next server might see a line's end elsewhere.
func cutLine(s string) (line, rest string, err error) {
	line, rest, _ = strings.Cut(s, "\n")
	if !strings.HasSuffix(line, "\r") {
		return "", "", refuse(http.StatusBadRequest,
			"a line ends in a bare LF; HTTP wants CRLF (try nc -C)")
	}
	line = line[:len(line)-1]
	if strings.ContainsAny(line, "\r\x00") {
		return "", "", refuse(http.StatusBadRequest, "a bare CR or a NUL in the header")
	}
	return line, rest, nil
}

// parseLine parses "METHOD SP target SP HTTP/1.x" (RFC 9112, section 3).
func (req *Request) parseLine(line string) error {
	parts := strings.Split(line, " ")
	if len(parts) != 3 {
		return refuse(http.StatusBadRequest, "the request line is not: method, target, version")
	}
	method, target, version := parts[0], parts[1], parts[2]
	minor, ok := parseVersion(version)
	switch {
	case !isToken(method):
		return refuse(http.StatusBadRequest, "the method is not a token")
	case !ok:
		return refuse(http.StatusBadRequest, "the version is not HTTP/1.0 or HTTP/1.1")
	case minor < 0:
		return refuse(http.StatusHTTPVersionNotSupported, "only HTTP/1.0 and HTTP/1.1 are spoken here")
	case method == http.MethodConnect:
		return refuse(http.StatusNotImplemented, "CONNECT is for forward proxies")
	}
	for i := 0; i < len(target); i++ {
		if target[i] <= ' ' || target[i] == 0x7f || target[i] == '#' {
			return refuse(http.StatusBadRequest, "the target holds a byte that no URI may hold")
		}
	}
	req.Method, req.Target, req.Minor = method, target, minor
	switch lower := strings.ToLower(target); {
	case strings.HasPrefix(target, "/"):
		return nil
	case target == "*" && method == http.MethodOptions:
		return nil
	case strings.HasPrefix(lower, "http://"), strings.HasPrefix(lower, "https://"):
		return req.fromAbsoluteForm()
	}
	return refuse(http.StatusBadRequest, "the target is neither a path nor a URI")
}

// fromAbsoluteForm turns "http://host/path" into the target "/path"; the host
// in it overrides the Host field (RFC 9112, section 3.2.2).
func (req *Request) fromAbsoluteForm() error {
	_, rest, _ := strings.Cut(req.Target, "://")
	end := strings.IndexAny(rest, "/?")
	if end < 0 {
		end = len(rest)
	}
	req.Host, req.Target = rest[:end], rest[end:]
	if !validHost(req.Host) || req.Host == "" {
		return refuse(http.StatusBadRequest, "the target's host is malformed")
	}
	switch {
	case req.Target == "" && req.Method == http.MethodOptions:
		req.Target = "*"
	case !strings.HasPrefix(req.Target, "/"):
		req.Target = "/" + req.Target
	}
	return nil
}

// parseVersion returns x of "HTTP/1.x", at most 1, and -1 for another major
// version. ok says whether it is a version at all.
func parseVersion(s string) (minor int, ok bool) {
	if len(s) != len("HTTP/1.1") || s[:5] != "HTTP/" || s[6] != '.' || !isDigit(s[5]) || !isDigit(s[7]) {
		return 0, false
	}
	if s[5] != '1' {
		return -1, true
	}
	return min(int(s[7]-'0'), 1), true
}

// parseFields parses the header's lines after the first, up to the empty one
// (RFC 9112, section 5).
func (m *Message) parseFields(lines string) error {
	m.Fields = make([]Field, 0, min(strings.Count(lines, "\n"), maxFields))
	for lines != "\r\n" {
		line, rest, err := cutLine(lines)
		if err != nil {
			return err
		}
		f, err := parseField(line)
		if err != nil {
			return err
		}
		if len(m.Fields) == maxFields {
			return refuse(http.StatusRequestHeaderFieldsTooLarge, "the header has more than 200 fields")
		}
		m.Fields = append(m.Fields, f)
		lines = rest
	}
	return nil
}

// parseField parses "name: value". Space before the colon and a line that
// continues the one before (obs-fold) are refused (RFC 9112, section 5).
func parseField(line string) (Field, error) {
	name, value, found := strings.Cut(line, ":")
	if !found || !isToken(name) {
		return Field{}, refuse(http.StatusBadRequest, "a field's name is malformed")
	}
	value = strings.Trim(value, " \t")
	for i := 0; i < len(value); i++ {
		if c := value[i]; c < ' ' && c != '\t' || c == 0x7f {
			return Field{}, refuse(http.StatusBadRequest, "a control byte in a field's value")
		}
	}
	return Field{name, value}, nil
}

// checkHost wants exactly one Host in HTTP/1.1 (RFC 9112, section 3.2).
func (req *Request) checkHost() error {
	switch n := req.count("Host"); {
	case n > 1:
		return refuse(http.StatusBadRequest, "more than one Host")
	case n == 0 && req.Minor == 1:
		return refuse(http.StatusBadRequest, "no Host")
	}
	host := req.Get("Host")
	if !validHost(host) {
		return refuse(http.StatusBadRequest, "the Host is malformed")
	}
	if req.Host == "" {
		req.Host = host
	}
	return nil
}

// checkFraming finds out where a request's body ends (RFC 9112, section 6).
// Two answers to that question are how requests are smuggled: refused.
func (req *Request) checkFraming() error {
	encodings, lengths := req.count("Transfer-Encoding"), req.count("Content-Length")
	switch {
	case encodings > 0 && lengths > 0:
		return refuse(http.StatusBadRequest, "both Content-Length and Transfer-Encoding")
	case encodings > 0 && req.Minor == 0:
		return refuse(http.StatusBadRequest, "Transfer-Encoding in HTTP/1.0")
	case encodings > 0:
		if lower(req.Get("Transfer-Encoding")) != "chunked" {
			return refuseCoding(req.tokens("Transfer-Encoding"))
		}
		req.Framing = Chunked
	case lengths > 1:
		return refuse(http.StatusBadRequest, "more than one Content-Length")
	case lengths == 1:
		n, ok := parseLength(req.Get("Content-Length"))
		if !ok {
			return refuse(http.StatusBadRequest, "the Content-Length is not a number")
		}
		req.Framing, req.Length = Length, n
	}
	return nil
}

// refuseCoding answers a Transfer-Encoding other than "chunked": 501 for a
// well-formed list that this proxy does not know (RFC 9112, section 6.1), 400
// for one that does not end in a single "chunked".
func refuseCoding(codings []string) error {
	known := map[string]bool{"gzip": true, "x-gzip": true, "deflate": true, "compress": true, "x-compress": true}
	last := len(codings) - 1
	if last < 1 || codings[last] != "chunked" {
		return refuse(http.StatusBadRequest, "the Transfer-Encoding is not chunked")
	}
	for _, c := range codings[:last] {
		if !known[c] {
			return refuse(http.StatusBadRequest, "the Transfer-Encoding is malformed")
		}
	}
	return refuse(http.StatusNotImplemented, "no Transfer-Encoding but chunked is known here")
}

// ReadResponse reads a response's header to a request with the given method.
// It forgives a bare LF, which old servers send; what is ambiguous is an
// error, which the client gets to see as 502.
func ReadResponse(r *bufio.Reader, method string) (*Response, error) {
	head, err := readHead(r, maxHead)
	if err != nil {
		return nil, err
	}
	resp, err := parseResponse(string(head), method)
	if err != nil {
		return nil, &Error{Status: http.StatusBadGateway, Reason: "the backend's response is malformed", Err: err}
	}
	return resp, nil
}

func parseResponse(head, method string) (*Response, error) {
	line, rest, err := cutLine(toCRLF(head))
	if err != nil {
		return nil, err
	}
	resp := &Response{}
	resp.size = len(head)
	version, status, _ := strings.Cut(line, " ")
	code, reason, _ := strings.Cut(status, " ")
	minor, ok := parseVersion(version)
	if !ok || minor < 0 || len(code) != 3 || !allDigits(code) || code[0] == '0' {
		return nil, errors.New("malformed status line")
	}
	for i := 0; i < len(reason); i++ {
		if c := reason[i]; c < ' ' && c != '\t' || c == 0x7f {
			return nil, errors.New("a control byte in the reason phrase")
		}
	}
	resp.Minor, resp.Reason = minor, reason
	resp.Status, _ = strconv.Atoi(code)
	if err := resp.parseFields(rest); err != nil {
		return nil, err
	}
	return resp, resp.checkFraming(method)
}

// toCRLF gives every line that ends in a bare LF its CR, and replaces a folded
// line's break by spaces (RFC 9112, section 5.2). Nothing is folded into the
// first line: what stands there is no field, and is refused as one.
func toCRLF(head string) string {
	if strings.Count(head, "\n") != strings.Count(head, "\r\n") {
		head = strings.ReplaceAll(strings.ReplaceAll(head, "\r\n", "\n"), "\n", "\r\n")
	}
	if strings.Contains(head, "\n ") || strings.Contains(head, "\n\t") {
		start, fields, _ := strings.Cut(head, "\r\n")
		if !strings.HasPrefix(fields, " ") && !strings.HasPrefix(fields, "\t") {
			fields = strings.ReplaceAll(strings.ReplaceAll(fields, "\r\n ", "   "), "\r\n\t", "   ")
		}
		head = start + "\r\n" + fields
	}
	return head
}

// checkFraming finds out where a response's body ends (RFC 9112, section 6.3).
func (resp *Response) checkFraming(method string) error {
	encodings, lengths := resp.count("Transfer-Encoding"), resp.count("Content-Length")
	var length int64
	for i, value := range resp.tokens("Content-Length") {
		n, ok := parseLength(value)
		if !ok || i > 0 && n != length {
			return errors.New("malformed or differing Content-Length")
		}
		length = n
	}
	if lengths > 0 && len(resp.tokens("Content-Length")) == 0 {
		return errors.New("empty Content-Length")
	}
	chunked := lower(resp.Get("Transfer-Encoding")) == "chunked"
	switch {
	case encodings > 0 && lengths > 0:
		return errors.New("both Content-Length and Transfer-Encoding")
	case encodings > 0 && (!chunked || resp.Minor == 0):
		return errors.New("a Transfer-Encoding that is not chunked, or in HTTP/1.0")
	}
	resp.Length = length
	switch {
	case method == http.MethodHead, resp.Status < 200, resp.Status == http.StatusNoContent,
		resp.Status == http.StatusNotModified:
		resp.Framing = NoBody
	case chunked:
		resp.Framing = Chunked
	case lengths > 0:
		resp.Framing = Length
	default:
		resp.Framing = UntilClose
	}
	return nil
}

// parseLength parses a Content-Length: digits only, below 2^63.
func parseLength(s string) (int64, bool) {
	if s == "" || !allDigits(s) {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}

// isToken reports whether s is a token (RFC 9110, section 5.6.2).
func isToken(s string) bool {
	for i := 0; i < len(s); i++ {
		if !isAlnum(s[i]) && strings.IndexByte("!#$%&'*+-.^_`|~", s[i]) < 0 {
			return false
		}
	}
	return s != ""
}

// validHost reports whether s can be a Host: uri-host [ ":" port ] (RFC 9110,
// section 7.2), or empty.
func validHost(s string) bool {
	host, port, literal := s, "", false
	if i := strings.LastIndexByte(s, ':'); i > strings.LastIndexByte(s, ']') {
		host, port = s[:i], s[i+1:]
	}
	if strings.HasPrefix(host, "[") {
		if !strings.HasSuffix(host, "]") {
			return false
		}
		literal = strings.Contains(host, ":")
		host = strings.ReplaceAll(host[1:len(host)-1], ":", "")
	}
	for i := 0; i < len(host); i++ {
		if !isAlnum(host[i]) && strings.IndexByte("-._~!$&'()*+,;=%", host[i]) < 0 {
			return false
		}
	}
	return allDigits(port) && (host != "" || literal || s == "")
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isAlnum(c byte) bool {
	return isDigit(c) || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// allDigits reports whether s holds nothing but digits; it may be empty.
func allDigits(s string) bool {
	for i := 0; i < len(s); i++ {
		if !isDigit(s[i]) {
			return false
		}
	}
	return true
}

// lower returns s with A–Z in lower case. Unlike strings.ToLower it leaves all
// other bytes alone: U+212A, the Kelvin sign, is no k to the next server.
func lower(s string) string {
	for i := 0; i < len(s); i++ {
		if 'A' <= s[i] && s[i] <= 'Z' {
			b := []byte(s)
			for ; i < len(b); i++ {
				if 'A' <= b[i] && b[i] <= 'Z' {
					b[i] += 'a' - 'A'
				}
			}
			return string(b)
		}
	}
	return s
}

func contains(list []string, s string) bool {
	for _, t := range list {
		if t == s {
			return true
		}
	}
	return false
}
