//go:build linux

package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"reverseproxy/internal/harness"
	"reverseproxy/internal/narrate"
	"reverseproxy/internal/proc"
)

// attacked starts the program, without the race detector, which multiplies memory.
func attacked(t *testing.T, flags ...string) *harness.Proxy {
	t.Helper()
	harness.NeedProc(t)
	return harness.Launch{Model: harness.Chapter(10), Plain: true,
		Flags: append([]string{"-log", "off", "-backends", quick(t)}, flags...)}.Start(t)
}

func resident(p *harness.Proxy) int64 { return proc.Sizes(p.PID(), "status")["VmRSS"] }

// serves has somebody else ask.
func serves(t *testing.T, p *harness.Proxy) {
	t.Helper()
	if err := asker(dial(t, p.Addr))(); err != nil {
		t.Fatalf("somebody else is not served: %v", err)
	}
}

// Thousands of headers that never end cost a buffer each, until the request timeout.
func TestSlowHeaders(t *testing.T) {
	const clients, most = 5000, 48 << 20
	p := attacked(t, "-request-timeout", "3s")
	serves(t, p)
	before, start := p.Descriptors(t), resident(p)
	var conns []net.Conn
	for range clients {
		c := dial(t, p.Addr)
		fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: slow.test\r\nX-A: "+strings.Repeat("a", 1000))
		conns = append(conns, c)
	}
	beyond := resident(p) - start
	t.Logf("%d headers take %.1f MB", clients, float64(beyond)/1e6)
	if beyond > most {
		t.Errorf("%d headers take %.1f MB, want at most %.1f MB", clients, float64(beyond)/1e6,
			float64(most)/1e6)
	}
	serves(t, p)
	for _, c := range conns {
		c.SetReadDeadline(time.Now().Add(harness.Patience))
		in, err := io.ReadAll(c)
		if err != nil || len(in) < 12 || string(in[9:12]) != "408" {
			t.Fatalf("a slow header ends with %.20q, %v", in, err)
		}
		c.Close()
	}
	p.WaitDescriptors(t, before+2) // serves' own, which stays, and its backend's
}

// endless starts a backend that sends a body without end to each request.
func endless(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	part := append([]byte("10000\r\n"), make([]byte, 0x10000+2)...)
	copy(part[len(part)-2:], "\r\n")
	go func() { // ends with the listener, the inner one with its connection
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				conn.Read(make([]byte, 1024))
				io.WriteString(conn, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
				for err := error(nil); err == nil; {
					_, err = conn.Write(part)
				}
			}()
		}
	}()
	return l.Addr().String()
}

// Clients that ask for a body without end and do not read it stop its backend: what is
// held for each is bounded. They leave, and all is given back.
func TestClientsThatDoNotRead(t *testing.T) {
	const clients, most = 200, 48 << 20
	p := attacked(t, "-backends", endless(t))
	before, start := p.Descriptors(t), resident(p)
	var conns []net.Conn
	for range clients {
		c := dial(t, p.Addr)
		io.WriteString(c, request)
		if _, err := io.ReadFull(c, make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	p.WaitIdle(t)
	beyond := resident(p) - start
	t.Logf("%d clients that do not read take %.1f MB", clients, float64(beyond)/1e6)
	if beyond > most {
		t.Errorf("they take %.1f MB, want at most %.1f MB", float64(beyond)/1e6,
			float64(most)/1e6)
	}
	for i, c := range conns {
		if i%2 == 0 {
			c.(*net.TCPConn).SetLinger(0)
		}
		c.Close()
	}
	p.WaitDescriptors(t, before)
}

// Some clients download as fast as they can; 50 others, with small requests, have their
// turns all the same. How many bytes come to the downloads between a request and its answer
// does not depend on how fast this machine is.
func TestSomeStreamFiftyAsk(t *testing.T) {
	const streams, clients, each, most = 3, 50, 40, 1 << 30 // bytes
	b := harness.NewBackend(t)
	part := make([]byte, 1<<20)
	b.Serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/endless" {
			for err := error(nil); err == nil; {
				_, err = w.Write(part)
			}
		}
		io.WriteString(w, "x")
	})
	p := attacked(t, "-backends", b.Addr)
	var bytes atomic.Int64
	for range streams {
		c := dial(t, p.Addr)
		io.WriteString(c, strings.Replace(request, "/", "/endless", 1))
		go func() { // ends with the connection, at the latest with the test
			in := make([]byte, 256<<10)
			for {
				n, err := c.Read(in)
				bytes.Add(int64(n))
				if err != nil {
					return
				}
			}
		}()
	}
	var slowest atomic.Int64 // bytes
	var all sync.WaitGroup
	began := time.Now()
	for range clients {
		ask := asker(dial(t, p.Addr))
		all.Go(func() { // ends with its requests
			for range each {
				before := bytes.Load()
				if err := ask(); err != nil {
					t.Error(err)
					return
				}
				for d := bytes.Load() - before; ; {
					if old := slowest.Load(); d <= old || slowest.CompareAndSwap(old, d) {
						break
					}
				}
			}
		})
	}
	all.Wait()
	t.Logf("%d requests in %v, the slowest during %d MB, all during %d MB", clients*each,
		time.Since(began), slowest.Load()>>20, bytes.Load()>>20)
	if d := slowest.Load(); d > most || bytes.Load() == 0 {
		t.Errorf("during a small request %d MB are streamed, want at most %d; %d MB in all", d>>20,
			most>>20, bytes.Load()>>20)
	}
}

// Thousands of clients ask and reset. Nothing of them is left.
func TestResets(t *testing.T) {
	const clients = 3000
	p := attacked(t)
	c := dial(t, p.Addr)
	if err := asker(c)(); err != nil {
		t.Fatal(err)
	}
	before := p.Descriptors(t)
	for i := range clients {
		c := dial(t, p.Addr).(*net.TCPConn)
		io.WriteString(c, request[:i%len(request)])
		if i%3 == 0 {
			io.WriteString(c, request[i%len(request):])
		}
		c.SetLinger(0)
		c.Close()
	}
	serves(t, p)
	p.WaitIdle(t)
	if now := p.Descriptors(t); now > before+2+256 { // idle backend connections
		t.Errorf("%d descriptors are open, %d before", now, before)
	}
}

// The program stands still while clients come and ask, and then goes on.
func TestStoppedAndContinued(t *testing.T) {
	const clients = 300
	p := harness.Start(t, harness.Chapter(10), "-backends", quick(t))
	var conns []net.Conn
	for range clients / 2 {
		c := dial(t, p.Addr)
		if err := asker(c)(); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	p.Freeze(t)
	for range clients / 2 {
		conns = append(conns, dial(t, p.Addr))
	}
	for _, c := range conns {
		io.WriteString(c, request)
	}
	p.Thaw(t)
	for i, c := range conns {
		c.SetReadDeadline(time.Now().Add(harness.Patience))
		in := make([]byte, 1024)
		if n, err := c.Read(in); err != nil || string(in[9:12]) != "200" {
			t.Fatalf("client %d: %.40q, %v", i, in[:n], err)
		}
	}
	for _, e := range p.Events() {
		if e.Kind == narrate.KindProblem {
			t.Fatalf("the program complains: %+v", e)
		}
	}
}
