package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"reverseproxy/internal/book"
	"reverseproxy/internal/book/linediff"
)

func main() {
	flags := flag.NewFlagSet("docscheck", flag.ContinueOnError)
	update := flags.Bool("u", false, "rewrite blocks that have drifted")
	norun := flags.Bool("norun", false, "leave the transcripts alone")
	cdir := flags.String("c", "", "`folder` of the five C programs; without it stand-ins run")
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), "Usage: go run ./scripts/docscheck [-u] [-norun] [-c DIR] "+
			"[PAGE.md ...]\n\n"+
			"Compares what the pages quote, show and link to with the source and with fresh\n"+
			"runs. How to write the comments that it reads: go doc ./scripts/docscheck\n\n")
		flags.PrintDefaults()
	}
	if err := flags.Parse(os.Args[1:]); errors.Is(err, flag.ErrHelp) {
		return
	} else if err != nil {
		os.Exit(2)
	}
	if *cdir != "" {
		*cdir, _ = filepath.Abs(*cdir) // commands run elsewhere
	}
	root, err := book.Root()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	c := checker{root: root, cdir: *cdir, update: *update, norun: *norun, out: os.Stdout}
	if !c.run(flags.Args()) {
		os.Exit(1)
	}
}

// checker checks the pages of one repository.
type checker struct {
	root   string
	cdir   string // the C programs; "": the stand-ins in testdata
	update bool
	norun  bool
	out    io.Writer

	runner *runner // nil with norun
}

// run checks the pages, or all of them if none is named, prints what is wrong
// and says whether nothing is.
func (c *checker) run(pages []string) bool {
	if !c.norun {
		var err error
		if c.runner, err = newRunner(c.root, c.cdir); err != nil {
			fmt.Fprintln(c.out, err)
			return false
		}
		defer c.runner.close()
	}
	if len(pages) == 0 {
		pages, _ = book.Pages(os.DirFS(c.root))
	} else {
		pages = relativeTo(c.root, pages)
	}
	var problems []problem
	blocks, updated, skipped := 0, 0, 0
	for _, page := range pages {
		r := c.page(page)
		problems = append(problems, r.problems...)
		blocks, updated, skipped = blocks+r.blocks, updated+r.updated, skipped+r.skipped
	}
	for _, p := range problems {
		fmt.Fprintln(c.out, p)
	}
	fmt.Fprintf(c.out, "%d pages, %d checked blocks", len(pages), blocks)
	if updated > 0 {
		fmt.Fprintf(c.out, ", %d rewritten", updated)
	}
	if skipped > 0 {
		fmt.Fprintf(c.out, ", %d transcripts not run", skipped)
	}
	fmt.Fprintf(c.out, ": %d problems\n", len(problems))
	return len(problems) == 0
}

// relativeTo names files from the root, with slashes.
func relativeTo(root string, files []string) []string {
	var names []string
	for _, f := range files {
		if full, err := filepath.Abs(f); err == nil {
			if rel, err := filepath.Rel(root, full); err == nil {
				f = rel
			}
		}
		names = append(names, filepath.ToSlash(f))
	}
	return names
}

// result is what checking a page found.
type result struct {
	problems []problem
	blocks   int
	updated  int
	skipped  int
}

// page checks one page, and rewrites its drifted blocks if the checker updates.
func (c *checker) page(page string) result {
	file := filepath.Join(c.root, filepath.FromSlash(page))
	source, err := os.ReadFile(file)
	if err != nil {
		return result{problems: []problem{{page, 1, "cannot be read: " + err.Error()}}}
	}
	lines := linediff.Split(string(source))
	blocks, problems := parsePage(page, lines)
	r := result{problems: problems, blocks: len(blocks)}
	fresh := make([][]string, len(blocks)) // nil: as it is
	found := c.blocks(blocks)
	for i, b := range blocks {
		want, drift, err := found[i].want, found[i].drift, found[i].err
		switch {
		case errors.As(err, new(skip)):
			r.skipped++
			if c.out != nil && !c.norun {
				fmt.Fprintf(c.out, "%s:%d: note: %v\n", page, b.line, err)
			}
		case err != nil:
			r.problems = append(r.problems, problem{page, b.line, err.Error()})
		case drift != "" && c.update:
			fresh[i] = append([]string{}, want...)
		case drift != "":
			r.problems = append(r.problems, problem{page, b.line, drift})
		}
	}
	changed := lines
	for i, b := range slices.Backward(blocks) {
		if fresh[i] == nil {
			continue
		}
		if changed, err = b.replace(changed, fresh[i]); err != nil {
			r.problems = append(r.problems, problem{page, b.line, err.Error()})
			return r
		}
		r.updated++
	}
	if r.updated > 0 {
		source = []byte(strings.Join(changed, "\n") + "\n")
		if err := os.WriteFile(file, source, 0o644); err != nil {
			r.problems = append(r.problems, problem{page, 1, err.Error()})
		}
	}
	r.problems = append(r.problems, checkLinks(c.root, page, source)...)
	slices.SortStableFunc(r.problems, func(a, b problem) int { return a.line - b.line })
	return r
}

// skip is the reason why a block was not checked.
type skip struct{ reason string }

func (s skip) Error() string { return s.reason }

// outcome is what block returns.
type outcome struct {
	want  []string
	drift string
	err   error
}

// atOnce is how many blocks of a page are checked at the same time. Transcripts
// mostly wait, and each has ports of its own.
const atOnce = 4

// blocks checks the blocks of a page.
func (c *checker) blocks(blocks []block) []outcome {
	found := make([]outcome, len(blocks))
	slots := make(chan struct{}, atOnce)
	var all sync.WaitGroup
	for i, b := range blocks {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			found[i].want, found[i].drift, found[i].err = c.block(b)
		})
	}
	all.Wait()
	return found
}

// block makes the text that a block should hold, and describes how the block
// differs from it, "" if it does not.
func (c *checker) block(b block) (want []string, drift string, err error) {
	switch b.kind {
	case "quote":
		want, err = quote(c.root, b.args)
	case "diff":
		want, err = diffFiles(c.root, b.args)
	case "run":
		return c.transcript(b)
	}
	if err != nil || slices.Equal(want, b.text) {
		return want, "", err
	}
	return want, "the " + b.kind + " has drifted (-u rewrites it):\n" +
		indent(linediff.Unified("page", "source", b.text, want, diffContext)), nil
}

func (c *checker) transcript(b block) (want []string, drift string, err error) {
	if c.norun {
		return nil, "", skip{"-norun"}
	}
	s, err := parseScript(b.args, b.text)
	if err != nil {
		return nil, "", err
	}
	return c.runner.check(s)
}

// indent sets a difference off from the line that announces it.
func indent(text string) string {
	return "    " + strings.ReplaceAll(strings.TrimSuffix(text, "\n"), "\n", "\n    ")
}
