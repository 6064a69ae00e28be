package main

import (
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
	"reverseproxy/internal/proc"
)

// runner runs transcripts, several at once. It builds each program once.
type runner struct {
	root string
	cdir string // where DIR/X.c of a command is found
	dir  string // for binaries and curl's settings

	alone sync.RWMutex // held for writing by a second try, which nothing disturbs

	mu    sync.Mutex        // guards the rest
	built map[string]string // package path, "./ch4_threaded", to binary
	taken map[string]bool   // ports
}

func newRunner(root, cdir string) (*runner, error) {
	if cdir == "" {
		cdir = filepath.Join(root, "scripts", "docscheck", "testdata", "c")
	}
	dir, err := os.MkdirTemp("", "docscheck")
	if err != nil {
		return nil, err
	}
	// The length of curl's name for itself is part of every byte count.
	err = os.WriteFile(filepath.Join(dir, ".curlrc"), []byte("user-agent = \"curl/8.14.1\"\n"),
		0o644)
	return &runner{root: root, cdir: cdir, dir: dir, built: map[string]string{},
		taken: map[string]bool{}}, err
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
				return nil, "",
					fmt.Errorf("%s is not installed, and CI must run every transcript", program)
			}
			return nil, "", skip{program + " is not installed"}
		}
	}
	r.alone.RLock()
	printed, err := r.play(s, true)
	r.alone.RUnlock()
	if err != nil || !s.agrees(printed) {
		r.alone.Lock()
		printed, err = r.play(s, false)
		r.alone.Unlock()
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
			indent(linediff.Unified("page", "run", s.normalize(shown), s.normalize(want),
				diffContext)),
		nil
}

// play runs the commands and returns what each printed. If quick, what the block
// expects tells when background programs have printed everything.
func (r *runner) play(s script, quick bool) (printed [][]string, err error) {
	p := &player{runner: r, timeout: s.timeout}
	if p.ports, err = r.freePorts(); err != nil {
		return nil, err
	}
	defer p.stop()
	if s.backends {
		beside, err := p.start("go run ./scripts/backends")
		if err != nil {
			return nil, err
		}
		defer beside.Kill()
		beside.awaitReady()
	}
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

// freePorts finds a free port for each documented one, none twice. All have four
// digits, so that what is printed keeps its width.
func (r *runner) freePorts() (map[string]string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	ports := map[string]string{}
	for range 10_000 {
		port := strconv.Itoa(2100 + rand.IntN(5900))
		if slices.Contains(documented, port) || r.taken[port] {
			continue
		}
		l, err := net.Listen("tcp", "127.0.0.1:"+port)
		if err != nil {
			continue
		}
		l.Close()
		r.taken[port] = true
		ports[documented[len(ports)]] = port
		if len(ports) == len(documented) {
			return ports, nil
		}
	}
	return nil, errors.New("no free ports of four digits")
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
	*proc.Process
	program bool // of this repository
	simple  bool // nothing but "go run ..."
	given   int  // bytes of its output that are already in the transcript
	ended   bool // its end is in the transcript
}

var (
	goRun    = regexp.MustCompile(`\bgo run (\./[\w./-]+)`)
	portWord = regexp.MustCompile(`([?&]\w+=)?\b(` + strings.Join(documented, "|") + `)\b`)
	cSource  = regexp.MustCompile(`\bDIR/(\w+\.c)\b`)
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
		r, err := p.start(c.text)
		if err != nil {
			return nil, err
		}
		p.background = append(p.background, r)
		r.awaitReady()
		return p.settle(expect), nil
	}
	r, err := p.start(c.text)
	if err != nil {
		return nil, err
	}
	defer r.Kill()
	if !r.Wait(p.timeout) {
		return nil, fmt.Errorf("%q took longer than %v (-timeout gives it more)", c.text, p.timeout)
	}
	lines := append(linediff.Split(p.documentedPorts(r.Stdout.String())), r.exitLine()...)
	if expect >= 0 {
		expect = max(expect-len(lines), 0)
	}
	return append(lines, p.settle(expect)...), nil
}

