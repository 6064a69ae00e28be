// Package family makes child processes that serve connections: one for each,
// as fork_proxy.c does, or a standing number that share the listening socket.
//
// Go programs cannot fork: their runtime has threads, and fork copies only one.
// So the child is this program started anew by os/exec (fork and exec at once),
// and what it needs is handed over: the socket as file 3, the rest in words.
package family

import (
	"fmt"
	"strconv"

	"reverseproxy/internal/cli"
)

// maxPrefork is how many standing children there can be.
const maxPrefork = 1024

// Family is the parent's view of its children.
type Family struct {
	app     *cli.App
	max     int // -max-children
	prefork int // -prefork
	state
}

// Flags registers -max-children and -prefork.
func Flags(app *cli.App) *Family {
	f := &Family{app: app}
	app.Child = isChild()
	app.CountVar(&f.max, "max-children", 128, "most `children` at once; further clients wait (without -prefork)")
	app.Flags.Func("prefork", "`number` of standing children that take turns, instead of a child for each client (default none)", func(s string) error {
		n, err := strconv.Atoi(s)
		if err != nil || n < 0 || n > maxPrefork {
			return fmt.Errorf("it must be a number from 0 to %d", maxPrefork)
		}
		f.prefork = n
		return nil
	})
	app.Workers = func() string {
		if f.prefork > 0 {
			return fmt.Sprintf("%d standing processes", f.prefork)
		}
		return "a process for each connection"
	}
	return f
}

// Standing reports whether -prefork asks for standing children.
func (f *Family) Standing() bool { return f.prefork > 0 }
