//go:build unix

package family

import (
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"reverseproxy/ch2_basic_proxy/backoff"
	"reverseproxy/internal/narrate"
)

// What parent and child have agreed on.
const (
	jobVariable = "PROXY_CHILD" // environment: the job
	// A child's exit status is the sum of these; 0 is a request answered.
	failedStatus = 1 // its client got no answer
	silentStatus = 4 // its client sent no request

	socketFile   = 3 // the client's socket, or the listening one
	boardFile    = 4 // standing children: the scoreboard
	lifelineFile = 5 // standing children: ends when they are to stop
)

// A job is what a child is started for.
type job struct {
	Standing bool
	Slot     int           // of a standing child: its place on the scoreboard
	Level    narrate.Level // how much it is to tell
	Conn     uint64        // of another: the number of its connection,
	Accepted int64         // and when that was accepted, Unix nanoseconds
}

// String returns the job for the environment.
func (j job) String() string {
	return fmt.Sprint(j.Standing, j.Slot, int(j.Level), j.Conn, j.Accepted)
}

func parseJob(s string) (j job, ok bool) {
	_, err := fmt.Sscan(s, &j.Standing, &j.Slot, &j.Level, &j.Conn, &j.Accepted)
	return j, err == nil && j.Slot >= 0 && j.Slot < maxPrefork
}

// isChild reports whether this process was started as a child.
func isChild() bool {
	_, ok := parseJob(os.Getenv(jobVariable))
	return ok
}

// Child reports whether this process is a child. If so, it has served what it
// was started for with handle, and its work is done.
func (f *Family) Child(handle func(net.Conn, *narrate.Conn) error) bool {
	j, ok := parseJob(os.Getenv(jobVariable))
	if !ok {
		return false
	}
	os.Unsetenv(jobVariable)
	if j.Level > narrate.Off {
		eventsFile := boardFile
		if j.Standing {
			eventsFile = lifelineFile + 1
		}
		f.app.Log = narrate.New(j.Level, narrate.JSON(os.NewFile(uintptr(eventsFile), "events")))
	}
	f.app.Log.SlowMotion(f.app.Pause())
	name := fmt.Sprintf("child %d", os.Getpid())
	f.app.Log.Worker = func() string { return name }

	if j.Standing {
		f.stand(handle, j.Slot)
		return true
	}
	file := os.NewFile(socketFile, "client")
	client, err := net.FileConn(file)
	file.Close() // FileConn has made a copy
	if err != nil {
		f.app.Fatal(err)
	}
	handle(client, f.app.Log.Resume(j.Conn, time.Unix(0, j.Accepted)))
	status, counts := 0, f.app.Log.Summary()
	if counts.Failed > 0 {
		status += failedStatus
	}
	if counts.Requests == 0 {
		status += silentStatus
	}
	os.Exit(status)
	return true
}

// stand is the life of a standing child: accept, serve, accept again, one
// client at a time, until the life line is cut.
//
// All children wait in accept on the same socket. They do so in the system call
// itself: the kernel then wakes one of them for each client. Waiting in Go's
// poller would wake them all, and all but one in vain (the thundering herd).
func (f *Family) stand(handle func(net.Conn, *narrate.Conn) error, slot int) {
	board, err := openScoreboard(os.NewFile(boardFile, "scoreboard"))
	if err != nil {
		f.app.Fatal(err)
	}
	f.app.Log.Share(&board.counts)
	var serving sync.Mutex
	// Ends the process, between two clients.
	go func() {
		io.Copy(io.Discard, os.NewFile(lifelineFile, "life line"))
		serving.Lock()
		os.Exit(0)
	}()
	syscall.SetNonblock(socketFile, false)
	pause := backoff.New(f.app)
	for {
		fd, _, err := syscall.Accept(socketFile)
		switch err {
		case nil:
			syscall.CloseOnExec(fd)
		case syscall.EINTR, syscall.ECONNABORTED, syscall.EAGAIN:
			continue
		default:
			pause.After(os.NewSyscallError("accept", err))
			continue
		}
		serving.Lock()
		board.busy[slot].Store(true)
		file := os.NewFile(uintptr(fd), "client")
		client, err := net.FileConn(file)
		file.Close() // FileConn has made a copy
		if err == nil {
			handle(client, f.app.Log.Accept(client))
		} else {
			f.app.Log.Problem("Accepted, but lost: %v", err)
		}
		board.busy[slot].Store(false)
		serving.Unlock()
	}
}
