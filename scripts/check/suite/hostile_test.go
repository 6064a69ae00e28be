package suite_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"reverseproxy/internal/harness"
	"reverseproxy/internal/proc"
	"reverseproxy/scripts/check/cases"
	"reverseproxy/scripts/check/suite"
)

// Bounds that hold whatever the program under test does.
const (
	verdictTime = 60 * time.Second
	verdictHeap = 400 << 20 // bytes
)

// watchHeap calls the function that returns the largest heap seen meanwhile.
func watchHeap() (most func() uint64) {
	var top atomic.Uint64
	stop := make(chan struct{})
	done := make(chan struct{})
	// Ends when most is called.
	go func() {
		defer close(done)
		for {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			top.Store(max(top.Load(), m.HeapInuse))
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	return func() uint64 {
		close(stop)
		<-done
		return top.Load()
	}
}

// forever writes text again and again until the connection breaks.
func forever(w io.Writer, text string) {
	many := []byte(strings.Repeat(text, 1+64<<10/len(text)))
	for {
		if _, err := w.Write(many); err != nil {
			return
		}
	}
}

// pass is a proxy that serves a plain GET as it should, so that the cases after
// the first one are run, and then does something to each client or backend.
func pass(c net.Conn, backend string, then func(client, backend net.Conn)) {
	defer c.Close()
	head := make([]byte, 16<<10)
	n, err := c.Read(head)
	if err != nil {
		return
	}
	b, err := net.Dial("tcp", backend)
	if err != nil {
		return
	}
	defer b.Close()
	if strings.Contains(string(head[:n]), "/hello ") || strings.Contains(string(head[:n]),
		"/first ") ||
		strings.Contains(string(head[:n]), "/second ") {
		b.Write(head[:n])
		io.Copy(c, b)
		return
	}
	then(c, b)
}

// TestWhateverTheProxyDoes: floods without an end, of every kind and to both
// sides, get a verdict within the minute and fill no memory.
func TestWhateverTheProxyDoes(t *testing.T) {
	if testing.Short() {
		t.Skip("takes up to a minute")
	}
	const ok = "HTTP/1.1 200 OK\r\n"
	toClient := map[string]struct{ first, again string }{
		"body to the close": {ok + "\r\n", "endless"},
		"length":            {ok + "Content-Length: 9000000000000000\r\n\r\n", "endless"},
		"chunks":            {ok + "Transfer-Encoding: chunked\r\n\r\n", "7\r\nendless\r\n"},
		"one chunk": {ok + "Transfer-Encoding: chunked\r\n\r\nfffffffffffffff\r\n",
			"endless"},
		"extension": {ok + "Transfer-Encoding: chunked\r\n\r\n5;a=", "endless"},
		"trailers":  {ok + "Transfer-Encoding: chunked\r\n\r\n0\r\n", "X-Endless: 1\r\n"},
		"head":      {ok, "X-Endless: 1\r\n"},
		"line":      {"HTTP/1.1 200 ", "endless"},
		"interim":   {"", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"},
		"answers":   {"", ok + "Content-Length: 2\r\n\r\nok"},
	}
	toBackend := map[string]struct{ first, again string }{
		"request body": {"POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: " +
			"9000000000000000\r\n\r\n", "endless"},
		"request chunks": {"POST %s HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
			"1\r\nx\r\n"},
		"request trailers": {"POST %s HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: " +
			"chunked\r\n\r\n0\r\n", "X-Endless: 1\r\n"},
		"request head": {"GET %s HTTP/1.1\r\n", "X-Endless: 1\r\n"},
		"requests":     {"", "GET %s HTTP/1.1\r\nHost: a\r\n\r\n"},
	}
	check := func(t *testing.T, gated bool, serve func(c net.Conn, backend string)) {
		start := func(addrs []string, _ suite.Timeouts) (string, error) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return "", err
			}
			t.Cleanup(func() { ln.Close() })
			// Ends when the listener is closed.
			go func() {
				for {
					c, err := ln.Accept()
					switch {
					case err != nil:
						return
					case gated:
						go pass(c, addrs[0], func(c, b net.Conn) { serve(c, addrs[0]) })
					default:
						go func() { defer c.Close(); serve(c, addrs[0]) }()
					}
				}
			}()
			return ln.Addr().String(), nil
		}
		s := &suite.Subject{Name: t.Name(), Running: start}
		runtime.GC()
		most := watchHeap()
		o, limit := suite.Options{}, verdictTime
		if gated { // each case hangs: the time for all is what ends it
			o.Budget, limit = 8*time.Second, 18*time.Second
		}
		if harness.Race { // which makes the checker itself many times slower
			limit *= 4
		}
		began := time.Now()
		rep, err := suite.Run(s, cases.All(), o)
		if err != nil {
			t.Fatal(err)
		}
		if d := time.Since(began); d > byBusy(limit, rep) {
			t.Errorf("took %v", d)
		}
		if gated && rep.Score().All.Passed == 0 {
			t.Errorf("the proxy did not come past the first case")
		}
		if m := most(); m > verdictHeap {
			t.Errorf("the checker's heap grew to %d MiB", m>>20)
		}
		if len(rep.Results) != len(cases.All()) {
			t.Errorf("%d of %d cases have a verdict", len(rep.Results), len(cases.All()))
		}
	}
	for name, f := range toClient {
		t.Run("to the client/"+name, func(t *testing.T) {
			check(t, false, func(c net.Conn, _ string) {
				bufio.NewReader(c).ReadString('\n')
				io.WriteString(c, f.first)
				forever(c, f.again)
			})
		})
	}
	for _, name := range []string{"body to the close", "chunks"} { // once past the gate
		t.Run("past the gate/"+name, func(t *testing.T) {
			f := toClient[name]
			check(t, true, func(c net.Conn, _ string) {
				io.WriteString(c, f.first)
				forever(c, f.again)
			})
		})
	}
	for name, f := range toBackend {
		t.Run("to the backend/"+name, func(t *testing.T) {
			check(t, false, func(c net.Conn, backend string) {
				line, _ := bufio.NewReader(c).ReadString('\n')
				target := "/"
				if w := strings.Fields(line); len(w) == 3 {
					target = w[1]
				}
				b, err := net.Dial("tcp", backend)
				if err != nil {
					return
				}
				defer b.Close()
				io.WriteString(b, strings.ReplaceAll(f.first, "%s", target))
				forever(b, strings.ReplaceAll(f.again, "%s", target))
			})
		})
	}
	t.Run("connections to the backend", func(t *testing.T) {
		check(t, false, func(c net.Conn, backend string) {
			line, _ := bufio.NewReader(c).ReadString('\n')
			for {
				b, err := net.Dial("tcp", backend)
				if err != nil {
					return
				}
				defer b.Close()
				io.WriteString(b, line+"Host: a\r\n\r\n")
			}
		})
	})
}

// hostile is a program that takes a chapter's flags and misbehaves.
const hostile = `package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"time"
)

func main() {
	how := "HOW"
	if how == "ignores -h" || how == "floods -h" {
		signal.Ignore(os.Interrupt)
		for how == "floods -h" {
			fmt.Println("  -backend ADDRESS", strings.Repeat("x", 4000))
		}
		if len(os.Args) > 3 && os.Args[1] == "child" {
			time.Sleep(time.Hour)
		}
		time.Sleep(time.Hour)
	}
	if how == "leaves a child at -h" {
		exec.Command("/bin/sh", "-c", "sleep 1000").Start()
	}
	if len(os.Args) > 1 && os.Args[1] == "-h" {
		fmt.Println("  -backend ADDRESS")
		return
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	switch how {
	case "floods stdout":
		go func() {
			for {
				fmt.Println(strings.Repeat("x", 4000))
			}
		}()
	case "says ready for ever":
		for {
			fmt.Println("Ready on", ln.Addr())
		}
	case "never says ready":
		time.Sleep(time.Hour)
	}
	fmt.Println("Ready on", ln.Addr())
	if how == "says ready and dies" {
		return
	}
	time.Sleep(time.Hour) // accepts nothing
}
`

// TestHostilePrograms: programs that ignore -h, say ready and die and the like
// get a verdict within the minute, and nothing of them is left.
func TestHostilePrograms(t *testing.T) {
	if testing.Short() {
		t.Skip("takes up to a minute")
	}
	for _, how := range []string{"ignores -h", "floods -h", "leaves a child at -h",
		"floods stdout", "says ready for ever",
		"never says ready", "says ready and dies"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module hostile\n"), 0o644)
			os.WriteFile(filepath.Join(dir, "main.go"), []byte(strings.Replace(hostile, "HOW",
				how, 1)), 0o644)
			s := &suite.Subject{Name: how, Chapter: dir}
			defer s.Clean()
			if err := s.Build(); err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			rep, err := suite.Run(s, cases.All(), suite.Options{})
			limit := 4 * verdictTime // no report says how slow its clock was
			if err == nil {
				limit = byBusy(verdictTime, rep)
			}
			if d := time.Since(start); d > limit {
				t.Errorf("took %v", d)
			}
			if err == nil && rep.Score().All.Passed > 0 {
				t.Errorf("%d cases passed", rep.Score().All.Passed)
			}
			if err == nil && len(rep.Results) != len(cases.All()) {
				t.Errorf("%d of %d cases have a verdict", len(rep.Results), len(cases.All()))
			}
			if err != nil {
				t.Logf("said: %v", err)
			}
		})
	}
}

