//go:build unix

package cli_test

import (
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"reverseproxy/internal/harness"
	"reverseproxy/internal/proc"
)

var proxies = []harness.Model{harness.Basic, harness.Fork, harness.Prefork, harness.Threaded,
	harness.Balancer}

// freePort returns a port that nobody listens on.
func freePort() string {
	_, port, _ := net.SplitHostPort(proc.FreeAddr())
	return port
}

// TestItself: no chapter starts with itself as a backend, however that is
// spelled; a neighbour's address is fine.
func TestItself(t *testing.T) {
	for _, m := range proxies {
		t.Run(m.Name, func(t *testing.T) {
			t.Parallel()
			for _, test := range []struct{ listen, backend string }{
				{"127.0.0.1", "localhost"}, {"", "127.0.0.1"}, {"", "[::1]"},
				{"0.0.0.0", "127.0.0.2"}, {"localhost", "0.0.0.0"},
			} {
				port := freePort()
				backend := test.backend + ":" + port
				if m.BackendFlag() == "-backends" {
					backend = "127.0.0.1:1," + backend
				}
				flags := []string{"-listen", test.listen + ":" + port, m.BackendFlag(), backend}
				harness.RefusesToStart(t, m, 1, flags, port, "itself", m.BackendFlag())
			}
			if runtime.GOOS != "linux" {
				return // elsewhere 127.0.0.2 is no address
			}
			port := freePort()
			for _, backend := range []string{"127.0.0.2:" + port, "nowhere.invalid:" + port} {
				p := harness.Start(t, m, "-listen", "127.0.0.1:"+port, m.BackendFlag(), backend)
				p.Interrupt(t)
			}
		})
	}
}

// width returns how many columns of a terminal a line takes: an emoji has two.
func width(line string) (columns int) {
	for _, r := range line {
		if columns++; r >= 0x2700 && r != 0xfe0f && r != '➡' {
			columns++
		}
	}
	return columns
}

func checkWidth(t *testing.T, what, text string) {
	t.Helper()
	for line := range strings.Lines(text) {
		if n := width(strings.TrimRight(line, "\n")); n > 80 {
			t.Errorf("%s: %d columns: %q", what, n, line)
		}
	}
}

// TestWidth: nothing that a chapter prints in words is wider than a terminal,
// whether it works or not.
func TestWidth(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { taken.Close() })
	for _, m := range append(proxies, harness.OSThreads, harness.Base) {
		t.Run(m.Name, func(t *testing.T) {
			t.Parallel()
			flags := []string{"-log", "text", "-watch", "127.0.0.1:0"}
			if m.Folder != "ch1_base" {
				flags = append(flags, m.Demo(1)...)
			}
			if m.BackendFlag() == "-backends" {
				flags = append(flags, m.Demo(7)...) // the last one counts
			}
			p := harness.Start(t, m, flags...)
			if m.Folder == "ch1_base" { // accepts one client
				c := p.Dial(t)
				c.Send("GET / HTTP/1.1\r\nUser-Agent: " + strings.Repeat("word/1.2 ", 20) +
					"\r\nCookie: " + strings.Repeat("x", 190) + "\r\n\r\n")
				c.Gone()
				checkWidth(t, "stdout", p.Wait(t).Stdout)
			} else {
				for _, target := range []string{
					"/api/data", "/" + strings.Repeat("long/", 100),
					"/?" + strings.Repeat("x", 300),
					"/" + strings.Repeat("%20", 30) + "a b", "/status/404", "/drop?after=10",
				} {
					p.TryGet(target) // how it ends is told, and that is what counts
				}
				p.WaitLine(t, `^#6 +10 `)
				e := p.Interrupt(t)
				checkWidth(t, "stdout", e.Stdout)

				p = harness.Start(t, m, "-log", "text", "-listen", "[::]:0",
					m.BackendFlag(), "127.0.0.1:"+freePort())
				p.TryGet("/" + strings.Repeat("long/", 100))
				p.WaitLine(t, `^#1 +10 `)
				checkWidth(t, "a refused connection", p.Interrupt(t).Stdout)
			}
			for _, flags := range [][]string{
				{"-h"}, {"-listen", taken.Addr().String()}, {"-listen", "192.0.2.1:1"},
				{"-watch", "x"},
				{"-lsiten", ":1"}, {"-request-timeout", "0"}, {"-log", strings.Repeat("x", 100)},
			} {
				l := harness.Launch{Model: m, Flags: append([]string{"-log", "text"}, flags...)}
				e := l.Spawn(t).Wait(t)
				checkWidth(t, strings.Join(flags, " "), e.Stdout+e.Stderr)
			}
		})
	}
}

// TestWatchAddress: the address that is printed for the live page works in a
// browser, which refuses 0.0.0.0 and [::].
func TestWatchAddress(t *testing.T) {
	for _, watch := range []string{"0.0.0.0:0", ":0", "[::]:0", "localhost:0", "127.0.0.1:0"} {
		p := harness.Start(t, harness.Threaded, "-log", "text", "-watch", watch)
		line := p.WaitLine(t, `^Watch live on http://127\.0\.0\.1:\d+/$`)
		response, err := http.Get(strings.Fields(line)[3])
		if err != nil {
			t.Fatalf("-watch %s: %v", watch, err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusOK {
			t.Errorf("-watch %s: %s answers %s", watch, line, response.Status)
		}
		p.Interrupt(t)
	}
}

// TestTwoChaptersAtOnce starts a second chapter beside a first, with the same
// ports: whichever port it finds taken, the owner is named first.
func TestTwoChaptersAtOnce(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells who listens")
	}
	port := freePort()
	first := harness.Start(t, harness.Threaded, "-log", "text", "-watch", "127.0.0.1:0",
		"-demo", "-backend", "127.0.0.1:"+port)
	_, page, _ := strings.Cut(strings.TrimSuffix(first.WaitLine(t, `^Watch`), "/"), "http://")
	name := filepath.Base(harness.Build(t, "ch4_threaded"))
	owner := fmt.Sprintf("ch2_basic_proxy: %s (process %d) has port ", name, first.PID())
	for _, flags := range [][]string{
		{"-demo", "-backend", "127.0.0.1:" + port},
		{"-demo", "-backend", "localhost:" + port},
		{"-listen", first.Addr},
		{"-listen", strings.Replace(first.Addr, "127.0.0.1", "", 1)},
		{"-watch", page},
	} {
		harness.RefusesToStart(t, harness.Basic, 1, flags, owner, "end it, or ")
	}
	first.Interrupt(t)
}

// TestWrongFlags: what a flag that does not exist is answered with.
func TestWrongFlags(t *testing.T) {
	for _, test := range []struct {
		m    harness.Model
		flag string
		said string
	}{
		{harness.Base, "-demo",
			"ch1_base has no flag -demo, because it forwards nothing; " +
				"did you mean ch2_basic_proxy?"},
		{harness.Threaded, "-backends=127.0.0.1:1", "did you mean -backend?"},
		{harness.Balancer, "--backend=127.0.0.1:1", "did you mean -backends?"},
		{harness.Balancer, "-max-con", "did you mean -max-conns?"},
		{harness.Fork, "-max-conns", "ch4_threaded, which has it?"},
		{harness.Basic, "demo", `unexpected argument "demo"; did you mean -demo?`},
	} {
		harness.RefusesToStart(t, test.m, 2, []string{test.flag}, test.said)
	}
}
