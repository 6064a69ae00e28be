package suite

import (
	"net"
	"testing"
	"time"
)

// TestCloseWakesTheWaiter: whoever waits for more than fits into the buffer hears
// of the end, although the pump does not read at that moment.
func TestCloseWakesTheWaiter(t *testing.T) {
	near, far := net.Pipe()
	s := newStream(near)
	far.Write(make([]byte, readAhead)) // then the pump has no more room
	for n := 0; n < readAhead; n, _ = s.State() {
		time.Sleep(time.Millisecond)
	}
	waits, ended := make(chan bool), make(chan error, 1)
	// Ends with the stream.
	go func() {
		looks := 0
		ended <- s.Wait(time.Hour, nil, func([]byte) bool {
			if looks++; looks == 2 { // after the first one it is told of what came before
				close(waits)
			}
			return false
		})
	}()
	<-waits
	s.close()
	select {
	case err := <-ended:
		if err == nil {
			t.Error("nothing came, but no error")
		}
	case <-time.After(5 * time.Second):
		t.Error("it waits for ever")
	}
}