// TestForgottenChild: a port that a child of the program keeps is named, or the
// child is ended; a stranger's port is named and the stranger left alone.
func TestForgottenChild(t *testing.T) {
	if !proc.CanLook {
		t.Skip("this system has no /proc")
	}
	t.Parallel()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is missing")
	}
	addr := proc.FreeAddr()
	_, port, _ := net.SplitHostPort(addr)
	file := filepath.Join(t.TempDir(), "holder.py")
	os.WriteFile(file, []byte(`
import os, socket, sys, time
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("127.0.0.1", int(sys.argv[1])))
s.listen()
if os.fork():
    os._exit(0)
os.setsid()
time.sleep(1000)
`), 0o644)
	s := &suite.Subject{
		Name:     "forgetful",
		Command:  fmt.Sprintf("python3 %s %s", file, port),
		Proxy:    addr,
		Backends: []string{"127.0.0.1:0"},
	}
	start := time.Now()
	suite.Run(s, cases.All(), suite.Options{})
	if d := time.Since(start); d > verdictTime {
		t.Errorf("took %v", d)
	}
	if proc.Listening(addr) {
		t.Errorf("the child of the program still holds %s after the run", addr)
	}

	stranger := exec.Command(python, file, port)
	if err := stranger.Run(); err != nil { // its child goes on
		t.Fatal(err)
	}
	_, err = suite.Run(s, cases.All(), suite.Options{})
	if err == nil || !strings.Contains(err.Error(), "python") || !strings.Contains(err.Error(),
		"process ") {
		t.Errorf("a port that another program holds: said %v", err)
	}
	if !proc.Listening(addr) {
		t.Errorf("the checker ended a program that it had not started")
	}
	if pid := proc.Holder(addr); pid > 0 {
		p, _ := os.FindProcess(pid)
		p.Kill()
	}
}

