//go:build linux

package loop

import (
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reverseproxy/ch2_basic_proxy/forward"
	"reverseproxy/ch2_basic_proxy/http1"
	"reverseproxy/internal/narrate"
)

// A client that sends without pause takes all reads of a turn. They are not those of the
// other direction, which would wait until the client pauses: for ever, if it does not.
func TestBothWays(t *testing.T) {
	for _, upload := range []upload{nothing, sending} {
		l := &Loop{settings: &Settings{Settings: &forward.Settings{Idle: time.Minute}},
			use: &Techniques{}, turn: 1}
		c := &Conn{loop: l, log: narrate.New(narrate.Off).AcceptFrom(""), backend: &backend{}}
		pair := func(s *socket) (other int) {
			fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { unix.Close(fds[0]); unix.Close(fds[1]) })
			s.init(l, fds[0])
			s.conn, s.readable, s.writable = c, true, true
			return fds[1]
		}
		client, server := pair(&c.client), pair(&c.backend.socket)
		c.x = &exchange{upload: upload, up: transfer{src: &c.client, dst: &c.backend.socket,
			message: &http1.Message{Framing: http1.Length}, left: 1 << 30, idle: time.Minute}}
		c.beginTunnel()
		unix.Write(client, make([]byte, 2*scratchSize))
		unix.Write(server, []byte("x"))

		c.beside()
		c.tunnel()
		if n, err := unix.Read(client, make([]byte, 1)); n != 1 {
			t.Errorf("upload %d: the client reads nothing: %v", upload, err)
		}
		if !c.again {
			t.Errorf("upload %d: there was more to do, and nobody has said so", upload)
		}
	}
}

// A turn is bounded in bytes, also where a body goes through a pipe. What one connection
// moves beyond that, all others wait for.
func TestTurn(t *testing.T) {
	const most = turnReads*scratchSize + spliceSize // the last splice may begin within it
	l := &Loop{settings: &Settings{Settings: &forward.Settings{Idle: time.Minute}},
		use: &Techniques{Splice: true}, turn: turnReads}
	l.free.morePipes = 1
	c := &Conn{loop: l, log: narrate.New(narrate.Off).AcceptFrom(""), backend: &backend{}}
	pair := func(s *socket) net.Conn {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		other, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		conn, err := listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		file, err := conn.(*net.TCPConn).File()
		if err != nil {
			t.Fatal(err)
		}
		fd := int(file.Fd())
		unix.SetNonblock(fd, true)
		t.Cleanup(func() { file.Close(); conn.Close(); other.Close() })
		s.init(l, fd)
		s.conn, s.readable, s.writable = c, true, true
		return other
	}
	client, server := pair(&c.client), pair(&c.backend.socket)
	go io.Copy(io.Discard, client) // ends with its connection, as the next does
	go func() {
		for err := error(nil); err == nil; {
			_, err = server.Write(make([]byte, 1<<20))
		}
	}()
	down := transfer{src: &c.backend.socket, dst: &c.client, idle: time.Minute,
		message: &http1.Message{Framing: http1.Length}, left: 1 << 40}
	for c.backend.got < 32<<20 {
		before := c.backend.got
		c.again, l.turn, c.client.writable, c.backend.readable = false, turnReads, true, true
		if err := down.run(); err != errWait {
			t.Fatal(err)
		}
		if moved := c.backend.got - before; moved > most {
			t.Fatalf("%d bytes in a turn, want at most %d", moved, most)
		}
	}
}
