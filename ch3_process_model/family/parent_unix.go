//go:build unix

package family

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"time"

	"reverseproxy/internal/narrate"
)

// state is what the parent keeps of its children.
type state struct {
	slots    chan struct{} // one for each child that may run
	mu       sync.Mutex
	children map[*os.Process]bool
}

// Limit returns a listener that accepts a client only when a child may be
// started for it. While -max-children run, clients wait in the backlog.
func (f *Family) Limit(l net.Listener) net.Listener {
	// A child takes up to three of the parent's descriptors: while it is being
	// started its socket, then the pipe that it tells its events through.
	f.slots = make(chan struct{}, max(1, f.app.FitDescriptors(3*f.max)/3))
	f.app.OnCut(f.killAll)
	return &limited{l, f.slots}
}

type limited struct {
	net.Listener
	slots chan struct{}
}

// Accept takes a slot, which the child's end gives back, and then accepts.
func (l *limited) Accept() (net.Conn, error) {
	l.slots <- struct{}{}
	conn, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
	}
	return conn, err
}

// Start starts a child that serves client, and reaps it when it ends. The
// caller still has to close its own copy of the socket, whether Start fails or
// not; log belongs to the child from now on.
func (f *Family) Start(client net.Conn, log *narrate.Conn) error {
	c, err := f.start(client, job{Level: f.app.Log.Level(), Conn: log.ID, Accepted: log.AcceptedAt().UnixNano()})
	if err != nil {
		<-f.slots
		return err
	}
	f.app.Log.WorkerNote(log.ID, c.name(), narrate.Started, "started")
	// Ends when the child has ended.
	go func() {
		defer func() { <-f.slots }()
		c.relay(func(e narrate.Event) {
			if e.Step == narrate.Close {
				log = nil // the child itself has said how it went
			}
			f.app.Log.Relay(e)
		})
		// Wait collects the exit status: without it the child would stay in
		// the process table as a zombie.
		c.cmd.Wait()
		f.forget(c)
		f.app.Log.WorkerNote(c.job.Conn, c.name(), narrate.Exited, "exited and was reaped: "+c.status())
		if log != nil && c.crashed() {
			log.Begin() // it had, or would not have died of it
			log.Close(fmt.Errorf("%s ended before it had answered: %s", c.name(), c.status()), true, 0)
			return
		}
		f.app.Log.Finished(c.requests(), c.cmd.ProcessState.ExitCode()&failedStatus != 0)
	}()
	return nil
}

// Stand keeps -prefork children that all accept from listener's socket, until
// Ctrl+C. It returns when the last has ended.
func (f *Family) Stand(listener net.Listener) {
	file, board, err := newScoreboard()
	if err != nil {
		f.app.Fatal(fmt.Errorf("no memory to share with the children: %w", err))
	}
	f.app.Log.Share(&board.counts)
	f.app.OnCut(f.killAll)
	var all sync.WaitGroup
	for slot := range f.prefork {
		all.Go(func() { f.standOne(listener, file, board, slot) }) // ends after Ctrl+C
	}
	all.Wait()
}

// Pauses before a standing child that has died is replaced.
const (
	firstPause = 5 * time.Millisecond
	maxPause   = 1 * time.Second
)

// standOne keeps one child standing. One that dies at once is replaced after a
// pause that doubles each time, so that a broken program does not start
// thousands of processes a second.
func (f *Family) standOne(listener net.Listener, file *os.File, board *scoreboard, slot int) {
	pause := firstPause
	for !f.stopping() {
		started := time.Now()
		c, err := f.start(listener, job{Level: f.app.Log.Level(), Standing: true, Slot: slot}, file)
		if err != nil {
			f.app.Log.Problem("No child could be started: %v; next try in %v", err, pause)
		} else {
			f.app.Log.WorkerNote(0, c.name(), narrate.Started, "started")
			f.attend(c)
			if board.busy[slot].Swap(false) {
				f.app.Log.Lost()
			}
		}
		if time.Since(started) > maxPause {
			pause = firstPause
		}
		select {
		case <-f.app.Stopping():
		case <-time.After(pause):
		}
		pause = min(2*pause, maxPause)
	}
}

