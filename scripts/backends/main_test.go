package main

import (
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"reverseproxy/internal/harness"
	"reverseproxy/internal/proc"
)

// patience is how long a test waits for something that happens at once.
const patience = 20 * time.Second

func TestMain(m *testing.M) { harness.Main(m) }

// program is a running copy of the binary.
type program struct{ *proc.Process }

// launch starts the binary; the test kills it if it is still there at the end.
func launch(t *testing.T, args ...string) *program {
	t.Helper()
	p, err := proc.Run(append([]string{harness.Build(t, "scripts/backends")}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return &program{p}
}

// end waits for the end and returns stdout with the exit code.
func (p *program) end(t *testing.T) (string, int) {
	t.Helper()
	if !p.Wait(patience) {
		t.Fatalf("it has not ended: %s", p.LastWords())
	}
	return p.Stdout.String(), p.Code()
}

// ready reads n readiness lines and returns their addresses.
func (p *program) ready(t *testing.T, n int) []string {
	t.Helper()
	addrs, err := p.Ready(patience, proc.ReadyLine, n)
	if err != nil {
		t.Fatal(err)
	}
	return addrs
}

func skipWithoutSignals(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows cannot send another process Ctrl+C")
	}
}

func TestServesUntilInterrupted(t *testing.T) {
	skipWithoutSignals(t)
	for _, signal := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		p := launch(t, "-ports", "0,0,0")
		addrs := p.ready(t, 3)
		for i, addr := range addrs {
			for range i {
				res, err := http.Get("http://" + addr + "/api/data")
				if err != nil {
					t.Fatal(err)
				}
				body, _ := io.ReadAll(res.Body)
				res.Body.Close()
				_, port, _ := net.SplitHostPort(addr)
				if !strings.Contains(string(body), `"backend":"`+port+`"`) {
					t.Errorf("%s answers %s", addr, body)
				}
			}
		}
		if err := p.Cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		out, code := p.end(t)
		if code != 0 || p.Stderr.String() != "" {
			t.Errorf("%v: exit code %d, stderr %q", signal, code, p.Stderr.String())
		}
		for _, want := range []string{
			"go run ./ch5_load_balancer -backends " + strings.Join(addrs, ",") + "\n",
			"go run ./ch4_threaded -backend " + addrs[0] + "\n",
			addrs[0] + " received 0 requests\n" + addrs[1] + " received 1 request\n" +
				addrs[2] + " received 2 requests\n",
		} {
			if !strings.Contains(out, want) {
				t.Errorf("output lacks %q:\n%s", want, out)
			}
		}
	}
}

func TestPortInUse(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, port, _ := net.SplitHostPort(taken.Addr().String())
	p := launch(t, "-ports", "0,"+port)
	out, code := p.end(t)
	want := "backends: something already listens on " + taken.Addr().String() +
		", perhaps these backends in " +
		"another terminal: use those, or choose other ports, for example -ports 8100,8101,8102\n"
	if code != 1 || out != "" || p.Stderr.String() != want {
		t.Errorf("exit code %d, stdout %q, stderr %q, want 1 and %q", code, out, p.Stderr.String(),
			want)
	}
}

func TestAddressOfAnotherMachine(t *testing.T) {
	p := launch(t, "-host", "192.0.2.1", "-ports", "0")
	out, code := p.end(t)
	if code != 1 || out != "" || strings.Count(p.Stderr.String(), "\n") != 1 ||
		!strings.Contains(p.Stderr.String(), "-host") {
		t.Errorf("exit code %d, stdout %q, stderr %q, want 1 and one sentence", code, out,
			p.Stderr.String())
	}
}

func TestBadFlags(t *testing.T) {
	for _, args := range [][]string{
		{"-ports", ""}, {"-ports", "8000,"}, {"-ports", "65536"}, {"-ports", "-1"},
		{"-ports", "http"},
		{"-ports", "8000,08000"}, {"-ports", strings.Repeat("0,", 100) + "0"}, {"8000"},
		{"-no-such-flag"}, {"-capacity", "-1"}, {"-capacity", "10001"},
	} {
		p := launch(t, args...)
		if out, code := p.end(t); code != 2 || out != "" || p.Stderr.String() == "" {
			t.Errorf("%q: exit code %d, stdout %q, stderr %q, want 2", args, code, out,
				p.Stderr.String())
		}
	}
}

func TestHelpListsEndpoints(t *testing.T) {
	p := launch(t, "-h")
	if _, code := p.end(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	for _, want := range []string{"-ports", "-host", "/api/data", "/drop?after="} {
		if !strings.Contains(p.Stderr.String(), want) {
			t.Errorf("-h does not mention %s", want)
		}
	}
}
