// Package http1 reads and writes the messages of HTTP/1.1: headers, chunks and
// trailers (RFC 9112), with the fields that a proxy must take out or put in
// (RFC 9110). It is pure: bytes go in, messages come out, and bytes again. It
// knows no connection, no clock and no side, so that a goroutine that waits and
// an event loop that must not can both drive it.
//
// What arrives, arrives in pieces. HeadEnd says whether a header is whole,
// RefuseRequest and RefuseResponse what can be refused before it is; Parse reads
// a whole one, and a Chunks takes a body however it is cut.
//
// Fields are slices of the header that was parsed, not copies: they are good
// for as long as nobody writes over those bytes.
package http1

import (
	"bytes"
	"encoding/binary"
	"strconv"
)

// Sizes of what a header may take.
const (
	MaxLine   = 8 << 10  // bytes of a first line; a longer one is answered with 414 (or 502)
	MaxHead   = 64 << 10 // bytes of a header; a larger one is answered with 431 (or 502)
	MaxFields = 200      // fields of a header or a trailer section; more are answered likewise
)

// Error says why a message is refused, and what a client is told. Whose message
// it was, the caller knows.
type Error struct {
	Status int    // what to answer a request with; a response is answered with 502
	Reason string // a few words without anything that came from the network
}

// Error returns the reason.
func (e *Error) Error() string { return e.Reason }

// ErrHeadSize is the error of a header, or of empty lines before it, of more than
// MaxHead bytes.
var ErrHeadSize = &Error{431, "the header is larger than 64 KiB"}

func bad(reason string) *Error { return &Error{400, reason} }

// What is refused in lines of every kind.
var (
	errBareLF  = bad("a line ends in a bare LF; HTTP wants CRLF (try nc -C)")
	errBareCR  = bad("a bare CR or a NUL in the header")
	errName    = bad("a field's name is malformed")
	errControl = bad("a control byte in a field's value")
	errFields  = &Error{431, "the header has more than 200 fields"}
)

// A Field is one line of a header, as it came: name and value keep their
// spelling and the lines keep their order.
type Field struct {
	Name, Value []byte
	name        name
	own         bool // Add's
}

// Framing says where a message's body ends (RFC 9112, section 6.3).
type Framing uint8

// The four ways.
const (
	NoBody     Framing = iota // there is none
	Length                    // after Content-Length bytes
	Chunked                   // after the chunk of size 0, and the trailers
	UntilClose                // where the connection ends (responses only)
)

// Message is what a request and a response have in common.
type Message struct {
	Minor     int // HTTP/1.Minor: 0 or 1
	Fields    []Field
	Framing   Framing
	Length    int64 // bytes of the body if Framing is Length; of the one that HEAD asks about
	Size      int   // bytes of the header as it came
	Close     bool  // Connection says "close"
	KeepAlive bool  // Connection says "keep-alive"

	counts  [names]uint8 // how many fields there are of each name; at most MaxFields
	upgrade bool         // Connection says "upgrade"
	options bool         // Connection names further fields
}

// Add adds a field that this proxy says of itself, so that it is written whatever the
// message's Connection names.
func (m *Message) Add(name, value string) {
	m.Fields = append(m.Fields, Field{Name: []byte(name), Value: []byte(value), own: true})
}

// Blank returns how many bytes of b are empty lines before a header, which are
// to be skipped (RFC 9112, section 2.2).
func Blank(b []byte) (n int) {
	for bytes.HasPrefix(b[n:], []byte("\r\n")) {
		n += 2
	}
	return n
}

// HeadEnd returns where the header at the beginning of b ends, just behind its
// empty line, or 0 if that has not come yet. from is how many bytes of b an
// earlier call has looked at: they are not looked at again.
func HeadEnd(b []byte, from int) int {
	for i := max(from-2, 0); ; {
		n := bytes.IndexByte(b[i:], '\n')
		if n < 0 {
			return 0
		}
		i += n + 1
		switch {
		case i < len(b) && b[i] == '\n':
			return i + 1
		case i+1 < len(b) && b[i] == '\r' && b[i+1] == '\n':
			return i + 2
		}
	}
}