// attend passes on what a standing child tells until it ends, and reaps it.
func (f *Family) attend(c *child) {
	done := make(chan struct{})
	// Ends with attend: cutting the life line is how the child learns that it
	// is to stop, whether by Ctrl+C or because this process has died.
	go func() {
		select {
		case <-f.app.Stopping():
		case <-done:
		}
		c.lifeline.Close()
	}()
	serving := uint64(0) // the connection it has in hand
	c.relay(func(e narrate.Event) {
		if e.Step == narrate.Accept {
			serving = f.app.Log.NewID()
		}
		e.Conn, e.Worker = serving, c.name()
		f.app.Log.Relay(e)
		if e.Step == narrate.Close {
			serving = 0
		}
	})
	c.cmd.Wait()
	close(done)
	f.forget(c)
	f.app.Log.WorkerNote(0, c.name(), narrate.Exited, "exited and was reaped: "+c.status())
	if serving != 0 {
		f.app.Log.Relay(narrate.Event{Kind: narrate.KindStep, Step: narrate.Close, Name: narrate.Close.String(),
			Conn: serving, Worker: c.name(), Failed: true,
			Err: c.name() + " ended before it had answered: " + c.status()})
	}
}

func (f *Family) stopping() bool {
	select {
	case <-f.app.Stopping():
		return true
	default:
		return false
	}
}

// A child is one child process.
type child struct {
	cmd      *exec.Cmd
	job      job
	events   *os.File // what it tells, one JSON object a line; nil if nothing
	lifeline *os.File // open as long as a standing child is to live; nil for others
}

// start starts this program as a child that inherits a socket as file 3, and
// further files behind it.
func (f *Family) start(socket any, j job, files ...*os.File) (*child, error) {
	file, err := socket.(interface{ File() (*os.File, error) }).File()
	if err != nil {
		return nil, err
	}
	defer file.Close() // the child has its own copy
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	// The last flag of a name counts: what is only known now comes last.
	args := os.Args[1:]
	if n := len(args); n > 0 && args[n-1] == "--" { // nothing behind it would be a flag
		args = args[:n-1]
	}
	args = append(args[:len(args):len(args)],
		"-backend", f.app.Backends[0], "-slow-motion", f.app.Log.Pause().String())
	c := &child{cmd: exec.Command(self, args...), job: j}
	// A child serves one client at a time, for which one processor is enough:
	// the Go runtime starts fewer threads, and fewer wake each other.
	c.cmd.Env = append([]string{"GOMAXPROCS=1"}, os.Environ()...)
	c.cmd.Env = append(c.cmd.Env, jobVariable+"="+j.String())
	c.cmd.Stderr = os.Stderr // for a panic's last words
	// In a process group of its own, a child does not get the terminal's Ctrl+C.
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.cmd.ExtraFiles = append([]*os.File{file}, files...)
	var theirs []*os.File // the child's ends of pipes
	defer func() { closeAll(theirs...) }()
	if j.Standing {
		end, ours, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		c.lifeline, theirs = ours, append(theirs, end)
	}
	if j.Level > narrate.Off {
		ours, end, err := os.Pipe()
		if err != nil {
			closeAll(c.lifeline)
			return nil, err
		}
		c.events, theirs = ours, append(theirs, end)
	}
	c.cmd.ExtraFiles = append(c.cmd.ExtraFiles, theirs...)
	if err := c.cmd.Start(); err != nil {
		closeAll(c.lifeline, c.events)
		return nil, err
	}
	f.remember(c)
	return c, nil
}

func closeAll(files ...*os.File) {
	for _, file := range files {
		file.Close() // of nil it is an error, which is fine
	}
}

func (f *Family) remember(c *child) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.children == nil {
		f.children = map[*os.Process]bool{}
	}
	f.children[c.cmd.Process] = true
}

// name names the child as every narrated line does.
func (c *child) name() string { return "child " + strconv.Itoa(c.cmd.Process.Pid) }

// relay calls tell for each event of the child, until it ends.
func (c *child) relay(tell func(narrate.Event)) {
	if c.events == nil {
		return
	}
	defer c.events.Close()
	lines := bufio.NewReader(c.events)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return // a line that was cut off by the child's death is dropped
		}
		var e narrate.Event
		if json.Unmarshal(line, &e) == nil {
			tell(e)
		}
	}
}

// crashed reports whether the child ended otherwise than by serving its client:
// by a signal, or by a panic (exit status 2).
func (c *child) crashed() bool {
	return c.cmd.ProcessState.ExitCode()&^(failedStatus|silentStatus) != 0
}

// requests returns how many requests the child has served: one, unless its
// client said nothing.
func (c *child) requests() int64 {
	if c.cmd.ProcessState.ExitCode()&silentStatus != 0 {
		return 0
	}
	return 1
}

// status returns how the child ended: "exit status 0", "signal: killed".
func (c *child) status() string { return c.cmd.ProcessState.String() }

func (f *Family) forget(c *child) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.children, c.cmd.Process)
}

// killAll ends all children that are left when the time after Ctrl+C is over.
func (f *Family) killAll() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for process := range f.children {
		if err := process.Signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
			io.WriteString(os.Stderr, err.Error()+"\n")
		}
	}
}
