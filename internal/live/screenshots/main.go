// Command screenshots takes the pictures of the live page in docs from real
// runs of the chapters, in a headless Chromium.
//
//	go run ./internal/live/screenshots [-o docs/img] [-only REGEXP] [-all]
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/chromedp/chromedp"

	"reverseproxy/internal/book"
	chromium "reverseproxy/internal/browser"
	"reverseproxy/internal/live/browser"
)

const (
	width  = 1280 // CSS pixels, a common projector's
	height = 720

	patience = 30 * time.Second // for a picture
)

// shot is one picture: which program, what is done on the page, and when it
// is ready to be taken.
type shot struct {
	name    string
	chapter string
	theme   string
	args    []string
	rate    int      // requests a second of "Keep sending"; 0: as the page has it
	keys    []string // keys pressed before the picture, in turn
	ready   string   // JavaScript that is true when the picture can be taken
	extra   bool     // taken with -all only, to be looked at
	width   int64    // CSS pixels; 0 for a projector's 1280×720
	height  int64
}

const settle = 900 * time.Millisecond // for ghosts and zoom to come to rest

func done(n int) string {
	return fmt.Sprintf(`document.querySelectorAll('.row[data-end]:not([display])').length >= %d`, n)
}

// requests is true when so many have come.
func requests(n int) string {
	return fmt.Sprintf(`document.querySelector('[data-counter="requests"]').dataset.value >= %d`, n)
}

// served is true when so many connections are closed.
func served(n int) string {
	return fmt.Sprintf(`document.querySelector('[data-counter="connections"]').dataset.value >= %d
		&& document.querySelector('[data-counter="inFlight"]').dataset.value == 0`, n)
}

// waiting is true when so many requests have reached a backend.
func waiting(n int) string {
	return fmt.Sprintf(`document.querySelectorAll('.bar[data-phase="waiting"]').length >= %d`, n)
}

