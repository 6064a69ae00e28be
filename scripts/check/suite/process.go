package suite

import (
	"bytes"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"reverseproxy/internal/proc"
)

// Process is a proxy that the checker has started, with its output. It may be
// started again and again; the methods of proc.Process are of the latest run.
type Process struct {
	*proc.Process
	argv []string
	addr string // where it will listen; "" when it says so itself
	// ready is the readiness line on its output, with the address; nil: it listens
	// on addr.
	ready    *regexp.Regexp
	harmless bool // see Subject.Harmless

	output *output
}

// output keeps the last bytes a process wrote and looks for readiness and for
// escape bytes from the network.
type output struct {
	mu     sync.Mutex
	tail   []byte
	keep   int
	ready  *regexp.Regexp
	addr   chan string
	told   bool
	marker bool // the escape sequence of case process-escapes was seen raw
}

// How much of a program's output is kept, in bytes: of one that runs, and of a
// list of flags.
const (
	tailKept = 4 << 10
	helpKept = 256 << 10
)

// EscapeMarker is a terminal escape sequence that a case sends.
const EscapeMarker = "\x1b]0;zq-escape"

func (o *output) hasMarker() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.marker
}

// Escaped reports whether the program has written the marker raw.
func (p *Process) Escaped() bool { return p.output.hasMarker() }

// Write takes output of the process.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.tail = append(o.tail, p...)
	if bytes.Contains(o.tail, []byte(EscapeMarker)) {
		o.marker = true
	}
	if !o.told && o.ready != nil {
		if m := o.ready.FindSubmatch(o.tail); m != nil {
			o.told = true
			o.addr <- string(m[1])
		}
	}
	if len(o.tail) > 2*o.keep {
		o.tail = append([]byte(nil), o.tail[len(o.tail)-o.keep:]...)
	}
	return len(p), nil
}

func (o *output) text() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.tail)
}

// last is the end of what the program wrote, in one line.
func (o *output) last() string {
	var lines []string
	for _, line := range strings.Split(strings.TrimSpace(o.text()), "\n") {
		// The line of ^^^ with which Python points at the line above it means
		// nothing beside it.
		if line = strings.TrimSpace(line); strings.Trim(line, " ^~") != "" {
			lines = append(lines, line)
		}
	}
	s := strings.Join(lines, " / ")
	if len(s) > wordsKept {
		s = "..." + s[len(s)-wordsKept+len("..."):]
	}
	return s
}

// wordsKept is how much of what a program wrote last is shown, in bytes: enough for the
// end of a Python traceback.
const wordsKept = 400

// startTime is how long a program may take until it listens.
const startTime = 10 * time.Second

// start runs the program and waits until it listens; it gives up startTime
// later, or two seconds after the time for the whole run.
func (p *Process) start(clock *pulse) error {
	left := clock.span(min(startTime, max(2*time.Second, clock.left())))
	for {
		err := p.startOnce(left)
		if err == nil || p.addr == "" || !strings.Contains(err.Error(), "in use") {
			return err
		}
		if h := proc.Holder(p.addr); h > 0 {
			if !proc.Ours(h) { // not ours to end
				return fmt.Errorf("%s is held by %s: %w", p.addr, named(h), err)
			}
			p.Kill()
		}
		if left() <= 0 {
			return fmt.Errorf("%w (a program without SO_REUSEADDR cannot bind its port for 60 s "+
				"after traffic: wait a minute)", err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (p *Process) startOnce(left func() time.Duration) error {
	if err := p.launch(tailKept); err != nil {
		return err
	}
	return p.awaitReady(left)
}

// heldTime is how long a child may hold the output of a program that has ended
// until the program counts as ended.
const heldTime = 500 * time.Millisecond

// launch runs the program; keep is how much of its output is kept, in bytes.
func (p *Process) launch(keep int) error {
	started.Lock()
	defer started.Unlock()
	if p.Process != nil {
		p.Kill() // what the run before has left behind
	}
	p.Process = proc.New(p.argv...)
	p.output = &output{ready: p.ready, addr: make(chan string, 1), keep: keep}
	p.Cmd.Stdout, p.Cmd.Stderr, p.Cmd.WaitDelay = p.output, p.output, heldTime
	if err := p.Start(); err != nil {
		return fmt.Errorf("cannot start %s: %w", p.name(), err)
	}
	started.all[p] = true
	return nil
}

// awaitReady waits for the readiness line or, without one, for the port.
func (p *Process) awaitReady(left func() time.Duration) error {
	began := time.Now()
	tick := time.NewTicker(4 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case a := <-p.output.addr:
			p.addr = a
			return nil
		case <-p.Done():
			if h := proc.Holder(p.addr); h > 0 && proc.Ours(h) {
				return fmt.Errorf("%s ended at once and left %s listening on %s: "+
					"start it so that it stays in the foreground", p.name(), named(h), p.addr)
			}
			said := "it has printed nothing; a server stays, and waits for its clients"
			if last := p.output.last(); last != "" {
				said = Visible(last, wordsKept)
			}
			return fmt.Errorf("%s ended at once (%s): %s", p.name(), p.state(), said)
		case <-tick.C:
			if p.ready == nil && proc.Listening(p.addr) {
				return nil
			}
			if left() > 0 {
				continue
			}
			p.Kill()
			what := "does not listen on " + p.addr + " (-proxy is for another address)"
			if p.ready != nil {
				what = "has not printed \"Ready on ADDRESS\""
			}
			said := "it has printed nothing"
			if last := p.output.last(); last != "" {
				said = "it has printed " + Visible(last, wordsKept)
			}
			return fmt.Errorf("%s %s after %.0f s; %s", p.name(), what, time.Since(began).Seconds(),
				said)
		}
	}
}

// state says how the process ended.
func (p *Process) state() string {
	switch {
	case !p.Ended():
		return ""
	case p.Err() == nil:
		return "exit status 0"
	}
	return p.Err().Error()
}

// LastWords says how the process ended and what it wrote last.
func (p *Process) LastWords() string {
	s := p.state()
	if w := p.output.last(); w != "" {
		s += ", last output " + Visible(w, wordsKept)
	}
	return s
}

// name is what the program is called in messages.
func (p *Process) name() string {
	if last := p.argv[len(p.argv)-1]; p.argv[0] == "/bin/sh" {
		return strings.TrimPrefix(last, "exec env ")
	}
	return filepath.Base(p.argv[0])
}

// stop asks the process to end, then kills it with all that it has started.
func (p *Process) stop() {
	if p.Process == nil {
		return
	}
	p.Stop(time.Second)
	started.Lock()
	defer started.Unlock()
	delete(started.all, p)
}

// started holds the processes that have not been stopped yet.
var started = struct {
	sync.Mutex
	all map[*Process]bool
}{all: map[*Process]bool{}}

// EndAll ends every program that the suite has started, and lets it start none
// any more: for a checker that is told to end itself.
func EndAll() {
	started.Lock() // for good
	for p := range started.all {
		p.Kill()
	}
}

// named names a process so that it can be found: its command line and number.
func named(pid int) string {
	return fmt.Sprintf("%s (process %d)", Visible(proc.CommandLine(pid), 100), pid)
}