var gateOnly = regexp.MustCompile("^" + suite.Gate + "$")

// TestCommandsAsAShell: what a shell takes as a command is taken here too.
func TestCommandsAsAShell(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, form := range []string{
		"REFPROXY_BACKENDS=%[2]s REFPROXY_LISTEN=%[3]s %[1]s",
		`REFPROXY_BACKENDS="%[2]s" REFPROXY_LISTEN='%[3]s' '%[1]s' -test.run "a b & c"`,
		"A=1 B='x y' REFPROXY_BACKENDS=%[2]s   REFPROXY_LISTEN=%[3]s exec %[1]s",
		"export REFPROXY_BACKENDS=%[2]s; REFPROXY_LISTEN=%[3]s %[1]s",
		"cd / && REFPROXY_BACKENDS=%[2]s REFPROXY_LISTEN=%[3]s %[1]s",
		"env REFPROXY_BACKENDS=%[2]s REFPROXY_LISTEN=%[3]s %[1]s # with a remark",
		"ulimit -c 0 && REFPROXY_BACKENDS=%[2]s REFPROXY_LISTEN=%[3]s %[1]s",
	} {
		t.Run(form, func(t *testing.T) {
			t.Parallel()
			listen, backend := proc.FreeAddr(), proc.FreeAddr()
			s := &suite.Subject{Name: form, Command: fmt.Sprintf(form, self, backend, listen),
				Proxy: listen, Backends: []string{backend}}
			rep, err := suite.Run(s, cases.All(), suite.Options{Only: gateOnly})
			if err != nil {
				t.Error(err)
			} else if s := rep.Score(); s.All.Passed != 1 {
				t.Error(rep.Results[0].Problems)
			}
			if proc.Listening(listen) {
				t.Error("the program still listens")
			}
		})
	}
}
