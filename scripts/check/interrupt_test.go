//go:build unix

package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"reverseproxy/internal/harness"
	"reverseproxy/internal/proc"
)

// TestInterruptLeavesNothing: a checker that is ended in the middle takes the
// program with it, which would else hold its port.
func TestInterruptLeavesNothing(t *testing.T) {
	t.Parallel()
	bin := harness.BuildPlain(t, "scripts/check")
	for _, sig := range []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP} {
		proxy, backend := proc.FreeAddr(), proc.FreeAddr()
		command := fmt.Sprintf("%s -listen %s -backends %s", standard(t), proxy, backend)
		cmd := exec.Command(bin, "-cmd", command,
			"-proxy", proxy, "-backends", backend)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for until := time.Now().Add(time.Minute); !answers(proxy); {
			if time.Now().After(until) {
				t.Fatal("the program does not listen")
			}
			time.Sleep(10 * time.Millisecond)
		}
		cmd.Process.Signal(sig)
		cmd.Wait()
		if answers(proxy) {
			t.Errorf("after %v the program still listens", sig)
		}
	}
}

// TestReaderHasEnough: a checker whose output nobody reads any more ends its program, too.
func TestReaderHasEnough(t *testing.T) {
	t.Parallel()
	bin := harness.BuildPlain(t, "scripts/check")
	proxy, backend := proc.FreeAddr(), proc.FreeAddr()
	cmd := exec.Command(bin, "-v", "-run", "^basics$", "-proxy", proxy, "-backends", backend,
		"-cmd", fmt.Sprintf("%s -listen %s -backends %s", standard(t), proxy, backend))
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout = write
	read.Close()
	err = cmd.Run()
	write.Close()
	if answers(proxy) {
		t.Errorf("the program still listens (%v)", err)
	}
}

func answers(addr string) bool {
	c, err := net.Dial("tcp", addr)
	if err == nil {
		c.Close()
	}
	return err == nil
}
