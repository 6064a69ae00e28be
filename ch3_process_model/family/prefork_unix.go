//go:build unix

package family

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"reverseproxy/ch2_basic_proxy/backoff"
	"reverseproxy/internal/narrate"
)

// standing is what the parent of standing children, and each of them, keeps.
type standing struct {
	board     *scoreboard
	boardFile *os.File
	starting  sync.Mutex // one child is being started
	lastConn  atomic.Uint64
	serving   atomic.Bool // this child has a client in hand
}

// Prepare does what must be done before the program is ready: Ctrl+C may come
// at once, and what -prefork needs may not be there.
func (f *Family) Prepare() {
	// Before its first process, Go tries whether the kernel knows pidfds, with a child that
	// shares this memory and its signal handlers (checkClonePidfd in package os). A Ctrl+C
	// goes to that child, too, and would count twice, and so end clients in the middle. Now
	// there are none.
	if self, err := os.FindProcess(os.Getpid()); err == nil {
		self.Release()
	}
	f.endWithParent()
	if f.prefork == 0 {
		return
	}
	var err error
	if f.boardFile, err = sharedMemory(make([]byte, boardSize)); err == nil {
		f.board, err = openScoreboard(f.boardFile)
	}
	if err != nil {
		f.app.Fatal(fmt.Errorf("no memory to share with the children: %w", err))
	}
	f.board.used.Store(int64(f.prefork))
	f.app.Log.Include(f.board.totals)
}

// Prefork keeps -prefork children that all accept from listener's socket, until
// Ctrl+C, and returns when the last has ended. Without -prefork it returns false
// at once.
func (f *Family) Prefork(listener net.Listener) bool {
	if f.prefork == 0 {
		return false
	}
	n := f.fit(f.prefork)
	if n < f.prefork {
		f.app.Log.Problem("The limit on open files (ulimit -n) has room for %d children", n)
	}
	var all sync.WaitGroup
	for slot := range n {
		all.Go(func() { f.standOne(listener, slot) }) // ends after Ctrl+C
	}
	all.Wait()
	return true
}

// Pauses before a standing child that has died is replaced.
const (
	firstPause = 5 * time.Millisecond
	maxPause   = 1 * time.Second
)

