package main

import (
	"bytes"
	"fmt"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/text"

	"reverseproxy/internal/book/anchor"
)

// markdown reads pages as GitHub does.
var markdown = goldmark.New(goldmark.WithExtensions(extension.GFM))

var (
	comment    = regexp.MustCompile(`(?s)^\s*<!--.*-->\s*$`)
	lineAnchor = regexp.MustCompile(`^L(\d+)(?:-L(\d+))?$`)
)

// link is where a page points to, or HTML that it holds.
type link struct {
	line         int
	target, html string
}

// pageLinks collects the links, images and HTML of a page and the names that its
// headings give to link to.
func pageLinks(source []byte) (links []link, anchors map[string]bool) {
	anchors = map[string]bool{}
	used := map[string]int{}
	lineOf := func(offset int) int { return 1 + bytes.Count(source[:offset], []byte("\n")) }
	line := 1
	html := func(raw string) {
		if !comment.MatchString(raw) {
			links = append(links, link{line: line, html: strings.TrimSpace(raw)})
		}
	}
	doc := markdown.Parser().Parse(text.NewReader(source))
	_ = ast.Walk(doc, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			return ast.WalkContinue, nil
		}
		if n.Type() == ast.TypeBlock && n.Lines().Len() > 0 {
			line = lineOf(n.Lines().At(0).Start)
		}
		if t, ok := n.(*ast.Text); ok {
			line = lineOf(t.Segment.Start)
		}
		switch n := n.(type) {
		case *ast.Link:
			if t, ok := n.FirstChild().(*ast.Text); ok {
				line = lineOf(t.Segment.Start)
			}
			links = append(links, link{line: line, target: string(n.Destination)})
		case *ast.Image:
			links = append(links, link{line: line, target: string(n.Destination)})
		case *ast.HTMLBlock:
			raw := string(n.Lines().Value(source))
			if n.HasClosure() {
				raw += string(n.ClosureLine.Value(source))
			}
			html(raw)
		case *ast.RawHTML:
			html(string(n.Segments.Value(source)))
		case *ast.Heading:
			anchors[anchor.ID(anchor.Text(n, source), used)] = true
		}
		return ast.WalkContinue, nil
	})
	return links, anchors
}

// checkLinks reports the links of a page that lead nowhere. The page is named
// from the root, with slashes.
func checkLinks(root, page string, source []byte) []problem {
	var problems []problem
	links, own := pageLinks(source)
	for _, l := range links {
		err := checkLink(root, page, l.target, own)
		if l.html != "" {
			err = fmt.Errorf("the reader shows HTML as text: %.40s", l.html)
		}
		if err != nil {
			problems = append(problems, problem{page, l.line, err.Error()})
		}
	}
	return problems
}

func checkLink(root, page, target string, own map[string]bool) error {
	u, err := url.Parse(target)
	if err != nil {
		return fmt.Errorf("link %q cannot be read: %v", target, err)
	}
	if u.Scheme != "" || u.Host != "" {
		return nil
	}
	if u.Path == "" {
		if u.Fragment != "" && !own[u.Fragment] {
			return fmt.Errorf("link %q: this page has no such heading", target)
		}
		return nil
	}
	file := path.Join(path.Dir(page), u.Path)
	if strings.HasPrefix(u.Path, "/") || file == ".." || strings.HasPrefix(file, "../") {
		return fmt.Errorf("link %q leads out of the repository", target)
	}
	info, err := os.Stat(filepath.Join(root, filepath.FromSlash(file)))
	if err != nil {
		return fmt.Errorf("link %q: there is no %s", target, file)
	}
	if u.Fragment == "" || info.IsDir() {
		return nil
	}
	return checkAnchor(root, file, target, u.Fragment)
}

func checkAnchor(root, file, target, fragment string) error {
	source, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(file)))
	if err != nil {
		return fmt.Errorf("link %q: cannot read %s", target, file)
	}
	if strings.HasSuffix(file, ".md") {
		if _, anchors := pageLinks(source); !anchors[fragment] {
			return fmt.Errorf("link %q: %s has no such heading", target, file)
		}
		return nil
	}
	m := lineAnchor.FindStringSubmatch(fragment)
	if m == nil {
		return nil
	}
	last := m[1]
	if m[2] != "" {
		last = m[2]
	}
	if n, _ := strconv.Atoi(last); n < 1 || n > bytes.Count(source, []byte("\n")) {
		return fmt.Errorf("link %q: %s has no line %s", target, file, last)
	}
	return nil
}
