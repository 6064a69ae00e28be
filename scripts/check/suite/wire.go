package suite

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// Field is one field line of a message as it came, without its line end.
type Field struct {
	Name  string // as sent, case kept
	Value string // optional white space around it removed
}

// Head is a start line with its field lines, parsed without mercy: what does
// not follow the grammar of RFC 9112 is kept and named in Faults.
type Head struct {
	Raw    []byte // every byte, up to and with the empty line
	Start  string // request line or status line, without its line end
	Fields []Field
	Faults []string // violations of the grammar, in words
}

// ParseHead splits raw at its line ends and notes what the grammar forbids.
func ParseHead(raw []byte) Head {
	h := Head{Raw: raw}
	lines := strings.Split(string(raw), "\n")
	for i, line := range lines {
		last := i == len(lines)-1
		if last {
			break // what follows the final LF is nothing
		}
		if !strings.HasSuffix(line, "\r") {
			h.fault("line %d ends in a bare LF", i+1)
		}
		line = strings.TrimSuffix(line, "\r")
		h.checkBytes(line, i)
		if i == 0 {
			h.Start = line
			continue
		}
		if line != "" {
			h.addLine(line)
		}
	}
	return h
}

// checkBytes notes a CR, NUL or other control byte inside a line.
func (h *Head) checkBytes(line string, i int) {
	for j := 0; j < len(line); j++ {
		b := line[j]
		switch {
		case b == '\r':
			h.fault("line %d holds a bare CR", i+1)
			return
		case b == 0:
			h.fault("line %d holds a NUL", i+1)
			return
		case b < ' ' && b != '\t' || b == 0x7f:
			h.fault("line %d holds the control byte 0x%02x", i+1, b)
			return
		}
	}
}

// addLine parses one field line.
func (h *Head) addLine(line string) {
	if line[0] == ' ' || line[0] == '\t' {
		h.fault("line %s begins with white space (obs-fold)", Visible(line, 60))
		if n := len(h.Fields); n > 0 {
			h.Fields[n-1].Value += " " + strings.TrimSpace(line)
		}
		return
	}
	name, value, found := strings.Cut(line, ":")
	if !found {
		h.fault("line %s has no colon", Visible(line, 60))
	}
	if !isToken(name) {
		h.fault("field name %s is not a token", Visible(name, 60))
	}
	h.Fields = append(h.Fields, Field{name, strings.Trim(value, " \t")})
}

func (h *Head) fault(format string, args ...any) {
	h.Faults = append(h.Faults, fmt.Sprintf(format, args...))
}

// Values returns the values of every field of that name, in order.
func (h *Head) Values(name string) []string {
	var out []string
	for _, f := range h.Fields {
		if strings.EqualFold(f.Name, name) {
			out = append(out, f.Value)
		}
	}
	return out
}

// Get returns the first value of a field, or "".
func (h *Head) Get(name string) string {
	if v := h.Values(name); len(v) > 0 {
		return v[0]
	}
	return ""
}

// Has reports whether a field of that name is there.
func (h *Head) Has(name string) bool { return len(h.Values(name)) > 0 }

// List returns the members of a comma-separated field over all its lines.
func (h *Head) List(name string) []string {
	var out []string
	for _, v := range h.Values(name) {
		for _, m := range strings.Split(v, ",") {
			if m = strings.Trim(m, " \t"); m != "" {
				out = append(out, m)
			}
		}
	}
	return out
}

// Names reports whether a comma-separated field has that member.
func (h *Head) Names(name, member string) bool {
	for _, m := range h.List(name) {
		if strings.EqualFold(m, member) {
			return true
		}
	}
	return false
}

// isToken reports whether s is a token (RFC 9110 §5.6.2).
func isToken(s string) bool {
	for i := 0; i < len(s); i++ {
		b := s[i]
		if b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' {
			continue
		}
		if strings.IndexByte("!#$%&'*+-.^_`|~", b) < 0 {
			return false
		}
	}
	return s != ""
}

