// Package cli holds what every chapter's program has around its lesson: the
// common flags, start-up errors that name their cure, the demo backends, the
// end at Ctrl+C and the summary.
package cli

import (
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"reverseproxy/internal/backends"
	"reverseproxy/internal/book"
	"reverseproxy/internal/live"
	"reverseproxy/internal/narrate"
)

// stopTime is how long requests in flight get after Ctrl+C.
const stopTime = 5 * time.Second

// App is one chapter's program, apart from its lesson.
type App struct {
	Name     string            // the chapter, "ch4_threaded"
	Listen   string            // -listen: the address to accept clients on
	Backends []string          // -backend or -backends: addresses, host:port
	Log      *narrate.Narrator // tells what happens; ready after Parse
	Worker   func() string     // names the worker that calls it; set it before Parse
	Workers  func() string     // says in words who serves a connection, for the live page; may be nil

	backends  string // -backend or -backends, as given
	demo      bool
	watch     string
	format    string
	slow      time.Duration
	out       io.Writer
	group     *backends.Group // the demo backends, or nil
	page      *live.Server    // the live page, or nil
	stopping  chan struct{}   // closed at Ctrl+C
	onCut     func()
	closing   func() string // a line before the summary, or nil
	finish    sync.Once
	backoff   time.Duration // pause after the latest failed accept
	lastError time.Time     // when that was
}

// New registers the common flags. backendAddrs are the default addresses of the
// backends: none (ch1), one (-backend) or several (-backends).
func New(backendAddrs ...string) *App {
	a := &App{Name: "proxy", Worker: narrate.Goroutine, out: os.Stdout, stopping: make(chan struct{})}
	if info, ok := debug.ReadBuildInfo(); ok {
		a.Name = path.Base(info.Path) // the package's directory
	}
	fs := flag.CommandLine
	fs.StringVar(&a.Listen, "listen", "127.0.0.1:8080", "`address` to accept clients on; port 0 takes a free one")
	switch len(backendAddrs) {
	case 0:
	case 1:
		fs.StringVar(&a.backends, "backend", backendAddrs[0], "`address` of the backend")
	default:
		fs.StringVar(&a.backends, "backends", strings.Join(backendAddrs, ","), "`addresses` of the backends, separated by commas")
	}
	if len(backendAddrs) > 0 {
		fs.BoolVar(&a.demo, "demo", false, "start the backends too, in this process")
	}
	fs.StringVar(&a.watch, "watch", "", "`address` for the live page, such as 127.0.0.1:9090; empty: none")
	fs.StringVar(&a.format, "log", "text", "`format` of the narration: text, json or off")
	fs.Func("slow-motion", "`pause` after each step, such as 500ms, for the classroom", func(s string) (err error) {
		if a.slow, err = time.ParseDuration(s); err != nil {
			return fmt.Errorf("it must be a time such as 500ms or 2s")
		}
		return nil
	})
	fs.Usage = func() {} // Parse prints it, if -h asks for it
	return a
}

func (a *App) usage() {
	chapter, _ := book.Find(a.Name)
	fmt.Fprintf(flag.CommandLine.Output(), "%s: %s\n\nUsage: go run ./%s [flags]\n\n", a.Name, chapter.About, a.Name)
	flag.PrintDefaults()
}

// Parse reads the command line, checks it, and makes Log ready. check, if not
// nil, checks the chapter's own flags. Mistakes end the program with exit code 2.
func (a *App) Parse(check func() error) {
	flag.CommandLine.Init(a.Name, flag.ContinueOnError)
	flag.CommandLine.SetOutput(io.Discard) // a mistake is told in one sentence
	switch err := flag.CommandLine.Parse(os.Args[1:]); {
	case err == flag.ErrHelp:
		flag.CommandLine.SetOutput(os.Stdout)
		a.usage()
		os.Exit(0)
	case err != nil:
		badUsage(err)
	}
	if flag.NArg() > 0 {
		badUsage(fmt.Errorf("unexpected argument %q", flag.Arg(0)))
	}
	if err := a.checkFlags(); err != nil {
		badUsage(err)
	}
	if check != nil {
		if err := check(); err != nil {
			badUsage(err)
		}
	}
	switch a.format {
	case "text":
		a.Log = narrate.New(narrate.All, narrate.Text(a.out))
	case "json":
		a.Log = narrate.New(narrate.All, narrate.JSON(a.out))
	case "off":
		a.Log = narrate.New(narrate.Off)
	}
	a.Log.Worker = a.Worker
	a.Log.SlowMotion(a.slow)
}

