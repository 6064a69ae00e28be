package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"reverseproxy/internal/book/linediff"
	"reverseproxy/internal/book/steps"
)

var regionLine = regexp.MustCompile(
	`^\s*(?://|#|--|<!--|/\*)\s*(region|endregion)\b[ \t]*([\w.-]*)`)

// quote returns the lines that a quote directive names: "FILE", "FILE#REGION" or
// "FILE SELECTOR...".
func quote(root, args string) ([]string, error) {
	words := strings.Fields(args)
	if len(words) == 0 {
		return nil, fmt.Errorf("quote what? want FILE#REGION, FILE func NAME or FILE step N")
	}
	return selectLines(root, words[0], words[1:])
}

// selectLines reads a file of the repository and cuts the selected lines out.
func selectLines(root, file string, selector []string) ([]string, error) {
	file, region, hasRegion := strings.Cut(file, "#")
	if !filepath.IsLocal(file) {
		return nil, fmt.Errorf("%s is not a path inside the repository", file)
	}
	src, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(file)))
	if err != nil {
		return nil, fmt.Errorf("cannot read %s", file)
	}
	lines := linediff.Split(string(src))
	switch {
	case hasRegion && len(selector) > 0:
		return nil, fmt.Errorf("either a region or %q, not both", selector[0])
	case hasRegion:
		lines, err = cutRegion(lines, region)
	case len(selector) == 0:
	case len(selector) == 1 && selector[0] == "header":
		lines = cutHeader(lines)
	case len(selector) == 2 && selector[0] == "step":
		lines, err = cutSteps(file, src, lines, selector[1])
	case len(selector) == 2:
		lines, err = cutDecl(file, src, lines, selector[0], selector[1])
	default:
		err = fmt.Errorf("cannot read %q: want func NAME, step N, step N..M or header",
			strings.Join(selector, " "))
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return dedent(dropMarkers(lines)), nil
}

// cutRegion returns the lines between "region NAME" and its "endregion"; regions
// may hold others.
func cutRegion(lines []string, name string) ([]string, error) {
	var found []string
	seen, inside, depth := false, false, 0
	for _, l := range lines {
		m := regionLine.FindStringSubmatch(l)
		switch {
		case m == nil:
		case m[1] == "region" && m[2] == name && !inside:
			if seen {
				return nil, fmt.Errorf("there are two regions %q", name)
			}
			seen, inside, depth = true, true, 0
			continue
		case m[1] == "region" && inside:
			depth++
		case m[1] == "endregion" && inside && depth > 0:
			depth--
		case m[1] == "endregion" && inside:
			inside = false
		}
		if inside {
			found = append(found, l)
		}
	}
	if !seen {
		return nil, fmt.Errorf("there is no region %q", name)
	}
	if inside {
		return nil, fmt.Errorf("region %q has no endregion", name)
	}
	return found, nil
}

// cutHeader returns the comment that opens the file.
func cutHeader(lines []string) []string {
	for i, l := range lines {
		if !strings.HasPrefix(l, "//") && !strings.HasPrefix(l, "#") {
			return lines[:i]
		}
	}
	return lines
}

// cutSteps returns the lines of one step, "5", or of several, "5..9", of one
// function. Of a step that stands in two places it returns both.
func cutSteps(file string, src []byte, lines []string, which string) ([]string, error) {
	a, b, isRange := strings.Cut(which, "..")
	if !isRange {
		b = a
	}
	first, errA := strconv.Atoi(a)
	last, errB := strconv.Atoi(b)
	if errA != nil || errB != nil || last < first {
		return nil, fmt.Errorf("%q is no step: want 5 or 5..9", which)
	}
	sections, err := steps.Parse(file, src, nil)
	if err != nil {
		return nil, err
	}
	var cut []string
	in, to := "", 0
	for _, s := range sections {
		if s.Last < first || s.First > last {
			continue
		}
		switch {
		case cut == nil:
			in, to = s.Func, s.From-1
		case s.Func != in:
			return nil, fmt.Errorf("steps %s stand in %s and in %s: quote them one by one", which,
				in, s.Func)
		case first == last && s.From > to+1: // one that stands in two places
			cut, to = append(cut, ""), s.From-1
		}
		cut, to = append(cut, lines[to:s.To]...), s.To
	}
	if cut == nil {
		return nil, fmt.Errorf("no comment numbers step %s", which)
	}
	return cut, nil
}

