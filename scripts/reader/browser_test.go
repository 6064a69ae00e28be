package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	cdpruntime "github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/google/go-cmp/cmp"

	"reverseproxy/internal/book"
	"reverseproxy/internal/browser"
	"reverseproxy/internal/harness"
	"reverseproxy/scripts/reader/cfiles"
	"reverseproxy/scripts/reader/site"
)

// watched is a browser tab, what it has asked for and what went wrong in it.
type watched struct {
	context.Context
	mu     sync.Mutex
	asked  []string
	errors []string
}

const (
	patience = 2 * time.Minute  // for what a page must show
	tabTime  = 10 * time.Minute // for all that a test does in its window
)

// chromium is the browser of all tests.
var chromium struct {
	once sync.Once
	tab  context.Context
	err  error
}

// openTab opens a window of the test's own, or skips the test if there is no browser.
func openTab(t *testing.T) *watched {
	t.Helper()
	if _, err := browser.Find(); err != nil {
		harness.Missing(t, err.Error())
	}
	chromium.once.Do(func() {
		var stop func()
		chromium.tab, stop, chromium.err = browser.Start(context.Background())
		if chromium.err == nil {
			atTheEnd = append(atTheEnd, stop)
		}
	})
	if chromium.err != nil {
		t.Fatal(chromium.err)
	}
	tab, cancel, err := browser.Window(chromium.tab)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cancel)
	tab, stop := context.WithTimeout(tab, tabTime)
	t.Cleanup(stop)
	w := &watched{Context: tab}
	chromedp.ListenTarget(tab, func(event any) {
		w.mu.Lock()
		defer w.mu.Unlock()
		switch e := event.(type) {
		case *network.EventRequestWillBeSent:
			w.asked = append(w.asked, e.Request.URL)
		case *cdpruntime.EventExceptionThrown:
			w.errors = append(w.errors, e.ExceptionDetails.Error())
		case *cdpruntime.EventConsoleAPICalled:
			if e.Type == cdpruntime.APITypeError {
				w.errors = append(w.errors, "console.error")
			}
		}
	})
	if err := chromedp.Run(tab, network.Enable(), cdpruntime.Enable()); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *watched) run(t *testing.T, actions ...chromedp.Action) {
	t.Helper()
	if err := chromedp.Run(w.Context, actions...); err != nil {
		t.Fatal(err)
	}
}

// until waits until a script returns what is true.
func until(script string) chromedp.Action {
	return browser.Until(script, patience)
}

// resize gives the page a window of another size.
func resize(width, height int64) chromedp.Action {
	return chromedp.Tasks{chromedp.EmulateViewport(width, height),
		until(fmt.Sprintf("innerWidth === %d", width))}
}

// eval evaluates a script that returns text.
func (w *watched) eval(t *testing.T, script string) string {
	t.Helper()
	var result string
	w.run(t, chromedp.Evaluate(script, &result))
	return result
}

// check fails the test if the tab asked for something that does not begin with
// base, or if a script failed.
func (w *watched) check(t *testing.T, base string) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, url := range w.asked {
		if !strings.HasPrefix(url, base) && !strings.HasPrefix(url, "data:") &&
			url != "about:blank" {
			t.Errorf("the page asked for %s", url)
		}
	}
	for _, e := range w.errors {
		t.Error(e)
	}
	if len(w.asked) == 0 {
		t.Error("nothing was asked for: the test does not see requests")
	}
}

const (
	lit = `Array.from(document.querySelectorAll(".cell.lit"),
		c => c.classList[1] + " " + c.dataset.rows).join(", ")`
	shown  = `getComputedStyle(document.querySelector(".cell.kernel[data-rows]")).display`
	themed = `getComputedStyle(document.body).backgroundColor`
)

// point moves the pointer onto an element.
func point(selector string) chromedp.Action {
	return chromedp.ActionFunc(func(ctx context.Context) error {
		var at []float64
		err := chromedp.Evaluate(`(() => { const e = document.querySelector(`+"`"+selector+"`"+`);
			e.scrollIntoView({block: "center"});
			const r = e.getBoundingClientRect();
			return [r.left + r.width / 2, r.top + Math.min(r.height / 2, 40)] })()`, &at).Do(ctx)
		if err != nil {
			return err
		}
		return chromedp.MouseEvent("mouseMoved", at[0], at[1]).Do(ctx)
	})
}

