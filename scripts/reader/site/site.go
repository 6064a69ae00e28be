// Package site makes the book as a set of web pages: the documents of docs/, the
// chapters side by side with the C originals, the differences from chapter to
// chapter, and the source files that the documents link to. All links are relative, so
// that the pages work from a file as well as from a server.
package site

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"reverseproxy/internal/book"
	"reverseproxy/scripts/reader/csource"
)

//go:embed assets
var assets embed.FS

var templates = template.Must(template.New("").Funcs(template.FuncMap{
	"inc":   func(i int) int { return i + 1 },
	"short": short,

	"playgroundFarms": func() []string { return []string{"A", "B"} },
}).ParseFS(assets, "assets/*.html"))

// Options say what to build from.
type Options struct {
	Root string // the repository
	CDir string // the folder of the C originals, "" for none

	Slides bool // the slides alone, without the book
}

// Site is a built book.
type Site struct {
	Files    map[string][]byte // by path, with slashes; pages end in .html
	Problems []string          // links that lead nowhere, pages that cannot be made
	Notes    []string          // what is to say of the C originals, a line each
	Sources  []string          // the files and directories it was built from
}

// builder builds one site.
type builder struct {
	repo       *os.Root
	rootName   string
	cdir       *os.Root // nil without -c
	cname      string
	site       *Site
	nav        nav
	wanted     []string        // repository paths to render as source pages
	queued     map[string]bool // those and the ones done
	pages      map[string]bool // repository paths of the documents
	reported   map[string]bool // broken links that are in Problems: page URL, blank, link
	loaded     map[string]loadedC
	slidesOnly bool
}

// loadedC is a C original as it was read.
type loadedC struct {
	file      *csource.File
	alignment csource.Alignment
}

// nav is what every page can lead to.
type nav struct {
	Pages    []navPage // the documents that belong to no chapter
	Chapters []navChapter
	Diffs    []navDiff

	Playground bool // there is one
}

type navPage struct{ Title, URL, Path string }

// First says whether a page is read before chapter 1: the README, and docs/ch0_….
func (p navPage) First() bool {
	return p.URL == "index.html" || strings.HasPrefix(path.Base(p.URL), "ch0_")
}

type navChapter struct {
	book.Chapter
	Title string // of its document, or its directory
	Page  string // URL of its document, "" if there is none
	Side  string // URL of the page side by side, "" if there is none
	Diff  string // URL of the difference from the chapter before, "" if none
	Main  bool   // it has a main.go
}

type navDiff struct{ A, B, URL string }

// Build makes the book. An error means that there is nothing to show; what is
// wrong with single pages is in Problems.
func Build(o Options) (*Site, error) {
	repo, err := os.OpenRoot(o.Root)
	if err != nil {
		return nil, fmt.Errorf("cannot open the repository: %w", err)
	}
	defer repo.Close()
	b := &builder{repo: repo, rootName: o.Root, cname: o.CDir, queued: map[string]bool{},
		pages: map[string]bool{}, reported: map[string]bool{},
		loaded: map[string]loadedC{}, slidesOnly: o.Slides,
		site: &Site{Files: map[string][]byte{}}}
	if o.CDir != "" {
		if b.cdir, err = openC(o.CDir); err != nil {
			return nil, err
		}
		defer b.cdir.Close()
		b.site.Sources = append(b.site.Sources, o.CDir)
	}
	b.findChapters()
	docs := b.findDocuments()
	b.slides()
	if !o.Slides {
		b.book(docs)
	}
	b.addAssets()
	b.site.Problems = append(b.site.Problems, checkLinks(b.site.Files, b.reported)...)
	return b.site, nil
}

// book makes the pages of the book.
func (b *builder) book(docs []string) {
	b.playground()
	for _, d := range docs {
		b.document(d)
	}
	for i := range b.nav.Chapters {
		b.sideBySide(b.nav.Chapters[i])
	}
	for _, d := range b.nav.Diffs {
		b.diffPage(d)
	}
	b.overview(slices.Contains(docs, "README.md"))
	b.sources()
}

// openC opens the folder of the C originals.
func openC(dir string) (*os.Root, error) {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("there is no folder %s: -c takes the folder that holds %s and the "+
			"other C programs", dir, book.Of(1).C.File)
	case err != nil:
		return nil, fmt.Errorf("cannot read the folder %s: %w", dir, err)
	case !info.IsDir():
		return nil, fmt.Errorf("%s is a file: -c takes the folder it is in", dir)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("cannot open the folder %s: %w", dir, err)
	}
	return root, nil
}

// read reads a file of the repository, and remembers that the site depends on it.
func (b *builder) read(name string) ([]byte, error) {
	b.depends(name)
	return b.repo.ReadFile(name)
}

func (b *builder) depends(name string) {
	b.site.Sources = append(b.site.Sources, b.rootName+string(os.PathSeparator)+name)
}

func (b *builder) problem(format string, args ...any) {
	b.site.Problems = append(b.site.Problems, fmt.Sprintf(format, args...))
}

// findChapters lists the chapters, which have a page side by side and a main.go,
// and the differences between them.
func (b *builder) findChapters() {
	b.depends(".")
	for _, c := range book.Chapters {
		n := navChapter{Chapter: c, Title: c.Dir}
		b.depends(c.Dir)
		_, err := b.repo.Stat(c.Dir + "/main.go")
		if n.Main = err == nil; c.C != nil || c.Beside > 0 && n.Main {
			n.Side = "side-by-side/" + c.Dir + ".html"
		}
		b.nav.Chapters = append(b.nav.Chapters, n)
	}
	for _, pair := range book.Diffs() {
		a, c := &b.nav.Chapters[pair[0].Number-1], &b.nav.Chapters[pair[1].Number-1]
		if a.Main && c.Main {
			d := navDiff{a.Dir, c.Dir, "diff/" + a.Dir + "--" + c.Dir + ".html"}
			b.nav.Diffs = append(b.nav.Diffs, d)
			if c.Diff == "" {
				c.Diff = d.URL
			}
		}
	}
}

