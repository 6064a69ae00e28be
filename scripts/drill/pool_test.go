package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"reverseproxy/internal/harness"
	"reverseproxy/internal/proc"
)

// chapter is a chapter as a subject.
func chapter(folder string, flags ...string) *subject {
	s := &subject{Name: folder, chapter: filepath.Join(harness.Root(), folder), flags: flags}
	if harness.Race {
		s.build = []string{"-race"}
	}
	return s
}

// drillSmall runs a small drill with many faults and returns the kinds of
// problems that it found.
func drillSmall(t *testing.T, s *subject) (kinds []string) {
	t.Helper()
	p := &pool{requests: 6000, clients: 32, share: 0.06, breathEvery: 300, idle: idleTime}
	r, err := p.run(t.Context(), s, func(string, ...any) {})
	if err != nil {
		t.Fatal(err)
	}
	for kind, n := range r.Problems {
		if n > 0 {
			kinds = append(kinds, kind)
		}
	}
	t.Log(strings.Join(r.Examples, "\n"))
	return kinds
}

func TestPool(t *testing.T) {
	for _, folder := range []string{"ch6_keep_alive", "ch7_timeouts_retries"} {
		if problems := drillSmall(t, chapter(folder)); len(problems) > 0 {
			t.Errorf("%s: %q", folder, problems)
		}
	}
}

// A chapter is broken, one rule at a time: the drill must notice.
func TestPoolFindsFaults(t *testing.T) {
	if harness.Race || testing.Short() {
		t.Skip("builds broken chapters, and they need not be built twice")
	}
	const (
		backend = "ch2_basic_proxy/forward/backend.go"
		pool    = "ch6_keep_alive/keep/pool.go"
		limits  = "ch6_keep_alive/keep/limits.go"
	)
	for _, c := range []struct{ name, file, old, new, kind string }{
		{"takes what is not quiet", "ch2_basic_proxy/forward/quiet_unix.go",
			"err == unix.EAGAIN", "err != unix.EBADF", foreign},
		{"keeps what has more on it", backend, "case u.More:", "case false:", reused},
		{"keeps what it has not sent all to", backend, "case !u.Complete:", "case false:", lostGet},
		{"never tries again", limits, "e.Stale && !e.Answered", "false && !e.Answered", lostGet},
		{"tries POST again", limits, `case "GET",`, `case "POST", "GET",`, twice},
		{"does not close", pool, "\tb.Close()\n", "\tif b.Requests%2 == 0 {\n\t\tb.Close()\n\t}\n",
			leaked},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.kind == leaked && !proc.CanLook {
				t.Skip("this system has no /proc to look into")
			}
			t.Parallel()
			s := chapter("ch6_keep_alive")
			s.build = []string{"-overlay", broken(t, c.file, c.old, c.new)}
			if found := drillSmall(t, s); !slices.Contains(found, c.kind) {
				t.Errorf("found %q, not %q", found, c.kind)
			}
		})
	}
}

// broken makes a file for go build -overlay, which has a text in a file of the
// repository replaced.
func broken(t *testing.T, file, old, replacement string) (overlay string) {
	t.Helper()
	path := filepath.Join(harness.Root(), file)
	text, err := os.ReadFile(path)
	if err != nil || strings.Count(string(text), old) != 1 {
		t.Fatalf("%q is not in %s once (%v)", old, file, err)
	}
	dir := t.TempDir()
	other := filepath.Join(dir, filepath.Base(path))
	list, _ := json.Marshal(map[string]any{"Replace": map[string]string{path: other}})
	overlay = filepath.Join(dir, "overlay.json")
	for name, b := range map[string]string{
		other: strings.Replace(string(text), old, replacement, 1), overlay: string(list)} {
		if err := os.WriteFile(name, []byte(b), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return overlay
}