// standOne keeps one child standing. One that dies at once is replaced after a
// pause that doubles each time, so that a broken program does not start
// thousands of processes a second.
func (f *Family) standOne(listener net.Listener, slot int) {
	pause := firstPause
	for !f.stopping() {
		started := time.Now()
		if err := f.stand(listener, slot); err != nil && !f.stopping() {
			f.app.Log.Problem("No child could be started: %v; next try in %v", err, pause)
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

// stand starts a standing child and sees to its end.
func (f *Family) stand(listener net.Listener, slot int) error {
	cmd := exec.Command(f.Program(), f.Args()...)
	c := &Child{Cmd: cmd, family: f, job: job{Standing: true, Slot: slot}}
	before := f.board.slots[slot].load() // what others have counted in this place
	lifeline, err := f.startStanding(c, listener)
	if err != nil {
		return err
	}
	f.attend(c, lifeline, before)
	return nil
}

// startStanding starts c with the listening socket, the scoreboard and the life
// line, whose other end it returns. It does so for one child after the other:
// each start takes some more descriptors for a moment.
func (f *Family) startStanding(c *Child, listener net.Listener) (lifeline *os.File, err error) {
	f.starting.Lock()
	defer f.starting.Unlock()
	socket, err := duplicate(listener)
	if err != nil {
		return nil, err
	}
	defer socket.Close()
	end, lifeline, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer end.Close()
	c.ExtraFiles = []*os.File{socket, f.boardFile, end}
	if err := c.Start(); err != nil {
		lifeline.Close()
		return nil, err
	}
	return lifeline, nil
}

// attend passes on what a standing child tells until it ends, and reaps it.
func (f *Family) attend(c *Child, lifeline *os.File, before narrate.Totals) {
	done := make(chan struct{})
	// Ends with attend: cutting the life line is how the child learns that it
	// is to stop, whether by Ctrl+C or because this process has died.
	go func() {
		select {
		case <-f.app.Stopping():
		case <-done:
		}
		lifeline.Close()
	}()
	conn := uint64(0) // the number of the latest connection
	c.relay(func(e narrate.Event) {
		c.told.add(e)
		if e.Step == narrate.Accept {
			conn = f.lastConn.Add(1)
		}
		e.Conn, e.Worker = conn, c.name()
		f.app.Log.Emit(e)
	})
	c.Wait()
	close(done)
	c.forget()
	f.settle(c, &f.board.slots[c.job.Slot], before, conn)
}

// settle counts and tells what a standing child has begun and not finished, if
// it was killed.
func (f *Family) settle(c *Child, slot *slot, before narrate.Totals, conn uint64) {
	now := slot.load()
	if now.Open == 0 {
		return
	}
	silent := now.Connections - before.Connections - c.told.Connections // not even step 4 was told
	if c.told.closed && silent == 0 {
		now.Failed = before.Failed + c.told.Failed // how it went was told, and not yet counted
	} else {
		now.Failed += now.Owed
		if silent > 0 {
			conn = f.lastConn.Add(1)
		}
		e := narrate.Event{Kind: narrate.KindRequest, Name: "request", Conn: conn, Worker: c.name()}
		if now.Failed > before.Failed+c.told.Failed {
			e.Failed, e.Err = true, c.early().Error()
		}
		if now.Requests > before.Requests+c.told.Requests {
			f.app.Log.Emit(e)
		}
		e.Kind, e.Step, e.Name = narrate.KindStep, narrate.Close, narrate.Close.String()
		f.app.Log.Emit(e)
	}
	now.Open, now.Owed = 0, 0
	slot.store(now)
}

// acceptAll is the life of a standing child: accept, serve, accept again, one
// client at a time, until it is told to stop.
//
// All children wait in accept on the same socket. They do so in the system call
// itself: the kernel then wakes one of them for each client. Waiting in Go's
// poller would wake them all, and all but one in vain (the thundering herd).
func (f *Family) acceptAll(yield func(net.Conn, *narrate.Conn) bool) {
	board, err := openScoreboard(os.NewFile(boardFile, "scoreboard"))
	if err != nil {
		f.app.Fatal(err)
	}
	slot := &board.slots[f.job.Slot]
	before := slot.load() // what others have counted in this place
	f.app.Log.Counted(func(t narrate.Totals) {
		t.Add(before)
		slot.store(t)
		if t.Open > 0 {
			board.noteMost()
		}
	})
	syscall.SetNonblock(firstFile, false)
	pause := backoff.New(f.app)
	for !f.stopping() {
		fd, peer, err := accept(firstFile)
		switch err {
		case nil:
		case syscall.EINVAL: // it listens no more: the family is to stop
			return
		case syscall.EINTR, syscall.ECONNABORTED, syscall.EAGAIN:
			continue
		default:
			pause.After(os.NewSyscallError("accept", err))
			continue
		}
		f.serving.Store(true)
		client, err := connection(fd, address(peer))
		if err == nil {
			if !yield(client, f.app.Log.Accept(client)) {
				return
			}
		} else {
			f.app.Log.Problem("Accepted, but lost: %v", err)
		}
		f.serving.Store(false)
	}
}

// address returns what accept has returned as net has it.
func address(sa syscall.Sockaddr) net.Addr {
	switch sa := sa.(type) {
	case *syscall.SockaddrInet4:
		return &net.TCPAddr{IP: sa.Addr[:], Port: sa.Port}
	case *syscall.SockaddrInet6:
		addr := &net.TCPAddr{IP: sa.Addr[:], Port: sa.Port}
		if zone, err := net.InterfaceByIndex(int(sa.ZoneId)); err == nil && sa.ZoneId != 0 {
			addr.Zone = zone.Name
		}
		return addr
	}
	return &net.TCPAddr{}
}
