//go:build unix

package harness

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"

	"reverseproxy/internal/book"
	"reverseproxy/internal/narrate"
	"reverseproxy/internal/proc"
)

// A Model is one way to run a program: a chapter and the flags that make it so.
type Model struct {
	book.Chapter
	Name     string // for messages: "ch3_process_model -prefork 4"
	Folder   string // of the main package, from the repository's root
	Flags    []string
	Standing int // standing children
}

// The models.
var (
	Base      = Chapter(1)
	Basic     = Chapter(2)
	Fork      = Chapter(3)
	Prefork   = standing(4)
	Threaded  = Chapter(4)
	OSThreads = Chapter(4, "-os-threads")
	Balancer  = Chapter(5)
	KeepAlive = Chapter(6)
	Retries   = Chapter(7)
	Health    = Chapter(8)
	Chooser   = Chapter(9)
)

// Chapter is the chapter with a number, run with some flags.
func Chapter(number int, flags ...string) Model {
	c := book.Of(number)
	return Model{Chapter: c, Folder: c.Dir, Flags: flags,
		Name: strings.Join(append([]string{c.Dir}, flags...), " ")}
}

// standing is ch3 with n standing children.
func standing(n int) Model {
	m := Chapter(3, "-prefork", fmt.Sprint(n))
	m.Forks, m.Standing = false, n
	return m
}

// Proxies are the chapters that forward, and ch3 with standing children.
func Proxies() []Model {
	all := []Model{Prefork}
	for _, c := range book.Proxies() {
		all = append(all, Chapter(c.Number))
	}
	return all
}

// Keeps reports whether connections carry more than one request. Its clients
// have to say that they want no more: see Conn.Send.
func (m Model) Keeps() bool { return m.Forwards() && !m.Has(book.OneRequest) }

// Launch says how a program is started. The zero value of each field is the
// usual way.
type Launch struct {
	Model Model
	Flags []string // after the model's own; -listen 127.0.0.1:0 and -log json come before
	Plain bool     // without the race detector, even if the test has it
	Under []string // a command that runs the program given as its further arguments
	Env   []string // more environment, "NAME=value"
}

// Proxy is a program that runs.
type Proxy struct {
	Model    Model
	Addr     string   // where it listens
	Backends []string // the addresses of its demo backends, with -demo
	Backend  *Backend // the backend that the test plays, if StartWithBackend made one

	run    *proc.Process
	mu     sync.Mutex
	lines  []string        // of stdout, whole ones
	events []narrate.Event // those that are JSON
	quiet  bool            // its stderr has been checked, or is expected to be loud
}

// Start starts a model with flags and waits until it is ready. It ends with the
// test, which fails if the program reported a data race or a panic meanwhile.
func Start(t T, m Model, flags ...string) *Proxy {
	t.Helper()
	return Launch{Model: m, Flags: flags}.Start(t)
}

// StartWithBackend is Start with a backend that the test plays.
func StartWithBackend(t T, m Model, flags ...string) *Proxy {
	t.Helper()
	return Launch{Model: m, Flags: flags}.StartWithBackend(t)
}

// StartWithBackend is Start with a backend that the test plays.
func (l Launch) StartWithBackend(t T) *Proxy {
	t.Helper()
	b := NewBackend(t)
	l.Flags = append([]string{l.Model.BackendFlag(), b.Addr}, l.Flags...)
	p := l.Start(t)
	p.Backend = b
	return p
}

// Demo returns the flags that start n demo backends on free ports.
func (m Model) Demo(n int) []string {
	return []string{"-demo", m.BackendFlag(),
		strings.Join(strings.Fields(strings.Repeat("127.0.0.1:0 ", n)), ",")}
}

// Start starts the program and waits until it is ready.
func (l Launch) Start(t T) *Proxy {
	t.Helper()
	p := l.Spawn(t)
	p.awaitReady(t)
	return p
}