// findDocuments lists the documents in reading order and enters them in nav.
func (b *builder) findDocuments() []string {
	docs, folders := book.Pages(b.repo.FS())
	for _, dir := range folders {
		b.depends(dir)
	}
	for _, d := range docs {
		b.pages[d] = true
	}
	for _, d := range docs {
		source, err := b.read(d)
		if err != nil {
			b.problem("%s: %v", d, err)
			continue
		}
		title := documentTitle(d, source)
		i := slices.IndexFunc(b.nav.Chapters,
			func(c navChapter) bool { return path.Base(d) == c.Dir+".md" })
		if i >= 0 {
			b.nav.Chapters[i].Page, b.nav.Chapters[i].Title = documentURL(d), title
			continue
		}
		b.nav.Pages = append(b.nav.Pages, navPage{title, documentURL(d), d})
	}
	return docs
}

// documentURL is where a document stands in the site.
func documentURL(name string) string {
	if name == "README.md" {
		return "index.html"
	}
	return strings.TrimSuffix(name, ".md") + ".html"
}

// layout is what the template "layout" shows around a page.
type layout struct {
	Title string
	Kind  string // "document", "side", "diff", "source": the class of the body
	Here  string // URL of this page
	Up    string // from this page to the root of the site, "" or "../"
	Nav   nav
	Main  template.HTML
	Prev  *navPage
	Next  *navPage
}

// page puts a page into the site.
func (b *builder) page(url, kind, title string, main template.HTML, around ...*navPage) {
	l := layout{Title: title, Kind: kind, Here: url,
		Up: strings.Repeat("../", strings.Count(url, "/")), Nav: b.nav, Main: main}
	if len(around) == 2 {
		l.Prev, l.Next = around[0], around[1]
	}
	var out bytes.Buffer
	if err := templates.ExecuteTemplate(&out, "layout.html", l); err != nil {
		b.problem("%s: %v", url, err)
		return
	}
	b.site.Files[url] = out.Bytes()
}

// around finds the pages before and after one.
func around(list []navPage, url string) (prev, next *navPage) {
	i := slices.IndexFunc(list, func(p navPage) bool { return p.URL == url })
	if i > 0 {
		prev = &list[i-1]
	}
	if i >= 0 && i+1 < len(list) {
		next = &list[i+1]
	}
	return prev, next
}

// render fills a template and returns its HTML.
func (b *builder) render(name string, data any) template.HTML {
	var out bytes.Buffer
	if err := templates.ExecuteTemplate(&out, name, data); err != nil {
		b.problem("%s: %v", name, err)
	}
	return template.HTML(out.String())
}

// addAssets puts the style sheets and the scripts into the site.
func (b *builder) addAssets() {
	for _, name := range []string{"reader.css", "reader.js", "slides.css", "slides.js"} {
		b.site.Files["assets/"+name], _ = assets.ReadFile("assets/" + name)
	}
	b.site.Files["assets/reader.css"] = append(b.site.Files["assets/reader.css"], gridCSS()...)
}

// gridCSS places the cells of the side-by-side pages; classes, so that the pages need no
// style attributes.
func gridCSS() string {
	var css strings.Builder
	css.WriteString("@media (min-width: 60rem) {\n")
	for i := 1; i <= maxGridRows; i++ {
		fmt.Fprintf(&css, ".r%d{grid-row-start:%d}.s%d{grid-row-end:span %d}\n", i, i, i, i)
	}
	css.WriteString("}\n")
	for i := 0; i <= maxIndent; i++ {
		fmt.Fprintf(&css, ".i%d{padding-left:%dch;text-indent:-%dch}\n", i, i+2, i+2)
	}
	return css.String()
}

// Bounds of the classes that gridCSS makes.
const (
	maxGridRows = 24 // rows of a page: ten steps, what happens between them, head and rest
	maxIndent   = 40 // columns of a line's indentation
)

// loadC reads a chapter's C file, once, and says in a note how it agrees with the book.
func (b *builder) loadC(chapter book.Chapter) (*csource.File, csource.Alignment) {
	if b.cdir == nil {
		return nil, csource.Alignment{}
	}
	c, ok := b.loaded[chapter.Dir]
	if !ok {
		c.file, c.alignment = b.readC(chapter)
		b.loaded[chapter.Dir] = c
	}
	return c.file, c.alignment
}

func (b *builder) readC(chapter book.Chapter) (*csource.File, csource.Alignment) {
	b.site.Sources = append(b.site.Sources, b.cname+string(os.PathSeparator)+chapter.C.File)
	f, err := csource.Load(b.cdir, chapter.C.File)
	if err != nil {
		a := csource.Alignment{Notes: []string{err.Error() + ". Its outline is shown instead"}}
		b.site.Notes = append(b.site.Notes, a.Notes[0])
		return nil, a
	}
	a := csource.Align(chapter.C, f)
	a.Notes = append(slices.Clone(f.Notes), a.Notes...)
	for i, n := range a.Notes {
		a.Notes[i] = chapter.C.File + ": " + n
	}
	b.site.Notes = append(b.site.Notes, a.Notes...)
	return f, a
}
