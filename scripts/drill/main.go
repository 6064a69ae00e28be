// Command drill lets backends and clients fail on purpose, again and again, and
// counts what becomes of the requests:
//
//	go run ./scripts/drill -pool
//	go run ./scripts/drill -dead ./ch5_load_balancer ./ch6_keep_alive
//	go run ./scripts/drill -pool -cmd './my_proxy' -proxy 127.0.0.1:8080 \
//	    -backends 127.0.0.1:8000,127.0.0.1:8001,127.0.0.1:8002
//
// docs/drills.md shows what came of it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"reverseproxy/internal/book"
	"reverseproxy/scripts/bench/plots"
	"reverseproxy/scripts/check/suite"
)

// Exit codes.
const (
	exitOK    = 0
	exitFails = 1 // a proxy did what it must not, or could not be drilled
	exitUsage = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// options are the flags of the command.
type options struct {
	pool, dead, storm    bool
	slow                 bool
	requests, clients    int
	rate                 int
	cmd, proxy, backends string
	json, docs           string
}

// progress tells people how far a drill is.
type progress func(format string, args ...any)

// report is what a drill has found out.
type report struct {
	Drill   string `json:"drill"`
	Results []any  `json:"results"` // one for each proxy

	table  [][]string // for people
	notes  []string   // below the table
	failed bool
	figure *plots.Figure // nil: none
}

func (o *options) flags(stderr io.Writer) *flag.FlagSet {
	fs := flag.NewFlagSet("drill", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.BoolVar(&o.pool, "pool", false, "")
	fs.BoolVar(&o.dead, "dead", false, "")
	fs.BoolVar(&o.storm, "storm", false, "")
	fs.BoolVar(&o.slow, "slow", false, "")
	fs.IntVar(&o.requests, "requests", 1_000_000, "with -pool: `number` of requests")
	fs.IntVar(&o.clients, "clients", 64, "with -pool: `number` of clients")
	fs.IntVar(&o.rate, "rate", 300, "with -dead: `requests` a second")
	fs.StringVar(&o.cmd, "cmd", "", "`command` that starts the proxy; needs -proxy and -backends")
	fs.StringVar(&o.proxy, "proxy", "", "address `HOST:PORT` that the proxy listens on")
	fs.StringVar(&o.backends, "backends", "",
		"three addresses `HOST:PORT,...` that the proxy forwards to; the drill listens there")
	fs.StringVar(&o.json, "json", "", "write what was found out to this `FILE`")
	fs.StringVar(&o.docs, "docs", "", "draw the picture in the folder img of this `DIR`")
	fs.Usage = func() { usage(fs) }
	return fs
}

func usage(fs *flag.FlagSet) {
	fmt.Fprint(fs.Output(), `drill lets backends and clients fail on purpose, and counts what
becomes of the requests.

  go run ./scripts/drill -pool                          the drill's own chapters
  go run ./scripts/drill -dead ./ch6_keep_alive './ch6_keep_alive -reuse always'
                                                        these, with flags of theirs
  go run ./scripts/drill -dead -cmd './my_proxy' -proxy 127.0.0.1:8080 \
      -backends 127.0.0.1:8000,127.0.0.1:8001,127.0.0.1:8002
                                                        a program of one's own

The drills:

`+about+`
Exit status: 0 nothing was found, 1 something was, 2 the command line is wrong.

`)
	fs.VisitAll(func(f *flag.Flag) {
		if f.Usage != "" { // the drills stand above
			name, text := flag.UnquoteUsage(f)
			fmt.Fprintf(fs.Output(), "  -%s %s\n\t%s", f.Name, name, text)
			if f.DefValue != "" {
				fmt.Fprintf(fs.Output(), " (default %s)", f.DefValue)
			}
			fmt.Fprintln(fs.Output())
		}
	})
}

const about = `-pool   A million requests of 64 clients over connections that are kept, with
        -reuse always. One in a hundred goes wrong: its backend sends a second
        answer, at once or later, closes the connection while it is idle or when
        the next request comes, answers too early, breaks off, ... One client in
        200 leaves midway. Each answer must be its request's own, to the last
        byte. What may fail is known from what went wrong; nothing else may: no
        request that could be sent again is lost, no POST processed twice, each
        backend connection carries 10 requests, nothing leaks.
-dead   GETs and POSTs, half each, at a constant rate for 20 s. One of three
        backends is killed at 5 s and back at 10 s; another hangs from 12 to 16 s:
        it accepts, and never answers. A proxy gets -server-timeout 1s and
        -retry-on connect,broken,timeout, if it has these flags.
-storm  GETs at 210 a second before three backends that serve 100 a second each,
        one after another; all three stand still from 5 to 7 s. The same flags;
        clients give up after 4 s, which no backend is told. Goodput is the share
        of requests that get whole answers.
-slow   GETs at 60 a second for 8 s, before three backends that work on one
        request at a time, of which the third takes 100 ms and the others 10 ms.
        Chapter 9 is drilled with each of its algorithms.
`

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var o options
	fs := o.flags(stderr)
	err := fs.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		return exitOK
	}
	if err != nil {
		return exitUsage
	}
	complain := func(err error) {
		fmt.Fprintf(stderr, "\rdrill: %v\n", err)
	}
	say := func(format string, args ...any) {
		fmt.Fprintf(stderr, "\r\033[K"+format, args...)
	}
	drill, chapters, err := o.drill()
	var subjects []*subject
	if err == nil {
		subjects, err = o.subjects(fs.Args(), chapters)
	}
	if err != nil {
		complain(fmt.Errorf("%w (-h explains the flags)", err))
		return exitUsage
	}
	r, err := drill(ctx, subjects, say)
	say("")
	if err == nil {
		err = r.write(&o, stdout)
	}
	switch {
	case err != nil:
		complain(err)
		return exitFails
	case r.failed:
		return exitFails
	}
	return exitOK
}

