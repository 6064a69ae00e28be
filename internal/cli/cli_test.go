package cli

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"reverseproxy/internal/narrate"
)

// newApp returns an App with fresh flags, set as given, whose output is kept.
func newApp(t *testing.T, flags map[string]string, backends ...string) (*App, *bytes.Buffer) {
	t.Helper()
	was := flag.CommandLine
	t.Cleanup(func() { flag.CommandLine = was })
	flag.CommandLine = flag.NewFlagSet("test", flag.ContinueOnError)
	a := New(backends...)
	var out bytes.Buffer
	a.out = &out
	for name, value := range flags {
		if err := flag.Set(name, value); err != nil {
			t.Fatal(err)
		}
	}
	return a, &out
}

func TestDefaults(t *testing.T) {
	a, _ := newApp(t, nil, "127.0.0.1:8000", "127.0.0.1:8001")
	if err := a.checkFlags(); err != nil {
		t.Fatal(err)
	}
	if a.Listen != "127.0.0.1:8080" || strings.Join(a.Backends, " ") != "127.0.0.1:8000 127.0.0.1:8001" {
		t.Errorf("listens on %s, backends %v", a.Listen, a.Backends)
	}
}

func TestCheckFlags(t *testing.T) {
	one, two := []string{"127.0.0.1:8000"}, []string{"127.0.0.1:8000", "127.0.0.1:8001"}
	for _, test := range []struct {
		flag, value string
		backends    []string
		complaint   string // "": the value is right
	}{
		{"listen", ":8080", one, ""},
		{"listen", "[::1]:0", one, ""},
		{"listen", "localhost:8080", one, ""},
		{"listen", "127.0.0.1", one, "-listen"},
		{"listen", "127.0.0.1:65536", one, "65535"},
		{"listen", "127.0.0.1:-1", one, "65535"},
		{"backend", "backend.test:80", one, ""},
		{"backend", "127.0.0.1:1,127.0.0.1:2", one, "ch5_load_balancer"},
		{"backend", "http://127.0.0.1:8000", one, "-backend"},
		{"backends", "127.0.0.1:1, 127.0.0.1:2,127.0.0.1:3", two, ""},
		{"backends", "127.0.0.1:1,", two, "-backends"},
		{"backends", "", two, "-backends"},
		{"watch", "9090", one, "-watch"},
		{"watch", "127.0.0.1:9090", one, ""},
		{"watch", "127.0.0.1:8080", one, "-listen and -watch"},
		{"backend", "127.0.0.1:0", one, "-backend 127.0.0.1:0"},
		{"backends", "127.0.0.1:1,127.0.0.1:0", two, "-backends 127.0.0.1:0"},
		{"log", "JSON", one, "-log"},
		{"log", "off", one, ""},
		{"slow-motion", "-1ms", one, "-slow-motion"},
	} {
		a, _ := newApp(t, map[string]string{test.flag: test.value}, test.backends...)
		err := a.checkFlags()
		if (err == nil) != (test.complaint == "") || err != nil && !strings.Contains(err.Error(), test.complaint) {
			t.Errorf("-%s %q: %v, want a complaint with %q", test.flag, test.value, err, test.complaint)
		}
	}
}

func TestExplain(t *testing.T) {
	listen := func(err error) error { return &net.OpError{Op: "listen", Err: err} }
	for _, test := range []struct {
		err   error
		words []string
	}{
		{listen(os.NewSyscallError("bind", syscall.EADDRINUSE)), []string{"port 1", "already in use", "-listen 127.0.0.1:0"}},
		{os.NewSyscallError("bind", syscall.EADDRINUSE), []string{"port 1", "already in use"}}, // ch1
		{listen(os.NewSyscallError("bind", syscall.EACCES)), []string{"port 1", "not permitted", "-listen"}},
		{listen(os.NewSyscallError("bind", syscall.EADDRNOTAVAIL)), []string{"192.0.2.1:1", "not an address of this machine"}},
		{listen(&net.DNSError{Err: "no such host", Name: "x"}), []string{"192.0.2.1:1", "not an address of this machine"}},
		{errors.New("something else"), []string{"something else"}},
	} {
		got := explain(test.err, "192.0.2.1:1")
		for _, word := range test.words {
			if !strings.Contains(got, word) || strings.Contains(got, "\n") {
				t.Errorf("%v: %q lacks %q, or is not one line", test.err, got, word)
			}
		}
	}
}

