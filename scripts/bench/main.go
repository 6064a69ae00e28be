//go:build linux

// Command bench races the chapters against each other, against nginx, HAProxy
// and net/http/httputil, and, with -c DIR, against the C originals, and writes
// what it measured as a table, as JSON, and as a report with plots.
//
//	go run ./scripts/bench -quick
//	go run ./scripts/bench -c ~/c-originals -o bench-out
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"reverseproxy/internal/book"
)

// options are the command line.
type options struct {
	only      *regexp.Regexp
	out       string
	cdir      string
	rounds    int
	workloads string
	quick     bool
	budget    time.Duration
	backend   string
	rate      float64
	selfcheck bool
	loop      bool
	syscalls  bool
	profiles  bool
	tricks    bool
	narration bool
	list      bool
	from      string
	docs      string
	starts    string
}

// loopsOnly are the contestants of -loop and -syscalls.
const (
	loopsOnly    = `^(ch6|ch10|nginx|HAProxy|null-relay)$`
	profiledOnly = `^(ch4|ch6|ch10|nginx|HAProxy)$` // of -profile
)

func parse(args []string) (*options, error) {
	o := &options{}
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	only := fs.String("only", "", "run the contestants whose name matches this `regexp`")
	fs.StringVar(&o.out, "o", "bench-out",
		"`directory` for report.html, results.json and the plots")
	fs.StringVar(&o.cdir, "c", "",
		"`directory` with the C originals; they are compiled with cc -O2")
	fs.IntVar(&o.rounds, "rounds", 0, "`rounds` over all contestants (default 3, with -quick 1, "+
		"-loop 11, -techniques and -narration 7)")
	fs.StringVar(&o.workloads, "workloads", "",
		"`letters` of the workloads, of abcdefr (default: all)")
	fs.BoolVar(&o.quick, "quick", false, "a first impression in less than a minute")
	fs.DurationVar(&o.budget, "budget", 0, "`time` to measure in (default 9m20s, with -quick 45s, "+
		"-loop and -techniques 6m, -narration 2m)")
	fs.StringVar(&o.backend, "backend", "own", "backend of the small answers: `own` or nginx")
	fs.Float64Var(&o.rate, "rate", 0,
		"requests a `second` of workload r (default 2000, with -narration 1000)")
	fs.BoolVar(&o.selfcheck, "selfcheck", false, "compare the load generator with wrk, and end")
	fs.BoolVar(&o.loop, "loop", false, "race the event loops only: ch10, nginx, HAProxy and the "+
		"null relay, with ch6 beside them; 11 rounds of a and b with 64 and 256 clients, and of e")
	fs.BoolVar(&o.syscalls, "syscalls", false,
		"count the system calls a request of the same (strace), and end")
	fs.BoolVar(&o.profiles, "profile", false,
		"show where the CPU time of ch4, ch6, ch10, nginx and HAProxy goes (perf), and end")
	fs.BoolVar(&o.tricks, "techniques", false,
		"compare ch10 with itself without one of its techniques: 7 rounds")
	fs.BoolVar(&o.narration, "narration", false, "compare ch4, ch6 and ch10 with and without "+
		"narration and live page, at a constant rate and on one core: 7 rounds")
	fs.StringVar(&o.from, "from", "",
		"measure nothing; make the report of this results.json `file` anew")
	fs.StringVar(&o.docs, "docs", "",
		"also put pictures and tables into `directory`/models_compared.md; those of -loop and "+
			"-syscalls into ch10_event_loop.md")
	fs.StringVar(&o.starts, "starts", "",
		"compare what starting these `programs` costs (comma-separated), and end")
	fs.BoolVar(&o.list, "list", false, "list contestants and workloads, and end")
	fs.Usage = func() {
		fmt.Fprint(fs.Output(), "go run ./scripts/bench [flags]: race the proxies and write a "+
			"report\n\n")
		fs.PrintDefaults()
		fmt.Fprint(fs.Output(), "\nWorkloads:\n"+workloadHelp+busyHelp)
	}
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	var err error
	if *only == "" && (o.loop || o.syscalls) {
		*only = loopsOnly
	} else if *only == "" && o.profiles {
		*only = profiledOnly
	}
	if o.only, err = regexp.Compile(*only); err != nil {
		return nil, fmt.Errorf("-only: %w", err)
	}
	if fs.NArg() > 0 {
		return nil, fmt.Errorf("unknown argument %q; all options begin with a dash", fs.Arg(0))
	}
	if strings.Trim(o.workloads, allWorkloads) != "" {
		return nil, fmt.Errorf("-workloads %s: the letters are %s", o.workloads, allWorkloads)
	}
	if o.backend != "own" && o.backend != "nginx" {
		return nil, fmt.Errorf("-backend %s: it is own or nginx", o.backend)
	}
	var modes []string // each is a run of its own
	fs.Visit(func(f *flag.Flag) {
		if slices.Contains(ownRuns, f.Name) && f.Value.String() != "false" {
			modes = append(modes, "-"+f.Name)
		}
	})
	if len(modes) > 1 {
		return nil, fmt.Errorf("%s: only one of them at a time", strings.Join(modes, " and "))
	}
	if !(o.rate >= 0 && o.rate <= 1e6) {
		return nil, fmt.Errorf("-rate %v: it is between 0 (the default) and a million", o.rate)
	}
	o.defaults()
	if o.narration && !strings.Contains(o.workloads, "r") {
		return nil, fmt.Errorf("-workloads %s: -narration goes by workload r", o.workloads)
	}
	return o, nil
}

