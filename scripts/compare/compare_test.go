package main

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"reverseproxy/internal/browser"
)

const patience = 3 * time.Minute // for programs to be built, and for what a page must show

// start runs the command and returns the page's address.
func start(t *testing.T, sides ...string) string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	out, in := io.Pipe()
	ended := make(chan error, 1)
	go func() { // ends with ctx
		err := run(ctx, append([]string{"-listen", "127.0.0.1:0"}, sides...), in, io.Discard)
		in.CloseWithError(io.EOF)
		ended <- err
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	line := make([]byte, 200)
	n, err := out.Read(line)
	if err != nil {
		t.Fatal("it does not begin: ", <-ended)
	}
	_, address, _ := strings.Cut(string(line[:n]), "open ")
	address, _, _ = strings.Cut(address, " ")
	return address
}

// tab opens an address in a browser. An exception in its script fails the test.
func tab(t *testing.T, address string) context.Context {
	t.Helper()
	if _, err := browser.Find(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	ctx, cancel, err := browser.Start(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cancel)
	chromedp.ListenTarget(ctx, func(event any) {
		if e, is := event.(*runtime.EventExceptionThrown); is {
			t.Error("the page complains: ", e.ExceptionDetails.Error())
		}
	})
	do(t, ctx, chromedp.EmulateViewport(1280, 720), chromedp.Navigate(address))
	return ctx
}

func do(t *testing.T, tab context.Context, actions ...chromedp.Action) {
	t.Helper()
	ctx, cancel := context.WithTimeout(tab, patience)
	defer cancel()
	if err := chromedp.Run(ctx, actions...); err != nil {
		t.Fatal(err)
	}
}

// both is JavaScript that is true when it is so in both frames, each being page.
func both(condition string) chromedp.Action {
	return browser.Until(`[...document.querySelectorAll("iframe")].every((frame, i) => {
		const page = frame.contentDocument, $ = (s) => page.querySelector(s);
		const rows = [...page.querySelectorAll(".row[data-end]:not([display])")];
		return `+condition+`; })`, patience)
}

const (
	isLive = `$("#status")?.dataset.status === "live"`
	ten    = `$("[data-counter=connections]").dataset.value === "10" && rows.length === 10`
)

// The same ten clients at the same moment: a staircase beside a wall, on one axis.
func TestStaircaseBesideWall(t *testing.T) {
	if testing.Short() {
		t.Skip("builds programs and starts a browser")
	}
	page := tab(t, start(t, "./ch2_basic_proxy", "./ch4_threaded"))
	do(t, page, both(isLive), chromedp.Click(`[data-key="t"]`), both(ten))
	var most [2]int // of how many were served at once
	const served = `[...document.querySelectorAll("iframe")].map((f) => {
		const at = (row, name) => Number(row.getAttribute(name));
		const rows = [...f.contentDocument.querySelectorAll(".row[data-end]:not([display])")];
		return Math.max(...rows.map((row) => at(row, "data-accepted")).map((now) => rows.filter(
			(r) => at(r, "data-accepted") <= now && now < at(r, "data-end")).length)); })`
	do(t, page, chromedp.Evaluate(served, &most))
	if most[0] != 1 || most[1] < 3 { // a busy machine lets them begin one after the other
		t.Errorf("of ten clients of 200 ms %d are served at once, beside that %d", most[0], most[1])
	}
	const axis = `[...page.querySelectorAll(".axis text")].filter((n) =>
		!n.parentNode.hasAttribute("display")).map((n) => n.textContent).join()`
	do(t, page, browser.Until(`(() => { const read = (f) => { const page = f.contentDocument;
			return `+axis+`; }; const [a, b] = [...document.querySelectorAll("iframe")].map(read);
			return a !== "" && a === b; })()`, patience))

	// A key that is pressed in one frame is pressed in the other too, and once.
	do(t, page, chromedp.Evaluate(`document.querySelector("iframe").contentWindow.focus()`, nil),
		chromedp.KeyEvent("o"), both(`$("[data-counter=connections]").dataset.value === "11" &&
		$("[data-counter=inFlight]").dataset.value === "0"`))
	do(t, page, chromedp.Evaluate("window.focus()", nil), chromedp.KeyEvent("p"),
		both(`Number($("[data-counter=connections]").dataset.value) > 20`), chromedp.KeyEvent("p"),
		both(`$("[data-counter=inFlight]").dataset.value === "0"`))
	for _, width := range []int64{1280, 500} {
		var wide int64
		do(t, page, chromedp.EmulateViewport(width, 720),
			browser.Until("innerWidth === "+strconv.FormatInt(width, 10), patience),
			chromedp.Evaluate(`document.documentElement.scrollWidth`, &wide))
		if wide > width {
			t.Errorf("the page is %d pixels wide in a window of %d", wide, width)
		}
	}
}

// Only its own page may use it, and of a live page nothing is let through that
// the live page would refuse.
func TestStrangersAreRefused(t *testing.T) {
	if testing.Short() {
		t.Skip("builds programs")
	}
	address := start(t, "./ch2_basic_proxy", "./ch4_threaded")
	for _, c := range []struct {
		method, path, field, value string
		want                       int
	}{
		{"GET", "", "", "", 200},
		{"GET", "left/", "", "", 200},
		{"GET", "left/", "Host", "evil.example", 421},
		{"GET", "left/events", "Origin", "http://evil.example", 403},
		{"GET", "left/events", "Sec-Fetch-Site", "cross-site", 403},
		{"POST", "right/shoot", "", "", 403}, // no token
		{"POST", "right/shoot", "Origin", "http://evil.example", 403},
	} {
		request, err := http.NewRequest(c.method, address+c.path,
			strings.NewReader(`{"what":"one"}`))
		if err != nil {
			t.Fatal(err)
		}
		if c.field == "Host" {
			request.Host = c.value
		} else if c.field != "" {
			request.Header.Set(c.field, c.value)
		}
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		policies := answer.Header.Values("Content-Security-Policy")
		if answer.StatusCode != c.want || len(policies) != 1 {
			t.Errorf("%+v: status %d, policies %q", c, answer.StatusCode, policies)
		}
	}
}

// Recordings stand side by side without any program.
func TestRecordings(t *testing.T) {
	runs, err := filepath.Abs("../../docs/runs")
	if err != nil {
		t.Fatal(err)
	}
	page := tab(t, start(t, filepath.Join(runs, "ch2.html"), filepath.Join(runs, "ch4.html")))
	do(t, page, both(`$("#status")?.dataset.status === "recording"`), chromedp.KeyEvent("r"),
		both(`page.documentElement.dataset.mode === "paused" && rows.length >= 10`))
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{{}, {"./ch2_basic_proxy"}, {"./ch2_basic_proxy", "./nothing"},
		{"gone.html", "./ch2_basic_proxy"}, {"", "./ch2_basic_proxy"},
		{"-listen", "nowhere:x", "a", "b"}} {
		if run(context.Background(), append([]string{"-listen", "127.0.0.1:0"}, args...),
			io.Discard,
			io.Discard) == nil {
			t.Errorf("%q begins", args)
		}
	}
}
