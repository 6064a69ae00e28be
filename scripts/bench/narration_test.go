//go:build linux

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"reverseproxy/scripts/bench/stat"
)

// The table compares each chapter with itself, and a failed request is no figure.
func TestNarrationTable(t *testing.T) {
	dir := t.TempDir()
	page := filepath.Join(dir, loopPage)
	if err := os.WriteFile(page, []byte("<!-- bench narration -->\n<!-- /bench -->\n"),
		0o600); err != nil {
		t.Fatal(err)
	}
	r := &results{Rounds: 1, Rows: []*row{
		{Cell: "r", Contestant: "ch10", P50: stat.Of(100), P99: stat.Of(500), CPU: stat.Of(20)},
		{Cell: "r", Contestant: "ch10 narrated", P50: stat.Of(150), P99: stat.Of(600),
			CPU: stat.Of(80)}}}
	b := &bench{o: &options{docs: dir, rate: 1000}}
	if err := b.printNarration(r); err != nil {
		t.Fatal(err)
	}
	text, _ := os.ReadFile(page)
	if want := "| ch10 | 1.50 × | 1.20 × | 4.00 × | 0.60 | 0.50 |"; !strings.Contains(
		string(text), want) {
		t.Errorf("%q is missing in\n%s", want, text)
	}
	r.Rows[1].Failed = 1
	if err := b.printNarration(r); err == nil {
		t.Error("a request failed, and nobody is told")
	}
}
