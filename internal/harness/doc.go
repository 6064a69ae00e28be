// Package harness builds the real program of a chapter, starts it, plays its
// clients and its backends over real sockets, and looks at what it leaves
// behind: its output, memory, file descriptors, goroutines and processes.
//
// [Scenarios] is the one table of situations that every proxy of Part I is put
// through. Only tests import this package. It needs Unix; what it reads from
// /proc needs Linux.
//
// No test sleeps and hopes: each waits for what it expects, for at most
// [Patience], so that a slow machine makes it slow and not wrong.
package harness

import "time"

// Patience is how long anything expected may take before a test gives up.
var Patience = 20 * time.Second

// T is what a check needs of *testing.T. A [Trial] is another one.
type T interface {
	Helper()
	Logf(format string, args ...any)
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	Cleanup(f func())
	Failed() bool
}
