package site

import (
	"bytes"
	"fmt"
	"html"
	"html/template"
	"net/url"
	"path"
	"regexp"
	"strings"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	extast "github.com/yuin/goldmark/extension/ast"
	"github.com/yuin/goldmark/renderer"
	"github.com/yuin/goldmark/text"
	"github.com/yuin/goldmark/util"

	"reverseproxy/internal/book/anchor"
	"reverseproxy/scripts/reader/sequence"
)

// document renders a document of the repository.
func (b *builder) document(name string) {
	source, err := b.read(name)
	if err != nil {
		return // findDocuments has said so
	}
	pageURL := documentURL(name)
	d := &document{b: b, name: name, url: pageURL}
	md := goldmark.New(goldmark.WithExtensions(extension.GFM),
		goldmark.WithRendererOptions(renderer.WithNodeRenderers(util.Prioritized(d, 1))))
	tree := md.Parser().Parse(text.NewReader(source))
	d.prepare(tree, source)
	var out bytes.Buffer
	if err := md.Renderer().Render(&out, source, tree); err != nil {
		b.problem("%s: %v", name, err)
		return
	}
	prev, next := around(b.documents(), pageURL)
	b.page(pageURL, "document", documentTitle(name, source), template.HTML(out.String()), prev,
		next)
}

// documents lists the documents in the order of the navigation.
func (b *builder) documents() []navPage {
	var all, others []navPage
	for _, p := range b.nav.Pages {
		if p.First() {
			all = append(all, p)
		} else {
			others = append(others, p)
		}
	}
	for _, c := range b.nav.Chapters {
		if c.Page != "" {
			all = append(all, navPage{Title: c.Title, URL: c.Page})
		}
	}
	return append(all, others...)
}

// documentTitle is a document's first heading, or its name.
func documentTitle(name string, source []byte) string {
	tree := goldmark.DefaultParser().Parse(text.NewReader(source))
	for n := tree.FirstChild(); n != nil; n = n.NextSibling() {
		if h, ok := n.(*ast.Heading); ok {
			return anchor.Text(h, source)
		}
	}
	return path.Base(name)
}

// document is a document while it is rendered.
type document struct {
	b    *builder
	name string // its path in the repository
	url  string // its path in the site

	plain bool // for slides: links are text, nothing scrolls
}

// prepare gives headings their names and turns links to where the site has what
// they point to.
func (d *document) prepare(tree ast.Node, source []byte) {
	used := map[string]int{}
	_ = ast.Walk(tree, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			return ast.WalkContinue, nil
		}
		switch n := n.(type) {
		case *ast.Heading:
			n.SetAttributeString("id", []byte(anchor.ID(anchor.Text(n, source), used)))
		case *ast.Link:
			if d.plain {
				break
			}
			n.Destination = []byte(d.target(string(n.Destination)))
		case *ast.Image:
			n.Destination = []byte(d.target(string(n.Destination)))
		}
		return ast.WalkContinue, nil
	})
}

// target is where a link of the document leads in the site.
func (d *document) target(link string) string {
	u, err := url.Parse(link)
	if err != nil || u.Scheme != "" || u.Host != "" || u.Path == "" {
		return link
	}
	file := path.Join(path.Dir(d.name), u.Path)
	to, err := d.b.place(file)
	if err != nil {
		d.b.problem("%s: link %q: %v", d.name, link, err)
		d.b.reported[d.url+" "+link] = true
		return link
	}
	if u.Fragment != "" && !strings.HasSuffix(to, "/index.html") {
		line, _, _ := strings.Cut(u.Fragment, "-L")
		to += "#" + line
	}
	return relative(d.url, to)
}

// relative is the way from one page of the site to another.
func relative(from, to string) string {
	return strings.Repeat("../", strings.Count(from, "/")) + to
}

// RegisterFuncs takes over the kinds of nodes that the reader shows its own way.
func (d *document) RegisterFuncs(r renderer.NodeRendererFuncRegisterer) {
	r.Register(ast.KindFencedCodeBlock, d.codeBlock)
	r.Register(ast.KindCodeBlock, d.codeBlock)
	r.Register(ast.KindHeading, d.heading)
	r.Register(extast.KindTable, d.table)
	r.Register(ast.KindHTMLBlock, d.htmlBlock)
	r.Register(ast.KindRawHTML, d.rawHTML)
	if d.plain {
		r.Register(ast.KindLink, func(util.BufWriter, []byte, ast.Node, bool) (ast.WalkStatus,
			error) {
			return ast.WalkContinue, nil
		})
	}
}

