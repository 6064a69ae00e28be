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
	counts narrate.Counts
	busy   [maxPrefork]atomic.Bool // by number of the child: it has a client in hand
}

// newScoreboard makes a file without a name to keep the scoreboard in, for the
// children to inherit.
func newScoreboard() (*os.File, *scoreboard, error) {
	file, err := os.CreateTemp("", "scoreboard")
	if err != nil {
		return nil, nil, err
	}
	os.Remove(file.Name()) // it lives on as long as somebody has it open
	if err := file.Truncate(int64(unsafe.Sizeof(scoreboard{}))); err != nil {
		return nil, nil, err
	}
	board, err := openScoreboard(file)
	return file, board, err
}

// openScoreboard maps the file into this process's memory.
func openScoreboard(file *os.File) (*scoreboard, error) {
	memory, err := syscall.Mmap(int(file.Fd()), 0, int(unsafe.Sizeof(scoreboard{})),
		syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return nil, os.NewSyscallError("mmap", err)
	}
	return (*scoreboard)(unsafe.Pointer(&memory[0])), nil
}
