// Package browser drives a headless Chromium, for the tests and for the pictures
// of the docs.
package browser

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"os"
	"os/exec"
	"slices"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"
)

// Size of the usual window: that of a projector.
const (
	Width  = 1280 // CSS pixels
	Height = 720
)

const (
	startTime = time.Minute // for Chromium to answer
	pollTime  = 20 * time.Millisecond
)

// Find returns the path of Chromium or a browser like it.
func Find() (string, error) {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("chromium is not installed (Debian: apt-get install chromium)")
}

// Start starts Chromium with an empty profile and a window of the usual size.
// The context that it returns drives a tab, and more tabs are made from it;
// cancel ends the browser.
func Start(ctx context.Context) (tab context.Context, cancel func(), err error) {
	path, err := Find()
	if err != nil {
		return nil, nil, err
	}
	profile, err := os.MkdirTemp("", "chromium-")
	if err != nil {
		return nil, nil, err
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.UserDataDir(profile), chromedp.WindowSize(Width, Height),
		chromedp.NoSandbox, chromedp.DisableGPU, chromedp.WSURLReadTimeout(startTime),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("force-color-profile", "srgb"))
	alloc, stop := chromedp.NewExecAllocator(ctx, options...)
	tab, end := chromedp.NewContext(alloc)
	cancel = func() {
		end()
		stop()
		os.RemoveAll(profile)
	}
	if err := chromedp.Run(tab, chromedp.EmulateViewport(Width, Height)); err != nil {
		cancel()
		return nil, nil, fmt.Errorf("cannot start %s: %w", path, err)
	}
	return tab, cancel, nil
}

// Window opens a window of its own, with a profile of its own, in the browser that drives tab:
// what is done there at the same time disturbs nobody, and it draws its frames, which a tab
// behind another does not. cancel closes it.
func Window(tab context.Context) (window context.Context, cancel func(), err error) {
	in := cdp.WithExecutor(tab, chromedp.FromContext(tab).Browser)
	profile, err := target.CreateBrowserContext().WithDisposeOnDetach(true).Do(in)
	if err != nil {
		return nil, nil, err
	}
	id, err := target.CreateTarget("about:blank").WithBrowserContextID(profile).
		WithNewWindow(true).Do(in)
	if err != nil {
		return nil, nil, err
	}
	window, cancel = chromedp.NewContext(tab, chromedp.WithTargetID(id))
	chromedp.FromContext(window).BrowserContextID = profile
	return window, cancel, chromedp.Run(window, chromedp.EmulateViewport(Width, Height),
		emulation.SetFocusEmulationEnabled(true)) // as if the keyboard were its alone
}

// Until waits until a JavaScript expression, or the promise that it gives, is true. One that
// throws is not true yet: what it asks for may not be drawn, or a page may be on its way. The
// error after patience has the last such exception in it.
func Until(expression string, patience time.Duration) chromedp.Action {
	ask := "(async () => Boolean(await (" + expression + ")))()"
	await := func(p *runtime.EvaluateParams) *runtime.EvaluateParams {
		return p.WithAwaitPromise(true)
	}
	return chromedp.ActionFunc(func(tab context.Context) error {
		ctx, cancel := context.WithTimeout(tab, patience)
		defer cancel()
		var threw error
		for {
			var is bool
			err := chromedp.Evaluate(ask, &is, await).Do(ctx)
			if is {
				return nil
			}
			if ctx.Err() == nil {
				threw = err
			}
			select {
			case <-time.After(pollTime):
			case <-ctx.Done():
				return fmt.Errorf("%w: %s (%v)", ctx.Err(), expression, threw)
			}
		}
	})
}

// Reduce rewrites a PNG with the 256 colours that it uses most; for pictures of
// text that is a third of the size, and nobody sees it.
func Reduce(shot []byte) ([]byte, error) {
	img, err := png.Decode(bytes.NewReader(shot))
	if err != nil {
		return nil, err
	}
	bounds := img.Bounds()
	at := func(x, y int) color.RGBA { return color.RGBAModel.Convert(img.At(x, y)).(color.RGBA) }
	count := map[color.RGBA]int{}
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			count[at(x, y)]++
		}
	}
	var colours []color.RGBA
	for c := range count {
		colours = append(colours, c)
	}
	number := func(c color.RGBA) int { return int(c.R)<<16 | int(c.G)<<8 | int(c.B) }
	slices.SortFunc(colours, func(a, b color.RGBA) int {
		if n := count[b] - count[a]; n != 0 {
			return n
		}
		return number(a) - number(b)
	})
	var palette color.Palette
	for _, c := range colours[:min(len(colours), 256)] {
		palette = append(palette, c)
	}
	index := map[color.RGBA]uint8{}
	for _, c := range colours {
		index[c] = uint8(palette.Index(c))
	}
	small := image.NewPaletted(bounds, palette)
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			small.SetColorIndex(x, y, index[at(x, y)])
		}
	}
	var out bytes.Buffer
	encoder := png.Encoder{CompressionLevel: png.BestCompression}
	err = encoder.Encode(&out, small)
	return out.Bytes(), err
}