// cutDecl returns a declaration with its doc comment.
func cutDecl(file string, src []byte, lines []string, kind, name string) ([]string, error) {
	files := token.NewFileSet()
	parsed, err := parser.ParseFile(files, file, src, parser.ParseComments)
	if err != nil {
		return nil, err
	}
	for _, decl := range parsed.Decls {
		var doc *ast.CommentGroup
		switch d := decl.(type) {
		case *ast.FuncDecl:
			if kind != "func" || funcName(d) != name {
				continue
			}
			doc = d.Doc
		case *ast.GenDecl:
			if d.Tok.String() != kind || !declares(d, name) {
				continue
			}
			doc = d.Doc
		}
		start := decl.Pos()
		if doc != nil {
			start = doc.Pos()
		}
		return lines[files.Position(start).Line-1 : files.Position(decl.End()).Line], nil
	}
	return nil, fmt.Errorf("there is no %s %s", kind, name)
}

// funcName is "serve", or "Reader.Read" for a method.
func funcName(d *ast.FuncDecl) string {
	if d.Recv == nil || len(d.Recv.List) == 0 {
		return d.Name.Name
	}
	t := d.Recv.List[0].Type
	if star, ok := t.(*ast.StarExpr); ok {
		t = star.X
	}
	if index, ok := t.(*ast.IndexExpr); ok {
		t = index.X
	}
	if id, ok := t.(*ast.Ident); ok {
		return id.Name + "." + d.Name.Name
	}
	return d.Name.Name
}

// declares says whether a type, const or var declaration names name.
func declares(d *ast.GenDecl, name string) bool {
	for _, spec := range d.Specs {
		switch s := spec.(type) {
		case *ast.TypeSpec:
			if s.Name.Name == name {
				return true
			}
		case *ast.ValueSpec:
			for _, n := range s.Names {
				if n.Name == name {
					return true
				}
			}
		}
	}
	return false
}

// dropMarkers leaves the lines out that mark regions.
func dropMarkers(lines []string) []string {
	var kept []string
	for _, l := range lines {
		if !regionLine.MatchString(l) {
			kept = append(kept, l)
		}
	}
	return kept
}

// dedent removes the indentation that all lines share, and blank lines at both ends.
func dedent(lines []string) []string {
	for len(lines) > 0 && strings.TrimSpace(lines[0]) == "" {
		lines = lines[1:]
	}
	for len(lines) > 0 && strings.TrimSpace(lines[len(lines)-1]) == "" {
		lines = lines[:len(lines)-1]
	}
	prefix, first := "", true
	for _, l := range lines {
		if strings.TrimSpace(l) == "" {
			continue
		}
		indent := l[:len(l)-len(strings.TrimLeft(l, " \t"))]
		if first {
			prefix, first = indent, false
		}
		for !strings.HasPrefix(indent, prefix) {
			prefix = prefix[:len(prefix)-1]
		}
	}
	cut := make([]string, len(lines))
	for i, l := range lines {
		cut[i] = strings.TrimRight(strings.TrimPrefix(l, prefix), " \t")
	}
	return cut
}

// diffFiles returns the lines of a diff directive: "FILE1 FILE2 [SELECTOR...]".
func diffFiles(root, args string) ([]string, error) {
	words := strings.Fields(args)
	if len(words) < 2 {
		return nil, fmt.Errorf("diff needs two files")
	}
	a, err := selectLines(root, words[0], words[2:])
	if err != nil {
		return nil, err
	}
	b, err := selectLines(root, words[1], words[2:])
	if err != nil {
		return nil, err
	}
	text := linediff.Unified(words[0], words[1], a, b, diffContext)
	if text == "" {
		return nil, fmt.Errorf("%s and %s do not differ here", words[0], words[1])
	}
	return linediff.Split(text), nil
}

// diffContext is the number of unchanged lines shown around a change.
const diffContext = 1
