package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"reverseproxy/internal/book"
	"reverseproxy/internal/book/linediff"
)

// runner runs transcripts. It builds each program once.
type runner struct {
	root  string
	dir   string            // for binaries and curl's settings
	built map[string]string // package path, "./ch4_threaded", to binary
}

func newRunner(root string) (*runner, error) {
	dir, err := os.MkdirTemp("", "docscheck")
	if err != nil {
		return nil, err
	}
	// The length of curl's name for itself is part of every byte count.
	err = os.WriteFile(filepath.Join(dir, ".curlrc"), []byte("user-agent = \"curl/8.14.1\"\n"), 0o644)
	return &runner{root: root, dir: dir, built: map[string]string{}}, err
}

func (r *runner) close() { os.RemoveAll(r.dir) }

// check runs a script and compares. A script that disagrees is run once more
// before that counts, with more patience.
func (r *runner) check(s script, update bool) (want []string, drift string, err error) {
	if runtime.GOOS == "windows" {
		return nil, "", skip{"transcripts are run by sh, which Windows does not have"}
	}
	for _, program := range s.needs {
		if _, err := exec.LookPath(program); err != nil {
			if os.Getenv("CI") == "true" {
				return nil, "", fmt.Errorf("%s is not installed, and CI must run every transcript", program)
			}
			return nil, "", skip{program + " is not installed"}
		}
	}
	printed, err := r.play(s, true)
	if err != nil || !s.agrees(printed) {
		printed, err = r.play(s, false)
	}
	if err != nil {
		return nil, "", err
	}
	want = s.compose(printed)
	if s.agrees(printed) {
		return want, "", nil
	}
	shown := s.want
	if !s.hidden {
		var all [][]string
		for _, c := range s.commands {
			all = append(all, c.want)
		}
		shown = s.compose(all)
	}
	return want, "a fresh run prints something else (-u rewrites it):\n" +
		indent(linediff.Unified("page", "run", s.normalize(shown), s.normalize(want), diffContext)), nil
}

// play runs the commands and returns what each printed. If quick, what the block
// expects tells when background programs have printed everything.
func (r *runner) play(s script, quick bool) (printed [][]string, err error) {
	p := &player{runner: r, timeout: s.timeout}
	if p.ports, err = freePorts(); err != nil {
		return nil, err
	}
	defer p.stop()
	for _, c := range s.commands {
		expect := -1
		if quick && !s.hidden && !slices.Contains(c.want, ellipsis) {
			expect = len(c.want)
		}
		lines, err := p.command(c, expect)
		if err != nil {
			return nil, err
		}
		printed = append(printed, lines)
	}
	return printed, nil
}

// documented are the ports that pages write.
var documented = []string{"8080", "8000", "8001", "8002", "9090", "9091"}

// defaultFlags gives a program that listens on documented ports the flags by
// which it listens on other ones.
func defaultFlags(pkg string) string {
	switch pkg {
	case "./scripts/backends":
		return " -ports 8000,8001,8002"
	case "./scripts/reader":
		return " -listen " + book.Reader
	}
	c, ok := book.Find(strings.TrimPrefix(pkg, "./"))
	switch {
	case !ok:
		return ""
	case !c.Forwards():
		return " -listen " + book.Listen
	}
	return " -listen " + book.Listen + " " + c.BackendFlag() + " " + strings.Join(c.Backends, ",")
}

// freePorts finds a free port for each documented one. All have four digits, so
// that what is printed keeps its width.
func freePorts() (map[string]string, error) {
	ports := map[string]string{}
	for range 10_000 {
		port := strconv.Itoa(2100 + rand.IntN(5900))
		if slices.Contains(documented, port) || hasValue(ports, port) {
			continue
		}
		l, err := net.Listen("tcp", "127.0.0.1:"+port)
		if err != nil {
			continue
		}
		l.Close()
		ports[documented[len(ports)]] = port
		if len(ports) == len(documented) {
			return ports, nil
		}
	}
	return nil, errors.New("no free ports of four digits")
}

func hasValue(m map[string]string, v string) bool {
	for _, have := range m {
		if have == v {
			return true
		}
	}
	return false
}

// player runs the commands of one script.
type player struct {
	*runner
	ports      map[string]string // documented to free
	background []*process
	timeout    time.Duration
}

// process is a command that runs in the background.
type process struct {
	cmd     *exec.Cmd
	program bool // of this repository
	simple  bool // nothing but "go run ..."
	out     output
	done    chan struct{} // closed when it has ended
	err     error         // of Wait; read it after done
	given   int           // bytes of out that are already in the transcript
	ended   bool          // its end is in the transcript
}

