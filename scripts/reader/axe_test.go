package main

import (
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"reverseproxy/internal/browser"
	"reverseproxy/internal/harness"
)

// axe-core finds nothing serious on a page of each kind.
func TestNoBarriers(t *testing.T) {
	axe, err := browser.FindAxe(harness.Root())
	if err != nil {
		harness.Missing(t, err.Error())
	}
	t.Parallel()
	_, base := thisBook(t)
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
