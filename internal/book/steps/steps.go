// Package steps finds the ten steps in a chapter's main.go by their comments.
package steps

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"reverseproxy/internal/book"
)

// Section is the part of a Go file that makes one step, or several if the Go
// call folds them: from the comment that numbers it to before the next one of
// the same function, or to the end of the block it stands in.
type Section struct {
	First, Last int         // the numbers of its steps, equal for a single one; 0 if it has none
	Rows        []book.Row  // of the chapter's C file, in order
	From, To    int         // its lines in the file, counted from 1, both included
	Func        string      // the function it stands in
	C           []book.Call // what its comment says of C; Line is 0 where it says none
}

var (
	stepStart = regexp.MustCompile(`^//\s*(\d+)(?:\s*[–-]\s*(\d+))?\.\s`)
	cNote     = regexp.MustCompile(`\(C: ([^)]*)\)`)
	cName     = regexp.MustCompile(`^\w+$`)
	cLines    = regexp.MustCompile(`^(?:lines? )?\d+(?:(?: and |[–-])\d+)?$`)
	number    = regexp.MustCompile(`\d+`)
)

// Parse finds the numbered comments of a Go file and the lines that belong to
// them, in the order of the file. Of a chapter that mirrors a C file, it also
// finds the comments of what happens between the steps. Its errors are those of
// the Go parser and comments whose "(C: …)" cannot be read.
func Parse(name string, src []byte, original *book.Original) ([]Section, error) {
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, name, src, parser.ParseComments)
	if err != nil {
		return nil, err
	}
	line := func(p token.Pos) int { return files.Position(p).Line }
	var found []Section
	for _, decl := range file.Decls {
		fn, ok := decl.(*ast.FuncDecl)
		if !ok || fn.Body == nil {
			continue
		}
		first := len(found)
		for _, group := range file.Comments {
			if group.Pos() < fn.Body.Pos() || group.End() > fn.Body.End() {
				continue
			}
			s, err := readComment(group, original)
			if err != nil {
				return nil, fmt.Errorf("%s:%d: %w", name, line(group.Pos()), err)
			}
			if s.First == 0 && s.Rows == nil {
				continue
			}
			s.Func = fn.Name.Name
			s.From = line(group.Pos())
			s.To = line(innermost(fn.Body, group.Pos()).End()) - 1
			if len(found) > first {
				before := &found[len(found)-1]
				before.To = min(before.To, s.From-1)
			}
			found = append(found, s)
		}
	}
	return trimBlank(found, src), nil
}

// readComment reads the numbers and C calls of a comment, and finds its rows.
func readComment(group *ast.CommentGroup, original *book.Original) (s Section, err error) {
	text := strings.Join(strings.Fields(group.Text()), " ")
	if s.C, err = Notes(text); err != nil {
		return s, err
	}
	if m := stepStart.FindStringSubmatch(group.List[0].Text); m != nil {
		s.First, _ = strconv.Atoi(m[1])
		s.Last = s.First
		if m[2] != "" {
			s.Last, _ = strconv.Atoi(m[2])
		}
		if s.First < 1 || s.Last > 10 || s.Last < s.First {
			return s, fmt.Errorf("steps are numbered 1 to 10, not %s", m[0])
		}
	}
	if original != nil {
		s.Rows = rowsOf(s, text, original)
	}
	return s, nil
}

// rowsOf finds the rows that a comment belongs to: its steps, and the things
// between steps that it names.
func rowsOf(s Section, text string, original *book.Original) (rows []book.Row) {
	for _, row := range original.Rows() {
		if row.Extra == 0 {
			if s.First <= row.Step && row.Step <= s.Last {
				rows = append(rows, row)
			}
			continue
		}
		e := original.After(row.Step)[row.Extra-1]
		named := slices.ContainsFunc(e.Calls, func(c book.Call) bool { return Says(s.C, c) })
		if e.Words != "" {
			named = strings.Contains(strings.ToLower(text), e.Words)
		}
		if named {
			rows = append(rows, row)
		}
	}
	return rows
}

// Says reports whether a comment names a call, by name alone or with its line.
func Says(said []book.Call, call book.Call) bool {
	return slices.ContainsFunc(said, func(c book.Call) bool {
		return c.Name == call.Name && (c.Line == 0 || c.Line == call.Line)
	})
}

// Notes reads what a comment says of the C program: "(C: read)", or several
// calls: "(C: socket, connect)". Lines may follow a call: "(C: bind, line 29)",
// "(C: close, lines 112, 113; exit)". What C leaves out, "(C: listen, missing)"
// or "(C: nothing)", gives no call, and a passage, "(C: lines 71–75)", is called
// "lines".
func Notes(text string) (all []book.Call, err error) {
	for _, m := range cNote.FindAllStringSubmatch(strings.Join(strings.Fields(text), " "), -1) {
		for item := range strings.SplitSeq(m[1], ";") {
			var calls []book.Call
			for part := range strings.SplitSeq(item, ",") {
				part = strings.TrimSpace(part)
				last := len(calls) - 1
				switch {
				case strings.HasPrefix(part, "missing") && last >= 0:
					calls = calls[:last]
				case strings.HasPrefix(part, "missing"), strings.HasPrefix(part, "nothing"):
				case cLines.MatchString(part):
					name := "lines"
					if last >= 0 {
						name = calls[last].Name
						if calls[last].Line == 0 {
							calls = calls[:last]
						}
					}
					for _, n := range number.FindAllString(part, -1) {
						line, _ := strconv.Atoi(n)
						calls = append(calls, book.Call{Name: name, Line: line})
					}
				case cName.MatchString(strings.TrimSuffix(part, "()")):
					calls = append(calls, book.Call{Name: strings.TrimSuffix(part, "()")})
				default:
					return nil,
						fmt.Errorf("cannot read %q: want (C: CALL) or (C: CALL, CALL)", m[0])
				}
			}
			all = append(all, calls...)
		}
	}
	return all, nil
}

// innermost finds the smallest block of statements around pos.
func innermost(body *ast.BlockStmt, pos token.Pos) ast.Node {
	var smallest ast.Node = body
	ast.Inspect(body, func(n ast.Node) bool {
		if n == nil || pos < n.Pos() || pos > n.End() {
			return false
		}
		if block, ok := n.(*ast.BlockStmt); ok && pos > block.Lbrace {
			smallest = block
		}
		return true
	})
	return smallest
}

// trimBlank takes blank lines off the end of every section.
func trimBlank(sections []Section, src []byte) []Section {
	lines := strings.Split(string(src), "\n")
	for i := range sections {
		s := &sections[i]
		for s.To > s.From && strings.TrimSpace(lines[s.To-1]) == "" {
			s.To--
		}
	}
	slices.SortStableFunc(sections, func(a, b Section) int { return a.From - b.From })
	return sections
}
