package suite

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"reverseproxy/internal/proc"
)

// Subject names the proxy under test: exactly one of Chapter, Command with
// Proxy and Backends, or Proxy and Backends alone.
type Subject struct {
	Name     string
	Chapter  string   // directory of a main package of this module
	Args     []string // further flags of that
	Uneven   bool     // it does not mean to give its backends their turns
	Command  string   // command line that starts the proxy
	Proxy    string   // address it listens on
	Backends []string
	Timeouts Timeouts // what Command or a running proxy is set to
	// Argv starts a proxy that announces its address in a line matching
	// Ready; %BACKENDS% in it becomes the list of backends.
	Argv []string
	// Prepare makes a configuration for an address to listen on and for the
	// backends, and returns the command that runs it.
	Prepare func(listen string, backends []string) (argv []string, err error)
	Count   int // backends for Argv and Prepare; 0 is one
	// Harmless says that a connection without a request does the program no
	// harm, so that readiness can be seen by connecting.
	Harmless bool

	// Running starts a proxy inside this process; the tests use it.
	Running func(backends []string, to Timeouts) (addr string, err error)

	dir string // of what was built
}

// Timeouts that a chapter is started with for the timed cases.
var shortTimeouts = Timeouts{Header: 1500 * time.Millisecond, Server: 1500 * time.Millisecond,
	Idle: 3 * time.Second, Connect: time.Second}

// readyLine is how a chapter says that it listens.
var readyLine = regexp.MustCompile(`(?m)^Ready on (\S+)`)

// Build compiles a chapter; for other subjects it does nothing.
func (s *Subject) Build() error {
	if s.Chapter == "" || s.dir != "" {
		return nil
	}
	info, err := os.Stat(s.Chapter)
	if err != nil || !info.IsDir() {
		return fmt.Errorf("%s is no directory: name a chapter such as ./ch4_threaded, or use "+
			"-proxy and -backends", s.Chapter)
	}
	dir, err := os.MkdirTemp("", "check-")
	if err != nil {
		return err
	}
	s.dir = dir
	abs, err := filepath.Abs(s.Chapter)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), buildTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "build", "-o", s.binary(), ".")
	cmd.Dir, cmd.WaitDelay = abs, time.Second
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build %s failed:\n%s", s.Chapter, strings.TrimSpace(string(out)))
	}
	return nil
}

// How long a program may take to list its flags, and the compiler to build it.
const (
	helpTime  = 5 * time.Second
	buildTime = 3 * time.Minute
)

// run runs a program that should end by itself and returns the last of what it
// printed; ended is false when it had to be ended.
func run(clock *pulse, limit time.Duration, argv ...string) (out string, ended bool) {
	p := &Process{argv: argv}
	if err := p.launch(helpKept); err != nil {
		return err.Error(), true
	}
	for left := clock.span(limit); !ended && left() > 0; {
		ended = p.Wait(max(left(), time.Millisecond))
	}
	p.stop()
	return p.output.text(), ended
}

func (s *Subject) binary() string { return filepath.Join(s.dir, filepath.Base(s.Chapter)+".exe") }

// Clean removes what Build made.
func (s *Subject) Clean() {
	if s.dir != "" {
		os.RemoveAll(s.dir)
	}
}

// open starts the backends and the proxy: one lab, or two for a chapter (the
// second with short timeouts).
func (s *Subject) open(p *pulse) ([]*Lab, error) {
	switch {
	case s.Chapter != "":
		return s.openChapter(p)
	case len(s.Argv) > 0:
		return openFrom(func() (*Lab, error) {
			return openStarted(s.Argv, freeAddrs(s.Count),
				p, s.Timeouts)
		})
	case s.Running != nil:
		return s.openTwice(p)
	case s.Prepare != nil:
		return openFrom(func() (*Lab, error) { return s.openPrepared(p) })
	default:
		l, err := s.openAddress(p)
		if err != nil {
			return nil, err
		}
		return []*Lab{l}, nil
	}
}

// freeAddrs returns n addresses with port 0.
func freeAddrs(n int) []string {
	out := []string{"127.0.0.1:0"}
	for len(out) < n {
		out = append(out, out[0])
	}
	return out
}

