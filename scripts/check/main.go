// Command check scores an HTTP/1.1 reverse proxy, in whatever language it is
// written: it plays the client on one side and scripted backends on the other,
// sees every byte, and says what the proxy does wrong and why that matters.
//
//	go run ./scripts/check ./ch4_threaded
//	go run ./scripts/check -cmd './my_proxy' -proxy 127.0.0.1:8080 -backends 127.0.0.1:8000
//	go run ./scripts/check -proxy 127.0.0.1:8080 -backends 127.0.0.1:8000
package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"reverseproxy/scripts/check/cases"
	"reverseproxy/scripts/check/suite"
)

// Exit codes.
const (
	exitOK    = 0 // every must passed
	exitFails = 1 // a must failed, or the proxy is not there
	exitUsage = 2
)

func main() {
	interrupt := make(chan os.Signal, 1)
	signal.Notify(interrupt, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	// A reader that has enough (| head) must not end the checker before it has ended
	// what it has started. Not signal.Ignore: a program under test would inherit that.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	// Ends with the program. What the checker has started does not get the Ctrl+C
	// of its terminal: left alone, it would hold its port.
	go func() {
		<-interrupt
		suite.EndAll()
		os.Exit(exitFails)
	}()
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// options are the flags of the command.
type options struct {
	cmd, proxy, backends string
	args                 string
	only, explain        string
	json, list, uneven   bool
	verbose, quiet       bool
	first                int
	timeout              time.Duration
	scoreboard           bool
	cdir, out            string
	stage                int // 0: no stages
	next, stages         bool
	junit, points        string
}

func run(args []string, stdout, stderr io.Writer) int {
	var o options
	fs := flag.NewFlagSet("check", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.StringVar(&o.cmd, "cmd", "", "command that starts the proxy; needs -proxy and -backends")
	fs.StringVar(&o.proxy, "proxy", "", "address `HOST:PORT` the proxy listens on")
	fs.StringVar(&o.backends, "backends", "", "addresses `HOST:PORT,...` the proxy forwards to; "+
		"the checker listens there")
	fs.StringVar(&o.args, "args", "", "further `FLAGS` of a chapter, such as '-algorithm random'")
	fs.BoolVar(&o.uneven, "uneven", false, "leave out the cases that count on equal turns of the "+
		"backends: they are chosen by a hash, a cookie or chance")
	fs.StringVar(&o.only, "run", "", "run only the cases whose id or group matches this "+
		"`REGEXP`; with -scoreboard: only the proxies")
	fs.StringVar(&o.explain, "explain", "", "explain one `CASE` and exit")
	fs.BoolVar(&o.list, "list", false, "list the cases and exit")
	fs.BoolVar(&o.json, "json", false, "print the report as JSON")
	fs.IntVar(&o.first, "first", 3, "explain the first `N` failures, with their bytes")
	fs.BoolVar(&o.quiet, "q", false, "print the score only")
	fs.BoolVar(&o.verbose, "v", false, "show each case as it ends, and the bytes of passed ones "+
		"too")
	fs.DurationVar(&o.timeout, "timeouts", 16*time.Second,
		"with -proxy: the longest timeout the proxy is set to; cases about timeouts wait that long")
	fs.BoolVar(&o.scoreboard, "scoreboard", false, "check the chapters, nginx, HAProxy and "+
		"others and write docs/scoreboard.md")
	fs.StringVar(&o.cdir, "c", "", "with -scoreboard: `DIR` that holds the C originals")
	fs.StringVar(&o.out, "o", "", "with -scoreboard: `FILE` to write instead of "+scoreboardPage)
	fs.IntVar(&o.stage, "stage", 0, "run the path for beginners from stage 1 to stage `N`, and "+
		"stop at the first failure")
	fs.BoolVar(&o.next, "next", false, "run that path up to the first stage that is not passed yet")
	fs.BoolVar(&o.stages, "stages", false, "list the stages and exit")
	fs.StringVar(&o.junit, "junit", "", "with -stage or -next: write the result to this `FILE`, "+
		"as JUnit XML")
	fs.StringVar(&o.points, "points", "", "with -stage or -next: write it to this `FILE` as "+
		"Gradescope's results.json, a point a stage")
	fs.Usage = func() { usage(fs) }
	chapters, err := parse(fs, args)
	if errors.Is(err, flag.ErrHelp) {
		return exitOK
	}
	if err != nil {
		return exitUsage
	}
	return o.dispatch(chapters, stdout, stderr)
}

// parse allows flags after the chapter as well as before it.
func parse(fs *flag.FlagSet, args []string) (rest []string, err error) {
	for len(args) > 0 {
		if err := fs.Parse(args); err != nil {
			return nil, err
		}
		if fs.NArg() == 0 {
			break
		}
		rest = append(rest, fs.Arg(0))
		args = fs.Args()[1:]
	}
	return rest, nil
}

func usage(fs *flag.FlagSet) {
	fmt.Fprint(fs.Output(), `check scores an HTTP/1.1 reverse proxy.

  go run ./scripts/check ./ch4_threaded                 a chapter: built and started
  go run ./scripts/check -cmd './my_proxy' -proxy 127.0.0.1:8080 -backends 127.0.0.1:8000
                                                        a program: started, restarted when it exits
  go run ./scripts/check -proxy 127.0.0.1:8080 -backends 127.0.0.1:8000
                                                        a proxy that already runs
  go run ./scripts/check -next -cmd 'python3 proxy.py'  step by step, for who begins: it
                                                        listens on 127.0.0.1:8080 and forwards
                                                        to 127.0.0.1:8000, 8001 and 8002

Exit status: 0 every must passed (or the stage), 1 not, 2 the command line is wrong.

`)
	fs.PrintDefaults()
}

// dispatch does what the flags ask for.
func (o *options) dispatch(chapters []string, stdout, stderr io.Writer) int {
	complain := func(format string, args ...any) int {
		fmt.Fprintf(stderr, "check: "+format+"\n", args...)
		return exitUsage
	}
	if o.scoreboard {
		return o.writeScoreboard(stdout, stderr) // there -run means names of proxies
	}
	only, err := regexp.Compile(o.only)
	if err != nil {
		return complain("-run: %v", err)
	}
	if o.only == "" {
		only = nil
	} else if !slices.ContainsFunc(cases.All(), func(c suite.Case) bool {
		return only.MatchString(c.ID) || only.MatchString(c.Group)
	}) {
		return complain("no case and no group matches -run %s; -list shows them", o.only)
	}
	switch {
	case o.list:
		return list(stdout, only)
	case o.stages:
		return listStages(stdout)
	case o.explain != "":
		return explain(stdout, stderr, o.explain)
	}
	climbs, problem := o.climbs()
	if problem != "" {
		return complain("%s", problem)
	}
	subject, problem := o.subject(chapters)
	if problem != "" {
		return complain("%s (-h shows the ways to name a proxy)", problem)
	}
	if climbs {
		return o.climb(subject, stdout, stderr)
	}
	return o.check(subject, only, stdout, stderr)
}

// climbs reports whether the stages are asked for, and completes the flags for them.
func (o *options) climbs() (yes bool, problem string) {
	n := len(cases.Stages)
	switch {
	case o.stage == 0 && !o.next:
		if o.junit != "" || o.points != "" {
			return false, "-junit and -points go with -stage or -next"
		}
		return false, ""
	case o.stage < 0 || o.stage > n:
		return false, fmt.Sprintf("-stage %d: the stages are 1 to %d; -stages lists them",
			o.stage, n)
	case o.stage > 0 && o.next:
		return false, "-stage or -next, not both"
	case o.only != "" || o.json || o.quiet:
		return false, "-stage and -next go without -run, -json and -q"
	}
	if o.next {
		o.stage = n
	}
	if o.cmd != "" || o.proxy != "" || o.backends != "" {
		o.proxy, o.backends = cmp.Or(o.proxy, usualProxy), cmp.Or(o.backends, usualBackends)
	}
	return true, ""
}

// subject finds out which proxy is meant; problem says what is wrong.
func (o *options) subject(chapters []string) (s *suite.Subject, problem string) {
	s = &suite.Subject{Command: o.cmd, Proxy: o.proxy, Uneven: o.uneven}
	s.Timeouts = suite.Timeouts{Header: o.timeout, Server: o.timeout, Idle: o.timeout}
	switch {
	case len(chapters) > 1:
		return nil, "one proxy at a time: " + strings.Join(chapters, " ")
	case o.args != "" && len(chapters) == 0:
		return nil, "-args are a chapter's"
	case len(chapters) == 1 && (o.cmd != "" || o.proxy != "" || o.backends != ""):
		return nil, "name a chapter, or use -cmd, -proxy and -backends, not both"
	case len(chapters) == 1:
		s.Chapter, s.Name, s.Args = chapters[0], chapters[0], strings.Fields(o.args)
		if info, err := os.Stat(s.Chapter); err != nil || !info.IsDir() {
			return nil, fmt.Sprintf("%s is not a directory; a chapter is named as ./ch4_threaded",
				s.Chapter)
		}
		return s, ""
	case o.proxy == "" && o.cmd == "":
		return nil, "no proxy named"
	case o.proxy == "" || o.backends == "":
		return nil, "-proxy (where the proxy listens) and -backends (where it forwards to) go " +
			"together"
	}
	for _, a := range append([]string{o.proxy}, strings.Split(o.backends, ",")...) {
		if err := suite.CheckAddr(strings.TrimSpace(a)); err != nil {
			return nil, err.Error()
		}
	}
	for _, b := range strings.Split(o.backends, ",") {
		s.Backends = append(s.Backends, strings.TrimSpace(b))
	}
	s.Name = o.proxy
	if o.cmd != "" {
		s.Name = o.cmd
	}
	return s, ""
}
