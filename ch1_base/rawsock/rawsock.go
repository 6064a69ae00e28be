//go:build linux || darwin

// Package rawsock translates between the kernel's socket addresses and options
// and Go's, for a program that makes the socket calls itself.
package rawsock

import (
	"fmt"
	"io"
	"net"
	"syscall"
	"time"
)

// Address turns "127.0.0.1:8080" into the address that bind takes: 4 bytes and
// a port, where C fills in a struct sockaddr_in. Only IPv4 is known, as in C.
func Address(s string) (*syscall.SockaddrInet4, error) {
	a, err := net.ResolveTCPAddr("tcp4", s)
	if err != nil {
		return nil, fmt.Errorf("%s is not an IPv4 address with a port, such as 127.0.0.1:8080", s)
	}
	sa := &syscall.SockaddrInet4{Port: a.Port}
	copy(sa.Addr[:], a.IP.To4()) // nil for ":8080": all zero, every interface
	return sa, nil
}

// String turns an address from the kernel into "127.0.0.1:8080".
func String(sa syscall.Sockaddr) string {
	if a, ok := sa.(*syscall.SockaddrInet4); ok {
		return (&net.TCPAddr{IP: a.Addr[:], Port: a.Port}).String()
	}
	return "?"
}

// LocalAddr returns the address that a socket is bound to. If port 0 was asked
// for, it holds the port that the kernel chose (getsockname(2)).
func LocalAddr(fd int) string {
	sa, err := syscall.Getsockname(fd)
	if err != nil {
		return "?"
	}
	return String(sa)
}

// ReuseAddr allows a socket to be bound to a port on which old connections
// still wait in TIME_WAIT; without it a restart fails for a minute.
func ReuseAddr(fd int) {
	syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
}

// ReadTimeout makes a read fail with EAGAIN when nothing has come for d.
func ReadTimeout(fd int, d time.Duration) {
	tv := syscall.NsecToTimeval(max(d, time.Millisecond).Nanoseconds())
	syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &tv)
}

// ExplainAccept adds to accept's error what it means when nobody listens.
func ExplainAccept(err error) error {
	if err == syscall.EINVAL {
		return fmt.Errorf("%w: the socket has an address, but was never told to listen, "+
			"so the kernel keeps no queue of clients to accept from; Base.c leaves the call out. "+
			"Run it again without -skip-listen", err)
	}
	return err
}

// ExplainRead says in words what a read of n bytes, or its error, means, if it
// brought nothing.
func ExplainRead(n int, err error) error {
	switch {
	case err == syscall.EAGAIN:
		return fmt.Errorf("the client was silent until the request timeout")
	case err != nil:
		return err
	case n == 0:
		return fmt.Errorf("the client left without a word: %w", io.EOF)
	}
	return nil
}