// openTwice starts proxies inside this process: with long and with short
// timeouts, as openChapter does.
func (s *Subject) openTwice(p *pulse) ([]*Lab, error) {
	// None of these is over before the checker's patience is, on a busy machine too.
	long := Timeouts{Header: time.Minute, Server: time.Minute, Idle: time.Minute,
		Connect: 5 * time.Second}
	labs, err := openFrom(func() (*Lab, error) { return s.openRunning(p, long) })
	if err != nil {
		return nil, err
	}
	quick, err := openFrom(func() (*Lab, error) { return s.openRunning(p, s.Timeouts) })
	if err != nil {
		return nil, err
	}
	quick[0].beside = true
	return append(labs, quick...), nil
}

// openRunning starts a proxy inside this process.
func (s *Subject) openRunning(p *pulse, to Timeouts) (*Lab, error) {
	farm, err := NewFarm(freeAddrs(s.Count))
	if err != nil {
		return nil, err
	}
	l := newLab(farm, p)
	l.Timeouts = to
	if l.addr, err = s.Running(farm.Addrs(), to); err != nil {
		farm.Close()
		return nil, err
	}
	return l, nil
}

// openPrepared configures a proxy for a free port and starts it.
func (s *Subject) openPrepared(p *pulse) (*Lab, error) {
	farm, err := NewFarm(freeAddrs(s.Count))
	if err != nil {
		return nil, err
	}
	addr := proc.FreeAddr()
	argv, err := s.Prepare(addr, farm.Addrs())
	if err != nil {
		farm.Close()
		return nil, err
	}
	l := newLab(farm, p)
	l.addr, l.Timeouts, l.runs = addr, s.Timeouts, 1
	l.Proc = &Process{argv: argv, addr: addr, harmless: s.Harmless}
	if err := l.Proc.start(p); err != nil {
		l.Proc.stop()
		farm.Close()
		return nil, err
	}
	return l, nil
}

// openFrom opens a lab that can open more like itself.
func openFrom(spawn func() (*Lab, error)) ([]*Lab, error) {
	l, err := spawn()
	if err != nil {
		return nil, err
	}
	l.spawn = spawn
	return []*Lab{l}, nil
}

func newLab(farm *Farm, p *pulse) *Lab {
	return &Lab{Farm: farm, pulse: p, left: p.left, slot: make(chan struct{}, 1),
		stalls: &atomic.Int64{}, doubts: &doubts{},
		lazy: &atomic.Int32{}}
}

// openStarted starts a program that announces its address.
func openStarted(argv, backends []string, p *pulse, to Timeouts) (*Lab, error) {
	farm, err := NewFarm(backends)
	if err != nil {
		return nil, err
	}
	l := newLab(farm, p)
	l.Timeouts = to
	args := append([]string(nil), argv...)
	for i := range args {
		args[i] = strings.ReplaceAll(args[i], "%BACKENDS%", strings.Join(farm.Addrs(), ","))
	}
	l.Proc = &Process{argv: args, ready: readyLine}
	if err := l.Proc.start(p); err != nil {
		l.Proc.stop()
		farm.Close()
		return nil, err
	}
	l.runs = 1
	l.addr = l.Proc.addr
	return l, nil
}

