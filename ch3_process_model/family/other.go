//go:build !unix

package family

import (
	"errors"
	"iter"
	"net"
	"os"
	"runtime"
	"syscall"

	"reverseproxy/internal/narrate"
)

// IsChild ends the program: a child cannot inherit a socket here. What follows
// is never reached.
func (f *Family) IsChild() bool {
	f.app.Fatal(errors.New("on " + runtime.GOOS + " a program started by os/exec cannot inherit " +
		"a socket; this chapter runs on Linux and macOS, ch4_threaded runs here too"))
	return true
}

type standing struct{}

type program struct{ path string }

func findProgram() program { return program{} }

func (program) intact() error { return errors.ErrUnsupported }

func duplicate(any) (*os.File, error) { return nil, errors.ErrUnsupported }

func terminated(*os.ProcessState) bool { return false }

func ownProcessGroup() *syscall.SysProcAttr { return nil }

// File returns a socket as a file.
func File(net.Conn) (*os.File, error) { return nil, errors.ErrUnsupported }

// Prepare makes what -prefork needs.
func (f *Family) Prepare() {}

// Prefork keeps standing children.
func (f *Family) Prefork(net.Listener) bool { return false }

// Clients returns a child's clients.
func (f *Family) Clients() iter.Seq2[net.Conn, *narrate.Conn] { return nil }

// Status returns a child's exit status.
func (f *Family) Status() int { return failedStatus }