func TestSideBySideInBrowser(t *testing.T) {
	root := smallBook(t)
	addr := startServer(t, site.Options{Root: root, CDir: cfiles.Dir(t)})
	w := openTab(t)
	base := "http://" + addr + "/"
	w.run(t, chromedp.Navigate(base+"side-by-side/ch4_threaded.html"), chromedp.WaitReady("#side"))

	// The step under the pointer is lit on all sides, from either.
	for selector, want := range map[string]string{
		`.cell.c[data-rows="5"]`:      "c 5, go 5, kernel 5",
		`.cell.go[data-rows="8"]`:     "c 8, go 8, kernel 8",
		`.cell.kernel[data-rows="1"]`: "c 1, go 1, kernel 1",
	} {
		w.run(t, point(selector))
		if diff := cmp.Diff(want, w.eval(t, lit)); diff != "" {
			t.Errorf("%s: %s", selector, diff)
		}
	}
	// All sides of a row begin at the same height.
	if got := w.eval(t, `Array.from(document.querySelectorAll(".cell.c[data-rows]")).filter(c => {
		const rows = "[data-rows~='" + c.dataset.rows + "']";
		const at = e => e.getBoundingClientRect().top;
		const top = s => at(document.querySelector(".cell." + s + rows));
		return top("go") !== at(c) || top("kernel") !== at(c)
	}).map(c => c.dataset.rows).join(" ")`); got != "" {
		t.Errorf("rows at different heights: %s", got)
	}

	// Keys: j and k step, digits jump, x folds.
	for _, tt := range []struct{ keys, want string }{
		{"2", "c 2, go 2, kernel 2"}, {"j", "c 3, go 3, kernel 3"},
		{"jj", "c 4a, go 4a, kernel 4a"},
		{"0", "c 10, go 10, kernel 10"}, {"k" + kb.ArrowUp, "c 8, go 8, kernel 8"},
		{kb.ArrowDown, "c 9, go 9, kernel 9"},
		{kb.Escape, ""},
	} {
		w.run(t, chromedp.KeyEvent(tt.keys))
		if diff := cmp.Diff(tt.want, w.eval(t, lit)); diff != "" {
			t.Errorf("keys %q: %s", tt.keys, diff)
		}
	}
	w.run(t, chromedp.KeyEvent("5"))
	if got := w.eval(t, `(() => {
		const r = document.getElementById("step-5").getBoundingClientRect();
		const bar = document.querySelector(".heads").getBoundingClientRect().bottom;
		return r.top >= bar - 1 && r.top < bar + 60 ? "below the head" :
			"at " + r.top + ", head ends at " + bar
	})()`); got != "below the head" {
		t.Errorf("the step is not in view: %s", got)
	}
	w.run(t, chromedp.KeyEvent(kb.Tab))
	if got := w.eval(t, `(e => e.className.split(" ").slice(0, 2).join(" ") + " " +
		e.dataset.rows)(document.activeElement)`); got != "cell go 5" {
		t.Errorf("Tab leads to %q", got)
	}

	// The kernel column folds, by key and button, and stays so on the next page.
	w.run(t, chromedp.KeyEvent("x"))
	if got := w.eval(t, shown); got != "none" {
		t.Errorf("x leaves the column %s", got)
	}
	w.run(t, chromedp.Navigate(base+"side-by-side/ch2_basic_proxy.html"),
		chromedp.WaitReady("#side"))
	if got := w.eval(t, shown); got != "none" {
		t.Error("the next page unfolds the column")
	}
	w.run(t, chromedp.Click("#fold"))
	if got := w.eval(t, shown); got == "none" {
		t.Error("the button does not unfold the column")
	}

	// Light and dark.
	before := w.eval(t, themed)
	w.run(t, chromedp.Click("#theme"))
	if w.eval(t, themed) == before {
		t.Error("the theme does not change")
	}
	w.check(t, base)
}

