package site

import (
	"fmt"
	"html/template"
	"io/fs"
	"path"
	"slices"
	"strings"
	"unicode/utf8"
)

// maxSource bounds the size in bytes of a source file or picture of the site.
const maxSource = 2 << 20

// place is where the site has a file or directory of the repository. What is not
// there yet is made: pictures are copied, sources become pages.
func (b *builder) place(file string) (string, error) {
	if file == ".." || strings.HasPrefix(file, "../") || path.IsAbs(file) {
		return "", fmt.Errorf("it leads out of the repository")
	}
	if b.pages[file] {
		return documentURL(file), nil
	}
	info, err := b.repo.Stat(file)
	if err != nil {
		return "", fmt.Errorf("there is no %s", file)
	}
	switch ext := path.Ext(file); {
	case slices.Contains([]string{".png", ".svg", ".jpg", ".jpeg", ".gif", ".webp"}, ext),
		strings.HasPrefix(file, Runs) && ext == ".html":
		if _, ok := b.site.Files[file]; !ok {
			picture, err := b.read(file)
			if err != nil || len(picture) > maxSource {
				return "", fmt.Errorf("%s cannot be read, or is larger than %d bytes", file,
					maxSource)
			}
			b.site.Files[file] = picture
		}
		return file, nil
	}
	if !b.queued[file] {
		b.queued[file] = true
		b.wanted = append(b.wanted, file)
	}
	if info.IsDir() {
		return path.Join("source", file, "index.html"), nil
	}
	return path.Join("source", file+".html"), nil
}

// Runs is the folder of recorded runs. They are shown as they are: each has a script
// of its own, and a policy that lets it load nothing.
const Runs = "docs/runs/"

// sources makes the pages that place has promised; pages of directories promise more.
func (b *builder) sources() {
	for len(b.wanted) > 0 {
		file := b.wanted[0]
		b.wanted = b.wanted[1:]
		info, err := b.repo.Stat(file)
		switch {
		case err != nil:
			b.problem("%s: %v", file, err)
		case info.IsDir():
			b.directory(file)
		default:
			b.source(file, info)
		}
	}
}

// sourcePage is what the template "source" shows.
type sourcePage struct {
	File  string
	Note  string
	Lines []template.HTML
	List  []navPage
}

func (b *builder) source(file string, info fs.FileInfo) {
	p := sourcePage{File: file}
	if src, err := b.read(file); err != nil || info.Size() > maxSource {
		p.Note = fmt.Sprintf("This file cannot be shown: %d bytes.", info.Size())
	} else if !utf8.Valid(src) || slices.Contains(src, 0) {
		p.Note = fmt.Sprintf("%d bytes that are no text.", len(src))
	} else {
		p.Lines = highlight(language(file), string(src))
	}
	b.page(path.Join("source", file+".html"), "source", file, b.render("source.html", p))
}

func (b *builder) directory(dir string) {
	b.depends(dir)
	p := sourcePage{File: dir + "/"}
	entries, err := fs.ReadDir(b.repo.FS(), dir)
	if err != nil {
		b.problem("%s: %v", dir, err)
	}
	here := path.Join("source", dir, "index.html")
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		if strings.HasPrefix(e.Name(), ".") || e.Name() == "node_modules" || !e.IsDir() &&
			!e.Type().IsRegular() {
			continue
		}
		to, err := b.place(name)
		if err != nil {
			b.problem("%s: %v", name, err)
			continue
		}
		title := e.Name()
		if e.IsDir() {
			title += "/"
		}
		p.List = append(p.List, navPage{Title: title, URL: relative(here, to)})
	}
	b.page(here, "source", dir, b.render("source.html", p))
}

// overview makes the page of chapters, which is also the first page if there is no
// README.
func (b *builder) overview(readme bool) {
	main := b.render("overview.html", b.nav)
	b.page("chapters.html", "document", "The chapters", main)
	if !readme {
		b.page("index.html", "document", "Reverse proxies, chapter by chapter", main)
	}
}
