// Package csource reads a student's copy of a C original and cuts it into the ten
// steps by its calls. It knows the calls and their lines from package book; it
// holds no C code.
package csource

import (
	"regexp"
	"strings"
)

// Found is a call in a C file.
type Found struct {
	Name  string
	Line  int // counted from 1
	Func  string
	Depth int // of braces around it
}

// Scan is what a pass over a C file found. Comments, strings, characters and
// preprocessor lines hold no calls.
type Scan struct {
	Calls     []Found
	Depth     []int          // braces open at the start of each line; Depth[0] is line 1's
	FuncStart map[string]int // first line of a function's definition
}

// keywords are followed by a parenthesis but are no calls.
var keywords = map[string]bool{
	"if": true, "while": true, "for": true, "switch": true, "return": true, "sizeof": true,
	"do": true, "else": true, "case": true, "defined": true, "_Alignof": true, "typeof": true,
}

var (
	// noCode is what is blanked out before: comments, strings, characters, and
	// lines of the preprocessor. A backslash continues a line.
	noCode = regexp.MustCompile(`/\*(?s:.*?)(?:\*/|\z)|//(?:\\\r?\n|[^\n])*|` +
		`"(?:\\(?s:.)|[^"\\\n])*"?|'(?:\\(?s:.)|[^'\\\n])*'?|(?m:^[ \t]*#(?:\\\r?\n|[^\n])*)`)
	// token is a name, with what stands before it where a dot or an arrow makes it
	// a field, and with the parenthesis of a call; or a sign that counts.
	token = regexp.MustCompile(`(\.|->)?\s*\b([A-Za-z_]\w*)(\s*\()?|[{}();\n]`)
)

// ScanCalls finds the calls of a C file. Any input is read to its end.
func ScanCalls(src string) Scan {
	scan := Scan{FuncStart: map[string]int{}, Depth: []int{0}}
	src = noCode.ReplaceAllStringFunc(src, func(s string) string {
		return strings.Repeat(" ", len(s)) + strings.Repeat("\n", strings.Count(s, "\n"))
	})
	depth, parens, line := 0, 0, 1
	current, candidate, declared := "", "", 0 // the function around, or to come, and its first line
	for _, m := range token.FindAllStringSubmatchIndex(src, -1) {
		text, name := src[m[0]:m[1]], ""
		if m[4] >= 0 {
			name = src[m[4]:m[5]]
			at := line + strings.Count(src[m[0]:m[4]], "\n")
			call := m[6] >= 0 && !keywords[name]
			switch {
			case depth > 0 && call && m[2] < 0:
				scan.Calls = append(scan.Calls, Found{name, at, current, depth})
			case depth == 0 && call && parens == 0:
				candidate = name
			}
			if depth == 0 && declared == 0 {
				declared = at
			}
			if m[6] >= 0 {
				parens++
			}
		}
		for range strings.Count(text, "\n") {
			line++
			scan.Depth = append(scan.Depth, depth)
		}
		switch text {
		case "(":
			parens++
		case ")":
			parens = max(parens-1, 0)
		case "{":
			if depth++; depth == 1 {
				parens, current = 0, candidate
				if _, twice := scan.FuncStart[current]; !twice && current != "" {
					scan.FuncStart[current] = max(declared, 1)
				}
			}
		case "}", ";":
			if text == "}" {
				depth = max(depth-1, 0)
			}
			if depth == 0 {
				current, candidate, declared, parens = "", "", 0, 0
			}
		}
	}
	return scan
}
