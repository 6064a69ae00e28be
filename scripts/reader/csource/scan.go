// Package csource reads a student's copy of a C original and cuts it into the ten
// steps by its calls. It knows the calls and their lines from package book; it
// holds no C code.
package csource

import "strings"

// Found is a call in a C file.
type Found struct {
	Name  string
	Line  int // counted from 1
	Func  string
	Depth int // of braces around it
}

// Scan is what a pass over the tokens of a C file found. Comments, strings,
// characters and preprocessor lines hold no calls.
type Scan struct {
	Calls     []Found
	Depth     []int          // braces open at the start of each line; Depth[0] is line 1's
	FuncStart map[string]int // first line of a function's definition
	FuncEnd   map[string]int // line of its closing brace
}

// keywords are followed by a parenthesis but are no calls.
var keywords = map[string]bool{
	"if": true, "while": true, "for": true, "switch": true, "return": true, "sizeof": true,
	"do": true, "else": true, "case": true, "defined": true, "_Alignof": true, "typeof": true,
}

// scanner is the state of a pass.
type scanner struct {
	src       string
	pos, line int
	depth     int
	parens    int
	current   string // the function around pos, "" outside
	candidate string // the last name before a parenthesis outside of functions
	declLine  int    // where the declaration outside of functions began, 0 if none has
	previous  byte   // the last byte that is no blank
	tokenLine int    // the line of the last token
	scan      Scan
}

// ScanCalls reads the tokens of a C file. Any input is read to its end.
func ScanCalls(src string) Scan {
	s := &scanner{src: src, line: 1}
	s.scan.FuncStart, s.scan.FuncEnd = map[string]int{}, map[string]int{}
	s.scan.Depth = []int{0}
	for s.pos < len(s.src) {
		s.token()
	}
	return s.scan
}

// advance moves on by n bytes and counts lines.
func (s *scanner) advance(n int) {
	for end := min(s.pos+n, len(s.src)); s.pos < end; s.pos++ {
		if s.src[s.pos] == '\n' {
			s.line++
			s.scan.Depth = append(s.scan.Depth, s.depth)
		}
	}
}

func (s *scanner) token() {
	rest := s.src[s.pos:]
	c := rest[0]
	switch {
	case c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '\f' || c == '\v':
		s.advance(1)
		return
	case strings.HasPrefix(rest, "//"):
		s.advance(lineEnd(rest))
		return
	case strings.HasPrefix(rest, "/*"):
		end := strings.Index(rest[2:], "*/")
		if end < 0 {
			s.advance(len(rest))
		} else {
			s.advance(end + 4)
		}
		return
	case c == '#' && s.tokenLine != s.line:
		s.advance(lineEnd(rest))
		return
	}
	s.tokenLine = s.line
	switch {
	case c == '"' || c == '\'':
		s.advance(quoted(rest))
	case isLetter(c):
		n := 1
		for n < len(rest) && (isLetter(rest[n]) || isDigit(rest[n])) {
			n++
		}
		s.name(rest[:n], rest[n:])
		s.advance(n)
	case isDigit(c):
		n := 1
		for n < len(rest) && (isLetter(rest[n]) || isDigit(rest[n]) || rest[n] == '.') {
			n++
		}
		s.advance(n)
	default:
		s.punctuation(c)
		s.advance(1)
	}
	s.previous = c
}

// name takes a word in: a call if a parenthesis follows.
func (s *scanner) name(word, rest string) {
	if s.depth == 0 && s.declLine == 0 {
		s.declLine = s.line
	}
	if !strings.HasPrefix(strings.TrimLeft(rest, " \t\r\n"), "(") || keywords[word] {
		return
	}
	switch {
	case s.depth == 0 && s.parens == 0:
		s.candidate = word
	case s.depth > 0 && s.previous != '.' && s.previous != '>':
		s.scan.Calls = append(s.scan.Calls, Found{word, s.line, s.current, s.depth})
	case s.depth > 0 && s.previous == '>' && !strings.HasSuffix(strings.TrimRight(s.src[:s.pos], " \t"), "->"):
		s.scan.Calls = append(s.scan.Calls, Found{word, s.line, s.current, s.depth})
	}
}

func (s *scanner) punctuation(c byte) {
	switch c {
	case '(':
		s.parens++
	case ')':
		s.parens = max(s.parens-1, 0)
	case '{':
		if s.depth == 0 {
			s.parens = 0
			s.current = s.candidate
			if _, twice := s.scan.FuncStart[s.current]; !twice && s.current != "" {
				s.scan.FuncStart[s.current] = max(s.declLine, 1)
			}
		}
		s.depth++
	case '}':
		s.depth = max(s.depth-1, 0)
		if s.depth == 0 {
			if _, twice := s.scan.FuncEnd[s.current]; !twice && s.current != "" {
				s.scan.FuncEnd[s.current] = s.line
			}
			s.current, s.candidate, s.declLine, s.parens = "", "", 0, 0
		}
	case ';':
		if s.depth == 0 {
			s.candidate, s.declLine, s.parens = "", 0, 0
		}
	}
}

// lineEnd is the length up to the end of the line; a backslash continues it.
func lineEnd(text string) int {
	for i := 0; i < len(text); i++ {
		if text[i] == '\n' && !strings.HasSuffix(strings.TrimSuffix(text[:i], "\r"), `\`) {
			return i
		}
	}
	return len(text)
}

// quoted is the length of a string or character; one that is not closed ends
// with its line.
func quoted(text string) int {
	for i := 1; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case text[0]:
			return i + 1
		case '\n':
			return i
		}
	}
	return len(text)
}

func isLetter(c byte) bool {
	return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }
