package chooser

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"reverseproxy/ch2_basic_proxy/forward"
	"reverseproxy/ch6_keep_alive/keep"
	"reverseproxy/ch8_health_checks/health"
	"reverseproxy/ch9_balancing_algorithms/choose"
	"reverseproxy/ch9_balancing_algorithms/scenes"
	"reverseproxy/internal/cli"
)

// Of -hash-key.
const (
	byURI    = "uri"
	bySource = "source"
	byHeader = "header:"
)

// mostWeight is the most that a backend may weigh, as in HAProxy.
const mostWeight = 256

// fewestJobs is how many jobs a simulated run has at least, to mean anything.
const fewestJobs = 10_000

// limits are what the flags say.
type limits struct {
	algorithm string
	weights   []int           // of the backends; nil: all weigh 1
	hashKey   string          // -hash-key
	field     string          // that it names
	latency   []time.Duration // -demo-latency
	simulate  bool            // -simulate
	jobs      int             // -jobs
	plots     string          // -plots
}

// names lists the algorithms, and what they are called elsewhere.
func names() string {
	text := fmt.Sprintf("\n%-21s %-21s %s", "", "HAProxy", "nginx")
	for _, k := range choose.Kinds {
		text += fmt.Sprintf("\n%-21s %-21s %s", k.Name, k.HAProxy, k.Nginx)
	}
	return text
}

// Flags registers the flags of a Chooser, and of the farm behind it, and returns the
// Chooser that they set.
func Flags(app *cli.App, settings *forward.Settings, pool *keep.Pool) *Chooser {
	l := &limits{}
	fs := app.Flags
	fs.StringVar(&l.algorithm, "algorithm", choose.Kinds[0].Name,
		"`name` of what chooses the backends"+names()+"\n")
	fs.Func("weights", fmt.Sprintf("`numbers`, how much of the requests each backend is to get, "+
		"such as 5,1,1, at most %d (default: all 1)", mostWeight), l.setWeights)
	fs.StringVar(&l.hashKey, "hash-key", byURI,
		"`what` ring-hash, rendezvous, maglev and jump-hash hash: source (the client's address), "+
			"uri, or header:NAME")
	fs.Func("demo-latency", "`times` by which each demo backend answers later, such as "+
		"10ms,10ms,100ms", l.setLatency)
	fs.BoolVar(&l.simulate, "simulate", false,
		"do not serve: simulate the algorithms, beside what is published of them")
	fs.IntVar(&l.jobs, "jobs", 1_000_000, "`jobs` of each simulated run")
	fs.StringVar(&l.plots, "plots", "", "`folder` for pictures of what is simulated; empty: none")
	c := &Chooser{limits: l, app: app, settings: settings,
		farm: health.Flags(app, settings, pool)}
	app.Check(c.check)
	app.Instead(c.simulated)
	return c
}

func (l *limits) setWeights(list string) error {
	l.weights = nil
	for s := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(s))
		if err != nil || n < 1 || n > mostWeight {
			return fmt.Errorf("they must be numbers of 1 to %d, such as 5,1,1", mostWeight)
		}
		l.weights = append(l.weights, n)
	}
	return nil
}

func (l *limits) setLatency(list string) error {
	l.latency = nil
	for s := range strings.SplitSeq(list, ",") {
		d, err := time.ParseDuration(strings.TrimSpace(s))
		if err != nil || d < 0 {
			return errors.New("they must be times, such as 10ms,10ms,100ms")
		}
		l.latency = append(l.latency, d)
	}
	return nil
}

// check checks the values of the flags.
func (c *Chooser) check() error {
	if _, err := choose.Find(c.algorithm); err != nil {
		return fmt.Errorf("-algorithm %w", err)
	}
	var header bool
	if c.field, header = strings.CutPrefix(c.hashKey, byHeader); c.hashKey != byURI &&
		c.hashKey != bySource && (!header || c.field == "") {
		return fmt.Errorf("-hash-key is source, uri or header:NAME, not %q", c.hashKey)
	}
	if c.jobs < fewestJobs {
		return fmt.Errorf("-jobs must be %d or more", fewestJobs)
	}
	backends := c.app.Backends
	if n := len(c.weights); n > 0 && n != len(backends) {
		return fmt.Errorf("-weights has %d numbers for %d backends", n, len(backends))
	}
	if n := len(c.latency); n > 0 && n != len(backends) {
		return fmt.Errorf("-demo-latency has %d times for %d backends", n, len(backends))
	}
	for i, addr := range backends {
		_, port, _ := net.SplitHostPort(addr)
		if port != "0" && slices.Contains(backends[:i], addr) {
			return fmt.Errorf("-backends names %s twice; name it once and give it more of the "+
				"requests with -weights", addr)
		}
	}
	c.app.DemoLatency = c.latency
	return nil
}

// simulated runs the simulation instead of the proxy, if -simulate asks for it.
func (c *Chooser) simulated() bool {
	if !c.simulate {
		return false
	}
	report := scenes.Report{Jobs: c.jobs, Seed: 1, Out: os.Stdout, Progress: os.Stderr,
		Plots: c.plots}
	if err := report.Print(); err != nil {
		c.app.Fatal(err)
	}
	return true
}
