package forward

import (
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"reverseproxy/internal/narrate"
)

// A backend breaks off while a request's body is being sent: both sides of the
// try notice, each in its goroutine, and the second one does so while the first
// is being ended.
func TestBothSidesNoticeAReset(t *testing.T) {
	t.Parallel()
	failed, sent := make(chan bool), make(chan bool)
	r := newRig(t, generous(), func(r *rig) {
		r.narrator = narrate.New(narrate.All, func(e narrate.Event) {
			if e.Step == narrate.ReadResponse {
				close(failed)
				<-sent
			}
		})
	})
	client := r.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
	backend := r.accept()
	backend.until("\r\n\r\n")
	backend.reset()
	<-failed
	client.send("1\r\nx\r\n")
	time.Sleep(20 * time.Millisecond) // the other side meets the reset
	close(sent)
	client.end(page("502 Bad Gateway", "the backend broke the connection"))
	client.Close()
	r.wantBackendsFault(502)
}

// A tunnel that one side does not take from is that side's failure.
func TestTunnelThatIsNotTakenFrom(t *testing.T) {
	t.Parallel()
	for _, by := range []Side{ByClient, ByBackend} {
		t.Run(string(by), func(t *testing.T) {
			t.Parallel()
			limits := generous()
			limits.Idle = short
			r := newRig(t, limits)
			client := r.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n" +
				"Upgrade: x\r\n\r\n")
			backend := r.accept()
			backend.until("\r\n\r\n")
			backend.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n" +
				"Upgrade: x\r\n\r\n")
			client.until("\r\n\r\n")
			from := client
			if by == ByClient {
				from = backend
			}
			io.CopyN(from, zeros{}, 64<<20) // more than the kernel holds
			r.wantError(by, -1)
		})
	}
}

// kept is a client's connection and a backend's, which carry the requests that
// come on them one after the other.
func kept(t *testing.T, settings *Settings, does func(backend, client *wire)) (*Client, *Backend,
	*wire) {
	t.Helper()
	end, conn := pair(t)
	addrs := backends(t, func(w *wire) { does(w, end) })
	client := NewClient(conn, settings, silent())
	client.Connection = ""
	backend, err := Connect(addrs[0], settings, client.log)
	if err != nil {
		t.Fatal(err)
	}
	backend.Connection = ""
	t.Cleanup(func() { backend.Close(); client.Close(new(error)) })
	return client, backend, end
}

// No time limit of one request is left to the next on the same connection.
func TestLimitsEndWithTheirRequest(t *testing.T) {
	t.Parallel()
	settings := generous()
	settings.Server = short
	client, backend, end := kept(t, settings, func(w, client *wire) {
		w.until("\r\n\r\n")
		w.send(ok)
		w.until("\r\n\r\n")
		time.Sleep(2 * short) // the body takes longer than a backend may
		client.send("5\r\nhello\r\n0\r\n\r\n")
		w.until("0\r\n\r\n")
		w.send(ok)
	})
	end.send(get + chunkedPost)
	for i := range 2 {
		request, err := ReadRequest(client)
		if err == nil {
			err = steps(t, request, backend)
		}
		client.End(&err)
		if ok, reason := backend.Reusable(); err != nil || !ok {
			t.Fatalf("request %d: %v %s", i+1, err, reason)
		}
	}
}

// The beginning of a request that came with the one before has its time limit,
// too, and for the whole header.
func TestHalfARequestBehindAnother(t *testing.T) {
	t.Parallel()
	settings := generous()
	settings.Request = short
	client, backend, end := kept(t, settings,
		func(w, client *wire) { w.until("\r\n\r\n"); w.send(ok) })
	end.send(get + "GET / HTTP/1.1\r\nX: ")
	request, err := ReadRequest(client)
	if err == nil {
		err = steps(t, request, backend)
	}
	client.End(&err)
	go drip(end, "y", short/10)
	start := time.Now()
	_, late := ReadRequest(client)
	if e, ok := late.(*Error); err != nil || !ok || e.Status != 408 ||
		time.Since(start) > patience/2 {
		t.Errorf("%v, then after %v %v", err, time.Since(start), late)
	}
	end.Close()
}

// A fault in the code that one direction of a tunnel meets ends that tunnel, not
// the program.
func TestPanicInTunnel(t *testing.T) {
	t.Parallel()
	r := newRig(t, generous(), func(r *rig) {
		r.before = func(x *Request) error { x.client.Conn = explosive{x.client.Conn}; return nil }
	})
	client := r.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
	backend := r.accept()
	backend.until("\r\n\r\n")
	backend.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
	client.until("\r\n\r\n")
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
		client := r.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
		backend := r.accept()
		backend.until("\r\n\r\n")
		backend.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n" +
			"Upgrade: x\r\n\r\n.")
		client.until("\r\n\r\n.") // both directions are open
	}
	if each := (heap() - before) / tunnels; each > most {
		t.Errorf("each tunnel holds %d bytes, want at most %d", each, most)
	} else {
		t.Logf("each tunnel holds %d bytes", each)
	}
}