func TestDiffInBrowser(t *testing.T) {
	root := smallBook(t)
	addr := startServer(t, site.Options{Root: root})
	w := openTab(t)
	w.run(t, chromedp.Navigate("http://"+addr+"/diff/ch2_basic_proxy--ch4_threaded.html"),
		chromedp.WaitReady("#diff"))
	visible := `String(Array.from(document.querySelectorAll("#diff tbody tr"))
		.filter(r => r.getBoundingClientRect().height > 0).length)`
	before := w.eval(t, visible)
	w.run(t, chromedp.Click("#all"))
	if after := w.eval(t, visible); after == before {
		t.Errorf("%s rows before and after", before)
	}
	w.check(t, "http://"+addr+"/")
}

// The static site works from a file, and every link of it leads to a page.
func TestFromAFile(t *testing.T) {
	smallBook(t)
	out := filepath.Join(t.TempDir(), "site")
	if status, stdout, stderr := reader(t.Context(), "-c", cfiles.Dir(t), "-o", out); status != 0 {
		t.Fatalf("exit %d: %s%s", status, stdout, stderr)
	}
	w := openTab(t)
	base := "file://" + out + "/"
	w.run(t, chromedp.Navigate(base+"index.html"), chromedp.WaitReady("main"))
	w.run(t, chromedp.Click(`a[href="docs/working_mechanism.html"]`),
		chromedp.WaitVisible("svg.sequence"))
	w.run(t, chromedp.Click(`.steps a[href="../side-by-side/ch4_threaded.html"]`),
		until(`document.querySelector("#side") && document.readyState === "complete"`),
		point(`.cell.c[data-rows="6"]`))
	if got := w.eval(t, lit); got != "c 6, go 6, kernel 6" {
		t.Errorf("lit: %s", got)
	}
	w.check(t, base)
}

// overflow finds what is cut off or overlaps: a page wider than the window, code
// that leaves its cell, cells that cover each other, text that is too small.
const overflow = `(() => {
	const found = [];
	const wide = document.scrollingElement.scrollWidth;
	if (wide > innerWidth) found.push("the page is " + wide + " wide");
	const boxes = Array.from(document.querySelectorAll(".cell"),
		e => [e, e.getBoundingClientRect()]).filter(([, r]) => r.width > 0);
	for (const [e, r] of boxes) {
		for (const line of e.querySelectorAll("code, p, h2, li"))
			if (line.getBoundingClientRect().right > r.right + 0.5)
				found.push("cut off: " + line.textContent.slice(0, 40));
		for (const [f, s] of boxes)
			if (e !== f && r.left < s.right - 1 && s.left < r.right - 1 &&
				r.top < s.bottom - 1 && s.top < r.bottom - 1)
				found.push("overlap: " + e.className + " and " + f.className);
	}
	for (const e of document.querySelectorAll(".bar *, .heads *, .intro *")) {
		const r = e.getBoundingClientRect();
		if (r.width > 0 && r.right > innerWidth + 0.5)
			found.push("off the screen: " + e.textContent);
		if (e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).display !== "inline")
			found.push("shortened: " + e.textContent);
	}
	for (const e of document.querySelectorAll("main code, main p, main small, main li, .book a"))
		if (e.getBoundingClientRect().width > 0 && parseFloat(getComputedStyle(e).fontSize) < 13)
			found.push("small: " + e.textContent.slice(0, 40));
	return found.slice(0, 10).join("\n");
})()`

// tooWide says so if a page is wider than its window.
const tooWide = `(wide => wide > innerWidth ? "the page is " + wide + " wide" : "")(
	document.scrollingElement.scrollWidth)`

// scrollers finds what is wider than its box and cannot be scrolled by keyboard.
const scrollers = `Array.from(document.querySelectorAll("main *, .bar, .book")).filter(e =>
	/auto|scroll/.test(getComputedStyle(e).overflowX) && e.scrollWidth > e.clientWidth + 1 &&
	e.tabIndex < 0 && !e.querySelector("a, button")).map(e => e.outerHTML.slice(0, 60)).join("\n")`

