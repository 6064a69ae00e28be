//go:build linux

package loop

import (
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// connected returns a socket of a loop and its peer.
func connected(t *testing.T, l *Loop) (s *socket, peer net.Conn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if peer, err = net.Dial("tcp", listener.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { peer.Close() })
	accepted, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	file, err := accepted.(*net.TCPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	fd, err := unix.Dup(int(file.Fd())) // s closes it, and nobody else may
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		t.Fatal(err)
	}
	s = &socket{writable: true}
	s.init(l, fd)
	t.Cleanup(s.close)
	return s, peer
}

func testLoop() *Loop { return &Loop{use: newTechniques(), sockets: make([]*socket, 1000)} }

// The last answer waits in the kernel for the connection's end. It comes, even if something
// from the client that nobody has read lies there, too.
func TestTheLastAnswerIsNotLost(t *testing.T) {
	for range 20 {
		s, peer := connected(t, testLoop())
		s.last = true
		peer.Write([]byte("more"))
		if _, err := s.write([]byte("answer")); err != nil {
			t.Fatal(err)
		}
		s.close()
		peer.SetDeadline(time.Now().Add(20 * time.Second))
		if _, err := io.ReadFull(peer, make([]byte, 6)); err != nil {
			t.Errorf("the answer did not come: %v", err)
		}
	}
}

// Before a connection is closed, the kernel is asked whether something has come that
// epoll_wait has not told of.
func TestUnreadLooks(t *testing.T) {
	for _, more := range []string{"", "more"} {
		l := testLoop()
		s, peer := connected(t, l)
		c := &Conn{loop: l, client: *s, x: &exchange{parsed: true, read: true}}
		peer.Write([]byte(more))
		if more != "" {
			if _, err := unix.Poll([]unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLIN}},
				20_000); err != nil {
				t.Fatal(err)
			}
		}
		if got, want := c.unread(), more != ""; got != want {
			t.Errorf("the client has sent %q: unread: %v", more, got)
		}
	}
}
