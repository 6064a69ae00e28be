package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/chromedp/chromedp"

	"reverseproxy/internal/browser"
)

// picture is a page of the book as the docs show it.
type picture struct {
	file, page string
	script     string // run before the picture is taken
}

var pictures = []picture{
	{"reader-side-by-side.png", "side-by-side/ch4_threaded.html#step-4", ""},
	{"reader-side-by-side-dark.png", "side-by-side/ch3_process_model.html#step-4a",
		`document.documentElement.dataset.theme = "dark"`},
	{"reader-diff.png", "diff/ch2_basic_proxy--ch4_threaded.html", ""},
}

// takePictures takes the pictures of the docs from the book served under base and
// writes them into a directory.
func takePictures(ctx context.Context, base, dir string, out io.Writer) error {
	tab, cancel, err := browser.Start(ctx)
	if err != nil {
		return err
	}
	defer cancel()
	for _, p := range pictures {
		shot, err := takePicture(tab, base+p.page, p.script)
		if err != nil {
			return fmt.Errorf("%s: %w", p.page, err)
		}
		file := filepath.Join(dir, p.file)
		if err := os.WriteFile(file, shot, 0o644); err != nil {
			return err
		}
		fmt.Fprintf(out, "%s: %d KB\n", file, (len(shot)+1023)/1024)
	}
	return nil
}

// takePicture opens a page in light colours, runs a script in it and returns a picture as PNG with
// at most 256 colours.
func takePicture(tab context.Context, url, script string) ([]byte, error) {
	tab, cancel := context.WithTimeout(tab, time.Minute)
	defer cancel()
	var shot []byte
	if script == "" {
		script = `document.documentElement.dataset.theme = "light"`
	}
	err := chromedp.Run(tab,
		chromedp.Navigate("about:blank"),
		chromedp.Navigate(url),
		chromedp.WaitReady("main"),
		chromedp.Evaluate(script, nil),
		chromedp.Evaluate(`document.fonts.ready.then(() => true)`, nil),
		chromedp.CaptureScreenshot(&shot),
	)
	if err != nil {
		return nil, err
	}
	return browser.Reduce(shot)
}