// output collects what a process prints.
type output struct {
	mu   sync.Mutex
	data bytes.Buffer
	last time.Time // when it last printed
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.last = time.Now()
	return o.data.Write(p)
}

func (o *output) since(offset int) (text string, last time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.data.Bytes()[offset:]), o.last
}

var (
	goRun     = regexp.MustCompile(`\bgo run (\./[\w./-]+)`)
	portWord  = regexp.MustCompile(`([?&]\w+=)?\b(` + strings.Join(documented, "|") + `)\b`)
	readyLine = regexp.MustCompile(`(?m)^Ready on |"event":"ready"`)
)

// command runs one command and returns what it and the background printed.
func (p *player) command(c command, expect int) ([]string, error) {
	switch {
	case c.text == "":
		if err := p.interrupt(); err != nil {
			return nil, err
		}
		return p.settle(expect), nil
	case c.text == "wait":
		if err := p.wait(); err != nil {
			return nil, err
		}
		return p.settle(expect), nil
	case c.back:
		proc, err := p.start(c.text)
		if err != nil {
			return nil, err
		}
		p.background = append(p.background, proc)
		p.awaitReady(proc)
		return p.settle(expect), nil
	}
	proc, err := p.start(c.text)
	if err != nil {
		return nil, err
	}
	select {
	case <-proc.done:
	case <-time.After(p.timeout):
		kill(proc.cmd)
		<-proc.done
		return nil, fmt.Errorf("%q took longer than %v (-timeout gives it more)", c.text, p.timeout)
	}
	text, _ := proc.out.since(0)
	lines := append(linediff.Split(p.documentedPorts(text)), proc.exitLine()...)
	if expect >= 0 {
		expect = max(expect-len(lines), 0)
	}
	return append(lines, p.settle(expect)...), nil
}

// start starts a command in sh, in a process group of its own.
func (p *player) start(text string) (*process, error) {
	proc := &process{done: make(chan struct{})}
	proc.program = goRun.MatchString(text)
	proc.simple = strings.HasPrefix(text, "go run ") && !strings.ContainsAny(text, "|;&<>")
	ready, err := p.prepare(text)
	if err != nil {
		return nil, err
	}
	if first, _ := cutWord(ready); !strings.ContainsAny(ready, "|;&<>(") {
		if _, err := exec.LookPath(first); err == nil {
			ready = "exec " + ready // so that its pid is $!
		}
	}
	cmd := exec.Command("sh", "-c", ready)
	cmd.Dir = p.root
	cmd.Env = append(os.Environ(), "NO_COLOR=1", "TERM=dumb", "TZ=UTC", "LC_ALL=C.UTF-8", "CURL_HOME="+p.dir)
	cmd.Stdout, cmd.Stderr = &proc.out, &proc.out
	cmd.WaitDelay = time.Second
	ownGroup(cmd)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	proc.cmd = cmd
	// This goroutine ends with the command.
	go func() {
		proc.err = cmd.Wait()
		close(proc.done)
	}()
	return proc, nil
}

// prepare replaces programs by binaries, ports by free ones and $! by a pid.
func (p *player) prepare(text string) (string, error) {
	var failed error
	text = goRun.ReplaceAllStringFunc(text, func(run string) string {
		pkg := strings.TrimSuffix(goRun.FindStringSubmatch(run)[1], "/")
		binary, err := p.build(pkg)
		if err != nil {
			failed = err
		}
		return binary + defaultFlags(pkg)
	})
	text = portWord.ReplaceAllStringFunc(text, func(word string) string {
		if free, ok := p.ports[word]; ok {
			return free
		}
		return word // "?n=8000" is no port
	})
	if n := len(p.background); n > 0 {
		text = strings.ReplaceAll(text, "$!", strconv.Itoa(p.background[n-1].cmd.Process.Pid))
	}
	return text, failed
}

// build builds a program once and returns the binary's path.
func (r *runner) build(pkg string) (string, error) {
	if binary, ok := r.built[pkg]; ok {
		return binary, nil
	}
	binary := filepath.Join(r.dir, filepath.Base(pkg))
	cmd := exec.Command("go", "build", "-o", binary, pkg)
	cmd.Dir = r.root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build %s: %v\n%s", pkg, err, indent(string(out)))
	}
	r.built[pkg] = binary
	return binary, nil
}

