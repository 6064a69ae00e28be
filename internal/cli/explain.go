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

// explain returns a start-up error as a sentence that names the cure.
func explain(err error, listen string) string {
	_, port, _ := net.SplitHostPort(listen)
	var demo *backends.ListenError
	if errors.As(err, &demo) {
		return demo.Error()
	}
	var op *net.OpError
	var call *os.SyscallError
	isListen := errors.As(err, &op) && op.Op == "listen" || errors.As(err, &call) && call.Syscall == "bind"
	if !isListen {
		return err.Error()
	}
	var dns *net.DNSError
	switch {
	case addressInUse(err):
		owner, nobody := portOwner(port)
		if nobody {
			return fmt.Sprintf("port %s is already in use, but by no program that listens there now: a connection that ended "+
				"less than a minute ago may hold it (TIME_WAIT); wait, or choose another port with -listen 127.0.0.1:0", port)
		}
		return fmt.Sprintf("port %s is already in use%s; end that program, or choose another port with -listen 127.0.0.1:0",
			port, owner)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Sprintf("listening on port %s is not permitted; choose one above 1023 with -listen 127.0.0.1:8080", port)
	case errors.Is(err, syscall.EADDRNOTAVAIL), errors.As(err, &dns):
		return fmt.Sprintf("%s is not an address of this machine; choose one with -listen 127.0.0.1:8080", listen)
	}
	return err.Error()
}

// addressInUse also knows Windows' number for it (WSAEADDRINUSE).
func addressInUse(err error) bool {
	return errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, syscall.Errno(10048))
}
