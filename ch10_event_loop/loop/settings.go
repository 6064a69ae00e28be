//go:build linux

package loop

import (
	"fmt"
	"strings"
	"time"

	"reverseproxy/ch2_basic_proxy/forward"
	"reverseproxy/ch6_keep_alive/keep"
	"reverseproxy/internal/cli"
)

// forever is the longest timeout. A deadline is the time now, as nanoseconds since the loop's
// start, and a timeout: their sum must have room, too (292 years).
const forever = 100 * 365 * 24 * time.Hour

// Settings are what all loops of a proxy have in common.
type Settings struct {
	*forward.Settings              // the timeouts
	Keep              *keep.Limits // by which connections are kept
	Loops             int          // -loops
	Buffer            int          // -read-buffer: bytes of a connection's buffer
	Use               *Techniques  // all but those of -without
	MaxConns          int          // -max-conns, of all loops together

	app   *cli.App
	loops []*Loop
}

// Flags registers ch6's flags, and -loops, and returns the Settings that they set.
func Flags(app *cli.App) *Settings {
	s := &Settings{Settings: forward.Flags(app), app: app, Use: newTechniques()}
	app.CountVar(&s.MaxConns, "max-conns", 10000,
		"most `connections` at once; further clients wait")
	s.Keep = keep.LimitFlags(app)
	app.CountVar(&s.Loops, "loops", 1,
		"`threads`, each with a loop and a listening socket of its own")
	app.Flags.IntVar(&s.Buffer, "read-buffer", 4<<10,
		"size in `bytes` of what a header is read into; a larger one gets a larger buffer")
	app.Flags.Func("without", "`techniques` to leave out, to measure what they bring: "+
		strings.Join(s.Use.names(), ", "), s.Use.without)
	app.Check(func() error {
		if s.Buffer < 512 || s.Buffer > 1<<20 {
			return fmt.Errorf("-read-buffer must be between 512 and 1048576 bytes")
		}
		if s.Loops > s.MaxConns {
			return fmt.Errorf("-loops must not be more than -max-conns")
		}
		for _, d := range []*time.Duration{&s.Connect, &s.Request, &s.Server, &s.Idle,
			&s.Keep.Timeout, &s.Keep.Age} {
			*d = min(*d, forever)
		}
		return nil
	})
	app.Worker = threadName
	app.Workers = func() string {
		if s.Loops > 1 {
			return fmt.Sprintf("%d threads for all connections", s.Loops)
		}
		return "one thread for all connections"
	}
	return s
}

// Tally returns how many connections to backends were made and used again, in a line
// for people.
func (s *Settings) Tally() string {
	var fresh, reused int64
	for _, l := range s.loops {
		fresh += l.pool.fresh.Load()
		reused += l.pool.reused.Load()
	}
	return fmt.Sprintf("Backend connections: %d made; used again: %d", fresh, reused)
}