// pale finds text whose contrast with what is behind it is below WCAG's AA.
const pale = `(() => {
	const parse = c => (c.match(/[\d.]+/g) || []).map(Number);
	const luminance = c => c.slice(0, 3).map(v => v / 255)
		.map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
		.reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
	const behind = e => {
		for (; e; e = e.parentElement) {
			const c = parse(getComputedStyle(e).backgroundColor);
			if (c.length === 3 || c[3] === 1) return c;
			if (c[3] > 0) return null; // half transparent: not used here
		}
		return [255, 255, 255];
	};
	const found = new Set();
	const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	while (walk.nextNode()) {
		const e = walk.currentNode.parentElement;
		if (!walk.currentNode.textContent.trim() || e.getBoundingClientRect().width === 0 ||
			e.closest("script, svg")) continue;
		const style = getComputedStyle(e);
		const back = behind(e);
		const a = luminance(parse(style.color)), b = back && luminance(back);
		const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
		const size = parseFloat(style.fontSize);
		const large = size >= 24 || size >= 18.66 && style.fontWeight >= 700;
		if (back === null || ratio < (large ? 3 : 4.5))
			found.add(ratio.toFixed(2) + " " + (e.className || e.tagName) + ": " +
				e.textContent.slice(0, 30));
	}
	return Array.from(found).slice(0, 8).join("\n");
})()`

// Every page fits 500 pixels, too; what is wider scrolls, by keyboard as well; and all
// text can be read in light and in dark.
func TestNarrowAndReadable(t *testing.T) {
	t.Parallel()
	built, base := thisBook(t)
	w := openTab(t)
	for _, name := range slices.Sorted(maps.Keys(built.Files)) {
		kind, _, _ := strings.Cut(name, "/")
		few := harness.Race || testing.Short()
		if !strings.HasSuffix(name, ".html") || kind == "source" && name != "source/go.mod.html" ||
			few && name != "index.html" && name != "side-by-side/ch3_process_model.html" {
			continue
		}
		w.run(t, chromedp.EmulateViewport(1280, 720), chromedp.Navigate(base+name),
			chromedp.WaitReady("main"))
		if got := w.eval(t, tooWide); got != "" {
			t.Errorf("%s, 1280 pixels: %s", name, got)
		}
		w.run(t, resize(500, 800))
		if got := w.eval(t, tooWide); got != "" {
			t.Errorf("%s: %s", name, got)
		}
		if got := w.eval(t, `(h => h && h.getBoundingClientRect().top > 300 ?
			"the text begins out of sight" : "")(document.querySelector("main h1"))`); got != "" {
			t.Errorf("%s: %s", name, got)
		}
		if got := w.eval(t, scrollers); got != "" {
			t.Errorf("%s: no keyboard scrolls\n%s", name, got)
		}
		for _, theme := range []string{"light", "dark"} {
			w.run(t, chromedp.Evaluate(`document.documentElement.dataset.theme = "`+theme+`"`, nil))
			if got := w.eval(t, pale); got != "" {
				t.Errorf("%s, %s: too little contrast\n%s", name, theme, got)
			}
		}
	}
	w.check(t, base)
}

// A wide table is reached with Tab and scrolled with the arrow keys.
func TestTableByKeyboard(t *testing.T) {
	base := "http://" + startServer(t, site.Options{Root: smallBook(t)}) + "/"
	w := openTab(t)
	w.run(t, chromedp.EmulateViewport(500, 800), chromedp.Navigate(base),
		chromedp.WaitReady("main table"))
	table := `document.querySelector("main table").parentElement`
	w.run(t, chromedp.Evaluate(`document.querySelector("main a[href*=mechanism]").focus()`, nil),
		chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent(kb.ArrowRight))
	w.run(t, until(table+`.scrollLeft > 0`))
	w.check(t, base)
}