func (a *App) checkFlags() error {
	if err := checkAddr("-listen", a.Listen); err != nil {
		return err
	}
	for _, addr := range strings.Split(a.backends, ",") {
		if a.backends == "" {
			break
		}
		addr = strings.TrimSpace(addr)
		if err := checkAddr(backendFlag(), addr); err != nil {
			return err
		}
		if freePort(addr) && !a.demo {
			return fmt.Errorf("%s %s: nothing can listen on port 0; only with -demo it means any free port", backendFlag(), addr)
		}
		a.Backends = append(a.Backends, addr)
	}
	if flag.Lookup("backend") != nil && len(a.Backends) != 1 {
		return fmt.Errorf("-backend takes one address; several backends are for ch5_load_balancer")
	}
	if flag.Lookup("backends") != nil && len(a.Backends) == 0 {
		return fmt.Errorf("-backends needs at least one address")
	}
	if a.watch != "" {
		if err := checkAddr("-watch", a.watch); err != nil {
			return err
		}
	}
	if err := a.checkDistinct(); err != nil {
		return err
	}
	if a.format != "text" && a.format != "json" && a.format != "off" {
		return fmt.Errorf("-log is text, json or off, not %q", a.format)
	}
	if a.slow < 0 {
		return fmt.Errorf("-slow-motion must not be negative")
	}
	return nil
}

// backendFlag is the name of the flag that this chapter has for its backends.
func backendFlag() string {
	if flag.Lookup("backends") != nil {
		return "-backends"
	}
	return "-backend"
}

// freePort reports whether addr asks for any free port.
func freePort(addr string) bool {
	_, port, _ := net.SplitHostPort(addr)
	n, err := net.LookupPort("tcp", port)
	return err == nil && n == 0
}

// checkDistinct refuses one address for two listeners of this program.
func (a *App) checkDistinct() error {
	taken := map[string]string{a.Listen: "-listen"}
	claim := func(name, addr string) error {
		if other := taken[addr]; other != "" && other != name && !freePort(addr) {
			return fmt.Errorf("%s and %s cannot both be %s", other, name, addr)
		}
		taken[addr] = name
		return nil
	}
	if a.demo {
		for _, addr := range a.Backends {
			if err := claim("a backend of -demo", addr); err != nil {
				return err
			}
		}
	}
	if a.watch != "" {
		return claim("-watch", a.watch)
	}
	return nil
}

// checkAddr wants host:port with a port that can exist.
func checkAddr(name, addr string) error {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%s %q is not an address such as 127.0.0.1:8080", name, addr)
	}
	if _, err := net.LookupPort("tcp", port); err != nil {
		return fmt.Errorf("%s %q: the port must be a number from 0 to 65535", name, addr)
	}
	return nil
}

// CountVar registers a flag for a number that is at least 1.
func CountVar(p *int, name string, value int, usage string) {
	*p = value
	flag.Func(name, fmt.Sprintf("%s (default %d)", usage, value), func(s string) error {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			return fmt.Errorf("it must be a number of at least 1")
		}
		*p = n
		return nil
	})
}

// Timeout registers a flag for a time that is more than 0.
func Timeout(name string, value time.Duration, usage string) *time.Duration {
	flag.Func(name, fmt.Sprintf("%s (default %v)", usage, value), func(s string) error {
		d, err := time.ParseDuration(s)
		if err != nil || d <= 0 {
			return fmt.Errorf("it must be more than 0, such as 10s")
		}
		value = d
		return nil
	})
	return &value
}

func badUsage(err error) {
	fmt.Fprintf(os.Stderr, "%v\nThe flags are explained by -h.\n", err)
	os.Exit(2)
}

// Pause returns -slow-motion: the pause after each step.
func (a *App) Pause() time.Duration { return a.slow }

// Prepare starts what the flags ask for beside the proxy: the demo backends
// (-demo) and the live page (-watch). Of a family of processes only the parent
// calls it.
func (a *App) Prepare() {
	guests.demo, guests.page = a.demo, a.watch != ""
	if a.demo {
		a.startDemo()
	}
	if a.watch != "" {
		a.startWatching()
	}
}

