// Package browser runs a chapter's program and looks at its live page in a
// headless Chromium, for the tests and for the pictures in docs.
package browser

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/chromedp/chromedp"

	"reverseproxy/internal/browser"
	"reverseproxy/internal/narrate"
	"reverseproxy/internal/proc"
)

const (
	readyTimeout = 60 * time.Second // for a program to say that it is ready
	stopTimeout  = 30 * time.Second // for a program to end after an interrupt
)

// Find returns the path of Chromium or Chrome, "" if there is none.
func Find() string {
	path, _ := browser.Find()
	return path
}

// Start starts a headless Chromium with a new profile. Tabs are made from the
// returned context; cancel ends the browser.
func Start(ctx context.Context, _ string, width, height int) (tab context.Context, cancel func(), err error) {
	tab, cancel, err = browser.Start(ctx)
	if err == nil {
		err = chromedp.Run(tab, chromedp.EmulateViewport(int64(width), int64(height)))
	}
	return tab, cancel, err
}

// Build compiles the named chapters into dir.
func Build(root, dir string, chapters ...string) error {
	var packages []string
	for _, name := range chapters {
		packages = append(packages, "./"+name)
	}
	return proc.Build(root, dir+string(filepath.Separator), packages...)
}

// Program is a running chapter with its live page.
type Program struct {
	Page  string // the live page's address, host:port
	Proxy string // the proxy's address

	run  *proc.Process
	mu   sync.Mutex
	said []narrate.Event // its narration so far
}

// Run starts a chapter's binary with the given flags besides -log json, and
// waits until it listens and is watched.
func Run(binary string, args ...string) (*Program, error) {
	p := &Program{run: proc.New(append([]string{binary, "-log", "json"}, args...)...)}
	p.run.Cmd.Stderr = os.Stderr
	p.run.Stdout.Keep = 10_000
	p.run.Stdout.Line = func(line string) {
		p.mu.Lock()
		defer p.mu.Unlock()
		var e narrate.Event
		if json.Unmarshal([]byte(line), &e) == nil {
			p.said = append(p.said, e)
		}
	}
	if err := p.run.Start(); err != nil {
		return nil, err
	}
	_, err := p.Wait(readyTimeout, func(events []narrate.Event) bool {
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

// Events returns what the program has narrated so far.
func (p *Program) Events() []narrate.Event {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]narrate.Event(nil), p.said...)
}

// Wait waits until the narration is as wanted and returns it.
func (p *Program) Wait(timeout time.Duration, wanted func([]narrate.Event) bool) (events []narrate.Event, err error) {
	ok := p.run.Await(timeout, func() bool {
		events = p.Events()
		return wanted(events)
	})
	switch {
	case ok:
		return events, nil
	case p.run.Ended():
		return nil, errors.New("the program has ended")
	}
	return nil, fmt.Errorf("not within %v", timeout)
}

// Stop interrupts the program and waits for its end.
func (p *Program) Stop() error {
	if err := p.run.Stop(stopTimeout); err != nil {
		return err
	}
	return p.run.Err()
}