// refuse looks at the beginning of a header: checks its first line with first,
// with next each line behind it that is whole, and the beginning of one for bytes
// that none has. What was right up to from is not looked at again.
func refuse(head []byte, from int, first func() *Error, next func(line []byte) *Error) *Error {
	line := bytes.IndexByte(head, '\n') + 1
	if line == 0 || line > from {
		if err := first(); err != nil {
			return err
		}
	}
	if line == 0 {
		return nil // first knows the most bytes
	}
	from = max(from-1, line) // a CR may have been the last byte, and this no LF
	rest := head[from:]
	if bytes.IndexByte(rest, '\n') >= 0 {
		rest = head[bytes.LastIndexByte(head[:from], '\n')+1:]
		for n := bytes.IndexByte(rest, '\n') + 1; n > 0; n = bytes.IndexByte(rest, '\n') + 1 {
			if err := next(rest[:n]); err != nil {
				return err
			}
			rest = rest[n:]
		}
	}
	if rest = bytes.TrimSuffix(rest, []byte("\r")); !printable(rest) {
		return lineError(rest, errControl)
	}
	if len(head) >= MaxHead {
		return ErrHeadSize
	}
	return nil
}

// parseFields parses the lines behind the first, up to the empty one (RFC 9112,
// section 5).
func (m *Message) parseFields(b []byte) *Error {
	if cap(m.Fields) == 0 {
		m.Fields = make([]Field, 0, min(bytes.Count(b, []byte("\n")), MaxFields))
	}
	for {
		line, rest, err := cutLine(b)
		if err != nil {
			return err
		}
		if len(line) == 0 {
			return nil
		}
		if len(m.Fields) == MaxFields {
			return errFields
		}
		m.Fields = append(m.Fields, Field{})
		f := &m.Fields[len(m.Fields)-1]
		if err := f.parse(line); err != nil {
			return err
		}
		f.name = known(f.Name)
		m.counts[f.name]++
		if f.name == connection {
			m.parseConnection(f.Value)
		}
		b = rest
	}
}

// cutLine takes the first line off b. A line ends in CRLF; a bare LF is refused,
// because the next server might see a line's end elsewhere.
func cutLine(b []byte) (line, rest []byte, err *Error) {
	i := bytes.IndexByte(b, '\n')
	if i < 1 || b[i-1] != '\r' {
		return nil, nil, errBareLF
	}
	return b[:i-1], b[i+1:], nil
}

// parse parses "name: value". Space before the colon and a line that
// continues the one before (obs-fold) are refused (RFC 9112, section 5).
func (f *Field) parse(line []byte) *Error {
	colon := 0
	for colon < len(line) && isToken[line[colon]] {
		colon++
	}
	if colon == 0 || colon == len(line) || line[colon] != ':' {
		return lineError(line, errName)
	}
	value := trim(line[colon+1:])
	if !printable(value) {
		return lineError(line, errControl)
	}
	f.Name, f.Value = line[:colon], value
	return nil
}

// printable reports whether s has no control byte but tabs. It looks at eight
// bytes at a time, and at each of them only where one may be a control byte.
func printable(s []byte) bool {
	const ones, high = 0x0101010101010101, 0x8080808080808080
	for len(s) >= 8 {
		x := binary.LittleEndian.Uint64(s)
		below, del := x-' '*ones, x^0x7f*ones
		if (below&^x|(del-ones)&^del)&high != 0 && !printable(s[:7]) || isControl[s[7]] {
			return false
		}
		s = s[8:]
	}
	for _, c := range s {
		if isControl[c] {
			return false
		}
	}
	return true
}

// lineError returns err, or what is worse about the line.
func lineError(line []byte, err *Error) *Error {
	if bytes.ContainsAny(line, "\r\x00") {
		return errBareCR
	}
	return err
}

// parseConnection notes what Connection says (RFC 9110, section 7.6.1).
func (m *Message) parseConnection(value []byte) {
	for t, rest := element(value); t != nil; t, rest = element(rest) {
		switch {
		case fold(t, "close"):
			m.Close = true
		case fold(t, "keep-alive"):
			m.KeepAlive = true
		case fold(t, "upgrade"):
			m.upgrade = true
		case hopByHop[known(t)]: // goes anyway
		default:
			m.options = true
		}
	}
}

// named returns the names, in lower case, of the fields that Connection declares
// to be for this connection only; nil if it names none that would not go anyway.
func (m *Message) named() map[string]bool {
	if !m.options {
		return nil
	}
	named := map[string]bool{}
	for _, f := range m.Fields {
		if f.name == connection {
			for t, rest := element(f.Value); t != nil; t, rest = element(rest) {
				named[lower(t)] = true
			}
		}
	}
	return named
}

// count returns how many fields there are of this name.
func (m *Message) count(n name) int { return int(m.counts[n]) }

