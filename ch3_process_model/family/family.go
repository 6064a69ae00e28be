// Package family makes child processes that serve connections: one for each,
// as fork_proxy.c does, or a standing number that share the listening socket.
//
//   - fork.go: the parent and a child for each connection
//   - prefork_unix.go: the parent and its standing children
//   - child_unix.go: what a child does, from its first moment to its end
//
// Go programs cannot fork: their runtime has threads, and fork copies only one.
// So the child is this program started anew by os/exec (fork and exec at once),
// and what it needs is handed over: the socket as file 3, the rest in words.
package family

import (
	"fmt"
	"os"
	"strconv"
	"sync"

	"reverseproxy/internal/cli"
)

// maxPrefork is how many standing children there can be.
const maxPrefork = 1024

// Family is what a process knows of its relatives: the parent of its children,
// a child of its parent.
type Family struct {
	app     *cli.App
	max     int // -max-children
	prefork int // -prefork
	program program
	job     job // what this process was started for, if it is a child

	slots    chan struct{} // one for each child that may run (without -prefork)
	mu       sync.Mutex    // guards what follows
	children map[*Child]bool

	standing // more, if there are standing children
}

// Flags registers -max-children and -prefork.
func Flags(app *cli.App) *Family {
	f := &Family{app: app, program: findProgram(), children: map[*Child]bool{}}
	f.job, app.Child = parseJob(os.Getenv(jobVariable))
	app.CountVar(&f.max, "max-children", 128,
		"most `children` at once; further clients wait (without -prefork)")
	app.Flags.Func("prefork", "`number` of standing children that take turns, "+
		"instead of a child for each client (default none)", func(s string) error {
		n, err := strconv.Atoi(s)
		if err != nil || n < 0 || n > maxPrefork {
			return fmt.Errorf("it must be a number from 0 to %d", maxPrefork)
		}
		f.prefork = n
		return nil
	})
	app.Workers = func() string {
		if f.prefork > 0 {
			return fmt.Sprintf("%d standing processes", f.fit(f.prefork))
		}
		return "a process for each connection"
	}
	return f
}

// perChild is how many descriptors a child takes of the parent's: the pipe that
// it tells its events through, what os/exec waits for it with, and either its
// client's socket, while it is being started, or its life line.
const perChild = 3

// fit returns how many of n children the limit on open files leaves room for.
func (f *Family) fit(n int) int { return f.app.FitDescriptors(n, perChild) }
