//go:build linux

package forward

import (
	"net"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A backend whose queue is full does not even complete the handshake.
func TestConnectTimeout(t *testing.T) {
	t.Parallel()
	limits := generous()
	limits.Connect = 200 * time.Millisecond
	r := newRig(t, limits, func(r *rig) { r.target = fullQueue(t) })
	start := time.Now()
	client := r.send(get)
	client.end(page("504 Gateway Timeout", "the backend did not accept the connection in time"))
	if d := time.Since(start); d < limits.Connect {
		t.Errorf("after %v already", d)
	}
	r.wantBackendsFault(504)
}

// fullQueue returns the address of a listening socket whose queue is full.
// Linux then drops what else wants to connect.
func fullQueue(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(name.(*syscall.SockaddrInet4).Port))
	for range 10 {
		conn, err := net.DialTimeout("tcp", addr, 200*time.Millisecond)
		if err != nil {
			return addr
		}
		t.Cleanup(func() { conn.Close() })
	}
	t.Fatal("the queue takes connections without end")
	return ""
}

// unsent returns how many bytes the peer has not acknowledged yet.
func unsent(fd uintptr) int {
	n, err := unix.IoctlGetInt(int(fd), unix.SIOCOUTQ)
	if err != nil {
		return 0
	}
	return n
}
