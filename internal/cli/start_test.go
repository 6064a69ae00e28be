//go:build unix

package cli_test

import (
	"net"
	"runtime"
	"testing"

	"reverseproxy/internal/harness"
)

var proxies = []harness.Model{harness.Basic, harness.Fork, harness.Prefork, harness.Threaded, harness.Balancer}

// freePort returns a port that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// TestItself: no chapter starts with itself as a backend, however that is
// spelled; a neighbour's address is fine.
func TestItself(t *testing.T) {
	for _, m := range proxies {
		t.Run(m.Name, func(t *testing.T) {
			t.Parallel()
			for _, test := range []struct{ listen, backend string }{
				{"127.0.0.1", "localhost"}, {"", "127.0.0.1"}, {"", "[::1]"}, {"0.0.0.0", "127.0.0.2"}, {"localhost", "0.0.0.0"},
			} {
				port := freePort(t)
				backend := test.backend + ":" + port
				if m.BackendFlag() == "-backends" {
					backend = "127.0.0.1:1," + backend
				}
				harness.RefusesToStart(t, m, 1, []string{"-listen", test.listen + ":" + port, m.BackendFlag(), backend},
					port, "itself", m.BackendFlag())
			}
			if runtime.GOOS != "linux" {
				return // elsewhere 127.0.0.2 is no address
			}
			port := freePort(t)
			for _, backend := range []string{"127.0.0.2:" + port, "nowhere.invalid:" + port} {
				p := harness.Start(t, m, "-listen", "127.0.0.1:"+port, m.BackendFlag(), backend)
				p.Interrupt(t)
			}
		})
	}
}
