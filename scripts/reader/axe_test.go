package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"reverseproxy/internal/browser"
	"reverseproxy/internal/harness"
	"reverseproxy/scripts/reader/cfiles"
	"reverseproxy/scripts/reader/site"
)

// axe-core finds nothing serious on a page of each kind.
func TestNoBarriers(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	axe, err := browser.FindAxe(root)
	if err != nil {
		harness.Missing(t, err.Error())
	}
	base := "http://" + startServer(t, site.Options{Root: root, CDir: cfiles.Dir(t)}) + "/"
	w := openTab(t)
	for _, page := range []string{"index.html", "chapters.html", "docs/working_mechanism.html",
		"docs/models_compared.html", "docs/ch9_balancing_algorithms.html",
		"side-by-side/ch3_process_model.html", "side-by-side/ch10_event_loop.html",
		"diff/ch2_basic_proxy--ch4_threaded.html", "source/ch4_threaded/main.go.html",
		"source/ch9_balancing_algorithms/choose/index.html", "playground.html", "slides/index.html",
		"slides/ch4_threaded.html", "slides/ch4_threaded.html#6", "slides/ch4_threaded.html#9",
		"slides/ch9_balancing_algorithms.html#17"} {
		if harness.Race && !strings.HasPrefix(page, "p") {
			continue
		}
		w.run(t, chromedp.Navigate("about:blank"), chromedp.Navigate(base+page),
			chromedp.WaitReady("main"))
		found, err := browser.Barriers(w.Context, axe)
		if err != nil {
			t.Fatalf("%s: %v", page, err)
		}
		for _, f := range found {
			t.Errorf("%s: %s", page, f)
		}
	}
	w.check(t, base)
}
