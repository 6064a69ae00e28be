package main

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"reverseproxy/internal/book"
	"reverseproxy/internal/book/linediff"
	"reverseproxy/internal/book/steps"
)

// Sizes that the chapters' main.go keep to, so that they can be projected.
const (
	maxLinesFirst = 100 // lines of ch1's main.go
	maxLines      = 160 // lines of every other main.go
	maxColumns    = 100 // columns of a line, a tab counted as 4
	maxChanged    = 40  // lines deleted and added from one chapter to the next
)

func repositoryRoot(t *testing.T) string {
	t.Helper()
	root, err := findRoot()
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// chapterFile reads a chapter's main.go and skips the test if there is none yet.
func chapterFile(t *testing.T, dir string) []byte {
	t.Helper()
	src, err := os.ReadFile(filepath.Join(repositoryRoot(t), dir, "main.go"))
	if os.IsNotExist(err) && os.Getenv("CI") != "true" {
		t.Skipf("%s has no main.go yet", dir)
	}
	if err != nil {
		t.Fatal(err)
	}
	return src
}

func TestStepCommentsAgreeWithC(t *testing.T) {
	for _, chapter := range book.Originals() {
		t.Run(chapter.Dir, func(t *testing.T) {
			for _, p := range compareSteps(chapter, chapterFile(t, chapter.Dir)) {
				t.Error(p)
			}
		})
	}
}

// compareSteps says where the comments of a chapter differ from the table: every
// step that C has is numbered and names its calls, and nothing is said of C
// anywhere that the table does not hold.
func compareSteps(chapter book.Chapter, src []byte) (problems []string) {
	file := chapter.Dir + "/main.go"
	complain := func(format string, args ...any) {
		problems = append(problems, file+fmt.Sprintf(format, args...))
	}
	sections, err := steps.Parse(file, src, nil)
	if err != nil {
		return []string{err.Error()}
	}
	numbered := map[int]bool{}
	said := map[int][]book.Call{}
	for _, s := range sections {
		for n := s.First; n <= s.Last; n++ {
			numbered[n] = true
			said[n] = append(said[n], s.C...)
		}
	}
	var known []book.Call
	for _, row := range chapter.C.Rows() {
		calls := chapter.C.Calls(row)
		known = append(known, calls...)
		if row.Extra > 0 {
			for _, line := range chapter.C.After(row.Step)[row.Extra-1].Lines {
				known = append(known, book.Call{Name: "lines", Line: line})
			}
			continue
		}
		if len(calls) > 0 && !numbered[row.Step] {
			complain(": no comment numbers step %d", row.Step)
		}
		for _, call := range calls {
			if !steps.Says(said[row.Step], call) {
				complain(": step %d does not name (C: %s), line %d", row.Step, call.Name, call.Line)
			}
		}
	}
	parsed, err := parser.ParseFile(token.NewFileSet(), file, src, parser.ParseComments)
	if err != nil {
		return append(problems, err.Error())
	}
	for _, group := range parsed.Comments {
		notes, err := steps.Notes(group.Text())
		if err != nil {
			complain(": %v", err)
		}
		for _, said := range notes {
			if !slices.ContainsFunc(known, func(c book.Call) bool { return steps.Says([]book.Call{said}, c) }) {
				complain(" names %s, line %d, which %s does not have", said.Name, said.Line, chapter.C.File)
			}
		}
	}
	return problems
}

// The comparison itself is tried on a chapter with each of its faults.
func TestCompareSteps(t *testing.T) {
	chapter := book.Of(1)
	good := `package main

func main() {
	// 1. A socket (C: socket, line 17).
	// 2. in another comment
	_ = 1

	// 2. A name for it
	// (C: bind, line 29).
	_ = 2
	// 3. Base.c forgets it (C: listen, missing).
	_ = 3
	// 4. Wait (C: accept, line 37).
	_ = 4
	// 5. Read (C: read, line 46).
	_ = 5
	// 10. Close (C: close, lines 55 and 56).
	_ = 10
}
`
	if p := compareSteps(chapter, []byte(good)); len(p) > 0 {
		t.Errorf("a good file fails: %q", p)
	}
	for _, tt := range []struct{ old, new, want string }{
		{"line 17", "line 18", "socket, line 18, which Base.c does not have"},
		{"(C: read, line 46)", "", "step 5 does not name (C: read), line 46"},
		{"lines 55 and 56", "line 55", "step 10 does not name (C: close), line 56"},
		{"// 4. Wait", "// Wait", "no comment numbers step 4"},
		{"C: bind, line 29", "C: bind on line 29", "cannot read"},
		{"// 4. ", "// 14. ", "numbered 1 to 10"},
	} {
		p := strings.Join(compareSteps(chapter, []byte(strings.Replace(good, tt.old, tt.new, 1))), "\n")
		if !strings.Contains(p, tt.want) {
			t.Errorf("%q for %q: got %q, want %q", tt.new, tt.old, p, tt.want)
		}
	}
}

func TestMainFitsTheScreen(t *testing.T) {
	for i, chapter := range book.Chapters {
		t.Run(chapter.Dir, func(t *testing.T) {
			lines := linediff.Split(string(chapterFile(t, chapter.Dir)))
			limit := maxLines
			if i == 0 {
				limit = maxLinesFirst
			}
			if len(lines) > limit {
				t.Errorf("%s/main.go has %d lines, at most %d fit", chapter.Dir, len(lines), limit)
			}
			for n, l := range lines {
				if w := len([]rune(strings.ReplaceAll(l, "\t", "    "))); w > maxColumns {
					t.Errorf("%s/main.go:%d: %d columns, at most %d fit", chapter.Dir, n+1, w, maxColumns)
				}
			}
			for n, word := range []string{"// Problem: ", "// New idea: ", "// Still open: ", "// Run: "} {
				if !slices.ContainsFunc(lines[:min(12, len(lines))], func(l string) bool { return strings.HasPrefix(l, word) }) {
					t.Errorf("%s/main.go: the header misses its line %d, %q", chapter.Dir, n+1, word)
				}
			}
		})
	}
}

func TestTheLessonIsTheDiff(t *testing.T) {
	for _, pair := range [][2]string{{"ch2_basic_proxy", "ch4_threaded"}, {"ch4_threaded", "ch5_load_balancer"}} {
		t.Run(pair[0]+" "+pair[1], func(t *testing.T) {
			a, b := string(chapterFile(t, pair[0])), string(chapterFile(t, pair[1]))
			deleted, added := linediff.Count(linediff.Compare(linediff.Split(a), linediff.Split(b)))
			t.Logf("%d lines deleted, %d added", deleted, added)
			if deleted+added > maxChanged {
				t.Errorf("%d lines change from %s to %s, at most %d should", deleted+added, pair[0], pair[1], maxChanged)
			}
		})
	}
}

var chapterDir = regexp.MustCompile(`^ch(\d+)_`)

// chapterNumber is the number in a path that begins with a chapter's directory,
// 0 for any other path.
func chapterNumber(path string) int {
	m := chapterDir.FindStringSubmatch(path)
	if m == nil {
		return 0
	}
	n, _ := strconv.Atoi(m[1])
	return n
}

// checkArrow says what is wrong with a package at path from importing another,
// "" if nothing is.
func checkArrow(from, to string) string {
	switch a, b := chapterNumber(from), chapterNumber(to); {
	case b == 0:
	case strings.HasPrefix(from, "internal/"):
		return "internal/ imports a chapter"
	case a > 0 && b > a:
		return "the arrow points forward"
	}
	return ""
}

func TestNoImportPointsForward(t *testing.T) {
	root := repositoryRoot(t)
	checked := 0
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "node_modules" || d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".")) {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(file, ".go") {
			return nil
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		checked++
		rel, _ := filepath.Rel(root, file)
		from := filepath.ToSlash(filepath.Dir(rel))
		for _, spec := range parsed.Imports {
			path, _ := strconv.Unquote(spec.Path.Value)
			to, own := strings.CutPrefix(path, "reverseproxy/")
			if wrong := checkArrow(from+"/", to); own && wrong != "" {
				t.Errorf("%s imports %s: %s", filepath.ToSlash(rel), to, wrong)
			}
		}
		return nil
	})
	if err != nil || checked == 0 {
		t.Fatalf("%d files checked: %v", checked, err)
	}
}

func TestCheckArrow(t *testing.T) {
	arrows := map[[2]string]bool{
		{"ch4_threaded/", "ch2_basic_proxy/forward"}:            true,
		{"ch2_basic_proxy/forward/", "ch2_basic_proxy/forward"}: true,
		{"ch2_basic_proxy/", "ch4_threaded/limit"}:              false,
		{"ch9_balancing_algorithms/", "ch10_event_loop/poll"}:   false,
		{"ch10_event_loop/", "ch9_balancing_algorithms/ring"}:   true,
		{"internal/narrate/", "ch2_basic_proxy/forward"}:        false,
		{"scripts/bench/", "ch5_load_balancer/balance"}:         true,
		{"ch2_basic_proxy/", "internal/narrate"}:                true,
	}
	for _, arrow := range slices.Collect(maps.Keys(arrows)) {
		if got := checkArrow(arrow[0], arrow[1]) == ""; got != arrows[arrow] {
			t.Errorf("%v: allowed %v, want %v", arrow, got, arrows[arrow])
		}
	}
}