// Steps are no pages: Back leaves the page at once, and returns to the step that was left.
func TestBack(t *testing.T) {
	base := "http://" + startServer(t, site.Options{Root: smallBook(t)}) + "/"
	w := openTab(t)
	back := chromedp.Evaluate(`void history.back()`, nil)
	w.run(t, chromedp.Navigate(base+"chapters.html"), chromedp.WaitReady("main"),
		chromedp.Navigate(base+"side-by-side/ch4_threaded.html"), chromedp.WaitReady("#side"),
		chromedp.KeyEvent("5jj"), chromedp.Click("#fold"), chromedp.Click("#theme"),
		chromedp.Click(`.brand`), until(`document.title.startsWith("The book")`), back,
		until(`document.querySelector("#step-7.lit") !== null`))
	// An address of a step works inside the page, too.
	w.run(t, chromedp.Evaluate(`location.hash = "#step-2"`, nil),
		until(`document.querySelector("#step-2.lit") !== null`), back,
		until(`document.querySelector("#step-7.lit") !== null`), back,
		until(`location.pathname === "/chapters.html"`))
	w.check(t, base)
}

// folded finds lines of Go that do not fit beside C and kernel.
const folded = `Array.from(document.querySelectorAll(".cell.go .ln"))
	.filter(l => l.getBoundingClientRect().height > 26).map(l => l.textContent).join("\n")`

// Every page of this repository's book fits a projector's 1280 by 720.
func TestNothingOverlaps(t *testing.T) {
	t.Parallel()
	with, base := thisBook(t)
	outlined := []string{"ch3_process_model", "ch5_load_balancer"}
	some := t.TempDir() // without the C files
	for _, chapter := range outlined {
		src, err := os.ReadFile(filepath.Join(harness.Root(), chapter, "main.go"))
		if err != nil {
			t.Fatal(err)
		}
		cfiles.Write(t, some, chapter+"/main.go", string(src))
	}
	outline := startServer(t, site.Options{Root: some})
	w := openTab(t)
	look := func(url string) {
		t.Helper()
		w.run(t, chromedp.Navigate(url), chromedp.WaitReady("main"))
		if found := w.eval(t, overflow); found != "" {
			t.Errorf("%s:\n%s", url, found)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(with.Files)) {
		kind, _, _ := strings.Cut(name, "/")
		few := harness.Race || testing.Short()
		switch {
		case strings.HasPrefix(name, "docs/runs/"): // the live page's, with tests of its own
		case !strings.HasSuffix(name, ".html") || kind == "source":
		// all look the same
		case kind == "diff" && name != "diff/ch2_basic_proxy--ch4_threaded.html":
		case few && name != "index.html" && name != "side-by-side/ch3_process_model.html":
		case kind == "side-by-side":
			look(base + name)
			chapter, _ := book.Find(strings.TrimSuffix(path.Base(name), ".html"))
			// Go beside Go has no room for lines of 76 columns.
			if lines := w.eval(t, folded); lines != "" && chapter.C != nil {
				t.Errorf("%s: lines of Go are folded:\n%s", name, lines)
			}
			w.run(t, chromedp.KeyEvent("x"))
			if found := w.eval(t, overflow); found != "" {
				t.Errorf("%s, folded:\n%s", name, found)
			}
			w.run(t, chromedp.KeyEvent("x"))
		default:
			look(base + name)
		}
	}
	for _, chapter := range outlined {
		look("http://" + outline + "/side-by-side/" + chapter + ".html")
	}
	// The largest text leaves the bar where it is and cuts nothing off.
	w.run(t, chromedp.Navigate(base+"side-by-side/ch4_threaded.html"),
		chromedp.WaitReady("#side"),
		chromedp.KeyEvent("++++++++++"))
	if got := w.eval(t, `getComputedStyle(document.documentElement).fontSize`); got != "28.8px" {
		t.Errorf("the largest text is %s", got)
	}
	for _, line := range strings.Split(w.eval(t, overflow), "\n") {
		if line != "" && !strings.HasPrefix(line, "shortened: C") &&
			!strings.HasPrefix(line, "shortened: Go") {
			t.Errorf("largest text: %s", line)
		}
	}
	w.check(t, "http://127.0.0.1:")
}
