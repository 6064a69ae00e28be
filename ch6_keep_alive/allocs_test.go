//go:build unix

package main

import (
	"io"
	"math"
	"net"
	"runtime"
	"testing"

	"reverseproxy/ch2_basic_proxy/forward"
	"reverseproxy/ch4_threaded/workers"
	"reverseproxy/ch5_load_balancer/balance"
	"reverseproxy/ch6_keep_alive/keep"
	"reverseproxy/internal/cli"
	"reverseproxy/internal/harness"
	"reverseproxy/internal/narrate"
)

// maxAllocations is how often a request may allocate memory, in steady state.
const maxAllocations = 10

// TestAllocations counts them, in this process: neither the client nor the
// backend allocates anything.
func TestAllocations(t *testing.T) {
	if harness.Race {
		t.Skip("the race detector makes sync.Pool forget")
	}
	backend, request, response := listen(t), []byte(get("/")), []byte(answer("x"))
	go func() { // ends with the listener, the inner one with its connection
		for {
			conn, err := backend.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				in := make([]byte, 4096)
				for {
					if _, err := conn.Read(in); err != nil {
						return
					}
					conn.Write(response)
				}
			}()
		}
	}()
	app := cli.New(backend.Addr().String())
	p := &proxy{app: app, settings: forward.Flags(app), slots: workers.Flags(app)}
	p.pool = keep.Flags(app, p.slots)
	if err := app.Flags.Set("keepalive-requests", "1000000"); err != nil {
		t.Fatal(err)
	}
	app.Log = narrate.New(narrate.Off)
	p.turns = balance.NewRoundRobin([]string{backend.Addr().String()})
	proxy := listen(t)
	go p.serve(p.slots.Limit(proxy)) // ends with the listener

	conn, err := net.Dial("tcp", proxy.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	in := make([]byte, 4096)
	ask := func(n int) {
		for range n {
			conn.Write(request)
			if _, err := conn.Read(in); err != nil && err != io.EOF {
				t.Fatal(err)
			}
		}
	}
	ask(1000)
	// A client whose answer takes long is watched, which costs more: on a busy machine that may
	// be many. What each request costs, all of a hundred cost at some time.
	const n = 100
	least := math.Inf(1)
	for range 50 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		ask(n)
		runtime.ReadMemStats(&after)
		least = min(least, float64(after.Mallocs-before.Mallocs)/n)
	}
	t.Logf("%.1f allocations a request", least)
	if least > maxAllocations {
		t.Errorf("%.1f allocations a request, want at most %d", least, maxAllocations)
	}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}
