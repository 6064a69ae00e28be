package cli

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"reverseproxy/internal/narrate"
)

// newApp returns an App with flags set as given, whose output is kept.
func newApp(t *testing.T, flags map[string]string, backends ...string) (*App, *bytes.Buffer) {
	t.Helper()
	a := New(backends...)
	var out bytes.Buffer
	a.out = &out
	for name, value := range flags {
		if err := a.Flags.Set(name, value); err != nil {
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
	failure := errors.New("too many open files")
	if a.Stopped(failure) {
		t.Error("one failed accept ends the program")
	}
	if !a.Stopped(&net.OpError{Op: "accept", Err: net.ErrClosed}) {
		t.Error("a closed listener does not end the program")
	}
	close(a.stopping)
	if !a.Stopped(failure) {
		t.Error("Ctrl+C does not end the program")
	}
}

// TestHooksAppend: each hook takes several functions and calls all, in order.
func TestHooksAppend(t *testing.T) {
	a, out := newApp(t, nil, "127.0.0.1:8000")
	a.format = "text"
	a.Log = narrate.New(narrate.Off)
	var called []string
	for _, n := range []string{"1", "2"} {
		a.Check(func() error { called = append(called, "check "+n); return nil })
		a.OnStop(func() { called = append(called, "stop "+n) })
		a.OnCut(func() { called = append(called, "cut "+n) })
		a.AtEnd(func() string { return "Before it " + n })
	}
	for _, check := range a.checks {
		check()
	}
	for _, f := range append(a.onStop, a.onCut...) {
		f()
	}
	if got := strings.Join(called, ", "); got != "check 1, check 2, stop 1, stop 2, cut 1, cut 2" {
		t.Error(got)
	}
	a.Finish()
	a.Finish() // the summary is printed once
	if got := out.String(); !strings.HasPrefix(got, "Before it 1\nBefore it 2\nSummary: 0 connections") ||
		strings.Count(got, "\n") != 3 {
		t.Errorf("%q", got)
	}
}

func TestCountVar(t *testing.T) {
	a, _ := newApp(t, nil)
	var n int
	a.CountVar(&n, "count", 7, "how `many`")
	if n != 7 {
		t.Errorf("default %d", n)
	}
	for value, right := range map[string]bool{"1": true, "20000": true, "0": false, "-1": false, "x": false, "1.5": false} {
		if err := a.Flags.Set("count", value); (err == nil) != right {
			t.Errorf("%s: %v", value, err)
		}
	}
}

func TestFitDescriptors(t *testing.T) {
	a, _ := newApp(t, nil, "127.0.0.1:8000")
	if got := a.FitDescriptors(1); got != 1 {
		t.Errorf("FitDescriptors(1) = %d", got)
	}
	if got := a.FitDescriptors(1 << 30); runtime.GOOS == "linux" && (got < 1 || got > 1<<30) {
		t.Errorf("FitDescriptors(2^30) = %d", got)
	}
}
