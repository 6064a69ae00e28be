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

// check runs a script and compares. A script that disagrees is run once more, alone and with
// more patience, before that counts.
func (r *runner) check(s script) (want []string, drift string, err error) {
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
	printed, err := r.play(s, quiet)
	r.alone.RUnlock()
	if err != nil || !s.agrees(printed) {
		r.alone.Lock()
		printed, err = r.play(s, longQuiet)
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

// play runs the commands and returns what each printed. What the block expects tells when
// background programs have printed everything; where it tells nothing they are to stand
// still for longer.
func (r *runner) play(s script, still time.Duration) (printed [][]string, err error) {
	if s.hidden {
		still = longQuiet
	}
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
		p.still = still
		if slices.Contains(c.want, ellipsis) {
			p.still = longQuiet
		}
		lines, err := p.command(c, c.expects())
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
	still      time.Duration // for which all must stand still before a command's output is whole
}

// process is a command that runs in the background.
type process struct {
	*proc.Process
	text    string
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

// command runs one command and returns what it and the background printed; expect is how
// many lines that is at least.
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
	return append(lines, p.settle(expect-len(lines))...), nil
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
	r := &process{Process: proc.New("sh", "-c", ready), text: text,
		program: goRun.MatchString(text),
		simple:  strings.HasPrefix(text, "go run ") && !strings.ContainsAny(text, "|;&<>")}
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
	quiet        = 100 * time.Millisecond // of commands that do nothing: is it so?
	longQuiet    = 700 * time.Millisecond // the same, where more lines may come than one knows
	patience     = 20 * time.Second       // for what is expected
	settleLimit  = 5 * time.Second        // for commands that never stand still
	stopTimeout  = 8 * time.Second        // after Ctrl+C, before it is killed
	pollInterval = 10 * time.Millisecond
)

// awaitReady waits for a program's readiness line, and for any other command, or one whose
// output goes elsewhere, until it waits for something itself.
func (r *process) awaitReady() {
	if r.program && !strings.Contains(r.text, ">") {
		_, _ = r.Ready(patience, proc.ReadyLine, 1)
		return
	}
	look := &watch{of: []*process{r}}
	for start := time.Now(); look.still() < quiet && time.Since(start) < settleLimit; {
		if r.Wait(pollInterval) {
			return
		}
	}
}

// watch tells for how long commands have stood still.
type watch struct {
	of     []*process
	did    string    // what they had done when looked at
	latest time.Time // when that was found to have changed
}

// still returns for how long all the processes of the commands have been waiting, and have
// printed nothing. A machine that is busy with other things makes them do everything later,
// but a process that waits for a core does not count as waiting.
func (w *watch) still() time.Duration {
	did, asleep := "", true
	for _, r := range w.of {
		if !r.Ended() { // then its number may be another's
			each, waits := proc.Activity(r.PID())
			did, asleep = did+each, asleep && waits
		}
	}
	if did != w.did || !asleep || w.latest.IsZero() {
		w.did, w.latest = did, time.Now()
	}
	printed := w.latest
	for _, r := range w.of {
		if at := r.Stdout.Last(); at.After(printed) {
			printed = at
		}
	}
	return time.Since(printed)
}

// settle waits until the background has printed the expected number of lines, and stands
// still, and returns the lines, command after command.
func (p *player) settle(expect int) []string {
	look := &watch{of: p.background}
	for start := time.Now(); ; time.Sleep(pollInterval) {
		missing, limit, over := expect, settleLimit, true
		for _, r := range p.background {
			missing -= strings.Count(r.Stdout.From(r.given), "\n")
			over = over && r.Ended()
		}
		if missing > 0 {
			limit = patience
		}
		if over || missing <= 0 && look.still() >= p.still || time.Since(start) > limit {
			return p.take()
		}
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
