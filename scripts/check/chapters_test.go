package main

import (
	"os"
	"slices"
	"sort"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"reverseproxy/internal/book"
	"reverseproxy/scripts/check/cases"
	"reverseproxy/scripts/check/suite"
)

// needs skips a test that lacks something, except in CI, where it fails.
func needs(t *testing.T, have bool, what string) {
	t.Helper()
	if have {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("CI lacks %s", what)
	}
	t.Skipf("%s is missing", what)
}

// gaps are the cases that fail of a chapter, as its named gaps list them.
func gaps(chapter book.Chapter) []string {
	ids := []string{}
	for _, g := range chapter.Gaps {
		ids = append(ids, g.Cases...)
	}
	sort.Strings(ids)
	return ids
}

// TestChaptersAgainstTheirGaps runs the whole suite on each chapter: every
// must passes, and the other cases that fail are exactly those its named gaps list.
func TestChaptersAgainstTheirGaps(t *testing.T) {
	if testing.Short() {
		t.Skip("takes about ten seconds a chapter")
	}
	t.Parallel()
	turn := make(chan struct{}, 2) // two chapters at a time
	for _, chapter := range book.Proxies() {
		name := chapter.Dir
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			turn <- struct{}{}
			defer func() { <-turn }()
			dir := "../../" + name
			_, err := os.Stat(dir)
			needs(t, err == nil, "the chapter "+name)
			s := &suite.Subject{Name: name, Chapter: dir}
			defer s.Clean()
			if err := s.Build(); err != nil {
				t.Fatal(err)
			}
			// However slow the race detector makes the checker itself.
			rep, err := suite.Run(s, cases.All(), suite.Options{Budget: 3 * time.Minute})
			if err != nil {
				t.Fatal(err)
			}
			want, got := gaps(chapter), []string{}
			for _, r := range rep.Results {
				if r.Outcome != suite.Failed {
					continue
				}
				got = append(got, r.ID)
				if !slices.ContainsFunc(chapter.Gaps,
					func(g *book.Gap) bool { return slices.Contains(g.Cases, r.ID) }) {
					t.Errorf("%s (%s): %v", r.ID, r.Level, r.Problems)
					for _, w := range r.Wires {
						t.Logf("%s\nsent:\n%s\nreceived:\n%s", w.Peer, w.Sent, w.Received)
					}
				}
			}
			sort.Strings(got)
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("failing cases and named gaps differ (-gap closed +gap opened):\n%s", d)
			}
			if l := rep.Score().Levels; l["must"].Passed == 0 || l["must"].Failed > 0 {
				t.Errorf("must %s", l["must"])
			}
		})
	}
}
