package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"

	"reverseproxy/internal/backends"
)

// errWatch is the error of a live page that cannot listen.
type errWatch struct{ error }

func (e errWatch) Unwrap() error { return e.error }

// explain returns a start-up error as a sentence that names the cure.
func (a *App) explain(err error) string {
	var demo *backends.ListenError
	var watch errWatch
	switch {
	case errors.As(err, &demo):
		return cannotListen(err, demo.Addr, " for a demo backend",
			"leave out -demo to use what is there", a.backendFlag()+" 127.0.0.1:8000")
	case errors.As(err, &watch):
		return cannotListen(err, a.watch, " for the live page",
			"choose another port with -watch 127.0.0.1:0", "-watch 127.0.0.1:9090")
	}
	var op *net.OpError
	var call *os.SyscallError
	if errors.As(err, &op) && op.Op == "listen" || errors.As(err, &call) && call.Syscall == "bind" {
		return cannotListen(err, a.Listen, "",
			"choose another port with -listen 127.0.0.1:0", "-listen 127.0.0.1:8080")
	}
	return err.Error()
}

// cannotListen says why addr cannot be had, and what to do: cure, if another
// program has the port, or else name another address, as in example.
func cannotListen(err error, addr, purpose, cure, example string) string {
	_, port, _ := net.SplitHostPort(addr)
	var dns *net.DNSError
	switch {
	case addressInUse(err):
		owner, nobody := portOwner(addr)
		if nobody {
			return fmt.Sprintf("port %s%s is in use, but by no program that listens there now: "+
				"a connection that ended less than a minute ago may hold it (TIME_WAIT); "+
				"wait, or %s",
				port, purpose, cure)
		}
		if owner == "" {
			owner = "another program"
		}
		// A line of its own: how long the first is depends on the owner.
		return fmt.Sprintf("%s has port %s%s in use;\n    end it, or %s",
			owner, port, purpose, cure)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Sprintf("listening on port %s%s is not permitted; choose one above 1023 with %s",
			port, purpose, example)
	case errors.Is(err, syscall.EADDRNOTAVAIL), errors.As(err, &dns):
		return fmt.Sprintf("%s%s is not an address of this machine; choose one with %s",
			addr, purpose, example)
	}
	return err.Error()
}

// addressInUse also knows Windows' number for it (WSAEADDRINUSE).
func addressInUse(err error) bool {
	return errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, syscall.Errno(10048))
}
