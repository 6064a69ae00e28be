package suite

import (
	"bytes"
	"fmt"
	"net"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"time"
)

// process is a proxy that the checker has started, with its output.
type process struct {
	argv  []string
	addr  string         // where it will listen; "" when it says so itself
	ready *regexp.Regexp // readiness line on stdout, with the address
	// harmless: readiness may be seen by connecting
	harmless bool

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
	ready  *regexp.Regexp
	addr   chan string
	told   bool
	marker bool // the escape sequence of case process-escapes was seen raw
}

// escapeMarker is a terminal escape sequence that a case sends.
const escapeMarker = "\x1b]0;zq-escape"

func (o *output) hasMarker() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.marker
}

// Write takes output of the process.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.tail = append(o.tail, p...)
	if bytes.Contains(o.tail, []byte(escapeMarker)) {
		o.marker = true
	}
	if !o.told && o.ready != nil {
		if m := o.ready.FindSubmatch(o.tail); m != nil {
			o.told = true
			o.addr <- string(m[1])
		}
	}
	if len(o.tail) > 8<<10 {
		o.tail = append([]byte(nil), o.tail[len(o.tail)-4<<10:]...)
	}
	return len(p), nil
}

func (o *output) last() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := strings.TrimSpace(string(o.tail))
	if len(s) > 200 {
		s = "…" + s[len(s)-200:]
	}
	return strings.ReplaceAll(s, "\n", " / ")
}

// startTime is how long a program may take until it listens.
const startTime = 10 * time.Second

// start runs the program and waits until it listens.
func (p *process) start() error {
	for try := time.Now(); ; {
		err := p.startOnce()
		if err == nil || p.addr == "" || !strings.Contains(err.Error(), "in use") {
			return err
		}
		if time.Since(try) > 15*time.Second {
			return fmt.Errorf("%w (a program without SO_REUSEADDR cannot bind its port for 60 s after traffic: wait a minute)", err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (p *process) startOnce() error {
	cmd := exec.Command(p.argv[0], p.argv[1:]...)
	out := &output{ready: p.ready, addr: make(chan string, 1)}
	cmd.Stdout, cmd.Stderr = out, out
	ownGroup(cmd)
	cmd.WaitDelay = 500 * time.Millisecond
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("cannot start %s: %w", strings.Join(p.argv, " "), err)
	}
	gone := make(chan struct{})
	p.mu.Lock()
	p.cmd, p.gone, p.output = cmd, gone, out
	p.mu.Unlock()
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
	return p.awaitReady(out, gone)
}

// awaitReady waits for the readiness line or, without one, for the port.
func (p *process) awaitReady(out *output, gone chan struct{}) error {
	until := time.After(startTime)
	tick := time.NewTicker(4 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case a := <-out.addr:
			p.addr = a
			return nil
		case <-gone:
			return fmt.Errorf("%s ended at once (%s): %s", p.argv[len(p.argv)-1], p.state, Visible(out.last(), 250))
		case <-until:
			p.kill()
			return fmt.Errorf("%s does not listen on %s after %v: %s",
				p.argv[len(p.argv)-1], p.addr, startTime, Visible(out.last(), 250))
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
func (p *process) exited() bool {
	select {
	case <-p.gone:
		return true
	default:
		return false
	}
}

// waitExit waits up to d for the end of the process.
func (p *process) waitExit(d time.Duration) bool {
	select {
	case <-p.gone:
		return true
	case <-time.After(d):
		return false
	}
}

// lastWords says how the process ended and what it wrote last.
func (p *process) lastWords() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.state
	if w := p.output.last(); w != "" {
		s += ", last output " + Visible(w, 160)
	}
	return s
}

// kill ends the process group at once.
func (p *process) kill() {
	killGroup(p.cmd)
	<-p.gone
}

// stop asks the process to end, then kills its group.
func (p *process) stop() {
	if p.cmd == nil {
		return
	}
	if !p.exited() {
		terminate(p.cmd)
		p.waitExit(time.Second)
	}
	killGroup(p.cmd)
	<-p.gone
}

// pid is the process id of the program, or of the shell that became it.
func (p *process) pid() int { return p.cmd.Process.Pid }

// connectable is the portable way to see whether something listens.
func connectable(addr string) bool {
	c, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return false
	}
	c.Close()
	return true
}
