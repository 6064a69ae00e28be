//go:build unix

package family

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"reverseproxy/internal/narrate"
)

// What parent and child have agreed on.
const (
	jobVariable  = "PROXY_CHILD" // environment: standing, level, connection, accepted (Unix ns)
	socketFile   = 3             // the client's socket, or the listening one
	eventsFile   = 4             // the pipe that takes the child's narration
	failedStatus = 1             // exit status of a child whose client got no answer
)

// Child reports whether this process is a child. If so, it has served what it
// was started for with handle, and its work is done.
func (f *Family) Child(handle func(net.Conn, *narrate.Conn) error) bool {
	var standing bool
	var level narrate.Level
	var id uint64
	var accepted int64
	if _, err := fmt.Sscan(os.Getenv(jobVariable), &standing, &level, &id, &accepted); err != nil {
		return false
	}
	os.Unsetenv(jobVariable)
	signal.Ignore(os.Interrupt) // Ctrl+C reaches the children too; the parent decides

	lifelineFile := uintptr(eventsFile)
	if level > narrate.Off {
		f.app.Log = narrate.New(level, narrate.JSON(os.NewFile(eventsFile, "events")))
		lifelineFile++
	}
	f.app.Log.SlowMotion(f.app.Pause())
	name := fmt.Sprintf("child %d", os.Getpid())
	f.app.Log.Worker = func() string { return name }

	if standing {
		f.stand(handle, os.NewFile(lifelineFile, "life line"))
		return true
	}
	file := os.NewFile(socketFile, "client")
	client, err := net.FileConn(file)
	file.Close() // FileConn has made a copy
	if err != nil {
		f.app.Fatal(err)
	}
	handle(client, f.app.Log.Resume(id, time.Unix(0, accepted)))
	if f.app.Log.Summary().Failed > 0 {
		os.Exit(failedStatus)
	}
	return true
}

// stand is the life of a standing child: accept, serve, accept again, one
// client at a time, until the life line is cut.
//
// All children wait in accept on the same socket. They do so in the system call
// itself: the kernel then wakes one of them for each client. Waiting in Go's
// poller would wake them all, and all but one in vain (the thundering herd).
func (f *Family) stand(handle func(net.Conn, *narrate.Conn) error, lifeline io.Reader) {
	var busy sync.Mutex // held while a client is served
	// Ends the process, between two clients.
	go func() {
		io.Copy(io.Discard, lifeline)
		busy.Lock()
		os.Exit(0)
	}()
	syscall.SetNonblock(socketFile, false)
	for {
		fd, _, err := syscall.Accept(socketFile)
		switch err {
		case nil:
		case syscall.EINTR, syscall.ECONNABORTED, syscall.EAGAIN:
			continue
		default:
			f.app.Stopped(os.NewSyscallError("accept", err)) // reports it and pauses
			continue
		}
		syscall.CloseOnExec(fd)
		busy.Lock()
		file := os.NewFile(uintptr(fd), "client")
		if client, err := net.FileConn(file); err == nil {
			file.Close() // FileConn has made a copy
			handle(client, f.app.Log.Accept(client))
		} else {
			file.Close()
			f.app.Log.Problem("Accepted, but lost: %v", err)
		}
		busy.Unlock()
	}
}
