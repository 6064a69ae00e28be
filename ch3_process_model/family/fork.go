package family

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"syscall"

	"reverseproxy/internal/narrate"
)

// Limit returns a listener that accepts a client only when a child may be
// started for it. While -max-children run, clients wait in the backlog.
func (f *Family) Limit(l net.Listener) net.Listener {
	f.slots = make(chan struct{}, f.fit(f.max))
	return &limited{l, f.slots}
}

type limited struct {
	net.Listener
	slots chan struct{}
}

// Accept takes a slot, which End gives back, and then accepts.
func (l *limited) Accept() (net.Conn, error) {
	l.slots <- struct{}{}
	conn, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
	}
	return conn, err
}

// End lets the next client be accepted.
func (f *Family) End() { <-f.slots }

// Program returns the path of this program.
func (f *Family) Program() string { return f.program.path }

// Args returns the arguments of a child: this program's, and behind them, for
// the last flag of a name counts, what was not known before it ran.
func (f *Family) Args() []string {
	args := os.Args[1:]
	if n := len(args); n > 0 && args[n-1] == "--" { // nothing behind it would be a flag
		args = args[:n-1]
	}
	return append(args[:len(args):len(args)],
		"-backend", f.app.Backends[0], "-slow-motion", f.app.Log.Pause().String())
}

// A Child is one child process, from before its start.
type Child struct {
	*exec.Cmd
	family *Family
	job    job
	log    *narrate.Conn // the client's; nil for a standing child, which accepts its own
	pipe   *os.File      // what it tells: a line when it is ready, then its events
	told   told

	ready bool     // it has said so (guarded by family.mu)
	spare *os.File // until then: one more copy of the client's socket
}

// Child makes cmd a child that serves client, whose steps log tells.
func (f *Family) Child(cmd *exec.Cmd, client net.Conn, log *narrate.Conn) *Child {
	return &Child{Cmd: cmd, family: f, log: log, job: job{Conn: log.ID,
		Accepted: log.AcceptedAt().UnixNano(), Peer: client.RemoteAddr().String()}}
}

// Start starts the child (clone, execve), with a pipe for what it tells.
func (c *Child) Start() error {
	f := c.family
	if err := f.program.intact(); err != nil {
		return err
	}
	ours, theirs, err := os.Pipe()
	if err != nil {
		return err
	}
	defer theirs.Close()
	if c.log != nil {
		c.spare, err = duplicate(c.ExtraFiles[0])
	}
	c.ExtraFiles = append(c.ExtraFiles, theirs)
	c.job.Level, c.job.Pipe = f.app.Log.Level(), firstFile+len(c.ExtraFiles)-1
	c.Args[0] = os.Args[0]
	// A child serves one client at a time, for which one processor is enough:
	// the Go runtime starts fewer threads, and fewer wake each other.
	c.Env = append([]string{"GOMAXPROCS=1"}, os.Environ()...)
	c.Env = append(c.Env, jobVariable+"="+c.job.String())
	c.Stderr = os.Stderr              // for a panic's last words
	c.SysProcAttr = ownProcessGroup() // so that it does not get the terminal's Ctrl+C
	if err == nil {
		err = f.start(c)
	}
	if err != nil {
		ours.Close()
		c.spare.Close() // of nil it is an error, which is fine
		return err
	}
	c.pipe = ours
	f.app.Log.WorkerNote(c.job.Conn, c.name(), narrate.Started, "started")
	return nil
}

// start starts a child so that it is not missing from the list when all are to
// be killed.
func (f *Family) start(c *Child) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := c.Cmd.Start()
	if err == nil {
		f.children[c] = true
	}
	return err
}

// Relay passes on what the child tells, until it ends.
func (c *Child) Relay() {
	c.relay(func(e narrate.Event) {
		c.told.add(e)
		c.family.app.Log.Emit(e)
	})
}

