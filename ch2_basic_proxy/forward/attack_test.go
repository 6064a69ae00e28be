package forward

import (
	"io"
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
			client := r.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
			backend := r.accept()
			backend.until("\r\n\r\n")
			backend.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
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