// ownRuns are the flags that say what is measured, in place of all contestants' race.
var ownRuns = []string{"selfcheck", "loop", "syscalls", "profile", "techniques", "narration",
	"starts"}

// page is the page of docs that takes the run's tables.
func (o *options) page() string {
	if o.loop {
		return loopPage
	}
	return docsPage
}

func (o *options) defaults() {
	if o.rounds <= 0 {
		switch o.rounds = 3; {
		case o.quick:
			o.rounds = 1
		case o.loop:
			o.rounds = 11
		case o.tricks, o.narration:
			o.rounds = 7
		}
	}
	if o.workloads == "" {
		o.workloads = allWorkloads
		switch {
		case o.loop, o.tricks:
			o.workloads = "abe"
		case o.narration:
			o.workloads = "r"
		}
	}
	if o.rate <= 0 {
		if o.rate = 2000; o.narration {
			o.rate = narrationRate
		}
	}
	if o.budget <= 0 {
		switch o.budget = 9*time.Minute + 20*time.Second; {
		case o.quick:
			o.budget = 45 * time.Second
		case o.loop, o.tricks:
			o.budget = 6 * time.Minute
		case o.narration:
			o.budget = 2 * time.Minute
		}
	}
}

func main() {
	if role(os.Args[1:]) {
		return
	}
	o, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
	// Ctrl+C ends the measuring, not the program: the report is still written.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		if errors.Is(err, errBusy) {
			os.Exit(exitBusy)
		}
		os.Exit(1)
	}
}

// run does what the command line asks for.
func run(ctx context.Context, o *options) error {
	if o.from != "" {
		return again(o)
	}
	if o.starts != "" {
		return starts(ctx, strings.Split(o.starts, ","))
	}
	raiseFileLimit()
	root, err := book.Root()
	if err != nil {
		return err
	}
	tmp, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	b := &bench{o: o, root: root, tmp: tmp, started: time.Now()}
	defer b.close()
	if o.selfcheck {
		return b.selfcheck(ctx)
	}
	if err := b.prepare(ctx); err != nil {
		return err
	}
	if o.list {
		b.list()
		return nil
	}
	if o.syscalls {
		return b.syscalls(ctx)
	}
	if o.profiles {
		return b.profile(ctx)
	}
	b.measure(ctx)
	return b.report(ctx.Err() != nil)
}

// mostSilent returns how many silent clients the largest cell has: 10,000, or
// what the limit on open files allows. A chapter sets two descriptors aside for
// each, the backend's with the client's.
func mostSilent() int {
	const wanted, others = 10_000, 800 // others: what a proxy needs beside them
	var l syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l) != nil || l.Cur > 2*wanted+others {
		return wanted
	}
	return max(1000, (int(l.Cur)-others)/2)
}

// raiseFileLimit lifts the soft limit of open files to the hard one, for this
// process and those it starts. Set explicitly, it is inherited; what the Go
// runtime raises by itself is not.
func raiseFileLimit() {
	var l syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l) == nil {
		l.Cur = l.Max
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l)
	}
}
