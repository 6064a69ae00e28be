package live_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"reverseproxy/internal/narrate"
)

const sends = `document.querySelector("[data-do=steady]").ariaPressed === "%t"`

// sending is true when the page says that requests are sent, or that none are.
func sending(on bool) string { return fmt.Sprintf(sends, on) }

// atLeast is true when a counter has come so far.
func atLeast(name string, n int) string { return fmt.Sprintf("counted(%q) >= %d", name, n) }

// testKeepSending: a steady stream shows turns, a stopped backend and its return.
// Every page shows that it is on and can stop it; it ends with its page.
func (b *bench) testKeepSending(t *testing.T) {
	p := b.run(t, "ch5_load_balancer")
	o, other := b.watch(t, p), b.watch(t, p)
	// By keyboard: each press of an arrow is one step of the slider, and of a list.
	for selector, want := range map[string]string{"#rate": "13", "#slow": "250"} {
		if err := chromedp.Run(o.ctx, chromedp.Focus(selector)); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			key := map[string]string{"#rate": kb.ArrowRight, "#slow": kb.ArrowDown}[selector]
			if err := chromedp.Run(o.ctx, chromedp.KeyEvent(key)); err != nil {
				t.Fatal(err)
			}
		}
		var got string
		o.read(fmt.Sprintf("document.querySelector(%q).value", selector), &got)
		if got != want {
			t.Errorf("after three arrows %s is %s, want %s", selector, got, want)
		}
	}
	o.read(`(() => {
		const slow = document.querySelector("#slow");
		slow.value = "0";
		slow.dispatchEvent(new Event("change"));
		document.activeElement.blur();
	})()`, nil)
	o.read(`document.querySelector("#rate").value = 20`, nil)
	o.press("p")
	o.until(sending(true) + " && " + atLeast("connections", 24))
	other.until(sending(true) + ` && document.querySelector("#rate").value === "20"`)
	o.until(`document.querySelector("#lanes-note").textContent.includes("one still a second")`)
	// The lanes that are shown fill the axis, however long the stream is.
	o.until(`(() => {
		const all = [...document.querySelectorAll(".bar[data-phase]")].filter(shown);
		const boxes = all.map((n) => n.getBoundingClientRect());
		const plot = document.querySelector("#lanes .plot").getBoundingClientRect();
		const from = Math.min(...boxes.map((r) => r.left));
		const to = Math.max(...boxes.map((r) => r.right));
		return to - from > plot.width * 0.3;
	})()`)
	o.press("2")
	o.until(`card(1).running === "false" && Number(card(1).failures) >= 3`)
	o.press("2")
	o.until(`card(1).running === "true"`)
	// No further request fails, but for those that were under way.
	o.until(`(() => {
		const { failures, requests } = card(1);
		if (failures !== window.last?.failures) window.last = { failures, requests };
		return Number(requests) > Number(window.last.requests) + 5;
	})()`)
	other.press("p")
	other.until(sending(false) + " && " + counter("inFlight", 0))
	o.until(sending(false))
	// What the program tells comes on another way than what the page shows.
	for end := time.Now().Add(pageTimeout); ; time.Sleep(20 * time.Millisecond) {
		var shown int
		o.read(`counted("connections")`, &shown)
		told := len(steps(p.Events(), narrate.Accept))
		if shown == told {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the page counts %d connections, %d were told", shown, told)
		}
	}

	o.press("p")
	other.until(sending(true))
	if err := chromedp.Run(o.ctx, chromedp.Navigate("about:blank")); err != nil {
		t.Fatal(err)
	}
	other.until(sending(false))
}

// testKeepSendingKept: where connections are kept a few of them carry the stream,
// and the row of buttons has room for it at every size.
func (b *bench) testKeepSendingKept(t *testing.T) {
	p := b.run(t, "ch8_health_checks")
	o := b.watch(t, p)
	seen := o.eachFrame("sameConnection")
	o.press("p")
	o.until(sending(true) + " && " + atLeast("requests", 40))
	seen(t)
	var conns int
	o.read(`counted("connections")`, &conns)
	if conns > 8 {
		t.Errorf("the stream needed %d connections, want at most 8", conns)
	}
	o.noFaults(t)
	// Ctrl+C ends the stream too: bench.run sees that the program ends well.
}
