//go:build linux

package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"reverseproxy/internal/harness"
	"reverseproxy/internal/proc"
)

func TestMain(m *testing.M) { harness.Main(m) }

const patience = 30 * time.Second

var ways = []string{"select", "poll", "epoll"}

// start starts the program, with at most so many descriptors if that is not 0.
func start(tb testing.TB, with string, descriptors int) (run *proc.Process, addr string) {
	tb.Helper()
	args := []string{harness.BuildPlain(tb, "ch10_event_loop/first"), "-with", with,
		"-listen", "127.0.0.1:0"}
	if descriptors > 0 {
		args = proc.Limited(descriptors, args...)
	}
	run, err := proc.Run(args...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(run.Kill)
	addrs, err := run.Ready(patience, proc.ReadyLine, 1)
	if err != nil {
		tb.Fatal(err)
	}
	return run, addrs[0]
}

func dial(tb testing.TB, addr string) net.Conn {
	tb.Helper()
	c, err := net.Dial("tcp4", addr)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return c
}

// echoed sends a text and reads it back.
func echoed(c net.Conn, text string) error {
	if _, err := io.WriteString(c, text); err != nil {
		return err
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != text {
		return fmt.Errorf("%q came back: %w", got, err)
	}
	return nil
}

// asleep waits until no thread of the program runs or wants to, for the time of a look.
func asleep(t *testing.T, run *proc.Process) {
	t.Helper()
	const look = 20 * time.Millisecond
	last := ""
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(look) {
		did, waits := proc.Activity(run.PID())
		if waits && did == last {
			return
		}
		last = did
	}
	t.Fatal("it does not sleep while nothing happens")
}

// A hundred clients at once, each with words of its own, many times; one of
// them leaves with its last words, and gets them.
func TestHundredClients(t *testing.T) {
	for _, with := range ways {
		t.Run(with, func(t *testing.T) {
			_, addr := start(t, with, 0)
			ended := make(chan error)
			for i := range 100 {
				c := dial(t, addr)
				go func() { // ends with its words
					for j := range 20 {
						if err := echoed(c, fmt.Sprintf("%d says %d\n", i, j)); err != nil {
							ended <- err
							return
						}
					}
					io.WriteString(c, "bye")
					c.(*net.TCPConn).CloseWrite()
					got, err := io.ReadAll(c)
					if string(got) != "bye" {
						err = fmt.Errorf("last words %q: %w", got, err)
					}
					ended <- err
				}()
			}
			for range 100 {
				if err := <-ended; err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// A client that sends megabytes and reads nothing is not read from any more,
// keeps nobody waiting, and gets each byte back when it reads.
func TestSlowReader(t *testing.T) {
	for _, with := range ways {
		t.Run(with, func(t *testing.T) {
			run, addr := start(t, with, 0)
			slow, other := dial(t, addr), dial(t, addr)
			all := bytes.Repeat([]byte("0123456789abcde\n"), 2<<20) // 32 MiB
			sent := make(chan error)
			go func() { // ends when all is written
				_, err := slow.Write(all)
				slow.(*net.TCPConn).CloseWrite()
				sent <- err
			}()
			asleep(t, run) // when no buffer on the way has any room
			for range 100 {
				if err := echoed(other, "hello"); err != nil {
					t.Fatal(err)
				}
			}
			got, err := io.ReadAll(slow)
			if !bytes.Equal(got, all) || err != nil || <-sent != nil {
				t.Errorf("%d of %d bytes came back: %v", len(got), len(all), err)
			}
			if peak := proc.Mem(run.PID()).Peak; peak > 25<<20 {
				t.Errorf("%d bytes of memory", peak)
			}
		})
	}
}

// With 1,100 clients select runs out of bits, and says so; poll and epoll do not.
func TestManyClients(t *testing.T) {
	for _, with := range ways {
		t.Run(with, func(t *testing.T) {
			run, addr := start(t, with, 0)
			served := 0
			for range 1100 {
				if echoed(dial(t, addr), "hello") == nil {
					served++
				}
			}
			words := run.Stderr.String()
			if with != "select" && (served != 1100 || words != "") {
				t.Errorf("%d served: %s", served, words)
			}
			if with == "select" && (served < 1000 || served > 1021 ||
				!strings.Contains(words, "select knows no descriptor 1024")) {
				t.Errorf("%d served: %s", served, words)
			}
		})
	}
}

// Without a descriptor the next client waits in the queue, and the program
// sleeps; it is served when another one leaves.
func TestFewDescriptors(t *testing.T) {
	for _, with := range ways {
		t.Run(with, func(t *testing.T) {
			run, addr := start(t, with, 20)
			var served []net.Conn
			for got := make([]byte, 5); ; {
				c := dial(t, addr)
				io.WriteString(c, "hello")
				asleep(t, run)
				c.SetReadDeadline(time.Now().Add(time.Second)) // what it has sent has come
				if _, err := io.ReadFull(c, got); err == nil {
					served = append(served, c)
					continue
				}
				if len(served) < 5 {
					t.Fatalf("%d clients were served", len(served))
				}
				served[0].Close()
				c.SetReadDeadline(time.Now().Add(patience))
				if _, err := io.ReadFull(c, got); string(got) != "hello" {
					t.Errorf("%q %v", got, err)
				}
				return
			}
		})
	}
}

func TestUnknownCall(t *testing.T) {
	run, err := proc.Run(harness.BuildPlain(t, "ch10_event_loop/first"), "-with", "kqueue")
	if err != nil {
		t.Fatal(err)
	}
	if run.Code() != 1 || !strings.Contains(run.Stderr.String(), "select, poll or epoll") {
		t.Errorf("exit %d: %s", run.Code(), run.Stderr.String())
	}
}

// What one event costs the server: one client sends a byte and waits until it is
// back, beside so many that say nothing.
//
//	go test ./ch10_event_loop/first -run - -bench Event
func BenchmarkEvent(b *testing.B) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || limit.Cur < 10_100 {
		b.Skipf("%d descriptors, 10,100 are needed: %v", limit.Cur, err)
	}
	for _, with := range ways {
		for _, idle := range []int{0, 1000, 10_000} {
			b.Run(fmt.Sprintf("%s/idle=%d", with, idle), func(b *testing.B) {
				run, addr := start(b, with, 0)
				busy := dial(b, addr)
				busy.SetDeadline(time.Time{})
				for range idle {
					dial(b, addr)
				}
				if err := echoed(busy, "!"); err != nil {
					b.Fatal(err)
				}
				if run.Stderr.String() != "" {
					b.Skip(run.Stderr.String())
				}
				before := proc.CPU(run.PID())
				for b.Loop() {
					if err := echoed(busy, "!"); err != nil {
						b.Fatal(err)
					}
				}
				used := proc.CPU(run.PID()) - before
				b.ReportMetric(float64(used.Nanoseconds())/1e3/float64(b.N), "µs-CPU/event")
			})
		}
	}
}