func TestPortOwner(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells who listens")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	if got, _ := portOwner(port); !strings.Contains(got, fmt.Sprintf("by cli.test (process %d)", os.Getpid())) {
		t.Errorf("%q does not name this process, %d", got, os.Getpid())
	}
	l.Close()
	for _, port := range []string{port, "0", "http", ""} {
		got, nobody := portOwner(port)
		if _, err := strconv.Atoi(port); got != "" || nobody != (err == nil) {
			t.Errorf("port %q, on which nobody listens, belongs to %q, nobody: %v", port, got, nobody)
		}
	}
}

func TestStopped(t *testing.T) {
	a, _ := newApp(t, nil, "127.0.0.1:8000")
	var problems []string
	a.Log = narrate.New(narrate.All, func(e narrate.Event) { problems = append(problems, e.Err) })
	failure := errors.New("too many open files")
	start := time.Now()
	for range 3 {
		if a.Stopped(failure) {
			t.Fatal("one failed accept ends the program")
		}
	}
	if d := time.Since(start); d < 35*time.Millisecond {
		t.Errorf("three pauses, of 5, 10 and 20 ms, took %v", d)
	}
	want := "next try in 5ms next try in 10ms next try in 20ms"
	for i, p := range problems {
		if !strings.HasPrefix(p, "Accept failed: too many open files; ") {
			t.Errorf("problem %d: %q", i, p)
		}
		problems[i] = strings.TrimPrefix(p, "Accept failed: too many open files; ")
	}
	if got := strings.Join(problems, " "); got != want {
		t.Errorf("%q, want %q", got, want)
	}

	a.backoff, a.lastError = 800*time.Millisecond, time.Now()
	a.Stopped(failure)
	if a.backoff != maxBackoff {
		t.Errorf("the longest pause is %v, want %v", a.backoff, maxBackoff)
	}
	a.lastError = time.Now().Add(-time.Minute)
	a.Stopped(failure)
	if a.backoff != firstBackoff {
		t.Errorf("after a minute without failure the pause is %v, want %v", a.backoff, firstBackoff)
	}
	if !a.Stopped(&net.OpError{Op: "accept", Err: net.ErrClosed}) {
		t.Error("a closed listener does not end the program")
	}
	close(a.stopping)
	if !a.Stopped(failure) {
		t.Error("Ctrl+C does not end the program")
	}
}

func TestShowIsSafe(t *testing.T) {
	a, out := newApp(t, nil)
	a.Show([]byte("GET / HTTP/1.1\r\nX: \x1b[2J\r\n\r\nbody\x00"))
	want := "        | GET / HTTP/1.1\n        | X: \\x1b[2J\n        | \n        | body\\x00\n"
	if out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
}

func TestCountVar(t *testing.T) {
	newApp(t, nil)
	var n int
	CountVar(&n, "count", 7, "how `many`")
	if n != 7 {
		t.Errorf("default %d", n)
	}
	for value, right := range map[string]bool{"1": true, "20000": true, "0": false, "-1": false, "x": false, "1.5": false} {
		if err := flag.Set("count", value); (err == nil) != right {
			t.Errorf("%s: %v", value, err)
		}
	}
}

func TestFitDescriptors(t *testing.T) {
	if got := FitDescriptors(1); got != 1 {
		t.Errorf("FitDescriptors(1) = %d", got)
	}
	if got := FitDescriptors(1 << 30); runtime.GOOS == "linux" && (got < 1 || got > 1<<30) {
		t.Errorf("FitDescriptors(2^30) = %d", got)
	}
}

func TestSummaryIsPrintedOnce(t *testing.T) {
	a, out := newApp(t, nil, "127.0.0.1:8000")
	a.format = "text"
	a.Log = narrate.New(narrate.Off)
	a.AtEnd(func() string { return "Before it" })
	a.Finish()
	a.Finish()
	if got := out.String(); !strings.HasPrefix(got, "Before it\nSummary: 0 connections") || strings.Count(got, "\n") != 2 {
		t.Errorf("%q", got)
	}
}

func TestText(t *testing.T) {
	if Text(nil) != "" || Text(errors.New("x")) != "x" {
		t.Errorf("%q, %q", Text(nil), Text(errors.New("x")))
	}
}