// Spawn starts the program and waits for nothing.
func (l Launch) Spawn(t T) *Proxy {
	t.Helper()
	path := ""
	if l.Plain {
		path = BuildPlain(t, l.Model.Folder)
	} else {
		path = Build(t, l.Model.Folder)
	}
	args := append([]string{}, l.Under...)
	args = append(args, path, "-listen", "127.0.0.1:0", "-log", "json")
	args = append(append(args, l.Model.Flags...), l.Flags...)
	p := &Proxy{Model: l.Model, run: proc.New(args...)}
	p.run.Stdout.Line = p.read
	p.run.Cmd.Env = append(os.Environ(), l.Env...)
	p.run.Cmd.WaitDelay = Patience // for children that keep stderr open
	if err := p.run.Start(); err != nil {
		t.Fatalf("start of %s: %v", l.Model.Name, err)
	}
	t.Cleanup(func() { p.end(t) })
	return p
}

// read takes a line of stdout.
func (p *Proxy) read(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lines = append(p.lines, line)
	var e narrate.Event
	if strings.HasPrefix(line, "{") && json.Unmarshal([]byte(line), &e) == nil {
		p.events = append(p.events, e)
	}
}

func (p *Proxy) awaitReady(t T) {
	t.Helper()
	addrs, err := p.run.Ready(Patience, proc.ReadyLine, 1)
	if err != nil {
		t.Fatalf("%s: %v", p.Model.Name, err)
	}
	p.Addr = addrs[0]
	for _, e := range p.Events() {
		if e.Kind == narrate.KindReady {
			p.Backends = e.Backends
		}
	}
	if m := demoLine.FindStringSubmatch(p.Stdout()); m != nil { // in words
		p.Backends = strings.Split(m[1], ", ")
	}
}

var demoLine = regexp.MustCompile(`(?m)^Demo backends on (.*)$`)

// end ends the program at the end of a test, and all that it has started.
func (p *Proxy) end(t T) {
	t.Helper()
	p.run.Kill()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.quiet {
		return
	}
	p.quiet = true
	for _, bad := range []string{"WARNING: DATA RACE", "panic: ", "fatal error: ", "[signal SIG"} {
		if strings.Contains(p.Stderr(), bad) {
			t.Errorf("%s wrote to stderr:\n%s", p.Model.Name, p.Stderr())
			return
		}
	}
	if t.Failed() {
		t.Logf("the end of what %s wrote:\n%s", p.Model.Name, p.run.LastWords())
	}
}

// PID returns the program's process number.
func (p *Proxy) PID() int { return p.run.PID() }

// Stdout returns what the program has written to stdout so far.
func (p *Proxy) Stdout() string { return p.run.Stdout.String() }

// Stderr returns what the program has written to stderr so far.
func (p *Proxy) Stderr() string { return p.run.Stderr.String() }

// Events returns the events narrated so far (-log json).
func (p *Proxy) Events() []narrate.Event {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.events)
}

// WaitEvent waits for the first event that matches, from the beginning on.
func (p *Proxy) WaitEvent(t T, what string, match func(narrate.Event) bool) narrate.Event {
	t.Helper()
	return p.WaitEvents(t, what, 1, match)[0]
}

// WaitEvents waits until n events match and returns those that do.
func (p *Proxy) WaitEvents(t T, what string, n int,
	match func(narrate.Event) bool) []narrate.Event {
	t.Helper()
	var found []narrate.Event
	next := 0
	ok := p.run.Await(Patience, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		for ; next < len(p.events); next++ {
			if e := p.events[next]; match(e) {
				found = append(found, e)
			}
		}
		return len(found) >= n
	})
	if !ok {
		t.Fatalf("%s narrated %d of %d events in time: %s; its last lines:\n%s",
			p.Model.Name, len(found), n, what, p.run.Stdout.Tail())
	}
	return found
}

// WaitLine waits for a line of stdout that matches.
func (p *Proxy) WaitLine(t T, pattern string) string {
	t.Helper()
	re, found, next := regexp.MustCompile(pattern), "", 0
	ok := p.run.Await(Patience, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		for ; next < len(p.lines); next++ {
			if re.MatchString(p.lines[next]) {
				found = p.lines[next]
				return true
			}
		}
		return false
	})
	if !ok {
		t.Fatalf("%s printed no line like %q in time; its last lines:\n%s", p.Model.Name, pattern,
			p.run.Stdout.Tail())
	}
	return found
}

