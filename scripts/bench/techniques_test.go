//go:build linux

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"reverseproxy/internal/harness"
	"reverseproxy/internal/proc"
	"reverseproxy/scripts/bench/stat"
)

// The table compares each variant with ch10 as it is.
func TestTechniquesTable(t *testing.T) {
	dir := t.TempDir()
	page := filepath.Join(dir, loopPage)
	if err := os.WriteFile(page, []byte("<!-- bench techniques -->\n<!-- /bench -->\n"),
		0o600); err != nil {
		t.Fatal(err)
	}
	r := &results{Rounds: 1, Rows: []*row{
		{Cell: "b64", Contestant: "ch10", CPU: stat.Of(10), RPS: stat.Of(50)},
		{Cell: "b64", Contestant: "without join", CPU: stat.Of(12), RPS: stat.Of(40)},
		{Cell: "e", Contestant: "ch10", CPUSeconds: stat.Of(1)}}}
	if err := (&bench{o: &options{docs: dir}}).printTechniques(r); err != nil {
		t.Fatal(err)
	}
	b, _ := os.ReadFile(page)
	for _, line := range []string{"| ch10 | 1.00 × | 1.00 × | - | - | 1.00 × |",
		"| without join | 1.20 × | 0.80 × | - | - | - |"} {
		if !strings.Contains(string(b), line) {
			t.Errorf("%q is missing in\n%s", line, b)
		}
	}
}

// ch10 takes each variant's flags.
func TestTechniquesAreKnown(t *testing.T) {
	program := harness.Build(t, "ch10_event_loop")
	for _, v := range variants {
		args := append([]string{program, "-listen", "127.0.0.1:0", "-log", "off"}, v.flags...)
		run, err := proc.Run(args...)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := run.Ready(startTime, proc.ReadyLine, 1); err != nil {
			t.Errorf("%s: %v", v.id, err)
		}
		run.Kill()
	}
}
