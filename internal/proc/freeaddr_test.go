//go:build unix

package proc

import (
	"net"
	"os/exec"
	"sync"
	"testing"
)

// An address is free as soon as FreeAddr returns it, though other programs are started
// meanwhile: until they run they hold what this process holds.
func TestFreeAddrWhileProgramsStart(t *testing.T) {
	stop := make(chan bool)
	var starting sync.WaitGroup
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
	for range 1000 {
		l, err := net.Listen("tcp", FreeAddr())
		if err != nil {
			t.Error(err)
			continue
		}
		l.Close()
	}
	close(stop)
	starting.Wait()
}
