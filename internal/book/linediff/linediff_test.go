package linediff

import (
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestUnified(t *testing.T) {
	a := Split("one\ntwo\nthree\nfour\nfive\nsix\n")
	b := Split("one\n2\nthree\nfour\nfive\nsix\nseven\n")
	want := "--- a\n+++ b\n@@ -1,3 +1,3 @@\n one\n-two\n+2\n three\n@@ -6,1 +6,2 @@\n six\n+seven\n"
	if diff := cmp.Diff(want, Unified("a", "b", a, b, 1)); diff != "" {
		t.Error(diff)
	}
	if got := Unified("a", "b", a, a, 1); got != "" {
		t.Errorf("equal texts differ: %q", got)
	}
	if got := Header(Hunks(Compare(nil, []string{"x"}), 1)[0]); got != "@@ -0,0 +1,1 @@" {
		t.Errorf("header of an addition to nothing: %s", got)
	}
}

// Both texts can be read off any comparison, and hunks lose no change.
func TestCompareKeepsBothTexts(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		a, b := randomLines(r), randomLines(r)
		lines := Compare(a, b)
		var gotA, gotB []string
		for _, l := range lines {
			if l.Kind != Added {
				gotA = append(gotA, l.Text)
			}
			if l.Kind != Deleted {
				gotB = append(gotB, l.Text)
			}
		}
		if !cmp.Equal(a, gotA) || !cmp.Equal(b, gotB) {
			t.Fatalf("%q -> %q: got %+v", a, b, lines)
		}
		deleted, added := Count(lines)
		for context := range 3 {
			var d, p int
			for _, h := range Hunks(lines, context) {
				hd, hp := Count(h)
				d, p = d+hd, p+hp
			}
			if d != deleted || p != added {
				t.Fatalf("hunks with context %d hold %d,%d of %d,%d changes", context, d, p,
					deleted, added)
			}
		}
	}
}

func randomLines(r *rand.Rand) []string {
	var lines []string
	for range r.IntN(20) {
		lines = append(lines, string(rune('a'+r.IntN(4))))
	}
	return lines
}
