package forward

import (
	"io"
	"net"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

// The two halves of a handshake.
const (
	upgrade  = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"
	switches = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"
)

// open opens a tunnel: both directions carry what comes.
func (r *rig) open() (client, backend *wire) {
	r.t.Helper()
	client = r.send(upgrade)
	backend = r.accept()
	backend.until("\r\n\r\n")
	backend.send(switches + ".")
	client.until("\r\n\r\n.")
	return client, backend
}

// A tunnel that one side does not take from is that side's failure.
func TestTunnelThatIsNotTakenFrom(t *testing.T) {
	t.Parallel()
	for _, by := range []Side{ByClient, ByBackend} {
		t.Run(string(by), func(t *testing.T) {
			t.Parallel()
			limits := generous()
			limits.Idle = enough
			r := newRig(t, limits)
			client, backend := r.open()
			from := client
			if by == ByClient {
				from = backend
			}
			io.CopyN(from, zeros{}, 64<<20) // more than the kernel holds
			r.wantError(by, -1)
		})
	}
}

// The other direction, which waits for that side to say something, looks at its watch in
// the same moment. It is no witness: what it waits for has been sent something to take.
func TestWhoIsToBlameForATunnel(t *testing.T) {
	for range 200 {
		synctest.Test(t, func(t *testing.T) {
			const idle = time.Second
			client, in := net.Pipe()
			out, backend := net.Pipe() // which takes nothing
			tunnel := &try{client: &Client{settings: &Settings{Idle: idle}}, backend: &Backend{}}
			tunnel.client.Conn, tunnel.backend.Conn = in, out
			tunnel.client.writeIdle, tunnel.backend.writeIdle = idle, idle
			go client.Write([]byte("hello")) // ends with the tunnel
			if err := tunnel.tunnel(); err == nil || err.By != ByBackend {
				t.Errorf("it ends with %v, want the backend's failure", err)
			}
			for _, end := range []net.Conn{client, in, out, backend} {
				end.Close()
			}
		})
	}
}

// A client that resets its connection while the tunnel begins: the backend, which has
// changed the protocol, sees no regular end.
func TestResetWhileATunnelBegins(t *testing.T) {
	t.Parallel()
	begins := make(chan struct{})
	r := newRig(t, generous(), func(r *rig) {
		r.before = func(x *Request) error {
			x.Client.Conn = held{x.Client.Conn, begins}
			return nil
		}
	})
	client := r.send(upgrade)
	backend := r.accept()
	backend.until("\r\n\r\n")
	time.Sleep(2 * watchAfter) // the client is watched from now on
	backend.send(switches)
	client.until("\r\n\r\n")
	client.reset()
	time.Sleep(5 * watchAfter) // and the watch sees that
	close(begins)
	backend.endsInReset()
	r.wantClientsFault()
}

// held is a connection that is written to, and then stands still until the channel is closed.
type held struct {
	net.Conn
	until chan struct{}
}

func (h held) Write(b []byte) (int, error) {
	n, err := h.Conn.Write(b)
	<-h.until
	return n, err
}

// A fault in the code that one direction of a tunnel meets ends that tunnel, not
// the program.
func TestPanicInTunnel(t *testing.T) {
	t.Parallel()
	r := newRig(t, generous(), func(r *rig) {
		r.before = func(x *Request) error { x.Client.Conn = explosive{x.Client.Conn}; return nil }
	})
	client, backend := r.open()
	client.send("boom")
	client.gone()
	backend.gone()
	r.wantError(ByProxy, 500)
}

// explosive is a connection that cannot read "boom".
type explosive struct{ net.Conn }

func (e explosive) Read(b []byte) (int, error) {
	n, err := e.Conn.Read(b)
	if string(b[:n]) == "boom" {
		panic("boom")
	}
	return n, err
}

// A tunnel may be silent for hours, beside thousands of others: it holds little
// memory.
func TestSilentTunnelIsCheap(t *testing.T) { // not beside other tests, whose memory would count
	const tunnels, most = 200, 24 << 10
	heap := func() int {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	r := newRig(t, generous())
	before := heap()
	for range tunnels {
		r.open()
	}
	if each := (heap() - before) / tunnels; each > most {
		t.Errorf("each tunnel holds %d bytes, want at most %d", each, most)
	} else {
		t.Logf("each tunnel holds %d bytes", each)
	}
}
