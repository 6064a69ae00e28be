package cli

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"reverseproxy/internal/backends"
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
	if a.Listen != "127.0.0.1:8080" ||
		strings.Join(a.Backends, " ") != "127.0.0.1:8000 127.0.0.1:8001" {
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
		{"watch", "localhost:8080", one, "-listen and -watch"},
		{"watch", ":8080", one, "-listen and -watch"},
		{"listen", "192.0.2.1:9090", one, ""},
		{"backend", "127.0.0.1:0", one, "-backend 127.0.0.1:0"},
		{"backends", "127.0.0.1:1,127.0.0.1:0", two, "-backends 127.0.0.1:0"},
		{"log", "JSON", one, "-log"},
		{"log", "off", one, ""},
		{"slow-motion", "-1ms", one, "-slow-motion"},
	} {
		a, _ := newApp(t, map[string]string{test.flag: test.value}, test.backends...)
		err := a.checkFlags()
		if (err == nil) != (test.complaint == "") ||
			err != nil && !strings.Contains(err.Error(), test.complaint) {
			t.Errorf("-%s %q: %v, want a complaint with %q",
				test.flag, test.value, err, test.complaint)
		}
	}
}

func TestExplain(t *testing.T) {
	listen := func(err error) error { return &net.OpError{Op: "listen", Err: err} }
	bind := func(err error) error { return os.NewSyscallError("bind", err) }
	inUse, noAddress := bind(syscall.EADDRINUSE), listen(bind(syscall.EADDRNOTAVAIL))
	foreign := "not an address of this machine"
	for _, test := range []struct {
		err   error
		words []string
	}{
		{listen(inUse), []string{"port 1 ", "in use", "-listen 127.0.0.1:0"}},
		{inUse, []string{"port 1 ", "in use"}}, // ch1
		{&backends.ListenError{Addr: "192.0.2.1:2", Err: listen(inUse)},
			[]string{"port 2 ", "demo backend", "-demo"}},
		{errWatch{listen(inUse)}, []string{"port 3 ", "live page", "-watch 127.0.0.1:0"}},
		{errWatch{noAddress}, []string{"192.0.2.1:3", foreign, "-watch"}},
		{listen(bind(syscall.EACCES)), []string{"port 1 ", "not permitted", "-listen"}},
		{noAddress, []string{"192.0.2.1:1", foreign}},
		{listen(&net.DNSError{Err: "no such host", Name: "x"}), []string{"192.0.2.1:1", foreign}},
		{errors.New("something else"), []string{"something else"}},
	} {
		flags := map[string]string{"listen": "192.0.2.1:1", "watch": "192.0.2.1:3"}
		a, _ := newApp(t, flags, "127.0.0.1:8000")
		got := a.explain(test.err)
		for _, word := range test.words {
			if !strings.Contains(got, word) {
				t.Errorf("%v: %q lacks %q", test.err, got, word)
			}
		}
	}
}

// TestPortOwner names the program that is in the way, and not one that has the
// port on another address.
func TestPortOwner(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells who listens")
	}
	self := fmt.Sprintf("cli.test (process %d)", os.Getpid())
	for _, host := range []string{"127.0.0.1", "[::1]", "0.0.0.0", ""} {
		l, err := net.Listen("tcp", host+":0")
		if err != nil {
			t.Fatal(err)
		}
		_, port, _ := net.SplitHostPort(l.Addr().String())
		if got, _ := portOwner(host + ":" + port); got != self {
			t.Errorf("%s: %q, want %q", l.Addr(), got, self)
		}
		if got, _ := portOwner(":" + port); got == "" {
			t.Errorf("%s: in the way of a listener on every address, but not named", l.Addr())
		}
		if got, nobody := portOwner("127.0.0.2:" + port); nobody != strings.Contains(host, "1") {
			t.Errorf("%s: in the way of 127.0.0.2: %q, nobody: %v", l.Addr(), got, nobody)
		}
		l.Close()
		for _, addr := range []string{host + ":" + port, ":0", ":http", "nonsense"} {
			if got, nobody := portOwner(addr); got != "" || nobody != (addr != "nonsense") {
				t.Errorf("%s, where nobody listens, belongs to %q, nobody: %v", addr, got, nobody)
			}
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
	want := "Before it 1\nBefore it 2\nSummary: 0 connections"
	if got := out.String(); !strings.HasPrefix(got, want) ||
		strings.Count(got, "\n") != 4 {
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
	for value, right := range map[string]bool{"1": true, "20000": true,
		"0": false, "-1": false, "x": false, "1.5": false} {
		if err := a.Flags.Set("count", value); (err == nil) != right {
			t.Errorf("%s: %v", value, err)
		}
	}
}

func TestFitDescriptors(t *testing.T) {
	fit := func(n, each int, flags map[string]string) int {
		a, _ := newApp(t, flags, "127.0.0.1:8000")
		if err := a.checkFlags(); err != nil {
			t.Fatal(err)
		}
		return a.FitDescriptors(n, each)
	}
	if got := fit(1, 2, nil); got != 1 {
		t.Errorf("one connection: %d", got)
	}
	if runtime.GOOS == "windows" {
		return
	}
	all := fit(1<<30, 2, nil)
	for name, less := range map[string]int{
		"three each":         fit(1<<30, 3, nil),
		"with a live page":   fit(1<<30, 2, map[string]string{"watch": "127.0.0.1:9090"}),
		"with demo backends": fit(1<<30, 2, map[string]string{"demo": "true"}),
		"with a name":        fit(1<<30, 2, map[string]string{"backend": "backend.test:80"}),
	} {
		if less < 1 || less >= all {
			t.Errorf("%s: %d, without: %d", name, less, all)
		}
	}
	if none := fit(2, 1<<30, nil); none != 1 {
		t.Errorf("no room: %d, want the one that cannot be less", none)
	}
}
