package harness

import (
	"bytes"
	"encoding/json"
	"strings"
	"sync"
	"time"

	"reverseproxy/internal/narrate"
)

// output keeps what a program writes and wakes those who wait for it.
type output struct {
	mu      sync.Mutex
	text    []byte
	start   int             // of the line that is not complete yet
	lines   []string        // complete ones
	events  []narrate.Event // those lines that are JSON
	changed chan struct{}   // closed and replaced when something has come
}

// Write takes what the program has written.
func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text = append(o.text, b...)
	for {
		n := bytes.IndexByte(o.text[o.start:], '\n')
		if n < 0 {
			break
		}
		line := o.text[o.start : o.start+n]
		o.start += n + 1
		o.lines = append(o.lines, string(line))
		var e narrate.Event
		if len(line) > 0 && line[0] == '{' && json.Unmarshal(line, &e) == nil {
			o.events = append(o.events, e)
		}
	}
	if o.changed != nil {
		close(o.changed)
		o.changed = nil
	}
	return len(b), nil
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.text)
}

// wait calls look, with the lock held, now and after every change, until it
// returns true. It returns false when that does not happen in time, or not
// before end is closed.
func (o *output) wait(end <-chan struct{}, look func() bool) bool {
	timeout := time.NewTimer(Patience)
	defer timeout.Stop()
	for last := false; ; {
		o.mu.Lock()
		ok := look()
		if o.changed == nil {
			o.changed = make(chan struct{})
		}
		changed := o.changed
		o.mu.Unlock()
		if ok || last {
			return ok
		}
		select {
		case <-changed:
		case <-end:
			last = true // everything has been written: one more look
		case <-timeout.C:
			return false
		}
	}
}

// tail returns the last lines, for messages about failures.
func (o *output) tail() string {
	lines := strings.Split(strings.TrimSpace(o.String()), "\n")
	return strings.Join(lines[max(0, len(lines)-15):], "\n")
}