// openChapter starts a chapter several times: with its own timeouts, with short ones, and
// plain: all but the first reuse connections as the chapter does by default, and retry on
// 503 too. One that checks its backends is started once more, to do so often.
func (s *Subject) openChapter(p *pulse) ([]*Lab, error) {
	if err := s.Build(); err != nil {
		return nil, err
	}
	help, ended := run(p, helpTime, s.binary(), "-h")
	has := func(name string) bool {
		return regexp.MustCompile(`(?m)^\s*--?` + name + `\b`).MatchString(help)
	}
	argv := []string{s.binary(), "-listen", "127.0.0.1:0"}
	backends := freeAddrs(1)
	switch {
	case has("backends"):
		backends = freeAddrs(3)
		argv = append(argv, "-backends", "%BACKENDS%")
	case has("backend"):
		argv = append(argv, "-backend", "%BACKENDS%")
	case !ended:
		return nil, fmt.Errorf("%s -h has not ended after %v; -h should list the flags and exit. "+
			"A program without flags is checked with -cmd, -proxy and -backends",
			s.Chapter, helpTime)
	default:
		return nil, fmt.Errorf("%s -h names neither a flag -backend nor -backends: it is no "+
			"proxy, or one to be "+
			"checked with -cmd, -proxy and -backends", s.Chapter)
	}
	if has("log") {
		argv = append(argv, "-log", "off")
	}
	if has("max-fails") { // most cases' backends fail on purpose, and expect no visitors
		argv = append(argv, "-max-fails", "0", "-check", "off")
	}
	if has("fail-ratio") {
		argv = append(argv, "-fail-ratio", "0")
	}
	argv = append(argv, s.Args...)
	long := slices.Clone(argv)
	if has("reuse") { // most cases send one request a connection, which is spared else
		long = append(long, "-reuse", "always")
	}
	if has("retry-on") {
		argv = append(argv, "-retry-on", "connect,broken,503")
	}
	short, to := shorten(argv, has)
	commands := []struct {
		argv []string
		to   Timeouts
	}{{long, Timeouts{}}, {short, to}, {argv, Timeouts{}}}
	if has("check") {
		commands = append(commands, commands[2])
		// A check may be answered late on a busy machine: that is no fault of the backends.
		// It has the smaller of the two times.
		commands[3].argv = append(slices.Clone(argv), "-check", "/", "-inter", "700ms",
			"-check-timeout", "700ms", "-slow-start", "0") // the last value of a flag counts
	}
	var labs []*Lab
	for _, c := range commands {
		more, err := openFrom(func() (*Lab, error) {
			return openStarted(c.argv, backends, p, c.to)
		})
		if err != nil {
			for _, l := range labs {
				l.Close()
			}
			return nil, err
		}
		more[0].beside = len(labs) > 0
		labs = append(labs, more...)
	}
	return labs, nil
}

// shorten adds the flags for short timeouts, as far as there are such flags.
func shorten(argv []string, has func(string) bool) (short []string, to Timeouts) {
	short = slices.Clone(argv)
	for _, f := range []struct {
		name string
		d    time.Duration
		set  *time.Duration
	}{
		{"request-timeout", shortTimeouts.Header, &to.Header},
		{"server-timeout", shortTimeouts.Server, &to.Server},
		{"idle-timeout", shortTimeouts.Idle, &to.Idle},
		{"connect-timeout", shortTimeouts.Connect, &to.Connect},
	} {
		if has(f.name) {
			short = append(short, "-"+f.name, f.d.String())
			*f.set = f.d
		}
	}
	return short, to
}

// openAddress plays the backends on given addresses and runs the command, if
// there is one.
func (s *Subject) openAddress(p *pulse) (*Lab, error) {
	if s.Command != "" && proc.Listening(s.Proxy) {
		who := "something"
		if h := proc.Holder(s.Proxy); h > 0 {
			who = named(h)
		}
		return nil, fmt.Errorf("%s already listens on %s: stop it, or let your "+
			"program take another port and name it with -proxy, or leave out -cmd to test what "+
			"listens there", who, s.Proxy)
	}
	farm, err := NewFarm(s.Backends)
	if err != nil {
		return nil, err
	}
	l := newLab(farm, p)
	l.addr = s.Proxy
	l.Timeouts = s.Timeouts
	if s.Command == "" {
		if proc.CanLook && proc.Listening(s.Proxy) {
			return l, nil // seen without connecting: it may serve one client only
		}
		c, err := l.dial(dialTime)
		if err != nil {
			farm.Close()
			return nil, fmt.Errorf("nothing listens on %s: start the proxy first, or let -cmd "+
				"start it (%w)", s.Proxy, err)
		}
		c.Close()
		return l, nil
	}
	l.Proc = &Process{argv: proc.Shell(s.Command), addr: s.Proxy}
	l.runs = 1
	if err := l.Proc.start(p); err != nil {
		l.Proc.stop()
		farm.Close()
		return nil, err
	}
	return l, nil
}

// CheckAddr says what is wrong with an address HOST:PORT.
func CheckAddr(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("address %q is not HOST:PORT, such as 127.0.0.1:8080", addr)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return fmt.Errorf("address %q: the port must be 1 to 65535", addr)
	}
	if host == "" {
		return fmt.Errorf("address %q lacks the host: write 127.0.0.1:%s", addr, port)
	}
	return nil
}