// value returns the first field's value of this name; nil if there is none.
func (m *Message) value(n name) []byte {
	if m.counts[n] > 0 {
		for i := range m.Fields {
			if m.Fields[i].name == n {
				return m.Fields[i].Value
			}
		}
	}
	return nil
}

// Get returns the values of all fields called name, joined with ", ", as RFC
// 9110, section 5.3 allows; nil if there is none.
func (m *Message) Get(name string) (value []byte) {
	n := 0
	for _, f := range m.Fields {
		if !fold(f.Name, name) {
			continue
		}
		switch n++; n {
		case 1:
			value = f.Value
		case 2:
			value = append(bytes.Clone(value), ", "...)
			value = append(value, f.Value...)
		default:
			value = append(append(value, ", "...), f.Value...)
		}
	}
	return value
}

// has reports whether a list field has this element, whatever its case.
func (m *Message) has(n name, want string) bool {
	if m.counts[n] == 0 {
		return false
	}
	for _, f := range m.Fields {
		if f.name == n {
			for t, rest := element(f.Value); t != nil; t, rest = element(rest) {
				if fold(t, want) {
					return true
				}
			}
		}
	}
	return false
}

// elements returns how many elements a list field has, and the last of them.
func (m *Message) elements(n name) (count int, last []byte) {
	if m.counts[n] > 0 {
		for _, f := range m.Fields {
			if f.name == n {
				for t, rest := element(f.Value); t != nil; t, rest = element(rest) {
					count, last = count+1, t
				}
			}
		}
	}
	return count, last
}

// element returns the first element of a comma-separated list that is not
// empty, and the list behind it; nil at the end (RFC 9110, section 5.6.1).
func element(list []byte) (first, rest []byte) {
	for len(list) > 0 {
		i := bytes.IndexByte(list, ',')
		if i < 0 {
			i = len(list)
		}
		first, list = trim(list[:i]), list[min(i+1, len(list)):]
		if len(first) > 0 {
			return first, list
		}
	}
	return nil, nil
}

// parseVersion returns x of "HTTP/1.x", at most 1, and -1 for another major
// version. ok says whether it is a version at all.
func parseVersion(s []byte) (minor int, ok bool) {
	if len(s) != len("HTTP/1.1") || !like(s, "HTTP/1.1") {
		return 0, false
	}
	if s[5] != '1' {
		return -1, true
	}
	return min(int(s[7]-'0'), 1), true
}

// parseLength parses a Content-Length: digits only, below 2^63.
func parseLength(s []byte) (int64, bool) {
	if len(s) == 0 || !allDigits(s) {
		return 0, false
	}
	n, err := strconv.ParseInt(string(s), 10, 64)
	return n, err == nil
}

// isToken says which bytes a token may have (RFC 9110, section 5.6.2); isControl
// which ones a field's value may not have.
var (
	isToken = bytesOf(func(c byte) bool {
		return isDigit(c) || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' ||
			bytes.IndexByte([]byte("!#$%&'*+-.^_`|~"), c) >= 0
	})
	isControl = bytesOf(func(c byte) bool { return c < ' ' && c != '\t' || c == 0x7f })
)

func bytesOf(is func(byte) bool) (table [256]bool) {
	for c := range table {
		table[c] = is(byte(c))
	}
	return table
}

func token(s []byte) bool {
	for _, c := range s {
		if !isToken[c] {
			return false
		}
	}
	return len(s) > 0
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// allDigits reports whether s holds nothing but digits; it may be empty.
func allDigits(s []byte) bool {
	for _, c := range s {
		if !isDigit(c) {
			return false
		}
	}
	return true
}

// trim takes spaces and tabs off both ends.
func trim(s []byte) []byte {
	for len(s) > 0 && (s[0] == ' ' || s[0] == '\t') {
		s = s[1:]
	}
	for len(s) > 0 && (s[len(s)-1] == ' ' || s[len(s)-1] == '\t') {
		s = s[:len(s)-1]
	}
	return s
}

// fold reports whether s is want but for the case of A–Z. Unlike
// bytes.EqualFold it leaves all other bytes alone: U+212A, the Kelvin sign, is
// no k to the next server.
func fold(s []byte, want string) bool {
	if len(s) != len(want) {
		return false
	}
	for i, c := range s {
		if c != want[i] && lowerByte(c) != lowerByte(want[i]) {
			return false
		}
	}
	return true
}

func lowerByte(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

// lower returns s with A–Z, and nothing else, in lower case.
func lower(s []byte) string {
	b := bytes.Clone(s)
	for i, c := range b {
		b[i] = lowerByte(c)
	}
	return string(b)
}