// drill returns the drill that the flags ask for, and the chapters that it is
// for, unless others are named.
func (o *options) drill() (d func(context.Context, []*subject, progress) (*report, error),
	chapters []string, err error) {
	folder := func(n int) string { return "./" + book.Of(n).Dir }
	if o.rate < 1 || o.requests < 1 || o.clients < 1 {
		return nil, nil, errors.New("-rate, -requests and -clients must be 1 or more")
	}
	asked := 0
	for _, it := range []bool{o.pool, o.dead, o.storm, o.slow} {
		if it {
			asked++
		}
	}
	switch {
	case asked != 1:
		return nil, nil, errors.New("one of -pool, -dead, -storm and -slow")
	case o.pool:
		return o.drillPool, []string{folder(6), folder(7)}, nil
	case o.dead:
		return o.drillDead, []string{folder(5), folder(6), folder(7), folder(8)}, nil
	case o.storm:
		return o.drillStorm, []string{folder(7) + " -retry-budget 0", folder(7)}, nil
	}
	return o.drillSlow, slowSubjects(), nil
}

// subjects finds out which proxies are meant.
func (o *options) subjects(named, chapters []string) (all []*subject, err error) {
	if o.cmd == "" && o.proxy == "" && o.backends == "" {
		if len(named) == 0 {
			named = chapters
		}
		for _, name := range named {
			words := append(strings.Fields(name), "")
			if info, err := os.Stat(words[0]); err != nil || !info.IsDir() {
				return nil, fmt.Errorf("%s is no directory: a chapter is named as ./ch6_keep_alive",
					words[0])
			}
			all = append(all, &subject{Name: strings.TrimPrefix(name, "./"), chapter: words[0],
				flags: words[1 : len(words)-1]})
		}
		return all, nil
	}
	s := &subject{Name: o.proxy, cmd: o.cmd, proxy: o.proxy,
		backends: strings.Split(o.backends, ",")}
	if words := strings.Fields(o.cmd); len(words) > 0 {
		s.Name = filepath.Base(words[0])
	}
	if len(named) > 0 || len(s.backends) != 3 {
		return nil, errors.New("-cmd and -proxy go with -backends, three addresses, and no chapter")
	}
	for _, addr := range append([]string{o.proxy}, s.backends...) {
		if err := suite.CheckAddr(addr); err != nil {
			return nil, err
		}
	}
	return []*subject{s}, nil
}

// column adds a column to the table: its head and the cells below.
func (r *report) column(head string, cells ...any) {
	r.table[0] = append(r.table[0], head)
	for i, cell := range cells {
		r.table[i+1] = append(r.table[i+1], fmt.Sprint(cell))
	}
}

// write writes the report: a table, and what else is asked for.
func (r *report) write(o *options, stdout io.Writer) error {
	widths := make([]int, len(r.table[0]))
	for _, row := range r.table {
		for i, cell := range row {
			widths[i] = max(widths[i], len([]rune(cell)))
		}
	}
	for _, row := range r.table {
		fmt.Fprintf(stdout, "%-*s", widths[0], row[0])
		for i, cell := range row[1:] {
			fmt.Fprintf(stdout, "  %*s", widths[i+1], cell)
		}
		fmt.Fprintln(stdout)
	}
	for _, note := range r.notes {
		fmt.Fprintln(stdout, note)
	}
	if o.json != "" {
		b, err := json.Marshal(r)
		if err == nil {
			err = os.WriteFile(o.json, append(b, '\n'), 0o644)
		}
		if err != nil {
			return err
		}
	}
	if o.docs != "" && r.figure != nil {
		img := filepath.Join(o.docs, "img")
		if err := os.MkdirAll(img, 0o755); err != nil {
			return err
		}
		return r.figure.Write(img, false)
	}
	return nil
}
