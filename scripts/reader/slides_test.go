package main

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"reverseproxy/internal/harness"
	"reverseproxy/scripts/reader/cfiles"
)

// cutOff finds what of a slide cannot be read from the last row: what leaves the slide, what is
// covered by the foot, text that is too small.
const cutOff = `(() => {
	const found = [];
	const slide = document.querySelector(".slide:not([hidden])");
	const body = slide.querySelector(".body");
	const name = location.hash + " " + slide.querySelector("h1, h2").textContent + ": ";
	if (body.scrollHeight > body.clientHeight + 1 || body.scrollWidth > body.clientWidth + 1)
		found.push(name + body.scrollHeight + " of " + body.clientHeight + " pixels");
	const r = slide.getBoundingClientRect();
	const foot = document.querySelector(".foot").getBoundingClientRect().top;
	for (const e of slide.querySelectorAll("h1, h2, h3, p, li, td, th, code, img, svg")) {
		const s = e.getBoundingClientRect();
		if (s.width === 0) continue;
		if (s.right > r.right || s.bottom > foot + 1 || s.left < r.left || s.top < r.top)
			found.push(name + "leaves the slide: " + e.textContent.slice(0, 40));
	}
	const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	while (walk.nextNode()) {
		const e = walk.currentNode.parentElement;
		if (!walk.currentNode.textContent.trim() || e.getBoundingClientRect().width === 0 ||
			e.closest("script, svg, .no")) continue;
		const size = parseFloat(getComputedStyle(e).fontSize);
		const code = e.closest("code, pre, .gap, td, th");
		if (size < (code ? 16 : 20)) found.push(name + size + "px: " + e.textContent.slice(0, 40));
	}
	if (!slide.textContent.replace(slide.querySelector("h1, h2").textContent, "").trim() &&
		!slide.querySelector("img, svg")) found.push(name + "empty");
	return found.slice(0, 5).join("\n");
})()`

// number is the slide that is shown, "3 / 30".
const number = `document.getElementById("at").textContent`

// Every slide of every chapter can be read at a projector's 1024 by 768 pixels.
func TestSlidesFit(t *testing.T) {
	t.Parallel()
	built, base := thisBook(t)
	for _, p := range built.Problems {
		t.Error(p)
	}
	w := openTab(t)
	w.run(t, chromedp.EmulateViewport(1024, 768))
	for _, name := range slices.Sorted(maps.Keys(built.Files)) {
		if !strings.HasPrefix(name, "slides/ch") || harness.Race && !strings.Contains(name, "ch5") {
			continue
		}
		w.run(t, chromedp.Navigate(base+name), chromedp.WaitReady("[data-ready]"))
		var slides int
		w.run(t, chromedp.Evaluate(`document.querySelectorAll(".slide").length`, &slides))
		if slides < 5 {
			t.Errorf("%s has %d slides", name, slides)
		}
		if got := w.eval(t, `(() => {
			const found = [];
			for (const slide of document.querySelectorAll(".slide")) {
				for (const theme of ["light", "dark"]) {
					document.documentElement.dataset.theme = theme;
					const faint = `+pale+`;
					if (faint) found.push(location.hash + " " + theme + ", contrast: " + faint);
				}
				found.push(`+cutOff+`);
				document.body.dispatchEvent(
					new KeyboardEvent("keydown", {key: "ArrowRight", bubbles: true}));
			}
			return found.filter(f => f).join("\n");
		})()`); got != "" {
			t.Errorf("%s: %s", name, got)
		}
		if got, want := w.eval(t, number), fmt.Sprintf("%d / %d", slides, slides); got != want {
			t.Errorf("%s: at %s after %d keys", name, got, slides)
		}
	}
	w.check(t, base)
}

// Keys, the address and Back lead from slide to slide, also from a file; printed, each slide
// is a page.
func TestSlidesByKeys(t *testing.T) {
	t.Chdir(harness.Root())
	out := filepath.Join(t.TempDir(), "slides")
	status, stdout, stderr := reader(t.Context(), "-slides", "-c", cfiles.Dir(t), "-o", out)
	if status != 0 {
		t.Fatalf("exit %d: %s%s", status, stdout, stderr)
	}
	w := openTab(t)
	base := "file://" + out + "/"
	w.run(t, chromedp.EmulateViewport(1024, 768), chromedp.Navigate(base+"index.html"),
		chromedp.Click(`a[href$="ch4_threaded.html"]`), chromedp.WaitReady("[data-ready]"))
	_, all, _ := strings.Cut(w.eval(t, number), " / ")
	at := func(want string) {
		t.Helper()
		hash := `location.hash.slice(1) || "1"`
		if got := w.eval(t, number); got != want+" / "+all || w.eval(t, hash) != want {
			t.Errorf("at %s, #%s; want %s", got, w.eval(t, hash), want)
		}
	}
	at("1")
	for _, tt := range []struct{ key, want string }{
		{kb.ArrowRight, "2"}, {" ", "3"}, {kb.PageDown, "4"}, {kb.PageUp, "3"},
		{kb.ArrowLeft, "2"}, {kb.End, all}, {kb.ArrowRight, all}, {kb.Home, "1"},
		{kb.ArrowLeft, "1"}, {kb.ArrowDown, "2"},
	} {
		w.run(t, chromedp.KeyEvent(tt.key))
		at(tt.want)
	}
	w.run(t, chromedp.NavigateBack())
	at("1")
	w.run(t, chromedp.NavigateBack())
	at(all)
	w.run(t, chromedp.Navigate(base+"slides/ch4_threaded.html#step-5"),
		chromedp.WaitReady("[data-ready]"))
	heading := `document.querySelector(".slide:not([hidden]) h2").textContent`
	if got := w.eval(t, heading); got != "Step 5: read the request" {
		t.Errorf("#step-5 leads to %q", got)
	}
	notes := `(e => e.hidden ? "" : e.textContent)(document.getElementById("notes"))`
	w.run(t, chromedp.KeyEvent("n"))
	if got := w.eval(t, notes); !strings.Contains(got, "receive buffer") {
		t.Errorf("the notes of step 5: %q", got)
	}
	w.run(t, chromedp.KeyEvent("n"))
	if got := w.eval(t, notes); got != "" {
		t.Errorf("the notes stay: %q", got)
	}
	var pdf []byte
	w.run(t, chromedp.ActionFunc(func(ctx context.Context) (err error) {
		pdf, _, err = page.PrintToPDF().WithPreferCSSPageSize(true).Do(ctx)
		return err
	}))
	if got := fmt.Sprint(bytes.Count(pdf, []byte("/Type /Page\n"))); got != all {
		t.Errorf("%s pages of paper for %s slides", got, all)
	}
	w.check(t, base)
}