// begun notes that the child runs: a signal to stop no longer ends it at once.
func (c *Child) begun() {
	c.spare.Close()
	c.family.mu.Lock()
	defer c.family.mu.Unlock()
	c.ready = true
	if c.family.stopping() { // the others have been told already
		c.Process.Signal(syscall.SIGTERM)
	}
}

// told is what a child has said of its clients, in totals.
type told struct {
	narrate.Totals
	closed bool // the latest connection
}

func (t *told) add(e narrate.Event) {
	switch {
	case e.Step == narrate.Accept:
		t.Connections++
		t.closed = false
	case e.Kind == narrate.KindRequest:
		t.Requests++
	case e.Step == narrate.Close:
		t.closed = true
		if e.Failed {
			t.Failed++
		}
	}
}

// Report tells, after Wait, how the child has ended, and counts its client.
func (c *Child) Report() {
	log, status := c.family.app.Log, c.ProcessState.ExitCode()
	c.forget()
	switch {
	case !c.ready && c.again():
	case c.told.closed: // the child itself has said how it went
		log.Finished(c.told.Requests, c.told.Failed > 0)
	case c.crashed():
		c.log.Begin() // it had, or would not have died of it
		c.log.Close(c.early(), true, 0)
	default:
		log.Finished(one(status&silentStatus == 0), status&failedStatus != 0)
	}
}

// again starts another child for the client of one that was told to stop
// (SIGTERM) in its first milliseconds, when Go's runtime does not heed that yet:
// nothing has been read from the socket.
func (c *Child) again() bool {
	defer c.spare.Close()
	if !terminated(c.ProcessState) {
		return false
	}
	cmd := exec.Command(c.family.Program(), c.Args[1:]...)
	cmd.ExtraFiles = []*os.File{c.spare}
	next := &Child{Cmd: cmd, family: c.family, log: c.log, job: c.job}
	if next.Start() != nil {
		return false
	}
	c.spare.Close()
	next.Relay()
	next.Wait()
	next.Report()
	return true
}

// one is 1 for true, in counts.
func one(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// early is the error of a child that ended before its time.
func (c *Child) early() error {
	return fmt.Errorf("%s ended before it had answered: %s", c.name(), c.status())
}

// name names the child as every narrated line does.
func (c *Child) name() string { return "child " + strconv.Itoa(c.Process.Pid) }

// relay calls tell for each event of the child, until it ends.
func (c *Child) relay(tell func(narrate.Event)) {
	defer c.pipe.Close()
	lines := bufio.NewReader(c.pipe)
	if _, err := lines.ReadBytes('\n'); err != nil {
		return // it has ended before it was ready
	}
	c.begun()
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
func (c *Child) crashed() bool {
	return c.ProcessState.ExitCode()&^(failedStatus|silentStatus) != 0
}

// status returns how the child ended: "exit status 0", "signal: killed".
func (c *Child) status() string { return c.ProcessState.String() }

// endWithParent arranges that at Ctrl+C the children are told to stop, and that
// those which have not done so in time are killed.
func (f *Family) endWithParent() {
	f.app.OnStop(func() { f.signalAll(syscall.SIGTERM) })
	f.app.OnCut(func() { f.signalAll(syscall.SIGKILL) })
}

// forget tells that the child has been reaped.
func (c *Child) forget() {
	f := c.family
	f.mu.Lock()
	delete(f.children, c)
	f.mu.Unlock()
	f.app.Log.WorkerNote(c.job.Conn, c.name(), narrate.Exited, "exited and was reaped: "+c.status())
}

func (f *Family) signalAll(sig os.Signal) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for c := range f.children {
		if c.ready || sig == syscall.SIGKILL { // others are told when they are ready
			c.Process.Signal(sig)
		}
	}
}

// stopping reports whether this process is to end.
func (f *Family) stopping() bool {
	select {
	case <-f.app.Stopping():
		return true
	default:
		return false
	}
}
