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
)

// Section is the part of a Go file that makes one step, or several if the Go
// call folds them: from the comment that numbers it to before the next one of
// the same function, or to the end of the block it stands in.
type Section struct {
	First, Last int    // the numbers of its steps; equal for a single step
	From, To    int    // its lines in the file, counted from 1, both included
	Func        string // the function it stands in
	C           []Call // what its comment says of C
	Noted       bool   // its comment says something of C, be it "nothing"
}

var (
	stepStart = regexp.MustCompile(`^//\s*(\d+)(?:\s*[–-]\s*(\d+))?\.\s`)
	cNote     = regexp.MustCompile(`\(C: ([^)]*)\)`)
	cItem     = regexp.MustCompile(`^(\w+)(?:\(\))?,?\s+(?:lines?\s+)?(\d.*)$`)
	number    = regexp.MustCompile(`\d+`)
)

// Parse finds the step comments of a Go file and the lines that belong to them,
// in the order of the file. Its errors are those of the Go parser and comments
// whose "(C: …)" cannot be read.
func Parse(name string, src []byte) ([]Section, error) { return parse(name, src, false) }

// ParseAll is Parse with one more kind of section: a comment that numbers no step
// but speaks of C begins a section whose First and Last are 0.
func ParseAll(name string, src []byte) ([]Section, error) { return parse(name, src, true) }

func parse(name string, src []byte, unnumbered bool) ([]Section, error) {
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
			s, ok, err := readComment(group)
			if err != nil {
				return nil, fmt.Errorf("%s:%d: %w", name, line(group.Pos()), err)
			}
			if !ok && (!unnumbered || !s.Noted) {
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

// readComment reads the numbers and C lines of a comment; ok is false for one
// that numbers no step.
func readComment(group *ast.CommentGroup) (s Section, ok bool, err error) {
	if s.C, err = CNotes(group.Text()); err != nil {
		return s, false, err
	}
	s.Noted = cNote.MatchString(strings.Join(strings.Fields(group.Text()), " "))
	m := stepStart.FindStringSubmatch(group.List[0].Text)
	if m == nil {
		return s, false, nil
	}
	s.First, _ = strconv.Atoi(m[1])
	s.Last = s.First
	if m[2] != "" {
		s.Last, _ = strconv.Atoi(m[2])
	}
	if s.First < 1 || s.Last > 10 || s.Last < s.First {
		return s, false, fmt.Errorf("steps are numbered 1 to 10, not %s", m[0])
	}
	return s, true, nil
}

// CNotes reads what a comment says of the C program: "(C: read, line 52)", or
// several: "(C: socket, line 17; bind, line 29)", "(C: close, lines 112, 113)".
// What C leaves out, "(C: listen, missing)" or "(C: nothing)", gives no call, and a
// passage, "(C: lines 71–75)", is called "lines".
func CNotes(text string) ([]Call, error) {
	var all []Call
	for _, m := range cNote.FindAllStringSubmatch(strings.Join(strings.Fields(text), " "), -1) {
		for item := range strings.SplitSeq(m[1], ";") {
			item = strings.TrimSpace(item)
			if strings.Contains(item, "missing") || strings.HasPrefix(item, "nothing") ||
				strings.HasPrefix(item, "none") || item == "–" {
				continue
			}
			if strings.HasPrefix(item, "line") {
				item = "lines, " + item
			}
			parts := cItem.FindStringSubmatch(item)
			if parts == nil {
				return nil, fmt.Errorf("cannot read %q: want (C: CALL, line N)", m[0])
			}
			for _, n := range number.FindAllString(parts[2], -1) {
				line, _ := strconv.Atoi(n)
				all = append(all, Call{parts[1], line})
			}
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
