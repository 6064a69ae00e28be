// Package health knows which backends are well, and doubts it.
//
// It asks each backend from time to time (active checks), and learns from the
// requests that fail (passive checks). Both can be wrong. A backend that works at
// its limit answers late, checks included; taken out, it leaves its load to the
// others, until all are out and nothing is served though everything works. So
// there are two kinds of down: a hard one is a fact, nobody listens there; a soft
// one is a suspicion, and where too few backends are left it is dropped.
//
// state is what is known of one backend, a machine without clock or network.
// Farm has the rules that look at all of them.
package health

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"reverseproxy/ch2_basic_proxy/forward"
	"reverseproxy/ch6_keep_alive/keep"
	"reverseproxy/internal/cli"
)

// What stands in -check instead of a path.
const (
	checkTCP = "tcp" // a connection is enough
	checkOff = "off" // no checks: a backend is judged by its requests alone
)

// limits are what the flags say.
type limits struct {
	path        string        // -check
	least, most int           // -check-status
	inter       time.Duration // -inter
	timeout     time.Duration // -check-timeout
	fall, rise  int           // checks in a row
	maxFails    int           // -max-fails; 0: any number
	failTimeout time.Duration // -fail-timeout
	failRatio   int           // -fail-ratio, percent; 0: any
	slowStart   time.Duration // -slow-start; 0: none
	maxConns    int           // -backend-max-conns; 0: any number
	drain       string        // -drain: a backend's address, or ""
}

// Flags registers the flags of a Farm, in HAProxy's and nginx's words, and returns
// the Farm that they set.
func Flags(app *cli.App, settings *forward.Settings, pool *keep.Pool) *Farm {
	l := &limits{least: 200, most: 399}
	fs := app.Flags
	fs.StringVar(&l.path, "check", "/",
		"`path` that a check asks each backend for (404: it is draining); tcp only connects, "+
			"off checks nothing")
	fs.Func("check-status", "`statuses` of a check that passes, such as 200 (default 200-399)",
		l.setStatus)
	fs.DurationVar(&l.inter, "inter", 2*time.Second, "`time` between two checks of a backend")
	app.CountVar(&l.fall, "fall", 3, "failed `checks` in a row that take a backend out")
	app.CountVar(&l.rise, "rise", 2, "passed `checks` in a row that bring it back")
	fs.DurationVar(&l.timeout, "check-timeout", time.Second,
		"`time` a backend has to answer a check, at most -inter")
	fs.IntVar(&l.maxFails, "max-fails", 1,
		"failed `requests` in a row that take a backend out for -fail-timeout; 0: any number")
	fs.DurationVar(&l.failTimeout, "fail-timeout", 10*time.Second,
		"`time` it is out, times the number of times in a row, at most 5")
	fs.IntVar(&l.failRatio, "fail-ratio", 30,
		"`percent` of failures and 5xx, of 20 requests or more in the last 10s, that take a "+
			"backend out; 0: any")
	fs.DurationVar(&l.slowStart, "slow-start", 5*time.Second,
		"`time` in which a backend that was down gets its full share again; 0: at once")
	fs.IntVar(&l.maxConns, "backend-max-conns", 0,
		"most `requests` at once at a backend; more wait, for -connect-timeout at most (503); "+
			"0: any number")
	fs.StringVar(&l.drain, "drain", "",
		"`address` of the backend that SIGUSR1 drains, and the next SIGUSR1 uses again")
	f := &Farm{limits: l, app: app, settings: settings, probe: l.ask, Turns: inTurn,
		Idle: pool.CloseIdle}
	app.Check(f.check)
	app.OnStop(f.stop)
	app.AtEnd(f.Tally)
	return f
}

func (l *limits) setStatus(s string) error {
	from, to, both := strings.Cut(s, "-")
	if !both {
		to = from
	}
	var wrong, wrong2 error
	l.least, wrong = strconv.Atoi(from)
	l.most, wrong2 = strconv.Atoi(to)
	if wrong != nil || wrong2 != nil || l.least < 200 || l.most > 599 || l.least > l.most {
		return errors.New("it must be a status, or two, of 200 to 599, such as 200 or 200-399")
	}
	return nil
}

// check checks the values of the flags.
func (f *Farm) check() error {
	for name, d := range map[string]time.Duration{"inter": f.inter, "check-timeout": f.timeout,
		"fail-timeout": f.failTimeout} {
		if d <= 0 {
			return errors.New("-" + name + " must be more than 0, such as 2s")
		}
	}
	switch {
	case f.slowStart < 0:
		return errors.New("-slow-start must not be negative")
	case f.maxFails < 0:
		return errors.New("-max-fails must not be negative")
	case f.maxConns < 0:
		return errors.New("-backend-max-conns must not be negative")
	case f.failRatio < 0 || f.failRatio > 100:
		return errors.New("-fail-ratio must be a number of 0 to 100")
	}
	if _, err := url.ParseRequestURI(f.path); f.path != checkTCP && f.path != checkOff &&
		(err != nil || f.path[0] != '/') {
		return fmt.Errorf("-check is a path such as /health, tcp or off, not %q", f.path)
	}
	return f.checkDrain()
}
