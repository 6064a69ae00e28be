// Package browser runs a chapter's program and looks at its live page in a
// headless Chromium, for the tests and for the pictures in docs.
package browser

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/chromedp/chromedp"

	"reverseproxy/internal/narrate"
)

const (
	readyTimeout = 60 * time.Second // for a program to say that it is ready
	stopTimeout  = 30 * time.Second // for a program to end after an interrupt
)

// Find returns the path of Chromium or Chrome, "" if there is none.
func Find() string {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// Start starts a headless Chromium with a new profile. Tabs are made from the
// returned context; cancel ends the browser.
func Start(ctx context.Context, path string, width, height int) (
	tab context.Context, cancel func(), err error) {
	profile, err := os.MkdirTemp("", "live-chromium-")
	if err != nil {
		return nil, nil, err
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.UserDataDir(profile), chromedp.NoSandbox,
		chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true),
		chromedp.Flag("no-first-run", true), chromedp.Flag("force-color-profile", "srgb"),
		chromedp.WindowSize(width, height))
	ctx, stop := chromedp.NewExecAllocator(ctx, options...)
	ctx, end := chromedp.NewContext(ctx)
	cancel = func() {
		end()
		stop()
		os.RemoveAll(profile)
	}
	if err := chromedp.Run(ctx, chromedp.EmulateViewport(int64(width), int64(height))); err != nil {
		cancel()
		return nil, nil, fmt.Errorf("cannot start %s: %w", path, err)
	}
	return ctx, cancel, nil
}

// Build compiles the named chapters into dir.
func Build(root, dir string, chapters ...string) error {
	args := []string{"build", "-o", dir + string(filepath.Separator)}
	for _, name := range chapters {
		args = append(args, "./"+name)
	}
	cmd := exec.Command("go", args...)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
}

// Program is a running chapter with its live page.
type Program struct {
	Page  string // the live page's address, host:port
	Proxy string // the proxy's address

	cmd  *exec.Cmd
	mu   sync.Mutex
	said []narrate.Event // its narration so far
	more chan struct{}   // an event has come
	done chan struct{}   // closed when its output has ended
}

// Run starts a chapter's binary with the given flags besides -log json, and
// waits until it listens and is watched.
func Run(binary string, args ...string) (*Program, error) {
	p := &Program{more: make(chan struct{}, 1), done: make(chan struct{})}
	p.cmd = exec.Command(binary, append([]string{"-log", "json"}, args...)...)
	p.cmd.Stderr = os.Stderr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go p.listen(out) // ends with the program
	_, err = p.Wait(readyTimeout, func(events []narrate.Event) bool {
		for _, e := range events {
			switch e.Kind {
			case narrate.KindReady:
				p.Proxy = e.Listen
			case narrate.KindWatch:
				p.Page = e.Listen
			}
		}
		return p.Proxy != "" && p.Page != ""
	})
	if err != nil {
		p.Stop()
		return nil, fmt.Errorf("%s did not become ready: %w", binary, err)
	}
	return p, nil
}

func (p *Program) listen(out io.Reader) {
	defer close(p.done)
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var e narrate.Event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			continue
		}
		p.mu.Lock()
		p.said = append(p.said, e)
		p.mu.Unlock()
		select {
		case p.more <- struct{}{}:
		default:
		}
	}
}

// Events returns what the program has narrated so far.
func (p *Program) Events() []narrate.Event {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]narrate.Event(nil), p.said...)
}

// Wait waits until the narration is as wanted and returns it.
func (p *Program) Wait(timeout time.Duration, wanted func([]narrate.Event) bool) (
	[]narrate.Event, error) {
	limit := time.After(timeout)
	for {
		if events := p.Events(); wanted(events) {
			return events, nil
		}
		select {
		case <-p.more:
		case <-p.done:
			if events := p.Events(); wanted(events) {
				return events, nil
			}
			return nil, errors.New("the program has ended")
		case <-limit:
			return nil, fmt.Errorf("not within %v", timeout)
		}
	}
}

// Stop interrupts the program and waits for its end.
func (p *Program) Stop() error {
	p.cmd.Process.Signal(os.Interrupt)
	kill := time.AfterFunc(stopTimeout, func() { p.cmd.Process.Kill() })
	defer kill.Stop()
	<-p.done
	return p.cmd.Wait()
}
