package forward

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"syscall"

	"reverseproxy/ch2_basic_proxy/http1"
	"reverseproxy/internal/cli"
)

// Error is what went wrong with a request, whose failure it is, and what the
// client is told.
type Error struct {
	Status int    // the status to answer with; 0: nobody is there to answer
	Reason string // told to the client; holds nothing it should not know
	Err    error  // the cause, told to the operator only; may be nil
	By     Side   // whose failure it is

	// What had happened by then decides whether another try is safe.
	Unreached bool // no connection to the backend came about
	Sent      bool // a byte of the request had been written to the backend
	Owed      bool // a part of its body was still to come from the client
	Broken    bool // the backend ended the connection before the response's header was whole
	Stale     bool // it did so with a reused connection, before it gave a byte
	Answered  bool // the client has seen a byte of the final response
}

// Side says whose failure it is.
type Side string

// The sides, as events name them.
const (
	ByBackend Side = "backend" // it refused, broke off, was too slow, or spoke nonsense
	ByClient  Side = "client"  // the same
	ByProxy   Side = "proxy"   // it has no descriptors, no processes, or a fault in its code
)

// Error returns the reason, with the cause.
func (e *Error) Error() string {
	s := e.Reason
	if e.Status != 0 {
		s = fmt.Sprintf("%d %s: %s", e.Status, http1.StatusText(e.Status), s)
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Fault names whose failure err is, as events do.
func Fault(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return string(e.By)
	}
	return ""
}

// refuse is the error of a request that is not forwarded.
func refuse(status int, reason string) *Error {
	return &Error{Status: status, Reason: reason, By: ByClient}
}

// backendError is the error of a backend's failure.
func backendError(status int, reason string, cause error) *Error {
	return &Error{Status: status, Reason: reason, Err: cause, By: ByBackend}
}

// ErrNoRequest is the error of a client that connects and leaves without a
// word, as port scanners and health checks do. It is no failure.
var ErrNoRequest = &Error{Reason: "the client left without a request", By: ByClient}

// Failed reports whether a client with this error was left without the answer
// it asked for.
func Failed(err error) bool {
	if err == nil {
		return false
	}
	var e *Error
	return !(errors.As(err, &e) && (e == ErrNoRequest || e.Status == http.StatusOK))
}

// Unavailable returns the error of a proxy that cannot serve a client for now
// (503), with the reason that the client is told and the cause that it is not.
func Unavailable(reason string, cause error) error {
	return &Error{Status: http.StatusServiceUnavailable, Reason: reason, Err: cause, By: ByProxy}
}

// ClientGone is the error of a client that left before its answer was complete.
func ClientGone(cause error) *Error {
	return &Error{Reason: "the client left", Err: cause, By: ByClient}
}

// RequestError turns a failure to read from the client into what to answer.
func RequestError(err error) *Error {
	var known *Error
	var malformed *http1.Error
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &malformed):
		return refuse(malformed.Status, malformed.Reason)
	case isTimeout(err):
		return refuse(http.StatusRequestTimeout, "the request did not come in time")
	default:
		return ClientGone(err)
	}
}

// ConnectError turns a failure to connect to a backend into what to answer.
func ConnectError(err error, addr string) *Error {
	e := backendError(http.StatusBadGateway, "the backend cannot be reached", err)
	e.Unreached = true
	switch {
	case Exhausted(err):
		e.Status, e.Reason = http.StatusServiceUnavailable, "the proxy has no connection left"
		e.By, e.Unreached = ByProxy, false
	case isTimeout(err):
		e.Status = http.StatusGatewayTimeout
		e.Reason = "the backend did not accept the connection in time"
	case errors.Is(err, syscall.ECONNREFUSED):
		e.Reason = "the backend refused the connection"
		e.Err = fmt.Errorf("nothing listens on %s; start backends with: %s", addr,
			"go run ./scripts/backends"+portsFlag(addr))
	}
	return e
}

// Exhausted reports whether err says that this process, or this machine, has no
// more of what a connection needs: descriptors, local ports, memory.
func Exhausted(err error) bool {
	for _, lack := range []error{syscall.EMFILE, syscall.ENFILE, syscall.EADDRNOTAVAIL,
		syscall.ENOBUFS, syscall.ENOMEM} {
		if errors.Is(err, lack) {
			return true
		}
	}
	return false
}

// portsFlag returns the flag with which scripts/backends listens where this
// backend is expected, or "" if it does so by itself.
func portsFlag(backend string) string {
	_, port, err := net.SplitHostPort(backend)
	if err != nil || port == "8000" || port == "8001" || port == "8002" {
		return ""
	}
	return " -ports " + port
}

// ResponseError turns a failure to read a response's header into what to answer.
func ResponseError(err error) *Error {
	e := &Error{Status: http.StatusBadGateway, By: ByBackend}
	var known *Error
	var malformed *http1.Error
	switch {
	case errors.As(err, &known):
		return known
	case err == http1.ErrHeadSize:
		e.Reason = "the backend's header is larger than 64 KiB"
	case errors.As(err, &malformed):
		e.Reason, e.Err = "the backend's response is malformed", malformed
	case isTimeout(err):
		e.Status, e.Reason = http.StatusGatewayTimeout, "the backend did not answer in time"
	case err == io.EOF, err == io.ErrUnexpectedEOF:
		e.Reason, e.Broken = "the backend closed the connection without an answer", true
	default:
		e.Reason, e.Err, e.Broken = "the backend broke the connection", err, true
	}
	return e
}

// BodyError turns a failure to pass on a response's body into what it is; the
// client cannot be told any more.
func BodyError(err error) *Error {
	switch {
	case isWriteError(err):
		return ClientGone(err)
	case isTimeout(err):
		return backendError(http.StatusGatewayTimeout, "the backend's response stood still", err)
	}
	return backendError(http.StatusBadGateway, "the backend's response broke off", err)
}

// PanicError shows a recovered panic to the operator, and returns what the
// client is told of it.
func PanicError(p any) *Error {
	cli.TellPanic(p)
	return &Error{Status: http.StatusInternalServerError, Reason: "the proxy failed", By: ByProxy,
		Err: fmt.Errorf("panic: %v\n%s", p, debug.Stack())}
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &ne) && ne.Timeout()
}
