//go:build unix

package family

import (
	"os"
	"sync/atomic"
	"syscall"
	"unsafe"

	"reverseproxy/internal/narrate"
)

// A scoreboard is memory that the parent shares with its standing children, so
// that they can count without sending a message for each client. Apache's
// prefork model does the same and calls it so.
type scoreboard struct {
	most  atomic.Int64 // connections open at once
	used  atomic.Int64 // slots
	slots [maxPrefork]slot
}

const boardSize = int(unsafe.Sizeof(scoreboard{}))

// A slot is what a child, and those before it in its place, have counted. It
// has room for two states, and version says which of them holds: the next one
// is written into the other room, then version goes up. So the slot is right at
// every moment, also that in which its child is killed.
type slot struct {
	version atomic.Uint64
	states  [2]struct{ connections, requests, failed, open, owed atomic.Int64 }
}

// load returns the state that holds.
func (s *slot) load() narrate.Totals {
	for {
		version := s.version.Load()
		state := &s.states[version%2]
		t := narrate.Totals{Connections: state.connections.Load(), Requests: state.requests.Load(),
			Failed: state.failed.Load(), Open: state.open.Load(), Owed: state.owed.Load()}
		if s.version.Load() == version { // nobody has written there meanwhile
			return t
		}
	}
}

// store makes t the state that holds. Only one process at a time may call it:
// the child, or the parent after its end.
func (s *slot) store(t narrate.Totals) {
	version := s.version.Load() + 1
	state := &s.states[version%2]
	state.connections.Store(t.Connections)
	state.requests.Store(t.Requests)
	state.failed.Store(t.Failed)
	state.open.Store(t.Open)
	state.owed.Store(t.Owed)
	s.version.Store(version)
}

// totals returns what all children have counted.
func (b *scoreboard) totals() (t narrate.Totals) {
	for i := range b.used.Load() {
		t.Add(b.slots[i].load())
	}
	t.MostOpen = max(b.most.Load(), t.Open)
	return t
}

// noteMost notes how many connections are open, if it is the most so far.
func (b *scoreboard) noteMost() {
	open := b.totals().Open
	for most := b.most.Load(); open > most; most = b.most.Load() {
		if b.most.CompareAndSwap(most, open) {
			break
		}
	}
}

// openScoreboard maps the file into this process's memory.
func openScoreboard(file *os.File) (*scoreboard, error) {
	memory, err := syscall.Mmap(int(file.Fd()), 0, boardSize,
		syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return nil, os.NewSyscallError("mmap", err)
	}
	return (*scoreboard)(unsafe.Pointer(&memory[0])), nil
}
