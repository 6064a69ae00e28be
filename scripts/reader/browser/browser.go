// Package browser drives Chromium: for the reader's tests, and for the pictures of
// the docs.
package browser

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/chromedp/chromedp"
)

// Size of the window: that of a projector.
const (
	Width  = 1280 // pixels
	Height = 720
)

// Find returns the path of Chromium or a browser like it.
func Find() (string, error) {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			return p, nil
		}
	}
	return "", fmt.Errorf("chromium is not installed (Debian: apt-get install chromium)")
}

// Start starts Chromium with an empty profile. The context that it returns drives a tab;
// cancel ends the browser and removes the profile.
func Start(ctx context.Context) (tab context.Context, cancel func(), err error) {
	program, err := Find()
	if err != nil {
		return nil, nil, err
	}
	profile, err := os.MkdirTemp("", "reader-chromium")
	if err != nil {
		return nil, nil, err
	}
	options := []chromedp.ExecAllocatorOption{
		chromedp.ExecPath(program), chromedp.UserDataDir(profile), chromedp.WindowSize(Width, Height),
		chromedp.NoSandbox, chromedp.Headless, chromedp.DisableGPU, chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true),
		chromedp.Flag("hide-scrollbars", true), chromedp.Flag("disable-dev-shm-usage", true),
		chromedp.WSURLReadTimeout(60 * time.Second),
	}
	alloc, stopAlloc := chromedp.NewExecAllocator(ctx, options...)
	tab, stopTab := chromedp.NewContext(alloc)
	cancel = func() {
		stopTab()
		stopAlloc()
		os.RemoveAll(profile)
	}
	if err := chromedp.Run(tab, chromedp.EmulateViewport(Width, Height)); err != nil {
		cancel()
		return nil, nil, fmt.Errorf("chromium does not start: %w", err)
	}
	return tab, cancel, nil
}

// picture is a page of the book as the docs show it.
type picture struct {
	file, page string
	script     string // run before the picture is taken
}

var pictures = []picture{
	{"reader-side-by-side.png", "side-by-side/ch4_threaded.html#step-4", ""},
	{"reader-side-by-side-dark.png", "side-by-side/ch3_process_model.html#step-4a", `document.documentElement.dataset.theme = "dark"`},
	{"reader-diff.png", "diff/ch2_basic_proxy--ch4_threaded.html", ""},
}

// Pictures takes the pictures of the docs from the book served under base and writes
// them into a directory.
func Pictures(ctx context.Context, base, dir string, out io.Writer) error {
	tab, cancel, err := Start(ctx)
	if err != nil {
		return err
	}
	defer cancel()
	for _, p := range pictures {
		shot, err := Shot(tab, base+p.page, p.script)
		if err != nil {
			return fmt.Errorf("%s: %w", p.page, err)
		}
		file := filepath.Join(dir, p.file)
		if err := os.WriteFile(file, shot, 0o644); err != nil {
			return err
		}
		fmt.Fprintf(out, "%s: %d KB\n", file, (len(shot)+1023)/1024)
	}
	return nil
}

// Shot opens a page in light colours, runs a script in it and returns a picture as PNG with
// at most 256 colours.
func Shot(tab context.Context, url, script string) ([]byte, error) {
	tab, cancel := context.WithTimeout(tab, time.Minute)
	defer cancel()
	var shot []byte
	if script == "" {
		script = `document.documentElement.dataset.theme = "light"`
	}
	err := chromedp.Run(tab,
		chromedp.Navigate("about:blank"),
		chromedp.Navigate(url),
		chromedp.WaitReady("main"),
		chromedp.Evaluate(script, nil),
		chromedp.Evaluate(`document.fonts.ready.then(() => true)`, nil),
		chromedp.CaptureScreenshot(&shot),
	)
	if err != nil {
		return nil, err
	}
	return Reduce(shot)
}

// Reduce rewrites a PNG with the 256 colours that it uses most; for pictures of
// text that is a third of the size, and nobody sees it.
func Reduce(shot []byte) ([]byte, error) {
	img, err := png.Decode(bytes.NewReader(shot))
	if err != nil {
		return nil, err
	}
	count := map[color.RGBA]int{}
	bounds := img.Bounds()
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			count[color.RGBAModel.Convert(img.At(x, y)).(color.RGBA)]++
		}
	}
	var colours []color.RGBA
	for c := range count {
		colours = append(colours, c)
	}
	slices.SortFunc(colours, func(a, b color.RGBA) int {
		if n := count[b] - count[a]; n != 0 {
			return n
		}
		return int(a.R)<<16 + int(a.G)<<8 + int(a.B) - int(b.R)<<16 - int(b.G)<<8 - int(b.B)
	})
	var palette color.Palette
	for _, c := range colours[:min(len(colours), 256)] {
		palette = append(palette, c)
	}
	index := map[color.RGBA]uint8{}
	small := image.NewPaletted(bounds, palette)
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			c := color.RGBAModel.Convert(img.At(x, y)).(color.RGBA)
			i, ok := index[c]
			if !ok {
				i = uint8(palette.Index(c))
				index[c] = i
			}
			small.SetColorIndex(x, y, i)
		}
	}
	var out bytes.Buffer
	encoder := png.Encoder{CompressionLevel: png.BestCompression}
	err = encoder.Encode(&out, small)
	return out.Bytes(), err
}
