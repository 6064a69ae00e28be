//go:build linux

package main

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"

	"reverseproxy/internal/harness"
	"reverseproxy/internal/proc"
)

func TestMain(m *testing.M) { harness.Main(m) }

const patience = 30 * time.Second

// Megabytes both ways at once, through a backend that echoes, arrive whole, with an
// end on each side; then the relay holds nothing of that pair any more.
func TestRelay(t *testing.T) {
	backend, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer backend.Close()
	go func() { // ends with the listener
		for {
			c, err := backend.Accept()
			if err != nil {
				return
			}
			go func() { // ends with the connection
				io.Copy(c, c)
				c.Close()
			}()
		}
	}()
	run, err := proc.Run(harness.Build(t, "scripts/bench/nullrelay"), "-listen", "127.0.0.1:0",
		"-backend", backend.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer run.Kill()
	addrs, err := run.Ready(patience, proc.ReadyLine, 1)
	if err != nil {
		t.Fatal(err)
	}
	files := len(proc.Files(run.PID()))
	ended := make(chan error)
	for i := range 20 {
		all := bytes.Repeat([]byte{byte(i), 1, 2, 3}, 1<<20)
		go func() { // ends with its answer
			c, err := net.Dial("tcp4", addrs[0])
			if err != nil {
				ended <- err
				return
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(patience))
			go func() { // ends when all is sent
				c.Write(all)
				c.(*net.TCPConn).CloseWrite()
			}()
			got, err := io.ReadAll(c)
			if !bytes.Equal(got, all) {
				t.Errorf("%d of %d bytes came back", len(got), len(all))
			}
			ended <- err
		}()
	}
	for range 20 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	for end := time.Now().Add(patience); len(proc.Files(run.PID())) > files; {
		if time.Now().After(end) {
			t.Fatalf("%d descriptors, %d at the start", len(proc.Files(run.PID())), files)
		}
		time.Sleep(time.Millisecond)
	}
}
