package main

import (
	"encoding/json"
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"reverseproxy/ch9_balancing_algorithms/simulate"
	"reverseproxy/internal/harness"
	"reverseproxy/scripts/playground"
	"reverseproxy/scripts/reader/site"
)

// openPlayground opens the page, served.
func openPlayground(t *testing.T, still bool) (w *watched, base string) {
	t.Helper()
	t.Parallel()
	_, base = thisBook(t)
	w = openTab(t)
	motion := "no-preference"
	if still {
		motion = "reduce"
	}
	w.run(t, emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{
		{Name: "prefers-reduced-motion", Value: motion}}),
		chromedp.Navigate(base+site.Playground), chromedp.WaitReady("[data-ready]"))
	return w, base
}

// set changes a setting as a hand does.
func set(id, value string) chromedp.Action {
	return chromedp.Evaluate(fmt.Sprintf(`(e => {
		e.value = %q;
		for (const kind of ["input", "change"]) e.dispatchEvent(new Event(kind, {bubbles: true}));
	})(document.querySelector(%q))`, value, id), nil)
}

const (
	algorithmA = ".farm:first-child .algorithm"
	algorithmB = ".farm:last-child .algorithm"
	ended      = `document.getElementById("status").textContent.includes("all have ended")`
)

// figures reads the row of the run of both farms.
func (w *watched) figures(t *testing.T) (runs []simulate.Result) {
	t.Helper()
	all := w.eval(t, `JSON.stringify(Array.from(document.querySelectorAll(".farm"), f =>
		Object.fromEntries(["mean", "p50", "p99", "longest"].map(
			n => [n, Number(f.querySelector("." + n).dataset.exact)]))))`)
	if err := json.Unmarshal([]byte(all), &runs); err != nil {
		t.Fatalf("%s: %v", all, err)
	}
	return runs
}

// The browser computes what Go computes: the same jobs, the same choices, the same times.
func TestPlaygroundHasGosNumbers(t *testing.T) {
	w, base := openPlayground(t, true)
	jobs := 100_000
	if harness.Race {
		jobs = 10_000
	}
	for _, tt := range []struct {
		servers int
		load    float64
		work    string
		seed    uint64
		a, b    string
	}{
		{10, .9, "exponential", 1, "round-robin", "two-choices"},
		{3, .5, "exponential", 7, "least-connections", "random"},
		{5, .8, "pareto", 42, "least-time", "hot-cold"},
		{4, .7, "fixed", 3, "weighted-round-robin", "ring-hash"},
		{12, .6, "exponential", 999_999, "maglev", "rendezvous"},
		{2, .95, "exponential", 0, "jump-hash", "source-hash"},
	} {
		w.run(t, set("#servers", fmt.Sprint(tt.servers)), set("#load", fmt.Sprint(100*tt.load)),
			set("#work", tt.work), set("#jobs", fmt.Sprint(jobs)),
			set("#seed", fmt.Sprint(tt.seed)), set(algorithmA, tt.a), set(algorithmB, tt.b),
			chromedp.Click("#reset"), chromedp.Click("#end"),
			until(ended))
		got := w.figures(t)
		for i, name := range []string{tt.a, tt.b} {
			want := simulate.Run{New: simulate.Named(name), Servers: tt.servers,
				Rate: float64(tt.servers) * tt.load, Jobs: jobs, Seed: tt.seed,
				Work: playground.Works[tt.work]}.Simulate()
			if math.Abs(got[i].Mean/want.Mean-1) > 1e-9 || got[i].P50 != want.P50 ||
				got[i].P99 != want.P99 || got[i].Longest != want.Longest {
				t.Errorf("%s, %d servers: mean %v, p50 %v, p99 %v, longest %d in the browser; "+
					"in Go %v, %v, %v, %d", name, tt.servers, got[i].Mean, got[i].P50, got[i].P99,
					got[i].Longest, want.Mean, want.P50, want.P99, want.Longest)
			}
		}
	}
	w.check(t, base)
}