// HeadEnd returns the length of the head at the start of buf, with its empty
// line, or -1. A bare LF ends a line here, so that heads which break the rules
// are seen whole too.
func HeadEnd(buf []byte) int {
	for i := 0; ; {
		j := bytes.IndexByte(buf[i:], '\n')
		if j < 0 {
			return -1
		}
		line := buf[i : i+j]
		i += j + 1
		if (len(line) == 0 || len(line) == 1 && line[0] == '\r') && i > 2 {
			return i
		}
	}
}

// parseLength reads a Content-Length as the grammar has it: digits only.
func parseLength(s string) (int64, error) {
	if s == "" {
		return 0, fmt.Errorf("empty Content-Length")
	}
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return 0, fmt.Errorf("Content-Length %s is not digits", Visible(s, 40))
		}
	}
	return strconv.ParseInt(s, 10, 64)
}

// Framing says how the body of a message is delimited (RFC 9112 §6.3) by its
// head alone.
type Framing struct {
	Chunked bool
	Length  int64 // -1 when there is no Content-Length
	Faults  []string
}

// Frame reads the framing fields and names every ambiguity.
func (h *Head) Frame() Framing {
	f := Framing{Length: -1}
	cl := h.Values("Content-Length")
	for _, v := range cl {
		n, err := parseLength(v)
		if err != nil {
			f.Faults = append(f.Faults, err.Error())
			continue
		}
		if f.Length >= 0 && n != f.Length {
			f.Faults = append(f.Faults, "two different Content-Length values")
		}
		f.Length = n
	}
	if len(cl) > 1 {
		f.Faults = append(f.Faults, fmt.Sprintf("%d Content-Length lines", len(cl)))
	}
	te := h.Values("Transfer-Encoding")
	if len(te) > 0 {
		f.Chunked = len(te) == 1 && strings.EqualFold(te[0], "chunked")
		if !f.Chunked {
			f.Faults = append(f.Faults, "Transfer-Encoding "+Visible(strings.Join(te, ", "), 60))
		}
		if len(cl) > 0 {
			f.Faults = append(f.Faults, "Transfer-Encoding together with Content-Length")
		}
	}
	for _, fl := range h.Fields {
		if looksLikeTE(fl.Name) && !strings.EqualFold(fl.Name, "Transfer-Encoding") {
			f.Faults = append(f.Faults, "a field "+Visible(fl.Name, 40)+
				" that a careless backend takes for Transfer-Encoding")
		}
	}
	return f
}

// looksLikeTE reports whether a damaged name reads as Transfer-Encoding to a
// backend that trims white space or control bytes.
func looksLikeTE(name string) bool {
	name = strings.Map(func(r rune) rune {
		if r <= ' ' || r == 0x7f || r == '"' {
			return -1
		}
		return r
	}, name)
	return strings.EqualFold(name, "Transfer-Encoding")
}

// Visible quotes bytes so that a terminal shows each of them: control bytes
// and bytes above 0x7e as escapes, at most limit bytes.
func Visible(s string, limit int) string {
	return `"` + escape(s, limit, false) + `"`
}

// escape writes s with \r, \n, \t, \xNN; with lines set it starts a new line
// after each \n, so a head reads as a head.
func escape(s string, limit int, lines bool) string {
	var b strings.Builder
	cut := ""
	tail := ""
	if len(s) > limit {
		keep := limit * 3 / 4
		cut = fmt.Sprintf("…(%d bytes)…", len(s)-limit)
		tail = s[len(s)-(limit-keep):]
		s = s[:keep]
	}
	write := func(s string) {
		for i := 0; i < len(s); i++ {
			switch c := s[i]; {
			case c == '\r':
				b.WriteString(`\r`)
			case c == '\n':
				b.WriteString(`\n`)
				if lines && i < len(s)-1 {
					b.WriteString("\n")
				}
			case c == '\t':
				b.WriteString(`\t`)
			case c == '\\':
				b.WriteString(`\\`)
			case c < ' ' || c >= 0x7f:
				fmt.Fprintf(&b, `\x%02x`, c)
			default:
				b.WriteByte(c)
			}
		}
	}
	write(s)
	b.WriteString(cut)
	write(tail)
	return b.String()
}
