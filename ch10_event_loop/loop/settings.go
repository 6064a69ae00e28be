//go:build linux

package loop

import (
	"fmt"

	"reverseproxy/ch2_basic_proxy/forward"
	"reverseproxy/ch6_keep_alive/keep"
	"reverseproxy/internal/cli"
)

// Settings are what all loops of a proxy have in common.
type Settings struct {
	*forward.Settings              // the timeouts
	Keep              *keep.Limits // by which connections are kept
	Loops             int          // -loops
	MaxConns          int          // -max-conns, of all loops together

	app   *cli.App
	loops []*Loop
}

// Flags registers ch6's flags, and -loops, and returns the Settings that they set.
func Flags(app *cli.App) *Settings {
	s := &Settings{Settings: forward.Flags(app), app: app}
	app.CountVar(&s.MaxConns, "max-conns", 10000,
		"most `connections` at once; further clients wait")
	s.Keep = keep.LimitFlags(app)
	app.CountVar(&s.Loops, "loops", 1,
		"`threads`, each with a loop and a listening socket of its own")
	app.Check(func() error {
		if s.Loops > s.MaxConns {
			return fmt.Errorf("-loops must not be more than -max-conns")
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