func (d *document) heading(w util.BufWriter, _ []byte, node ast.Node,
	entering bool) (ast.WalkStatus, error) {
	h := node.(*ast.Heading)
	id, _ := h.AttributeString("id")
	name, _ := id.([]byte)
	if entering {
		fmt.Fprintf(w, `<h%d id="%s">`, h.Level, html.EscapeString(string(name)))
	} else {
		fmt.Fprintf(w,
			` <a class="anchor" href="#%s" aria-label="Link to this heading">#</a></h%d>`+"\n",
			html.EscapeString(string(name)), h.Level)
	}
	return ast.WalkContinue, nil
}

// table puts a table into a box that scrolls, by keyboard as well.
func (d *document) table(w util.BufWriter, _ []byte, _ ast.Node,
	entering bool) (ast.WalkStatus, error) {
	if entering {
		_, _ = w.WriteString(`<div class="scroll" tabindex="0" role="region" aria-label="Table">` +
			"<table>\n")
	} else {
		_, _ = w.WriteString("</table></div>\n")
	}
	return ast.WalkContinue, nil
}

// codeBlock colours code, and draws sequence diagrams.
func (d *document) codeBlock(w util.BufWriter, source []byte, node ast.Node,
	entering bool) (ast.WalkStatus, error) {
	if !entering {
		return ast.WalkContinue, nil
	}
	lang, note := "", ""
	if fenced, ok := node.(*ast.FencedCodeBlock); ok {
		lang = string(fenced.Language(source))
	}
	code := string(node.Lines().Value(source))
	if lang == "mermaid" {
		svg, err := sequence.SVG(code)
		if err == nil {
			_, _ = w.WriteString(`<figure class="diagram" tabindex="0">` + svg + "</figure>\n")
			return ast.WalkSkipChildren, nil
		}
		d.b.problem("%s: a diagram cannot be drawn: %v", d.name, err)
		note = fmt.Sprintf("<p class=\"note\">The source of a diagram that the reader cannot "+
			"draw (%s).</p>\n", html.EscapeString(err.Error()))
	}
	_, _ = w.WriteString(note + `<pre tabindex="0" class="code lang-` + html.EscapeString(lang) +
		`"><code>`)
	if terminals[lang] {
		lang = "" // typed and printed lines are told apart, no more
	}
	for _, l := range highlight(lang, code) {
		class := ""
		switch {
		case lang == "diff":
			class = diffClass(string(l))
		case lang == "" && (strings.HasPrefix(string(l), "$ ") || l == "^C"):
			class = " typed"
		}
		_, _ = w.WriteString(`<span class="line` + class + `">` + string(l) + "</span>\n")
	}
	_, _ = w.WriteString("</code></pre>\n")
	return ast.WalkSkipChildren, nil
}

// terminals are the names that documents use for what a terminal shows.
var terminals = map[string]bool{"console": true, "shell-session": true, "sh-session": true,
	"text": true}

var tags = regexp.MustCompile(`<[^>]*>`)

// diffClass marks the lines of a diff.
func diffClass(line string) string {
	line = tags.ReplaceAllString(line, "")
	switch {
	case strings.HasPrefix(line, "+++"), strings.HasPrefix(line, "---"):
		return " file"
	case strings.HasPrefix(line, "+"):
		return " added"
	case strings.HasPrefix(line, "-"):
		return " deleted"
	case strings.HasPrefix(line, "@@"):
		return " hunk"
	}
	return ""
}

// htmlBlock shows HTML of a document as text, for the book writes none; comments
// are left out.
func (d *document) htmlBlock(w util.BufWriter, source []byte, node ast.Node,
	entering bool) (ast.WalkStatus, error) {
	block := node.(*ast.HTMLBlock)
	if entering {
		raw := string(block.Lines().Value(source))
		if block.HasClosure() {
			raw += string(block.ClosureLine.Value(source))
		}
		_, _ = w.WriteString(shownHTML(raw))
	}
	return ast.WalkContinue, nil
}

func (d *document) rawHTML(w util.BufWriter, source []byte, node ast.Node,
	entering bool) (ast.WalkStatus, error) {
	if entering {
		_, _ = w.WriteString(shownHTML(string(node.(*ast.RawHTML).Segments.Value(source))))
	}
	return ast.WalkSkipChildren, nil
}

var htmlComment = regexp.MustCompile(`(?s)<!--.*?-->`)

func shownHTML(raw string) string {
	return html.EscapeString(htmlComment.ReplaceAllString(raw,
		""))
}
