// Package proc starts programs for the tests and tools, waits until they are
// ready, keeps what they write, ends them with all that they have started, and
// reads what the kernel says of them.
package proc

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// ReadyLine is what the programs of this repository write to stdout once they
// listen, in words or in JSON. One of its two groups is the address.
var ReadyLine = regexp.MustCompile(`(?m)^Ready on (\S+)|"event":"ready".*?"listen":"([^"]+)"`)

// closeTime is how long what a program has started may hold its output open
// after the program has ended.
const closeTime = 2 * time.Second

// Process is a program that runs, or is about to.
type Process struct {
	Cmd    *exec.Cmd // may be changed before Start
	Stdout Output    // where Cmd.Stdout is nil
	Stderr Output    // where Cmd.Stderr is nil

	mark    string // in the environment of the program and of all that it starts
	mu      sync.Mutex
	changed chan struct{} // closed and replaced when something has been written
	done    chan struct{} // closed when the program has been waited for
	killed  atomic.Bool   // its number may be another's by now
	err     error         // what Wait said; read it after done
}

// runs numbers the programs that were started. Each has a variable of its own in
// its environment that begins with ourMark, and so has all that it starts: the
// time tells them from what an earlier process of our number has left behind.
var (
	runs    atomic.Int64
	ourMark = fmt.Sprintf("PROC_RUN_%d_%d_", os.Getpid(), time.Now().UnixNano())
)

// New prepares a program. It gets a process group of its own, as from a shell.
func New(args ...string) *Process {
	p := &Process{Cmd: exec.Command(args[0], args[1:]...),
		changed: make(chan struct{}), done: make(chan struct{})}
	p.Cmd.WaitDelay = closeTime
	p.Stdout.p, p.Stderr.p = p, p
	return p
}

// Start starts the program, which does not ignore Ctrl+C, though this one may.
func (p *Process) Start() error {
	if p.Cmd.Stdout == nil {
		p.Cmd.Stdout = &p.Stdout
	}
	if p.Cmd.Stderr == nil {
		p.Cmd.Stderr = &p.Stderr
	}
	p.mark = fmt.Sprint(ourMark, runs.Add(1), "=1")
	p.Cmd.Env = append(p.Cmd.Environ(), p.mark)
	ownGroup(p.Cmd)
	if signal.Ignored(os.Interrupt) {
		// So does all that a script starts in the background, and what that starts. Whoever
		// waits for a signal does not ignore it, and its children begin anew.
		signal.Notify(make(chan os.Signal, 1), os.Interrupt)
	}
	if p.err = p.Cmd.Start(); p.err != nil {
		close(p.done)
		return p.err
	}
	// Ends when the program and everything that holds its output have ended.
	go func() {
		p.err = p.Cmd.Wait()
		close(p.done)
	}()
	return nil
}

// Run is New and Start.
func Run(args ...string) (*Process, error) {
	p := New(args...)
	return p, p.Start()
}

