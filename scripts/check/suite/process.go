package suite

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Process is a proxy that the checker has started, with its output.
type Process struct {
	argv  []string
	addr  string         // where it will listen; "" when it says so itself
	ready *regexp.Regexp // readiness line on stdout, with the address
	// harmless: readiness may be seen by connecting
	harmless bool
	mark     string // see ourMark

	mu     sync.Mutex
	cmd    *exec.Cmd
	gone   chan struct{} // closed when the process has been waited for
	output *output
	state  string // how it ended
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

func (o *output) last() string {
	s := strings.TrimSpace(o.text())
	if len(s) > 200 {
		s = "..." + s[len(s)-200:]
	}
	return strings.ReplaceAll(s, "\n", " / ")
}

// startTime is how long a program may take until it listens.
const startTime = 10 * time.Second

// start runs the program and waits until it listens; it gives up startTime
// later, or two seconds after the deadline.
func (p *Process) start(deadline time.Time) error {
	until := time.Now().Add(min(startTime, max(2*time.Second, time.Until(deadline))))
	for {
		err := p.startOnce(until)
		if err == nil || p.addr == "" || !strings.Contains(err.Error(), "in use") {
			return err
		}
		if h := holderOf(p.addr); h.pid > 0 {
			if !h.ours { // not ours to end
				return fmt.Errorf("%s is held by %s: %w", p.addr, h, err)
			}
			p.killRest()
		}
		if time.Now().After(until) {
			return fmt.Errorf("%w (a program without SO_REUSEADDR cannot bind its port for 60 s "+
				"after traffic: wait a minute)", err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// ourMark begins a variable in the environment of every program that the
// checker starts: so what such a program leaves behind can be told from other
// people's programs.
var ourMark = fmt.Sprintf("CHECK_RUN=%s.%d.", runID, os.Getpid())

// processSeq makes the mark of each process its own.
var processSeq atomic.Int64

func (p *Process) startOnce(until time.Time) error {
	if err := p.launch(tailKept); err != nil {
		return err
	}
	return p.awaitReady(until)
}

// launch runs the program; keep is how much of its output is kept, in bytes.
func (p *Process) launch(keep int) error {
	cmd := exec.Command(p.argv[0], p.argv[1:]...)
	if p.mark == "" {
		p.mark = fmt.Sprint(ourMark, processSeq.Add(1))
	}
	cmd.Env = append(os.Environ(), p.mark)
	out := &output{ready: p.ready, addr: make(chan string, 1), keep: keep}
	cmd.Stdout, cmd.Stderr = out, out
	ownGroup(cmd)
	cmd.WaitDelay = 500 * time.Millisecond
	started.Lock()
	defer started.Unlock()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("cannot start %s: %w", p.name(), err)
	}
	gone := make(chan struct{})
	p.mu.Lock()
	p.cmd, p.gone, p.output = cmd, gone, out
	p.mu.Unlock()
	started.all[p] = true
	// Ends when the process ends.
	go func() {
		err := cmd.Wait()
		p.mu.Lock()
		p.state = "exit status 0"
		if err != nil {
			p.state = err.Error()
		}
		p.mu.Unlock()
		close(gone)
	}()
	return nil
}

// awaitReady waits for the readiness line or, without one, for the port.
func (p *Process) awaitReady(until time.Time) error {
	out, gone := p.output, p.gone
	began := time.Now()
	late := time.After(time.Until(until))
	tick := time.NewTicker(4 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case a := <-out.addr:
			p.addr = a
			return nil
		case <-gone:
			if h := holderOf(p.addr); h.ours {
				return fmt.Errorf("%s ended at once and left %s listening on %s: "+
					"start it so that it stays in the foreground", p.name(), h, p.addr)
			}
			return fmt.Errorf("%s ended at once (%s): %s", p.name(), p.state, Visible(out.last(),
				250))
		case <-late:
			p.kill()
			what := "does not listen on " + p.addr
			if p.ready != nil {
				what = "has not printed \"Ready on ADDRESS\""
			}
			return fmt.Errorf("%s %s after %.0f s: %s", p.name(), what, time.Since(began).Seconds(),
				Visible(out.last(), 250))
		case <-tick.C:
			if p.ready != nil {
				continue
			}
			if p.harmless && connectable(p.addr) || !p.harmless && listens(p.addr) {
				return nil
			}
		}
	}
}

// exited reports whether the process has ended.
func (p *Process) exited() bool {
	select {
	case <-p.gone:
		return true
	default:
		return false
	}
}

// WaitExit waits up to d for the end of the process.
func (p *Process) WaitExit(d time.Duration) bool {
	select {
	case <-p.gone:
		return true
	case <-time.After(d):
		return false
	}
}

// LastWords says how the process ended and what it wrote last.
func (p *Process) LastWords() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.state
	if w := p.output.last(); w != "" {
		s += ", last output " + Visible(w, 160)
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

// killTime is how long the kernel may take to end a process that was killed:
// one in the middle of a disk operation cannot be waited for.
const killTime = 3 * time.Second

// kill ends the process group at once.
func (p *Process) kill() {
	killGroup(p.cmd)
	p.WaitExit(killTime)
}

// stop asks the process to end, then kills its group and whatever has left it.
func (p *Process) stop() {
	if p.cmd == nil {
		return
	}
	if !p.exited() {
		terminate(p.cmd)
		p.WaitExit(time.Second)
	}
	p.kill()
	p.killRest()
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
		p.kill()
		p.killRest()
	}
}

// killRest ends the children of the program that have left its process group
// (setsid). New ones may be born meanwhile: it looks until none is left.
func (p *Process) killRest() {
	for range 20 {
		left := marked(p.mark + "\x00")
		if len(left) == 0 {
			return
		}
		for _, pid := range left {
			killPID(pid)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// holder is the program that listens on a port.
type holder struct {
	pid  int // 0 when it is not known
	name string
	ours bool // the checker has started it, or a program that it has started
}

// String names the program so that it can be found: its command line and pid.
func (h holder) String() string { return fmt.Sprintf("%s (process %d)", h.name, h.pid) }

// PID is the process id of the program, or of the shell that became it.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// connectable is the portable way to see whether something listens.
func connectable(addr string) bool {
	c, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return false
	}
	c.Close()
	return true
}
