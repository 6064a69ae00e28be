package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"reverseproxy/internal/harness"
	"reverseproxy/internal/proc"
)

func TestMain(m *testing.M) { harness.Main(m) }

func TestUsage(t *testing.T) {
	for _, c := range []struct {
		args string
		code int
		say  string
	}{
		{"-h", exitOK, "-storm  GETs at"},
		{"-h", exitOK, "-slow   GETs at"},
		{"", exitUsage, "one of -pool, -dead, -storm and -slow"},
		{"-pool -dead", exitUsage, "one of"},
		{"-pool -requests 0", exitUsage, "1 or more"},
		{"-pool ./nowhere", exitUsage, "is no directory"},
		{"-pool -cmd ./x", exitUsage, "three addresses"},
		{"-pool -proxy 127.0.0.1 -backends a:1,b:2,c:3", exitUsage, "HOST:PORT"},
		{"-pool ../docscheck", exitFails, "no flag -backends"},
	} {
		var out, err bytes.Buffer
		code := run(t.Context(), strings.Fields(c.args), &out, &err)
		if code != c.code || !strings.Contains(err.String(), c.say) {
			t.Errorf("%s: exit code %d, %s", c.args, code, err.String())
		}
	}
}

// A program of one's own is started by its command line, and reported.
func TestCommand(t *testing.T) {
	var addrs []string
	for range 4 {
		addrs = append(addrs, proc.FreeAddr())
	}
	backends := strings.Join(addrs[1:], ",")
	file := filepath.Join(t.TempDir(), "report.json")
	var out, errs bytes.Buffer
	code := run(t.Context(), []string{"-pool", "-requests", "2000", "-json", file,
		"-cmd", harness.Build(t, "ch6_keep_alive") + " -reuse always -log off -listen " + addrs[0] +
			" -backends " + backends, "-proxy", addrs[0], "-backends", backends}, &out, &errs)
	if code != exitOK {
		t.Fatalf("exit code %d: %s%s", code, &out, &errs)
	}
	var report struct{ Results []poolResult }
	b, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(b, &report)
	}
	if err != nil || len(report.Results) != 1 || report.Results[0].Requests != 2000 {
		t.Errorf("%v, %s", err, b)
	}
}