var pictures = []shot{
	{name: "live-ch1", extra: true, chapter: "ch1_base", theme: "light", keys: []string{"i"},
		ready: `document.querySelectorAll('.row[data-conn]').length > 0`},
	{name: "live-ch2-staircase", chapter: "ch2_basic_proxy", theme: "light", keys: []string{"t"},
		ready: done(10)},
	{name: "live-ch2-backlog", extra: true, chapter: "ch2_basic_proxy", theme: "dark",
		keys: []string{"t"}, ready: done(4)},
	{name: "live-ch3-children", chapter: "ch3_process_model", theme: "light",
		keys: []string{"t", "s"}, ready: done(10)},
	{name: "live-ch4-wall", chapter: "ch4_threaded", theme: "light", keys: []string{"t"},
		ready: done(10)},
	{name: "live-ch5-backends", chapter: "ch5_load_balancer", theme: "dark",
		keys: []string{"o", "t", "s", "s", "t"}, ready: done(11)},
	{name: "live-ch5-stopped", chapter: "ch5_load_balancer", theme: "light",
		keys:  []string{"2", "t"},
		ready: done(10)},
	{name: "live-steps", chapter: "ch4_threaded", theme: "light",
		args: []string{"-slow-motion", "300ms"}, keys: []string{"v", "v", "v", "o"},
		ready: `document.querySelector('[data-step="7"]').dataset.state == "done"`},
	{name: "live-lanes", extra: true, chapter: "ch4_threaded", theme: "dark",
		keys: []string{"v", "v", "o", "t", "s"}, ready: done(12)},
	{name: "live-ch3-prefork", extra: true, chapter: "ch3_process_model", theme: "dark",
		args: []string{"-prefork", "4"}, keys: []string{"t"}, ready: done(6)},
	{name: "live-ch4-slow", chapter: "ch4_threaded", theme: "light",
		args: []string{"-slow-motion", "500ms"}, keys: []string{"t"},
		ready: waiting(4)},
	{name: "live-ch2-slow", extra: true, chapter: "ch2_basic_proxy", theme: "light",
		args: []string{"-slow-motion", "500ms"}, keys: []string{"t"}, ready: waiting(2)},
	{name: "live-ch3-slow", extra: true, chapter: "ch3_process_model", theme: "light",
		args: []string{"-slow-motion", "500ms"}, keys: []string{"t"}, ready: waiting(4)},
	{name: "live-ch2-narrow", extra: true, chapter: "ch2_basic_proxy", theme: "light", width: 500,
		height: 1560, args: []string{"-slow-motion", "500ms"}, keys: []string{"t"},
		ready: waiting(2)},
	{name: "live-ch3-narrow", extra: true, chapter: "ch3_process_model", theme: "dark", width: 500,
		height: 1560, args: []string{"-slow-motion", "500ms"}, keys: []string{"t"},
		ready: waiting(4)},
	{name: "live-ch4-narrow", extra: true, chapter: "ch4_threaded", theme: "light", width: 500,
		height: 1560, args: []string{"-slow-motion", "500ms"}, keys: []string{"t"},
		ready: waiting(4)},
	{name: "live-ch5-narrow", extra: true, chapter: "ch5_load_balancer", theme: "light", width: 500,
		height: 1560, keys: []string{"2", "t"}, ready: done(10)},
	{name: "live-ch2-full-speed", extra: true, chapter: "ch2_basic_proxy", theme: "light",
		keys: []string{"t"}, ready: done(2)},
	{name: "live-ch4-broken", extra: true, chapter: "ch4_threaded", theme: "light",
		args: []string{"-request-timeout", "2s"}, keys: []string{"i", "h", "l", "k", "b"},
		ready: done(5)},
	{name: "live-ch6-row", chapter: "ch6_keep_alive", theme: "light",
		keys: []string{"a", "a", "a"}, ready: done(3)},
	{name: "live-ch6-pool", extra: true, chapter: "ch6_keep_alive", theme: "dark",
		args: []string{"-keepalive", "1"}, keys: []string{"t", "a", "a", "t"}, ready: done(10)},
	{name: "live-ch6-flow", extra: true, chapter: "ch6_keep_alive", theme: "light",
		args: []string{"-keepalive", "2", "-keepalive-timeout", "2s"},
		keys: []string{"v", "t", "k", "l", "a", "t"}, ready: served(23)},
	{name: "live-ch6-narrow", extra: true, chapter: "ch6_keep_alive", theme: "light", width: 500,
		height: 1560, keys: []string{"a", "a", "t"}, ready: done(10)},
	{name: "live-ch7-stopped", chapter: "ch7_timeouts_retries", theme: "light",
		keys: []string{"2", "t"}, ready: done(10)},
	{name: "live-ch8-drain", chapter: "ch8_health_checks", theme: "light",
		keys: []string{"2", "t", "t"}, ready: done(10)},
	{name: "live-ch8-narrow", extra: true, chapter: "ch8_health_checks", theme: "dark", width: 500,
		height: 1560, keys: []string{"2", "a", "t"}, ready: done(9)},
	{name: "live-ch2-steady", extra: true, chapter: "ch2_basic_proxy", theme: "light",
		keys: []string{"p"}, ready: requests(30)},
	{name: "live-ch5-steady", extra: true, chapter: "ch5_load_balancer", theme: "light",
		keys: []string{"p", "2"}, ready: requests(40)},
	{name: "live-ch5-steady-slow", extra: true, chapter: "ch5_load_balancer", theme: "dark",
		rate: 2, keys: []string{"p"}, ready: requests(26)},
	{name: "live-ch8-steady", extra: true, chapter: "ch8_health_checks", theme: "light",
		keys: []string{"p", "2"}, ready: requests(60)},
	{name: "live-ch8-steady-fast", extra: true, chapter: "ch8_health_checks", theme: "dark",
		rate: 50, keys: []string{"p"}, ready: requests(300)},
	{name: "live-ch8-steady-narrow", extra: true, chapter: "ch8_health_checks", theme: "light",
		width: 500, height: 1560, keys: []string{"p"}, ready: requests(60)},
	{name: "live-ch5-steady-narrow", extra: true, chapter: "ch5_load_balancer", theme: "light",
		width: 500, height: 1560, keys: []string{"p"}, ready: requests(60)},
	{name: "live-ch9-least-time", chapter: "ch9_balancing_algorithms", theme: "light",
		args: []string{"-algorithm", "least-time", "-demo-latency", "10ms,10ms,900ms"},
		keys: []string{"t", "a", "a", "t", "a", "t"}, ready: served(33)},
	{name: "live-ch10-loop", chapter: "ch10_event_loop", theme: "light",
		keys: []string{"t"}, ready: done(10)},
	{name: "live-ch10-lanes", extra: true, chapter: "ch10_event_loop", theme: "dark",
		keys: []string{"v", "v", "o", "t", "s"}, ready: done(12)},
	{name: "live-ch10-slow", extra: true, chapter: "ch10_event_loop", theme: "light",
		args: []string{"-slow-motion", "500ms"}, keys: []string{"t"}, ready: waiting(4)},
	{name: "live-1920", extra: true, width: 1920, height: 1080, chapter: "ch5_load_balancer",
		theme: "light", keys: []string{"2", "t"}, ready: done(10)},
	{name: "live-1024", extra: true, width: 1024, height: 768, chapter: "ch5_load_balancer",
		theme: "dark", keys: []string{"2", "t"}, ready: done(10)},
	{name: "live-flow", extra: true, chapter: "ch5_load_balancer", theme: "light",
		keys:  []string{"v", "s", "s", "s", "s", "t"},
		ready: `document.querySelectorAll('.dot[data-place="backend"]').length >= 10`},
	{name: "live-help", extra: true, chapter: "ch4_threaded", theme: "light", keys: []string{"?"},
		ready: "true"},
}