// start starts a command in sh, in a process group of its own.
func (p *player) start(text string) (*process, error) {
	ready, err := p.prepare(text)
	if err != nil {
		return nil, err
	}
	if first, _ := cutWord(ready); !strings.ContainsAny(ready, "|;&<>(") {
		if _, err := exec.LookPath(first); err == nil {
			ready = "exec " + ready // so that its pid is $!
		}
	}
	r := &process{Process: proc.New("sh", "-c", ready), program: goRun.MatchString(text),
		simple: strings.HasPrefix(text, "go run ") && !strings.ContainsAny(text, "|;&<>")}
	r.Cmd.Dir = p.root
	r.Cmd.Env = append(os.Environ(), "NO_COLOR=1", "TERM=dumb", "TZ=UTC", "LC_ALL=C.UTF-8",
		"CURL_HOME="+p.dir, "CPATH="+p.cdir)
	r.Cmd.Stderr, r.Cmd.Stdout = &r.Stdout, &r.Stdout
	return r, r.Start()
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
	text = p.portsIn(text)
	text = cSource.ReplaceAllStringFunc(text, func(source string) string {
		file, err := p.copyC(cSource.FindStringSubmatch(source)[1])
		if err != nil {
			failed = err
		}
		return file
	})
	if n := len(p.background); n > 0 {
		text = strings.ReplaceAll(text, "$!", strconv.Itoa(p.background[n-1].PID()))
	}
	return text, failed
}

// portsIn puts free ports in the place of those that pages write.
func (p *player) portsIn(text string) string {
	return portWord.ReplaceAllStringFunc(text, func(word string) string {
		if free, ok := p.ports[word]; ok {
			return free
		}
		return word // "?n=8000" is no port
	})
}

// copyC copies a C program, whose ports are fixed, with free ports in their place.
func (p *player) copyC(name string) (file string, err error) {
	code, err := os.ReadFile(filepath.Join(p.cdir, name))
	if err != nil {
		return "", err
	}
	file = filepath.Join(p.dir, p.ports["8080"]+name)
	return file, os.WriteFile(file, []byte(p.portsIn(string(code))), 0o644)
}

// build builds a program once and returns the binary's path.
func (r *runner) build(pkg string) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if binary, ok := r.built[pkg]; ok {
		return binary, nil
	}
	binary := filepath.Join(r.dir, filepath.Base(pkg))
	r.built[pkg] = binary
	return binary, proc.Build(r.root, binary, pkg)
}

// documentedPorts puts the ports that pages write in the place of the free ones, and the
// command a reader types in the place of the binary.
func (p *player) documentedPorts(text string) string {
	for shown, free := range p.ports {
		text = regexp.MustCompile(`\b`+free+`\b`).ReplaceAllString(text, shown)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for pkg, binary := range p.built {
		text = strings.ReplaceAll(text, binary, filepath.Base(pkg))
	}
	return strings.ReplaceAll(text, p.root+string(filepath.Separator), "")
}

// exitLine is what go run adds when its program fails.
func (r *process) exitLine() []string {
	var exit *exec.ExitError
	if !r.simple || !errors.As(r.Err(), &exit) {
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
func (r *process) awaitReady() {
	limit := startPause
	if r.program {
		limit = readyTimeout
	}
	_, _ = r.Ready(limit, proc.ReadyLine, 1)
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
		for _, r := range p.background {
			count += strings.Count(r.Stdout.From(r.given), "\n")
			quiet = min(quiet, time.Since(r.Stdout.Last()))
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
	for _, r := range p.background {
		over := r.Ended()
		text := r.Stdout.From(r.given)
		if !over {
			text = text[:strings.LastIndex(text, "\n")+1]
		}
		r.given += len(text)
		lines = append(lines, linediff.Split(p.documentedPorts(text))...)
		if over && !r.ended {
			r.ended = true
			lines = append(lines, r.exitLine()...)
		}
	}
	return lines
}

// interrupt sends Ctrl+C to the last background command that runs and waits for it.
func (p *player) interrupt() error {
	for _, r := range slices.Backward(p.background) {
		if !r.Ended() {
			if err := r.Stop(stopTimeout); err != nil {
				return fmt.Errorf("%s: %w", r.Cmd.Args[len(r.Cmd.Args)-1], err)
			}
			return nil
		}
	}
	return errors.New("^C, but nothing runs in the background")
}

// wait waits for the background commands that are no programs of this repository.
func (p *player) wait() error {
	for _, r := range p.background {
		if !r.program && !r.Wait(p.timeout) {
			return fmt.Errorf("wait took longer than %v", p.timeout)
		}
	}
	return nil
}

// stop ends everything that still runs, the last first.
func (p *player) stop() {
	for _, r := range slices.Backward(p.background) {
		_ = r.Stop(stopTimeout)
	}
}
