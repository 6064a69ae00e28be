package proc

import (
	"bytes"
	"strings"
	"time"
)

// Output keeps what a program writes.
type Output struct {
	Keep int               // at least so many of the last bytes are kept; 0: all
	Line func(line string) // gets each line when it is whole; may be nil

	p       *Process
	text    []byte
	dropped int       // bytes before text that are no longer kept
	start   int       // in text, of the line that is not whole yet
	last    time.Time // of the latest write
}

// Write takes what the program has written.
func (o *Output) Write(b []byte) (int, error) {
	o.p.mu.Lock()
	defer o.p.mu.Unlock()
	o.text, o.last = append(o.text, b...), time.Now()
	for {
		n := bytes.IndexByte(o.text[o.start:], '\n')
		if n < 0 {
			break
		}
		if o.Line != nil {
			o.Line(string(o.text[o.start : o.start+n]))
		}
		o.start += n + 1
	}
	if cut := len(o.text) - o.Keep; o.Keep > 0 && cut > o.Keep {
		o.text = append([]byte(nil), o.text[cut:]...)
		o.dropped += cut
		o.start = max(o.start-cut, 0)
	}
	close(o.p.changed)
	o.p.changed = make(chan struct{})
	return len(b), nil
}

// String is what is kept.
func (o *Output) String() string { return o.From(0) }

// From is what has been written from a byte on, counted from the beginning.
func (o *Output) From(offset int) string {
	o.p.mu.Lock()
	defer o.p.mu.Unlock()
	return string(o.text[min(max(offset-o.dropped, 0), len(o.text)):])
}

// Last is when something was last written.
func (o *Output) Last() time.Time {
	o.p.mu.Lock()
	defer o.p.mu.Unlock()
	return o.last
}

// tailLines is how many lines a message shows.
const tailLines = 15

// Tail returns the last lines, for messages.
func (o *Output) Tail() string {
	lines := strings.Split(strings.TrimSpace(o.String()), "\n")
	return strings.Join(lines[max(0, len(lines)-tailLines):], "\n")
}
