//go:build linux

package main

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reverseproxy/ch10_event_loop/loop"
	"reverseproxy/ch5_load_balancer/balance"
	"reverseproxy/internal/cli"
	"reverseproxy/internal/harness"
	"reverseproxy/internal/narrate"
	"reverseproxy/internal/proc"
)

const (
	request  = "GET / HTTP/1.1\r\nHost: loop.test\r\n\r\n"
	response = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"
)

// quick starts a backend that answers each read at once, and allocates nothing.
func quick(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	answer := []byte(response)
	go func() { // ends with the listener, the inner one with its connection
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				in := make([]byte, 512)
				for {
					if _, err := conn.Read(in); err != nil {
						return
					}
					conn.Write(answer)
				}
			}()
		}
	}()
	return l.Addr().String()
}

// asker returns a function that sends a request on conn and reads the answer.
func asker(conn net.Conn) func() error {
	question, in := []byte(request), make([]byte, 1024)
	return func() error {
		conn.SetDeadline(time.Now().Add(2 * harness.Patience))
		if _, err := conn.Write(question); err != nil {
			return err
		}
		n, err := conn.Read(in)
		if err == nil && string(in[n-1:n]) != "x" {
			err = errors.New("an answer that does not end with x")
		}
		return err
	}
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr, harness.Patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

var countLine = regexp.MustCompile(`(?m)^ *[\d.]+ +[\d.]+ +\d+ +(\d+) +(\d+ +)?(\w+)$`)

// TestSystemCalls counts them: two reads and two writes are a request's own; waiting and
// registering are shared by many. How many share a wait is up to the machine: if the
// clients are slow, each finds the loop waiting.
func TestSystemCalls(t *testing.T) {
	harness.Need(t, "strace")
	counts := callsPerRequest(t)
	waits := func() float64 { return counts["epoll_wait"] + counts["epoll_pwait"] }
	for tries := 1; waits() > 0.5 && tries < 5; tries++ {
		t.Logf("%.3f waits a request", waits())
		counts = callsPerRequest(t)
	}
	for _, want := range []struct {
		most  float64
		names []string
	}{
		{2.05, []string{"read", "readv", "recvfrom"}},
		{2.05, []string{"write", "writev", "sendto"}},
		{0.5, []string{"epoll_wait", "epoll_pwait"}},
		{0.01, []string{"epoll_ctl"}},
	} {
		got := 0.0
		for _, name := range want.names {
			got += counts[name]
		}
		t.Logf("%v: %.3f a request", want.names, got)
		if got == 0 || got > want.most {
			t.Errorf("%v: %.3f a request, want at most %v, and some", want.names, got, want.most)
		}
	}
}

// callsPerRequest returns how many of each system call a request takes, with 64 clients.
func callsPerRequest(t *testing.T) map[string]float64 {
	const clients, each = 64, 400
	file := filepath.Join(t.TempDir(), "counts")
	p := harness.Launch{Model: harness.Chapter(10), Plain: true,
		Under: []string{"strace", "-f", "-c", "-o", file},
		Flags: []string{"-backends", quick(t), "-log", "off", "-keepalive-requests", "1000000"},
	}.Start(t)
	var all sync.WaitGroup
	for range clients {
		ask := asker(dial(t, p.Addr))
		all.Go(func() { // ends with its requests
			for range each {
				if err := ask(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	p.Interrupt(t)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]float64{}
	for _, m := range countLine.FindAllStringSubmatch(string(text), -1) {
		n, _ := strconv.ParseFloat(m[1], 64)
		counts[m[3]] = n / (clients * each)
	}
	return counts
}

// TestSteadyStateAllocatesNothing counts a request's allocations, in this process:
// neither the client nor the backend makes any.
func TestSteadyStateAllocatesNothing(t *testing.T) {
	app := cli.New()
	app.Backends = []string{quick(t)}
	app.Listen, app.Log = "127.0.0.1:0", narrate.New(narrate.Off)
	p := &proxy{app: app, settings: loop.Flags(app)}
	if err := app.Flags.Set("keepalive-requests", "1000000"); err != nil {
		t.Fatal(err)
	}
	p.turns = balance.NewRoundRobin(app.Backends)
	servers, err := loop.Listen(p.settings)
	if err != nil {
		t.Fatal(err)
	}
	l, err := loop.New(p.settings, servers[0], p.accept, p.readRequest, finish)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan bool)
	go func() { // ends by Stop
		l.Run()
		close(ended)
	}()
	sa, err := unix.Getsockname(servers[0])
	if err != nil {
		t.Fatal(err)
	}
	conn := dial(t, "127.0.0.1:"+strconv.Itoa(sa.(*unix.SockaddrInet4).Port))
	ask := asker(conn)
	many := func(n int) {
		for range n {
			if err := ask(); err != nil {
				t.Fatal(err)
			}
		}
	}
	many(1000)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	const n = 20_000
	many(n)
	runtime.ReadMemStats(&after)
	each := float64(after.Mallocs-before.Mallocs) / n
	t.Logf("%.4f allocations a request", each)
	if each > 0.01 { // Date is made once a second
		t.Errorf("%.4f allocations a request, want none", each)
	}
	conn.Close()
	l.Stop()
	<-ended
}

// TestIdleClients connects 10,000, each of which asks once and stays, and measures what
// they take; then 5,000 more, who are all served once more.
func TestIdleClients(t *testing.T) {
	harness.NeedProc(t)
	const most = 13 << 20 // bytes, for 10,000
	var limit syscall.Rlimit
	syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit)
	all := int(min(15_000, limit.Cur*4/5))
	some := min(10_000, all)
	p := harness.Launch{Model: harness.Chapter(10), Plain: true, Flags: []string{"-backends",
		quick(t), "-log", "off", "-max-conns", strconv.Itoa(all)}}.Start(t)
	resident := func() int64 { return proc.Sizes(p.PID(), "status")["VmRSS"] }
	if err := asker(dial(t, p.Addr))(); err != nil {
		t.Fatal(err)
	}
	start := resident()
	asks := make([]func() error, all-1)
	together := func(from, to int, f func(i int) error) {
		t.Helper()
		var next atomic.Int64
		next.Store(int64(from))
		var group sync.WaitGroup
		var failed atomic.Int64
		for range 32 {
			group.Go(func() { // ends with the last client
				for i := next.Add(1) - 1; i < int64(to); i = next.Add(1) - 1 {
					if err := f(int(i)); err != nil && failed.Add(1) == 1 {
						t.Errorf("client %d: %v", i, err)
					}
				}
			})
		}
		group.Wait()
		if failed.Load() > 0 {
			t.Fatalf("%d clients failed", failed.Load())
		}
	}
	connect := func(i int) error {
		asks[i] = asker(dial(t, p.Addr))
		return asks[i]()
	}
	together(0, some, connect)
	beyond := resident() - start
	t.Logf("%d idle clients take %.1f MB beyond the start (%.1f MB)", some,
		float64(beyond)/1e6, float64(start)/1e6)
	if beyond > most {
		t.Errorf("%d idle clients take %.1f MB, want at most %.1f MB", some, float64(beyond)/1e6,
			float64(most)/1e6)
	}
	together(some, all-1, connect)
	together(0, all-1, func(i int) error { return asks[i]() })
}

// TestLoopsShare has the kernel spread clients over two loops.
func TestLoopsShare(t *testing.T) {
	const clients = 1000
	p := harness.Start(t, harness.Chapter(10, "-loops", "2"), "-backends", quick(t))
	for range clients {
		if err := asker(dial(t, p.Addr))(); err != nil {
			t.Fatal(err)
		}
	}
	count := map[string]int{}
	for _, e := range p.WaitEvents(t, "request", clients, func(e narrate.Event) bool {
		return e.Step == narrate.ReadRequest
	}) {
		count[e.Worker]++
	}
	t.Log(count)
	if len(count) != 2 {
		t.Fatalf("%d threads have accepted clients, want 2: %v", len(count), count)
	}
	for worker, n := range count {
		if n < clients*35/100 || n > clients*65/100 {
			t.Errorf("%s has %d of %d clients", worker, n, clients)
		}
	}
}

// TestCtrlCWhileTheyConnect presses it while 5,000 clients connect and ask. Whoever was
// accepted is answered; what the kernel resets is counted.
func TestCtrlCWhileTheyConnect(t *testing.T) {
	for _, loops := range []string{"1", "2"} {
		t.Run(loops+" loops", func(t *testing.T) {
			const clients, mostResets = 5000, 5
			p := harness.Start(t, harness.Chapter(10, "-loops", loops), "-backends", quick(t),
				"-log", "off")
			var answered, refused, resets, silent, cut atomic.Int64
			var all sync.WaitGroup
			slots := make(chan bool, 200)
			for i := range clients {
				slots <- true
				if i == clients/2 {
					p.CtrlC()
				}
				all.Go(func() { // ends with its client
					defer func() { <-slots }()
					began := time.Now()
					conn, err := net.DialTimeout("tcp", p.Addr, harness.Patience)
					if err != nil {
						refused.Add(1)
						return
					}
					defer conn.Close()
					conn.SetDeadline(time.Now().Add(harness.Patience))
					io.WriteString(conn, request)
					took := time.Since(began)
					r, err := http.ReadResponse(bufio.NewReader(conn), nil)
					switch {
					case err == nil && r.StatusCode == 200:
						answered.Add(1)
					case err != nil && took > 25*time.Millisecond:
						// It may have been accepted, and silent for so long that it is let go:
						// this machine is busy.
						silent.Add(1)
					case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
						resets.Add(1)
					case err != nil:
						cut.Add(1)
						t.Logf("cut: %v", err)
					default:
						t.Errorf("status %s", r.Status)
					}
				})
			}
			all.Wait()
			e := p.Wait(t)
			t.Logf("answered %d, refused %d, reset %d, silent %d, cut off %d", answered.Load(),
				refused.Load(), resets.Load(), silent.Load(), cut.Load())
			if e.Code != 0 || resets.Load() > mostResets || cut.Load() > 0 || answered.Load() == 0 {
				t.Errorf("exit status %d; %d resets, want at most %d; %d cut off, want none",
					e.Code, resets.Load(), mostResets, cut.Load())
			}
		})
	}
}
