//go:build linux

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"reverseproxy/internal/harness"
)

func TestParseCalls(t *testing.T) {
	text := `strace: Process 7 attached
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 51.00    0.400000           9     20000           write
 45.50    0.300000           7     32000     12000 read
  3.00    0.010000           3       500         2 epoll_pwait
  0.50    0.001000           1       250           futex
------ ----------- ----------- --------- --------- ----------------
100.00    0.711000          13     52750     12002 total
`
	all := parseCalls(text)
	if d := cmp.Diff(calls{"write": {20000, 0}, "read": {32000, 12000}, "epoll_pwait": {500, 2},
		"futex": {250, 0}}, all, cmp.AllowUnexported(call{})); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
	for name, c := range all {
		all[name] = call{c.count / 10_000, c.failed / 10_000}
	}
	want := []string{"3.200", "2.000", "0.050", "0.000", "1.200", "0.025", "futex 0.025"}
	if d := cmp.Diff(want, all.line()); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}

// The floor reads twice and writes twice a request, and registers no socket but new
// ones. The table goes into the page, and the page's other blocks stay.
func TestSyscalls(t *testing.T) {
	harness.Need(t, "strace")
	dir := t.TempDir()
	page := filepath.Join(dir, loopPage)
	if err := os.WriteFile(page, []byte("<!-- bench b64 -->\nold\n<!-- /bench -->\n"+
		"<!-- bench syscalls -->\n<!-- /bench -->\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := run(t.Context(), options4test(t, "-syscalls", "-only", "^null-relay$", "-docs", dir))
	if err != nil {
		t.Fatal(err)
	}
	b, _ := os.ReadFile(page)
	text := string(b)
	_, row, _ := strings.Cut(text, "| null-relay | ")
	f := strings.Split(row, " | ")
	if !strings.Contains(text, "\nold\n") || len(f) < 6 || !strings.HasPrefix(f[1], "2.0") &&
		!strings.HasPrefix(f[1], "1.99") || f[4] > "0.003" {
		t.Errorf("the page is\n%s", text)
	}
	left(t)
}
