//go:build linux

package express

import (
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"reverseproxy/internal/backends/promise"
	"reverseproxy/internal/proc"
)

// A backend that dies is reported, and the others go on. If the launcher hears of Ctrl+C first,
// it is no other.
func TestKilledBackend(t *testing.T) {
	t.Run("before Ctrl+C", func(t *testing.T) { killedBackend(t, false) })
	t.Run("with Ctrl+C", func(t *testing.T) { killedBackend(t, true) })
}

func killedBackend(t *testing.T, frozen bool) {
	p := start(t, 2)
	if frozen {
		_ = p.Cmd.Process.Signal(syscall.SIGSTOP)
	}
	child, err := os.FindProcess(proc.Children(p.PID())[0])
	if err != nil {
		t.Fatal(err)
	}
	_ = child.Kill()
	// Which one it was shows when its port is closed: numbers of processes begin anew.
	killed := 0
	for end := time.Now().Add(patience); ; killed = 1 - killed {
		conn, err := net.Dial("tcp", p.addrs[killed])
		if err != nil {
			break
		}
		conn.Close()
		if time.Now().After(end) {
			t.Fatal("both backends still listen")
		}
		time.Sleep(10 * time.Millisecond)
	}
	promise.Get(t, p.addrs[1-killed], "/api/data")
	_ = p.Cmd.Process.Signal(os.Interrupt)
	if frozen {
		_ = p.Cmd.Process.Signal(syscall.SIGCONT)
	}
	out, code := p.end(t)
	lines := []string{"", ""}
	lines[killed] = " ended before it could say how many requests it received\n"
	lines[1-killed] = " received 1 request\n"
	want := p.addrs[0] + lines[0] + p.addrs[1] + lines[1]
	report := "port " + port(p.addrs[killed]) + " has ended (SIGKILL)"
	if code != 0 || out != want || !strings.Contains(p.Stderr.String(), report) {
		t.Errorf("exit code %d, stdout %q, stderr %q; want 0 and %q", code, out, p.Stderr.String(),
			want)
	}
}