// guests are what takes descriptors of this process beside the proxy.
var guests struct{ demo, page bool }

// startDemo starts a backend on each address. One that is named twice, so that
// it gets two turns, is started once.
func (a *App) startDemo() {
	var addrs []string
	place := make([]int, len(a.Backends)) // of each backend in addrs
	for i, addr := range a.Backends {
		place[i] = slices.Index(addrs, addr)
		if place[i] < 0 || freePort(addr) {
			place[i] = len(addrs)
			addrs = append(addrs, addr)
		}
	}
	group, err := backends.Start(addrs)
	if err != nil {
		a.Fatal(err)
	}
	a.group = group
	for i, p := range place {
		a.Backends[i] = group.Addrs()[p]
	}
	a.say("Demo backends on " + strings.Join(group.Addrs(), ", "))
}

// say prints a line for people; in JSON it would only be in the way.
func (a *App) say(line string) {
	if a.format != "json" {
		fmt.Fprintln(a.out, line)
	}
}

// Ready is called once the listener accepts clients: it narrates steps 1–3,
// prints the readiness line, and from now on Ctrl+C closes the listener.
func (a *App) Ready(listener net.Listener) {
	addr := listener.Addr()
	for _, b := range a.Backends {
		if b == addr.String() {
			a.Fatal(fmt.Errorf("the backend %s is this proxy itself; name another with %s", b, backendFlag()))
		}
	}
	a.Log.Listening(addr)
	a.ReadyAt(addr.String(), func() { listener.Close() })
}

// ReadyAt prints the readiness line and arranges that Ctrl+C calls stop.
func (a *App) ReadyAt(addr string, stop func()) {
	if a.page != nil {
		a.page.SetProxy(addr)
	}
	a.onSignal(stop)
	a.Log.Emit(narrate.Event{Kind: narrate.KindReady, Listen: addr, Backends: a.Backends})
	line := "Ready on " + addr
	if len(a.Backends) > 0 {
		line += " (try: curl -s http://" + reachable(addr) + "/api/data)"
	}
	a.say(line)
}

// reachable returns an address under which this machine reaches a listener on
// addr: one on every interface (0.0.0.0, [::]) is reached on 127.0.0.1.
func reachable(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsUnspecified() {
		return addr
	}
	return net.JoinHostPort("127.0.0.1", port)
}

// AtEnd sets what gives the line that is printed before the summary.
func (a *App) AtEnd(line func() string) { a.closing = line }

// Finish lets requests in flight finish, for at most 5 s after Ctrl+C, and
// prints the summary line.
func (a *App) Finish() {
	a.Log.Drain()
	a.summarize()
}

// summarize prints the summary line, once, and takes down what was started.
func (a *App) summarize() {
	a.finish.Do(func() {
		if a.closing != nil {
			a.say(a.closing())
		}
		s := a.Log.Summary()
		a.say(s.String())
		a.Log.Emit(narrate.Event{Kind: narrate.KindSummary, Summary: &s})
		if a.page != nil {
			a.page.Close()
		}
		if a.group != nil {
			a.group.Close()
		}
	})
}

// ExitIfIdle ends the program in the orderly way, if no client is in hand. It is
// for a program that waits in a system call which Ctrl+C does not end.
func (a *App) ExitIfIdle() {
	if a.Log.InFlight() == 0 {
		a.summarize()
		os.Exit(0)
	}
}

// Show prints bytes from the network for people, a line each, made safe.
func (a *App) Show(data []byte) {
	for line := range strings.Lines(string(data)) {
		a.say("        | " + narrate.Clean(strings.TrimRight(line, "\r\n")))
	}
}

// Text returns err's text, "" for nil.
func Text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// Must ends the program if the named system call failed.
func (a *App) Must(call string, err error) {
	if err != nil {
		a.Fatal(os.NewSyscallError(call, err))
	}
}

// Fatal ends the program because it cannot start, with exit code 1.
func (a *App) Fatal(err error) {
	fmt.Fprintln(os.Stderr, a.Name+": "+explain(err, a.Listen))
	os.Exit(1)
}
