// Package workers bounds the goroutines that serve connections, and can give
// each an operating system thread of its own.
//
// Goroutines usually share a few threads: one that waits for the network gives
// its thread to another that can run. A pinned one keeps it, waiting or not, as
// a thread of pthread_create does, so that both can be compared in one program.
package workers

import (
	"net"
	"runtime"
	"runtime/debug"

	"reverseproxy/internal/cli"
	"reverseproxy/internal/narrate"
)

// socketsEach is how many descriptors a connection takes: the client's socket and
// the backend's.
const socketsEach = 2

// spareThreads is how many threads the Go runtime may have beside the pinned.
const spareThreads = 1000

// Slots counts the goroutines that serve a connection.
type Slots struct {
	app    *cli.App
	max    int  // -max-conns
	pinned bool // -os-threads
	slots  chan struct{}
}

// Flags registers -max-conns and -os-threads and returns the Slots that they set.
func Flags(app *cli.App) *Slots {
	p := &Slots{app: app}
	app.CountVar(&p.max, "max-conns", 10000,
		"most `connections` at once; further clients wait")
	app.Flags.BoolVar(&p.pinned, "os-threads", false,
		"give each goroutine a thread, as the C program does")
	app.Worker = func() string {
		if p.pinned {
			return threadName()
		}
		return narrate.Goroutine()
	}
	app.Workers = func() string {
		if p.pinned {
			return "a thread for each connection"
		}
		return "a goroutine for each connection"
	}
	return p
}

// Limit returns a listener that accepts a client only when it may be served at
// once. While -max-conns are open, clients wait where TCP puts them: in the
// kernel's queue, the backlog.
func (p *Slots) Limit(l net.Listener) net.Listener {
	p.slots = make(chan struct{}, p.app.FitDescriptors(p.max, socketsEach))
	if p.pinned {
		// Without this the Go runtime ends a program that has 10,000 threads.
		debug.SetMaxThreads(p.max + spareThreads)
	}
	return &limited{l, p}
}

type limited struct {
	net.Listener
	of *Slots
}

// Accept takes a slot, which End gives back, and then accepts.
func (l *limited) Accept() (net.Conn, error) {
	l.of.slots <- struct{}{}
	conn, err := l.Listener.Accept()
	if err != nil {
		<-l.of.slots
	}
	return conn, err
}

// Full reports whether the next client has to wait for a slot.
func (p *Slots) Full() bool { return len(p.slots) == cap(p.slots) }

// Begin is called by a goroutine when it starts to serve an accepted client.
func (p *Slots) Begin() {
	if p.pinned {
		runtime.LockOSThread() // the thread ends with the goroutine
	}
}

// End is called by it when it has done so.
func (p *Slots) End() { <-p.slots }
