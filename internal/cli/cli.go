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

// App is one chapter's program, apart from its lesson. Its hooks (Check, OnStop,
// OnCut, AtEnd) append: each may be called several times.
type App struct {
	Name     string            // the chapter, "ch4_threaded"
	Listen   string            // -listen: the address to accept clients on
	Backends []string          // -backend or -backends: addresses, host:port
	Log      *narrate.Narrator // tells what happens; ready after Start
	Flags    *flag.FlagSet     // what Start parses
	Args     []string          // with it: the command line, without the program's name
	Worker   func() string     // names the worker that calls it; set it before Start
	Workers  func() string     // says who serves a connection, for the live page; may be nil
	Child    bool              // a child of this program: it starts neither backends nor live page

	DemoLatency []time.Duration // by how much each of the demo backends is slower; nil: none is

	backends string // -backend or -backends, as given
	demo     bool
	watch    string
	format   string
	slow     time.Duration
	out      io.Writer
	checks   []func() error
	instead  []func() bool
	onStop   []func()
	onCut    []func()
	atEnd    []func() string
	group    *backends.Group // the demo backends, or nil
	page     *live.Server    // the live page, or nil
	stopping chan struct{}   // closed at Ctrl+C
	stop     sync.Once
	finish   sync.Once
}

// New registers the common flags. backendAddrs are the default addresses of the
// backends: none (ch1), one (-backend) or several (-backends).
func New(backendAddrs ...string) *App {
	a := &App{Name: "proxy", Args: os.Args[1:], Worker: narrate.Goroutine,
		out: os.Stdout, stopping: make(chan struct{})}
	if info, ok := debug.ReadBuildInfo(); ok {
		a.Name = path.Base(info.Path) // the package's directory
	}
	a.Flags = flag.NewFlagSet(a.Name, flag.ContinueOnError)
	a.Flags.SetOutput(io.Discard) // a mistake is told in one sentence
	fs := a.Flags
	fs.StringVar(&a.Listen, "listen", "127.0.0.1:8080",
		"`address` to accept clients on; port 0 takes a free one")
	switch len(backendAddrs) {
	case 0:
	case 1:
		fs.StringVar(&a.backends, "backend", backendAddrs[0], "`address` of the backend")
	default:
		fs.StringVar(&a.backends, "backends", strings.Join(backendAddrs, ","),
			"`addresses` of the backends, separated by commas")
	}
	if len(backendAddrs) > 0 {
		fs.BoolVar(&a.demo, "demo", false, "start the backends too, in this process")
	}
	fs.StringVar(&a.watch, "watch", "",
		"`address` for the live page, such as 127.0.0.1:9090; empty: none")
	fs.StringVar(&a.format, "log", "text", "`format` of the narration: text, json or off")
	pause := "`pause` after each step, such as 500ms, for the classroom"
	fs.Func("slow-motion", pause, func(s string) (err error) {
		if a.slow, err = time.ParseDuration(s); err != nil {
			return fmt.Errorf("it must be a time such as 500ms or 2s")
		}
		return nil
	})
	return a
}

func (a *App) usage() {
	chapter, _ := book.Find(a.Name)
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n\nUsage: go run ./%s [flags]\n\n", a.Name, chapter.About, a.Name)
	a.Flags.SetOutput(&b)
	a.Flags.PrintDefaults()
	fmt.Print(narrate.Wrap(strings.ReplaceAll(b.String(), "\t", "    "), 0, 8))
}

// Check adds a check of flags, made when they have been parsed. Its error ends
// the program with exit code 2.
func (a *App) Check(check func() error) { a.checks = append(a.checks, check) }

// Instead adds what the flags may ask for instead of the proxy: Start calls it when
// they have been checked. If it returns true, the program ends, with exit code 0.
func (a *App) Instead(run func() bool) { a.instead = append(a.instead, run) }

// Start reads the command line, checks it, makes Log ready, and starts what the
// flags ask for beside the proxy: the demo backends (-demo) and the live page
// (-watch). Of a family of processes only the parent has those.
func (a *App) Start() {
	a.parse()
	for _, run := range a.instead {
		if run() {
			os.Exit(0)
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
	if a.Child {
		return
	}
	a.pinNames()
	if a.demo {
		a.startDemo()
	}
	if a.watch != "" {
		a.startWatching()
	}
}

// Pause returns -slow-motion: the pause after each step.
func (a *App) Pause() time.Duration { return a.slow }

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
		if a.DemoLatency != nil {
			group.SetLatency(p, a.DemoLatency[i])
		}
	}
	a.Say("Demo backends on " + strings.Join(group.Addrs(), ", "))
}

// Say prints a line for people, broken where it is too long; in JSON it would
// only be in the way.
func (a *App) Say(line string) {
	if a.format != "json" {
		fmt.Fprintln(a.out, narrate.Wrap(line, 0, 4))
	}
}

// Ready is called once the listener accepts clients: it narrates steps 1–3,
// prints the readiness line, and from now on Ctrl+C closes the listener.
func (a *App) Ready(listener net.Listener) {
	addr := listener.Addr()
	a.RefuseItself(addr.String())
	a.Log.Listening(addr)
	a.OnStop(func() { listener.Close() })
	a.ReadyAt(addr.String())
}

// ReadyAt prints the readiness line. From now on Ctrl+C ends the program in the
// orderly way.
func (a *App) ReadyAt(addr string) {
	if a.page != nil {
		a.page.SetProxy(reachable(addr))
	}
	a.onSignal()
	a.Log.Emit(narrate.Event{Kind: narrate.KindReady, Listen: addr, Backends: a.Backends})
	line := "Ready on " + addr
	if len(a.Backends) > 0 {
		try := "(try: curl -s http://" + reachable(addr) + "/api/data)"
		if len(line+" "+try) <= narrate.Columns {
			line += " " + try
		} else {
			line += "\n    " + try
		}
	}
	a.Say(line)
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

// AtEnd adds what gives a line that is printed before the summary.
func (a *App) AtEnd(line func() string) { a.atEnd = append(a.atEnd, line) }

// Finish lets requests in flight finish, for at most 5 s after Ctrl+C, and
// prints the summary line.
func (a *App) Finish() {
	a.Log.Drain()
	a.summarize()
}

// summarize prints the summary line, once, and takes down what was started.
func (a *App) summarize() {
	a.finish.Do(func() {
		for _, line := range a.atEnd {
			a.Say(line())
		}
		s := a.Log.Summary()
		if a.format != "json" {
			fmt.Fprintln(a.out, s)
		}
		a.Log.Emit(narrate.Event{Kind: narrate.KindSummary, Summary: &s})
		if a.page != nil {
			a.page.Close()
		}
		if a.group != nil {
			a.group.Close()
		}
	})
}

// Fatal ends the program because it cannot start, with exit code 1.
func (a *App) Fatal(err error) {
	fmt.Fprintln(os.Stderr, narrate.Wrap(a.Name+": "+a.explain(err), 0, 4))
	os.Exit(1)
}
