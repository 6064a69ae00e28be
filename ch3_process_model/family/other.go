//go:build !unix

package family

import (
	"errors"
	"net"
	"runtime"

	"reverseproxy/internal/narrate"
)

type state struct{}

func isChild() bool { return false }

// Child ends the program: a child cannot inherit a socket here.
func (f *Family) Child(func(net.Conn, *narrate.Conn) error) bool {
	f.app.Fatal(errors.New("on " + runtime.GOOS + " a program started by os/exec cannot inherit a socket; " +
		"this chapter runs on Linux and macOS, ch4_threaded runs here too"))
	return true
}

// Limit is never reached here.
func (f *Family) Limit(l net.Listener) net.Listener { return l }

// Start is never reached here.
func (f *Family) Start(net.Conn, *narrate.Conn) error { return errors.ErrUnsupported }

// Stand is never reached here.
func (f *Family) Stand(net.Listener) {}
