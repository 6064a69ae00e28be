package backends

import (
	"net"
	"os/exec"
	"sync"
	"testing"
)

// A stopped backend keeps its port, and gets up on it again, whatever else is started
// meanwhile: until a program runs it has a copy of all that this process holds. Nor does
// a connection that lingers (TIME_WAIT) stand in the way.
func TestStopAndRestartWhileProgramsStart(t *testing.T) {
	stop := make(chan bool)
	var starting sync.WaitGroup
	defer starting.Wait()
	defer close(stop)
	for range 6 {
		starting.Go(func() { // ends when stop is closed
			for {
				select {
				case <-stop:
					return
				default:
					exec.Command("true").Run()
				}
			}
		})
	}
	g := start(t, 1)
	addr := g.Addrs()[0]
	for i := range 300 {
		conn := dial(t, addr)
		if err := g.Stop(0); err != nil {
			t.Fatal(err)
		}
		conn.Close()
		if l, err := net.Listen("tcp", addr); err == nil {
			l.Close()
			t.Fatalf("stopped %d times, another gets its port", i+1)
		}
		if conn, err := net.Dial("tcp", addr); err == nil {
			conn.Close()
			t.Fatalf("stopped %d times, it accepts", i+1)
		}
		for range 2 { // from stopped, and from running
			if err := g.Restart(0); err != nil {
				t.Fatalf("restarted %d times: %v", i+1, err)
			}
		}
	}
}
