// Command reader shows the book in the browser: the documents, and, for each
// chapter of Part I, the C original and the Go program side by side.
//
//	go run ./scripts/reader [-c DIR] [-listen 127.0.0.1:9091]
//	go run ./scripts/reader [-c DIR] -o SITE
//	go run ./scripts/reader -slides [-c DIR] [-o SITE]
//	go run ./scripts/reader -screenshots DIR
//
// With -c DIR the left side is your own copy of the C programs, cut into the ten
// steps by its calls; without it, an outline of the calls. The site that -o writes
// works from a file and from any web server. Keep to yourself what you write with
// -c: it holds the C programs.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"reverseproxy/internal/book"
	"reverseproxy/scripts/reader/site"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// settings are the command line.
type settings struct {
	site        site.Options
	out         string // -o
	listen      string
	screenshots string
}

// parse reads the command line. It has printed what is wrong when it fails.
func parse(args []string, stderr io.Writer) (settings, error) {
	var s settings
	flags := flag.NewFlagSet("reader", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&s.site.CDir, "c", "",
		"`DIR` with your copy of the C programs, shown at the left")
	flags.StringVar(&s.out, "o", "",
		"write a static site into the directory `SITE` instead of serving")
	flags.StringVar(&s.listen, "listen", "127.0.0.1:9091",
		"serve on this `ADDR`, host:port; port 0 takes a free one")
	flags.StringVar(&s.screenshots, "screenshots", "",
		"write the pictures of the docs into `DIR` (needs Chromium)")
	flags.BoolVar(&s.site.Slides, "slides", false,
		"slides for each chapter, in the place of the book")
	flags.Usage = func() {
		fmt.Fprint(stderr, "Usage: go run ./scripts/reader [-slides] [-c DIR] "+
			"[-listen ADDR | -o SITE]\n\n"+
			"The book in the browser: its pages, and C and Go side by side, step by step.\n\n")
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	if flags.NArg() > 0 {
		fmt.Fprintf(stderr,
			"reader takes no argument %q; a folder of C programs is named with -c\n", flags.Arg(0))
		return s, errors.New("arguments")
	}
	return s, nil
}

// run is main with its surroundings as arguments; it returns the exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	s, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	} else if err != nil {
		return 2
	}
	if s.site.Root, err = book.Root(); err == nil {
		switch {
		case s.screenshots != "":
			err = screenshots(ctx, s, stdout)
		case s.out != "":
			err = write(s, stdout)
		default:
			err = serve(ctx, s, stdout)
		}
	}
	if err != nil {
		fmt.Fprintln(stderr, err)
		return 1
	}
	return 0
}

// report prints what there is to say of a built site.
func report(built *site.Site, out io.Writer) {
	for _, n := range built.Notes {
		fmt.Fprintln(out, "C:", n)
	}
	for _, p := range built.Problems {
		fmt.Fprintln(out, "problem:", p)
	}
}

// marker is the file by which the reader knows a directory it has written.
const marker = ".reverse-proxies-reader"

// write writes the static site.
func write(s settings, stdout io.Writer) error {
	built, err := site.Build(s.site)
	if err != nil {
		return err
	}
	report(built, stdout)
	if err := save(built, s.out); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "%d files in %s: open %s\n", len(built.Files), s.out,
		filepath.Join(s.out, "index.html"))
	if n := len(built.Problems); n > 0 {
		return fmt.Errorf("%d problems, listed above", n)
	}
	return nil
}

// save writes the pages into a directory, in the place of those of an earlier run.
func save(built *site.Site, dir string) error {
	if err := clear(dir); err != nil {
		return err
	}
	for name, body := range built.Files {
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return fmt.Errorf("cannot write the site: %w", err)
		}
		if err := os.WriteFile(file, body, 0o644); err != nil {
			return fmt.Errorf("cannot write the site: %w", err)
		}
	}
	return nil
}

// clear empties a directory that an earlier run has written, and refuses any
// other that holds something.
func clear(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("cannot write into %s: %w", dir, err)
	}
	if len(entries) > 0 {
		if _, err := os.Stat(filepath.Join(dir, marker)); err != nil {
			return fmt.Errorf("%s holds files that are not the reader's: name an empty directory",
				dir)
		}
		for _, e := range entries {
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("cannot write the site: %w", err)
	}
	return os.WriteFile(filepath.Join(dir, marker), []byte("go run ./scripts/reader -o\n"), 0o644)
}

// screenshots writes the pictures of the docs. Without -c they hold no C code.
func screenshots(ctx context.Context, s settings, stdout io.Writer) error {
	s.listen = "127.0.0.1:0"
	server, err := newServer(s, io.Discard)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// Serving ends when this function returns.
	go func() { _ = server.serve(ctx) }()
	if err := os.MkdirAll(s.screenshots, 0o755); err != nil {
		return err
	}
	return takePictures(ctx, "http://"+server.addr()+"/", s.screenshots, stdout)
}