// WaitStderr waits until stderr contains s.
func (p *Proxy) WaitStderr(t T, s string) {
	t.Helper()
	if !p.run.Await(Patience, func() bool { return strings.Contains(p.Stderr(), s) }) {
		t.Fatalf("%s wrote nothing like %q to stderr in time, but:\n%s", p.Model.Name, s,
			p.run.Stderr.Tail())
	}
}

// Signal sends a signal to the program alone.
func (p *Proxy) Signal(sig syscall.Signal) { p.run.Cmd.Process.Signal(sig) }

// CtrlC does what a terminal does at Ctrl+C: SIGINT to the program and to all
// children of it.
func (p *Proxy) CtrlC() { p.run.Interrupt() }

// Exit is how a program ended.
type Exit struct {
	Code    int              // exit status; -1: ended by a signal
	Summary *narrate.Summary // the last one in JSON, if there was one
	Stdout  string
	Stderr  string
}

// Wait waits until the program has ended.
func (p *Proxy) Wait(t T) Exit {
	t.Helper()
	if !p.run.Wait(Patience) {
		t.Fatalf("%s has not ended; its last lines:\n%s", p.Model.Name, p.run.Stdout.Tail())
	}
	if p.run.Held() {
		t.Errorf("%s ended, but something that it started still holds its output", p.Model.Name)
	}
	e := Exit{Code: p.run.Code(), Stdout: p.Stdout(), Stderr: p.Stderr()}
	for _, event := range p.Events() {
		if event.Kind == narrate.KindSummary {
			e.Summary = event.Summary
		}
	}
	return e
}

// Interrupt presses Ctrl+C and waits for the orderly end: exit status 0 and,
// in JSON, exactly one summary.
func (p *Proxy) Interrupt(t T) Exit {
	t.Helper()
	p.CtrlC()
	e := p.Wait(t)
	if e.Code != 0 {
		t.Errorf("%s: exit status %d after Ctrl+C, want 0; stderr:\n%s", p.Model.Name, e.Code,
			e.Stderr)
	}
	return e
}

// Goroutines ends the program by SIGQUIT, which makes Go's runtime write down
// every goroutine, and returns for each kind how many there were. A kind is
// named by the function and the line that started it. Of a model with standing
// children, it is one of them that is ended and counted: it is they who serve.
func (p *Proxy) Goroutines(t T) map[string]int {
	t.Helper()
	if p.Model.Standing > 0 {
		child := p.Children(t)[0]
		syscall.Kill(child, syscall.SIGQUIT)
		name := fmt.Sprintf("child %d", child)
		p.WaitEvent(t, name+" has ended", func(e narrate.Event) bool {
			return e.Kind == narrate.KindWorker && e.Worker == name &&
				strings.HasPrefix(e.Text, "exited")
		})
		p.Signal(syscall.SIGKILL)
	} else {
		p.Signal(syscall.SIGQUIT)
	}
	return goroutines(p.Wait(t).Stderr)
}

var (
	goroutineLine = regexp.MustCompile(`(?m)^goroutine \d+ .*\[`)
	createdBy     = regexp.MustCompile(`(?m)^created by (\S+) in goroutine \d+\n\s+(\S+)`)
)

// goroutines counts the goroutines of a dump by where they were started.
func goroutines(dump string) map[string]int {
	kinds := map[string]int{}
	starts := goroutineLine.FindAllStringIndex(dump, -1)
	for i, start := range starts {
		end := len(dump)
		if i+1 < len(starts) {
			end = starts[i+1][0]
		}
		kind := "main"
		if m := createdBy.FindStringSubmatch(dump[start[0]:end]); m != nil {
			kind = m[1] + " " + m[2][strings.LastIndexByte(m[2], '/')+1:]
		} else if strings.Contains(dump[start[0]:start[1]], "goroutine 0 ") {
			continue // the scheduler's own stack
		}
		if strings.HasPrefix(kind, "runtime.") {
			continue // the runtime's own, such as the garbage collector's
		}
		kinds[kind]++
	}
	return kinds
}