// documentedPorts puts the ports that pages write in the place of the free ones, and the
// command a reader types in the place of the binary.
func (p *player) documentedPorts(text string) string {
	for shown, free := range p.ports {
		text = regexp.MustCompile(`\b`+free+`\b`).ReplaceAllString(text, shown)
	}
	for pkg, binary := range p.built {
		text = strings.ReplaceAll(text, binary, filepath.Base(pkg))
	}
	return strings.ReplaceAll(text, p.root+string(filepath.Separator), "")
}

// exitLine is what go run adds when its program fails.
func (proc *process) exitLine() []string {
	var exit *exec.ExitError
	if !proc.simple || !errors.As(proc.err, &exit) {
		return nil
	}
	if exit.ExitCode() < 0 {
		return []string{exit.Error()} // "signal: interrupt"
	}
	return []string{fmt.Sprintf("exit status %d", exit.ExitCode())}
}

// How long to wait for what a background command prints.
const (
	readyTimeout = 5 * time.Second        // for the readiness line
	startPause   = 100 * time.Millisecond // for a command that has none
	shortQuiet   = 100 * time.Millisecond // with all expected lines there
	settleLimit  = 5 * time.Second        // for one that never stops printing
	stopTimeout  = 8 * time.Second        // after Ctrl+C, before it is killed
	pollInterval = 5 * time.Millisecond
)

// longQuiet is how long it must be quiet with less than the expected lines there,
// or nothing expected.
var longQuiet = 700 * time.Millisecond

// awaitReady waits for a program's readiness line.
func (p *player) awaitReady(proc *process) {
	limit := startPause
	if proc.program {
		limit = readyTimeout
	}
	for start := time.Now(); time.Since(start) < limit; time.Sleep(pollInterval) {
		if text, _ := proc.out.since(0); readyLine.MatchString(text) || proc.hasEnded() {
			return
		}
	}
}

func (proc *process) hasEnded() bool {
	select {
	case <-proc.done:
		return true
	default:
		return false
	}
}

// settle waits until the background has printed the expected number of lines and
// nothing more for a while, and returns them, command after command.
func (p *player) settle(expect int) []string {
	if len(p.background) == 0 {
		return nil
	}
	start := time.Now()
	for {
		count, quiet := 0, time.Since(start)
		for _, proc := range p.background {
			text, last := proc.out.since(proc.given)
			count += strings.Count(text, "\n")
			quiet = min(quiet, time.Since(last))
		}
		enough := longQuiet
		if expect >= 0 && count >= expect {
			enough = shortQuiet
		}
		if quiet >= enough || time.Since(start) > settleLimit {
			return p.take()
		}
		time.Sleep(pollInterval)
	}
}

// take returns the lines that background commands have printed since the last time.
func (p *player) take() []string {
	var lines []string
	for _, proc := range p.background {
		over := proc.hasEnded()
		text, _ := proc.out.since(proc.given)
		if !over {
			text = text[:strings.LastIndex(text, "\n")+1]
		}
		proc.given += len(text)
		lines = append(lines, linediff.Split(p.documentedPorts(text))...)
		if over && !proc.ended {
			proc.ended = true
			lines = append(lines, proc.exitLine()...)
		}
	}
	return lines
}

// interrupt sends Ctrl+C to the last background command that runs and waits for it.
func (p *player) interrupt() error {
	for _, proc := range slices.Backward(p.background) {
		if !proc.hasEnded() {
			return end(proc)
		}
	}
	return errors.New("^C, but nothing runs in the background")
}

// end interrupts a process as Ctrl+C does, and kills it if that does not end it.
func end(proc *process) error {
	interruptGroup(proc.cmd)
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	select {
	case <-proc.done:
		kill(proc.cmd) // what it left behind
		return nil
	case <-ctx.Done():
		kill(proc.cmd)
		<-proc.done
		return fmt.Errorf("%s went on for %v after ^C", proc.cmd.Args[len(proc.cmd.Args)-1], stopTimeout)
	}
}

// wait waits for the background commands that are no programs of this repository.
func (p *player) wait() error {
	for _, proc := range p.background {
		if proc.program {
			continue
		}
		select {
		case <-proc.done:
		case <-time.After(p.timeout):
			return fmt.Errorf("wait took longer than %v", p.timeout)
		}
	}
	return nil
}

// stop ends everything that still runs, the last first.
func (p *player) stop() {
	for _, proc := range slices.Backward(p.background) {
		if !proc.hasEnded() {
			_ = end(proc)
		}
	}
}