func main() {
	out := flag.String("o", "docs/img", "`folder` for the pictures")
	all := flag.Bool("all", false, "take also those pictures that no page shows")
	only := flag.String("only", "", "take only the pictures whose name matches this `regexp`")
	flag.Parse()
	if err := run(*out, regexp.MustCompile(*only), *all); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(out string, only *regexp.Regexp, all bool) error {
	path := browser.Find()
	if path == "" {
		return fmt.Errorf("there is no Chromium: install it (Debian: apt-get install chromium)")
	}
	bin, err := os.MkdirTemp("", "live-bin-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(bin)
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	tab, cancel, err := browser.Start(context.Background(), path, width, height)
	if err != nil {
		return err
	}
	defer cancel()
	for _, s := range pictures {
		if !only.MatchString(s.name) || s.extra && !all {
			continue
		}
		if err := take(tab, s, bin, out); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

// take runs one chapter, does what the picture needs, and writes it.
func take(tab context.Context, s shot, bin, out string) error {
	if err := browser.Build(".", bin, s.chapter); err != nil {
		return err
	}
	args := append([]string{"-listen", "127.0.0.1:0", "-watch", "127.0.0.1:0"}, s.args...)
	chapter, _ := book.Find(s.chapter)
	args = append(args, chapter.Demo()...)
	program, err := browser.Run(filepath.Join(bin, s.chapter), args...)
	if err != nil {
		return err
	}
	defer program.Stop()
	ctx, cancel := context.WithTimeout(tab, patience)
	defer cancel()
	var picture []byte
	if s.width == 0 {
		s.width, s.height = width, height
	}
	steps := []chromedp.Action{
		chromedp.EmulateViewport(s.width, s.height),
		chromedp.Navigate("http://" + program.Page + "/"),
		chromedp.WaitVisible(`#status[data-status="live"]`),
		chromedp.Evaluate(`document.documentElement.dataset.theme = "`+s.theme+`"`, nil),
	}
	if s.rate > 0 {
		steps = append(steps, chromedp.SetValue("#rate", fmt.Sprint(s.rate)))
	}
	for _, key := range s.keys {
		steps = append(steps, chromedp.KeyEvent(key), chromedp.Sleep(120*time.Millisecond))
	}
	steps = append(steps, chromium.Until(s.ready, patience), chromedp.Sleep(settle),
		chromedp.CaptureScreenshot(&picture))
	if err := chromedp.Run(ctx, steps...); err != nil {
		return err
	}
	return write(filepath.Join(out, s.name+".png"), picture)
}

// write stores a picture with few colours: flat ones need no more.
func write(name string, picture []byte) error {
	small, err := chromium.Reduce(picture)
	if err != nil {
		return err
	}
	fmt.Printf("%s  %d kB\n", name, len(small)/1000)
	return os.WriteFile(name, small, 0o644)
}
