package browser

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"reverseproxy/internal/harness"
)

// What is asked before it is drawn, or while a page is on its way, is waited for; and what is
// never so ends with the reason.
func TestUntil(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a browser")
	}
	if _, err := Find(); err != nil {
		harness.Missing(t, err.Error())
	}
	tab, cancel, err := Start(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer cancel()
	chromedp.ListenTarget(tab, func(event any) {
		if e, is := event.(*runtime.EventExceptionThrown); is {
			t.Error("an exception of the test's is the page's: ", e.ExceptionDetails.Error())
		}
	})
	const late = `<p id=late data-n=1>`
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		if r.URL.Path == "/late" {
			io.WriteString(w, late)
		}
	}))
	defer server.Close()
	const drawn = `document.querySelector("#late").dataset.n === "1"`
	for name, test := range map[string]struct{ then, ask string }{
		"drawn late": {"document.body.innerHTML = '" + late + "'", drawn},
		"on its way": {`location.href = "/late"`, drawn},
		"a promise": {"document.body.innerHTML = '" + late + "'",
			"new Promise((done) => setTimeout(() => done(" + drawn + "), 500))"},
	} {
		err := chromedp.Run(tab, chromedp.Navigate(server.URL),
			chromedp.Evaluate("setTimeout(() => { "+test.then+" }, 300); 0", nil),
			Until(test.ask, time.Minute))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	err = chromedp.Run(tab, chromedp.Navigate("about:blank"), Until(drawn, time.Second))
	if err == nil || !strings.Contains(err.Error(), "TypeError") {
		t.Errorf("what is never so ends with %v, not with what it threw", err)
	}
}