// Queues grow while one looks; P, O, R and E work, and Tab reaches every control.
func TestPlaygroundByKeyboard(t *testing.T) {
	w, base := openPlayground(t, false)
	arrived := `document.getElementById("status").textContent.split(" of ")[0].replace(",", "")`
	label := `document.getElementById("run").textContent`
	if got := w.eval(t, label); got != "Pause" {
		t.Errorf("it does not run: the button says %q", got)
	}
	w.run(t, until(`Number(`+arrived+`) > 3`))
	w.run(t, chromedp.KeyEvent("p"))
	stopped := w.eval(t, arrived)
	w.run(t, chromedp.KeyEvent("o"), chromedp.KeyEvent("o"))
	var before, after int
	_, _ = fmt.Sscan(stopped, &before)
	_, _ = fmt.Sscan(w.eval(t, arrived), &after)
	if after != before+2 || w.eval(t, label) != "Run" {
		t.Errorf("paused at %d jobs; %d after two more, the button says %q", before, after,
			w.eval(t, label))
	}
	// A slow server: its turns pile up, and the other algorithm goes around it.
	w.run(t, set("#slow", "5"), set("#load", "60"), set("#jobs", "10000"),
		chromedp.KeyEvent("e"),
		until(ended))
	if runs := w.figures(t); runs[0].Longest < 10*runs[1].Longest {
		t.Errorf("round robin's longest queue %d, two choices' %d", runs[0].Longest,
			runs[1].Longest)
	}
	w.run(t, chromedp.KeyEvent("r"))
	if got := w.eval(t, arrived); got != "0" {
		t.Errorf("after a reset %s jobs have come", got)
	}
	// Every control has a name, is reached by Tab, and shows it.
	w.run(t, chromedp.Evaluate(`document.getElementById("weights").open = true;
		document.getElementById("main").focus()`, nil))
	var names []string
	for range 40 {
		w.run(t, chromedp.KeyEvent(kb.Tab))
		names = append(names, w.eval(t, `(e => e.id + "/" + e.className + "/" +
			(parseFloat(getComputedStyle(e).outlineWidth) >= 2 ? "seen" : "unseen"))(
			document.activeElement)`))
	}
	all := strings.Join(names, " ")
	for _, id := range []string{"run/", "one/", "end/", "reset/", "speed/", "load/", "slow/",
		"servers/", "work/", "jobs/", "seed/"} {
		if !strings.Contains(all, id) {
			t.Errorf("Tab does not reach %s: %s", id, all)
		}
	}
	if strings.Count(all, "algorithm/seen") < 2 || strings.Contains(all, "unseen") {
		t.Errorf("not seen: %s", all)
	}
	if got := w.eval(t, `Array.from(document.querySelectorAll("main select, main input")).filter(
		e => !e.labels.length).map(e => e.outerHTML).join()`); got != "" {
		t.Errorf("no label: %s", got)
	}
	w.check(t, base)
}

// The page works from a file, where no program may be loaded: it is in the page.
func TestPlaygroundFromAFile(t *testing.T) {
	t.Parallel()
	built, _ := thisBook(t)
	out := filepath.Join(t.TempDir(), "site")
	if err := save(built, out); err != nil {
		t.Fatal(err)
	}
	w := openTab(t)
	base := "file://" + out + "/"
	w.run(t, chromedp.Navigate(base+"docs/ch9_balancing_algorithms.html"),
		chromedp.Click(`.book a[href$="playground.html"]`), chromedp.WaitReady("[data-ready]"),
		set("#jobs", "10000"), chromedp.Click("#end"), until(ended))
	if runs := w.figures(t); !(runs[1].Mean > 1 && runs[1].Mean < runs[0].Mean) {
		t.Errorf("two choices %v, round robin %v", runs[1].Mean, runs[0].Mean)
	}
	w.check(t, base)
}

// Where motion is not wanted nothing moves by itself. It fits the windows, all can be read.
func TestPlaygroundFits(t *testing.T) {
	w, base := openPlayground(t, true)
	if got := w.eval(t, `document.getElementById("run").textContent`); got != "Run" {
		t.Errorf("it runs by itself: the button says %q", got)
	}
	for _, size := range [][2]int64{{1280, 720}, {500, 800}} {
		w.run(t, resize(size[0], size[1]))
		for _, theme := range []string{"light", "dark"} {
			script := `document.documentElement.dataset.theme = "` + theme + `"`
			w.run(t, chromedp.Evaluate(script, nil))
			scripts := map[string]string{"contrast": pale, "scrolls": scrollers,
				"cut off": overflow}
			if size[0] == 500 {
				scripts["cut off"] = tooWide // the bar at the top scrolls
			}
			for name, script := range scripts {
				if got := w.eval(t, script); got != "" {
					t.Errorf("%d pixels, %s, %s: %s", size[0], theme, name, got)
				}
			}
		}
	}
	w.run(t, resize(1280, 720))
	if got := w.eval(t, `(bottom => bottom > innerHeight ? "the figures end at " + bottom : "")(
		document.querySelector(".farm table").getBoundingClientRect().bottom)`); got != "" {
		t.Error(got)
	}
	w.check(t, base)
}
