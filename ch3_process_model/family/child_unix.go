//go:build unix

package family

import (
	"fmt"
	"io"
	"iter"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"reverseproxy/internal/narrate"
)

// IsChild reports whether this process is a child, and makes it one: it tells
// its steps to its parent, and stops in the orderly way.
func (f *Family) IsChild() bool {
	if !f.app.Child {
		return false
	}
	os.Unsetenv(jobVariable)
	f.heed()
	pipe := os.NewFile(uintptr(f.job.Pipe), "pipe")
	pipe.WriteString("\n") // from now on it may be told to stop
	nameProcess()
	if f.job.Level > narrate.Off {
		f.app.Log = narrate.New(f.job.Level, narrate.JSON(pipe))
	}
	f.app.Log.SlowMotion(f.app.Pause())
	name := fmt.Sprintf("child %d", os.Getpid())
	f.app.Log.Worker = func() string { return name }
	return true
}

// Clients returns a child's clients: the one that was accepted for it or, of a
// standing child, those that it accepts, one after the other.
func (f *Family) Clients() iter.Seq2[net.Conn, *narrate.Conn] {
	if f.job.Standing {
		return f.acceptAll
	}
	return func(yield func(net.Conn, *narrate.Conn) bool) {
		client, err := connection(firstFile, f.job.peer())
		if err != nil {
			f.app.Fatal(err)
		}
		yield(client, f.app.Log.Resume(f.job.Conn, time.Unix(0, f.job.Accepted)))
	}
}

// Status returns the exit status of a child that has served, which says how it
// went: 0 if its client has the answer it asked for.
func (f *Family) Status() int {
	if f.job.Standing {
		return 0 // the scoreboard says it
	}
	t := f.app.Log.Totals()
	return int(failedStatus*t.Failed + silentStatus*one(t.Requests == 0))
}

// connection returns the connection whose socket is file fd, with the address
// that accept returned for its peer.
func connection(fd int, peer net.Addr) (net.Conn, error) {
	file := os.NewFile(uintptr(fd), "client")
	defer file.Close() // FileConn makes a copy
	conn, err := net.FileConn(file)
	if err == nil && conn.RemoteAddr() == nil {
		return gone{conn, peer}, nil
	}
	return conn, err
}

// gone is the connection of a client that has already reset it, so that the
// kernel knows no peer any more. It is served like any other, up to the first
// read.
type gone struct {
	net.Conn
	peer net.Addr
}

func (g gone) RemoteAddr() net.Addr { return g.peer }

// familyGrace is the time in which a signal to the whole family has reached the
// parent too, and its standing children know that it stops.
const familyGrace = 250 * time.Millisecond

// heed makes a child stop in the orderly way at SIGTERM, whether it comes from
// the parent, from the user or, for the whole family, from systemd or pkill:
// a request in flight is answered. SIGKILL ends it at once.
func (f *Family) heed() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	// Ends with the process.
	go func() {
		for range signals {
			f.app.Stop()
			if f.job.Standing {
				time.AfterFunc(familyGrace, f.exitIfIdle)
			}
		}
	}()
	if !f.job.Standing {
		return
	}
	// Ends with the process: the life line is cut at the parent's Ctrl+C, and by
	// the parent's death.
	go func() {
		io.Copy(io.Discard, os.NewFile(lifelineFile, "life line"))
		f.app.Stop()
		// Nobody is to accept any more, in no process, and the port must be
		// free for the next start, however long a client is still served here.
		if syscall.Shutdown(firstFile, syscall.SHUT_RDWR) != nil { // Linux only
			f.exitIfIdle()
			syscall.Close(firstFile)
		}
	}()
}

// exitIfIdle ends a standing child that waits in accept.
func (f *Family) exitIfIdle() {
	if !f.serving.Load() {
		os.Exit(0)
	}
}
