//go:build linux

package harness

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestMain(m *testing.M) { Main(m) }

// broken is the proxy of testdata with one of its faults.
func broken(fault string) Model {
	m := Threaded
	m.Name, m.Folder, m.Flags = "broken -fault "+fault, "internal/harness/testdata/broken",
		[]string{"-fault", fault}
	return m
}

// try runs the named scenario or life on a proxy with the fault and returns
// what it complains of.
func try(t *testing.T, name, fault string) []string {
	t.Helper()
	for _, s := range Scenarios {
		if s.Name == name {
			return Try(func(t T) { s.alone(t, broken(fault)) })
		}
	}
	for _, life := range Lives {
		if life.Name == name {
			return Try(func(t T) { life.Run(t, broken(fault)) })
		}
	}
	t.Fatalf("no scenario is called %q", name)
	return nil
}

// alone starts a program for this scenario only.
func (s Scenario) alone(t T, m Model) {
	t.Helper()
	p := s.Stage.start(t, m)
	p.settle(t)
	before := p.Descriptors(t)
	s.Check(t, p)
	p.WaitDescriptors(t, before)
}

// faults lists each fault with a scenario that must catch it, and a word of the
// complaint.
var faults = []struct{ fault, scenario, complaint string }{
	{"truncate", "download of 1 MiB", "unexpected EOF"},
	{"corrupt", "download of 1 MiB", "byte 499"},
	{"short-upload", "POST of 20,000 bytes", "unexpected EOF"},
	{"hold", "first server-sent event at once", "the header ends after"},
	{"hold", "Expect: 100-continue", "the header ends after"},
	{"mix", "answers are not mixed up", "reads"},
	{"swallow", "backend that closes in a response", "the client reads the end mark"},
	{"never-close", "backend that keeps its connection", "i/o timeout"},
	{"descriptor", "HEAD", "descriptors are open"},
	{"raw", "terminal escape sequences", "stdout holds"},
	{"crash", "client that resets in a download", ""},
	{"slurp", "large upload in constant memory", "MB resident"},
	{"patient", "silent client", ""},
	{"serial", "silent client", "the proxy has not connected to the backend"},
	{"hasty", "Ctrl+C with a request in flight", "the client reads no whole response"},
	{"rude", "Ctrl+C, and again on the same port", "exit status 3 after Ctrl+C"},
}

// TestScenariosFindFaults runs each scenario twice: with the fault it must
// complain, without it must not.
func TestScenariosFindFaults(t *testing.T) {
	healthy := map[string]bool{}
	var all sync.WaitGroup
	for _, f := range faults {
		if healthy[f.scenario] {
			continue
		}
		healthy[f.scenario] = true
		all.Go(func() { // ends with the scenario
			if complaints := try(t, f.scenario, "none"); len(complaints) > 0 {
				t.Errorf("%q complains of a proxy without a fault:\n%s", f.scenario,
					strings.Join(complaints, "\n"))
			}
		})
	}
	all.Wait()
	defer func(usual time.Duration) { Patience = usual }(Patience)
	Patience = 10 * time.Second // waiting for what will not come
	complaints := make([]string, len(faults))
	for i, f := range faults { // all at once: they mostly wait
		all.Go(func() { // ends with the scenario
			complaints[i] = strings.Join(try(t, f.scenario, f.fault), "\n")
		})
	}
	all.Wait()
	for i, f := range faults {
		if complaints[i] == "" || !strings.Contains(complaints[i], f.complaint) {
			t.Errorf("%s, with the fault %q, complains: %q, want %q", f.scenario, f.fault,
				complaints[i], f.complaint)
		}
	}
}

// TestGoroutinesAreCounted proves the count of RunScenarios.
func TestGoroutinesAreCounted(t *testing.T) {
	count := func(fault string, clients int) map[string]int {
		p := Start(t, broken(fault), broken(fault).Demo(1)...)
		for range clients {
			p.serveOne(t)
		}
		p.WaitIdle(t)
		return p.Goroutines(t)
	}
	if diff := cmp.Diff(count("none", 1), count("none", 5)); diff != "" {
		t.Errorf("without a fault, after 1 client (-) and after 5 (+):\n%s", diff)
	}
	diff := cmp.Diff(count("goroutine", 1), count("goroutine", 5))
	if !strings.Contains(diff, "main.handleClient") {
		t.Errorf("4 more lost goroutines are not seen: %q", diff)
	}
}

// TestRacesAndPanicsFail proves that a program's last words fail a test.
func TestRacesAndPanicsFail(t *testing.T) {
	for _, words := range []string{"WARNING: DATA RACE", "panic: at the disco",
		"fatal error: all goroutines are asleep"} {
		complaints := Try(func(t T) {
			p := Start(t, broken("none"), broken("none").Demo(1)...)
			p.run.Stderr.Write([]byte(words + "\n"))
		})
		if len(complaints) != 1 || !strings.Contains(complaints[0], words) {
			t.Errorf("%q: complaints %q", words, complaints)
		}
	}
}

func TestChunked(t *testing.T) {
	want := "4\r\nabcd\r\n2\r\nef\r\n0\r\nX: 1\r\n\r\n"
	if got := Chunked("abcdef", 4, "X: 1"); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
