//go:build linux

package loop

import (
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