// Build compiles packages as a student would, in a folder of the repository. args
// are those of go build after -o.
func Build(dir, output string, args ...string) error {
	cmd := exec.Command("go", append([]string{"build", "-o", output}, args...)...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

// FreeAddr takes one of these ports after the other, from a random one on.
const (
	leastPort = 18000
	ports     = 14000
)

var (
	startPort = rand.Int64N(ports)
	looked    atomic.Int64 // how many it has looked at
)

// FreeAddr returns an address on which nothing listens, for a program that is told where
// to listen. It is below the range from which the kernel takes ports, for connections and
// where port 0 is asked for: one of those could occupy it before the program does. Nor
// does another caller in this process get it.
func FreeAddr() string {
	for {
		addr := fmt.Sprintf("127.0.0.1:%d", leastPort+(startPort+looked.Add(1))%ports)
		l, err := net.Listen("tcp", addr)
		if err == nil {
			l.Close()
			// Another program that is just being started holds the listener, too, until it runs.
			for conn, err := net.Dial("tcp", addr); err == nil; conn, err = net.Dial("tcp", addr) {
				conn.Close()
				time.Sleep(time.Millisecond)
			}
			return addr
		}
	}
}

// Limited is the command line that runs a program with at most so many
// descriptors (ulimit -n).
func Limited(descriptors int, args ...string) []string {
	script := fmt.Sprintf(`ulimit -n %d && exec "$@"`, descriptors)
	return append([]string{"sh", "-c", script, "sh"}, args...)
}

// PID is the program's number.
func (p *Process) PID() int { return p.Cmd.Process.Pid }

// Done is closed when the program has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Ended reports whether the program has ended.
func (p *Process) Ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Wait waits until the program has ended, and reports whether it has in time.
func (p *Process) Wait(limit time.Duration) bool {
	select {
	case <-p.done:
		return true
	case <-time.After(limit):
		return false
	}
}

// Err says how the program has ended, nil for exit status 0: see exec.Cmd.Wait.
func (p *Process) Err() error { <-p.done; return p.err }

// Code is the exit status of a program that has ended, -1 after a signal.
func (p *Process) Code() int { <-p.done; return p.Cmd.ProcessState.ExitCode() }

// Await calls look now and whenever the program has written something, until it
// returns true. It returns false when that does not happen in time, or not
// before the program has ended.
func (p *Process) Await(limit time.Duration, look func() bool) bool {
	timeout := time.NewTimer(limit)
	defer timeout.Stop()
	for {
		p.mu.Lock()
		changed := p.changed
		p.mu.Unlock()
		last := p.Ended() // everything has been written: one more look
		switch {
		case look():
			return true
		case last:
			return false
		}
		select {
		case <-changed:
		case <-p.done:
		case <-timeout.C:
			return false
		}
	}
}

// Ready waits until stdout has n lines like line and returns the address that
// each names.
func (p *Process) Ready(limit time.Duration, line *regexp.Regexp, n int) (addrs []string,
	err error) {
	ok := p.Await(limit, func() bool {
		text := p.Stdout.String()
		text = text[:strings.LastIndexByte(text, '\n')+1]
		addrs = addrs[:0]
		for _, m := range line.FindAllStringSubmatch(text, n) {
			addrs = append(addrs, strings.Join(m[1:], ""))
		}
		return len(addrs) == n
	})
	if ok {
		return addrs, nil
	}
	if !p.Ended() {
		return nil, fmt.Errorf("not ready within %v: %s", limit, p.LastWords())
	}
	return nil, fmt.Errorf("it ended (%v): %s", p.err, p.LastWords())
}

// AwaitListening is Ready for a program that does not say so: it waits until
// somebody listens on the address, and does not connect, because some programs
// take a visitor who says nothing for a client.
func (p *Process) AwaitListening(limit time.Duration, addr string) error {
	for end := time.Now().Add(limit); ; {
		switch {
		case Listening(addr):
			return nil
		case p.Wait(3 * time.Millisecond):
			return fmt.Errorf("it ended (%v): %s", p.err, p.LastWords())
		case time.Now().After(end):
			return fmt.Errorf("it does not listen on %s after %v: %s", addr, limit, p.LastWords())
		}
	}
}

// LastWords is the end of what the program has written, for messages.
func (p *Process) LastWords() string {
	text := strings.TrimSpace(p.Stdout.Tail() + "\n" + p.Stderr.Tail())
	if text == "" {
		return "it has written nothing"
	}
	return text
}

// Interrupt presses Ctrl+C: SIGINT to the program and all its children.
func (p *Process) Interrupt() { interruptGroup(p.Cmd) }

// Stop presses Ctrl+C and waits for the end, then kills what is left. It
// returns an error when the program went on for longer than limit.
func (p *Process) Stop(limit time.Duration) error {
	if p.Cmd.Process == nil {
		return nil
	}
	late := false
	if !p.Ended() {
		p.Interrupt()
		late = !p.Wait(limit)
	}
	p.Kill()
	if late {
		return fmt.Errorf("it went on for %v after Ctrl+C", limit)
	}
	return nil
}

// killTime is how long Kill waits for the end of what it has killed, twice at most: the
// kernel does not end a program in the middle of a disk operation.
const killTime = 20 * time.Second

// Kill ends the program and all that it has started, and waits for it.
func (p *Process) Kill() {
	if p.Cmd.Process == nil {
		return
	}
	defer p.Wait(killTime)
	if p.killed.Swap(true) {
		return
	}
	dying := map[int]bool{} // found while they had an environment: the dying have none
	for _, pid := range p.Family() {
		dying[pid] = true
	}
	killGroup(p.Cmd)
	// Those that have left its group, too; again, as long as new ones are started, and
	// until all have given back what they had open.
	for end := time.Now().Add(killTime); time.Now().Before(end); time.Sleep(time.Millisecond) {
		for _, pid := range p.Family() {
			dying[pid] = true
			kill(pid)
		}
		maps.DeleteFunc(dying, func(pid int, _ bool) bool { return dead(pid) })
		if len(dying) == 0 {
			return
		}
	}
}

// Held reports whether a program has ended, but something that it started still
// holds its output open.
func (p *Process) Held() bool { return errors.Is(p.Err(), exec.ErrWaitDelay) }
