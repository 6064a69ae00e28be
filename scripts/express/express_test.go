// Package express tests the Express application in this folder against what
// the demo backends in internal/backends promise.
package express

import (
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"reverseproxy/internal/backends"
	"reverseproxy/internal/backends/promise"
	"reverseproxy/internal/harness"
	"reverseproxy/internal/proc"
)

// patience is how long a test waits for something that happens at once.
const patience = 30 * time.Second

// program is a running server.js.
type program struct {
	*proc.Process
	addrs []string
}

// need skips the test if Node.js or the packages are missing; in CI it fails.
func need(t *testing.T) {
	t.Helper()
	harness.Need(t, "node")
	if _, err := os.Stat("node_modules/express"); err != nil {
		harness.Missing(t, "the packages are not installed: run npm ci in scripts/express")
	}
}

// launch starts server.js without waiting for anything; what is left of it at
// the end of the test is killed.
func launch(t *testing.T, args ...string) *program {
	t.Helper()
	need(t)
	p, err := proc.Run(append([]string{"node", "server.js"}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return &program{Process: p}
}

// start launches n backends and waits until they listen.
func start(t *testing.T, n int) *program {
	t.Helper()
	p := launch(t, strings.Fields(strings.Repeat("0 ", n))...)
	var err error
	if p.addrs, err = p.Ready(patience, proc.ReadyLine, n); err != nil {
		t.Fatal(err)
	}
	return p
}

// end waits for the end and returns stdout, without readiness lines, and the
// exit code.
func (p *program) end(t *testing.T) (string, int) {
	t.Helper()
	if !p.Wait(patience) {
		t.Fatalf("it has not ended: %s", p.LastWords())
	}
	out := p.Stdout.String()
	for _, addr := range p.addrs {
		out = strings.TrimPrefix(out, "Ready on "+addr+"\n")
	}
	return out, p.Code()
}

// shared is the backend that all tests of endpoints use, stopped by TestMain.
var shared struct {
	once sync.Once
	addr string
	run  *proc.Process
}

func TestMain(m *testing.M) {
	harness.Main(m, func() {
		if shared.run != nil {
			shared.run.Kill()
		}
	})
}

// backend returns the address of the shared backend.
func backend(t *testing.T) string {
	t.Helper()
	need(t)
	shared.once.Do(func() {
		shared.run = proc.New("node", "server.js", "0")
		if err := shared.run.Start(); err != nil {
			t.Error(err)
			return
		}
		addrs, err := shared.run.Ready(patience, proc.ReadyLine, 1)
		if err != nil {
			t.Error(err)
			return
		}
		shared.addr = addrs[0]
	})
	if shared.addr == "" {
		t.Fatal("server.js did not start")
	}
	return shared.addr
}

func port(addr string) string {
	_, port, _ := net.SplitHostPort(addr)
	return port
}

func TestPromises(t *testing.T) { promise.Check(t, backend(t)) }

func TestOneProcessAPort(t *testing.T) {
	p := start(t, 2)
	for _, addr := range p.addrs {
		for count := 1; count <= 2; count++ {
			res, body := promise.Get(t, addr, "/api/data")
			want := fmt.Sprintf(`{"backend":"%s","request":%d,"path":"/api/data"}`+"\n",
				port(addr), count)
			if body != want {
				t.Errorf("%q, want %q", body, want)
			}
			if !strings.HasPrefix(res.Header.Get("Content-Type"), "application/json") ||
				res.Header.Get("X-Backend") != port(addr) {
				t.Errorf("fields %v", res.Header)
			}
		}
	}
	promise.Get(t, p.addrs[0], "/status/404")
	if runtime.GOOS == "windows" {
		t.Skip("Windows cannot send another process Ctrl+C")
	}
	if err := p.Cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	out, code := p.end(t)
	want := p.addrs[0] + " received 3 requests\n" + p.addrs[1] + " received 2 requests\n"
	if code != 0 || out != want || p.Stderr.String() != "" {
		t.Errorf("exit code %d, stdout %q, stderr %q; want 0 and %q", code, out, p.Stderr.String(),
			want)
	}
	refused(t, p.addrs)
}

// refused waits until nothing listens on the addresses any more.
func refused(t *testing.T, addrs []string) {
	t.Helper()
	for _, addr := range addrs {
		for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				break
			}
			conn.Close()
			if time.Now().After(end) {
				t.Fatalf("something still listens on %s", addr)
			}
		}
	}
}

// Backends must not outlive a launcher that was killed.
func TestChildrenEndWithLauncher(t *testing.T) {
	p := start(t, 2)
	_ = p.Cmd.Process.Kill() // it alone
	refused(t, p.addrs)
}

func TestPortInUse(t *testing.T) {
	need(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	p := launch(t, "0", port(taken.Addr().String()))
	out, code := p.end(t)
	want := "express: something already listens on " + taken.Addr().String() +
		", perhaps other backends in another " +
		"terminal: end those, or choose other ports, for example node server.js 8100 8101 8102\n"
	if code != 1 || out != "" || p.Stderr.String() != want {
		t.Errorf("exit code %d, stdout %q, stderr %q; want 1 and %q", code, out, p.Stderr.String(),
			want)
	}
}

func TestBadArguments(t *testing.T) {
	for _, args := range []string{"x", "65536", "-1", "8000 8000", strings.Repeat("0 ", 17)} {
		p := launch(t, strings.Fields(args)...)
		if out, code := p.end(t); code != 2 || out != "" ||
			strings.Count(p.Stderr.String(), "\n") != 1 {
			t.Errorf("%q: exit code %d, stdout %q, stderr %q; want 2 and one line", args, code,
				out, p.Stderr.String())
		}
	}
}

// Node's keep-alive timeout is what the C programs' held replies wait for.
func TestIdleConnectionIsKeptFiveSeconds(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 5 s")
	}
	addr := backend(t)
	t.Parallel()
	began := time.Now()
	_, reader := promise.Dial(t, addr, "GET /bytes?n=2 HTTP/1.1\r\nHost: demo\r\n\r\n")
	res := promise.Response(t, reader)
	if err := backends.Verify(res.Body, 2); err != nil {
		t.Fatal(err)
	}
	if _, err := reader.ReadByte(); err != io.EOF {
		t.Errorf("%v, want EOF", err)
	}
	if took := time.Since(began); took < 4500*time.Millisecond || took > 10*time.Second {
		t.Errorf("closed after %v, want 5 to 6 s", took)
	}
}

// The page is the Go backends' page, with this backend's name in it.
func TestHomeIsTheSamePage(t *testing.T) {
	addr := backend(t)
	group, err := backends.Start([]string{"127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer group.Close()
	_, want := promise.Get(t, group.Addrs()[0], "/")
	want = strings.ReplaceAll(want, port(group.Addrs()[0]), port(addr))
	if _, got := promise.Get(t, addr, "/"); got != want {
		t.Errorf("the page differs:\n%s", got)
	}
}

// After clients have left in the middle of everything, the backend still answers.
func TestClientsLeaving(t *testing.T) {
	addr := backend(t)
	for _, request := range []string{
		"GET /slow?ms=60000 HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /bytes?n=17179869184 HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nhalf",
		"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
			"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
		"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
		"GET /api/data HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
	} {
		for range 3 {
			conn, _ := promise.Dial(t, addr, request)
			_ = conn.(*net.TCPConn).SetLinger(0)
			conn.Close()
		}
	}
	if res, body := promise.Get(t, addr, "/api/data"); res.StatusCode != 200 {
		t.Errorf("%d %q", res.StatusCode, body)
	}
}
