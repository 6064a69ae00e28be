//go:build linux

package main

import (
	"bytes"
	"image"
	_ "image/png"
	"os"
	"path/filepath"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"reverseproxy/internal/browser"
	"reverseproxy/internal/harness"
	"reverseproxy/scripts/bench/load"
)

// The report, and a picture on another page, are dark where the reader wants it so.
func TestDarkMode(t *testing.T) {
	if _, err := browser.Find(); err != nil {
		harness.Missing(t, err.Error())
	}
	b := &bench{o: &options{}, cells: []*cell{{ID: "b64", Workload: "b", Title: "Sixty-four"}},
		contestants: []*contestant{{ID: "ch10"}, {ID: "nginx"}},
		samples: []*sample{
			{Cell: "b64", Contestant: "ch10", CPU: 9, Requests: 9, Latency: load.NewHistogram()},
			{Cell: "b64", Contestant: "nginx", CPU: 10, Requests: 9, Latency: load.NewHistogram()}}}
	dir := t.TempDir()
	if err := b.collect(false).write(dir); err != nil {
		t.Fatal(err)
	}
	page := `<style>:root{color-scheme:light dark}body{margin:0}</style>` +
		`<img src="bench-cpu-keepalive.svg" width=1280>`
	if err := os.WriteFile(filepath.Join(dir, "page.html"), []byte(page), 0o600); err != nil {
		t.Fatal(err)
	}
	tab, cancel, err := browser.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer cancel()
	for _, scheme := range []string{"light", "dark"} {
		for _, name := range []string{"page.html", "report.html"} {
			var shot []byte
			scroll := `(document.querySelector("figure") || document.body).scrollIntoView()`
			err := chromedp.Run(tab,
				emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{
					{Name: "prefers-color-scheme", Value: scheme}}),
				chromedp.Navigate("file://"+filepath.Join(dir, name)),
				chromedp.Evaluate(scroll, nil), chromedp.CaptureScreenshot(&shot))
			if err != nil {
				t.Fatal(err)
			}
			if keep := os.Getenv("BENCH_SHOTS"); keep != "" { // to be looked at
				_ = os.WriteFile(filepath.Join(keep, scheme+"-"+name+".png"), shot, 0o600)
			}
			paper, ink := shades(t, shot)
			if dark := scheme == "dark"; dark && (paper > 60 || ink < 200) ||
				!dark && (paper < 240 || ink > 40) {
				t.Errorf("%s, %s: paper %d, ink %d of 255", name, scheme, paper, ink)
			}
		}
	}
}

// shades returns how bright most of a picture is, and what differs most from that.
func shades(t *testing.T, shot []byte) (paper, ink int) {
	t.Helper()
	img, _, err := image.Decode(bytes.NewReader(shot))
	if err != nil {
		t.Fatal(err)
	}
	var count [256]int
	for y := range img.Bounds().Dy() {
		for x := range img.Bounds().Dx() {
			r, g, b, _ := img.At(x, y).RGBA()
			count[(r*299+g*587+b*114)/1000>>8]++
		}
	}
	for shade, n := range count {
		if n > count[paper] {
			paper = shade
		}
	}
	ink = paper
	for shade, n := range count {
		if n > 50 && max(shade-paper, paper-shade) > max(ink-paper, paper-ink) {
			ink = shade
		}
	}
	return paper, ink
}
