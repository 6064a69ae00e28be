package forward

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"syscall"
	"time"
)

// Error is what went wrong with an exchange and what the client is told.
type Error struct {
	Status int    // the status to answer with; 0: nobody is there to answer
	Reason string // told to the client; holds nothing it should not know
	Err    error  // the cause, told to the operator only; may be nil
	Client bool   // the client's doing, not the backend's
}

// Error returns the reason, with the cause.
func (e *Error) Error() string {
	s := e.Reason
	if e.Status != 0 {
		s = fmt.Sprintf("%d %s: %s", e.Status, http.StatusText(e.Status), s)
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// fault names whose failure it is, as events do.
func (e *Error) fault() string {
	switch {
	case e.Client:
		return "client"
	case e.Status == http.StatusInternalServerError, e.Status == http.StatusServiceUnavailable:
		return "proxy"
	}
	return "backend"
}

// refuse is the error of a request that is not forwarded.
func refuse(status int, reason string) *Error {
	return &Error{Status: status, Reason: reason, Client: true}
}

// errNoRequest is the error of a client that connects and leaves without a
// word, as port scanners and health checks do. It is no failure.
var errNoRequest = &Error{Reason: "the client left without a request", Client: true}

// Unavailable returns the error of a proxy that cannot serve a client for now
// (503), with the reason that the client is told and the cause that it is not.
func Unavailable(reason string, cause error) error {
	return &Error{Status: http.StatusServiceUnavailable, Reason: reason, Err: cause}
}

// clientGone is the error of a client that left before its answer was complete.
func clientGone(cause error) *Error {
	return &Error{Reason: "the client left", Err: cause, Client: true}
}

// requestError turns a failure to read from the client into what to answer.
func requestError(err error) *Error {
	var known *Error
	switch {
	case errors.As(err, &known):
		return known
	case isTimeout(err):
		return refuse(http.StatusRequestTimeout, "the request did not come in time")
	default:
		return clientGone(err)
	}
}

// connectError turns a failure to connect to a backend into what to answer.
func connectError(err error, backend string) *Error {
	switch {
	case isTimeout(err):
		return &Error{Status: http.StatusGatewayTimeout, Reason: "the backend did not accept the connection in time", Err: err}
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return &Error{Status: http.StatusServiceUnavailable, Reason: "the proxy is out of file descriptors", Err: err}
	case errors.Is(err, syscall.ECONNREFUSED):
		return &Error{Status: http.StatusBadGateway, Reason: "the backend refused the connection",
			Err: fmt.Errorf("nothing listens on %s; start backends with: go run ./scripts/backends%s", backend, portsFlag(backend))}
	default:
		return &Error{Status: http.StatusBadGateway, Reason: "the backend cannot be reached", Err: err}
	}
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

// responseError turns a failure to read a response's header into what to answer.
func responseError(err error) *Error {
	var known *Error
	switch {
	case errors.As(err, &known):
		return known
	case isTimeout(err):
		return &Error{Status: http.StatusGatewayTimeout, Reason: "the backend did not answer in time"}
	case err == errHeadTooLong, err == errLineTooLong:
		return &Error{Status: http.StatusBadGateway, Reason: "the backend's header is larger than 64 KiB"}
	case err == io.EOF, err == io.ErrUnexpectedEOF:
		return &Error{Status: http.StatusBadGateway, Reason: "the backend closed the connection without an answer"}
	default:
		return &Error{Status: http.StatusBadGateway, Reason: "the backend broke the connection", Err: err}
	}
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &ne) && ne.Timeout()
}

// errorPage returns the whole response that tells the client about e.
func errorPage(e *Error, head bool) []byte {
	body := fmt.Sprintf("%d %s: %s\n", e.Status, http.StatusText(e.Status), e.Reason)
	b := []byte("HTTP/1.1 " + strconv.Itoa(e.Status) + " " + http.StatusText(e.Status) + "\r\n" +
		"Date: " + time.Now().UTC().Format(http.TimeFormat) + "\r\n" +
		"Content-Type: text/plain; charset=utf-8\r\n" +
		"X-Content-Type-Options: nosniff\r\n" +
		"Content-Length: " + strconv.Itoa(len(body)) + "\r\n" +
		"Connection: close\r\n\r\n")
	if head {
		return b
	}
	return append(b, body...)
}
