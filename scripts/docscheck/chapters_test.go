package main

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"reverseproxy/internal/book"
	"reverseproxy/internal/book/linediff"
	"reverseproxy/internal/book/steps"
)

// Sizes that the code keeps to, so that it can be projected. A tab counts as 4.
const (
	maxLinesFirst  = 100 // lines of ch1's main.go
	maxLinesFork   = 160 // lines of ch3's, which starts and ends its children besides
	maxLines       = 150 // lines of every other main.go
	maxColumns     = 76  // columns of a main.go: C, Go and kernel stand side by side at 1280 pixels
	maxColumnsElse = 100 // columns of every other Go file
)

// Lines that may be deleted and added from a chapter to the next, of code and of
// comment. ch3 has a lesson of its own, processes, between ch2 and ch4; and from
// ch1, which makes the socket calls itself, everything changes. From ch6 on there
// is no C to name.
var (
	maxChanged   = [2]int{24, 24}
	maxChanged3  = [2]int{60, 36}
	maxChangedOn = [2]int{35, 44}
	maxChanged8  = [2]int{25, 44}
)

func repositoryRoot(t *testing.T) string {
	t.Helper()
	root, err := book.Root()
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// chapterFile reads a chapter's main.go.
func chapterFile(t *testing.T, dir string) []byte {
	t.Helper()
	src, err := os.ReadFile(filepath.Join(repositoryRoot(t), dir, "main.go"))
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

// compareSteps says where the comments of a chapter differ from the table: its
// header says where the steps stand in the C file, every step that C has is
// numbered and names its calls, and nothing is said of C anywhere that the table
// does not hold.
func compareSteps(chapter book.Chapter, src []byte) (problems []string) {
	file := chapter.Dir + "/main.go"
	complain := func(format string, args ...any) {
		problems = append(problems, file+fmt.Sprintf(format, args...))
	}
	sections, err := steps.Parse(file, src, nil)
	if err != nil {
		return []string{err.Error()}
	}
	parsed, err := parser.ParseFile(token.NewFileSet(), file, src, parser.ParseComments)
	if err != nil {
		return []string{err.Error()}
	}
	header := strings.Join(strings.Fields(parsed.Doc.Text()), " ")
	if want := "C: " + chapter.C.Where(); !strings.Contains(header+" ", want+" ") {
		complain(": the header does not say: %s", want)
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
	for _, group := range parsed.Comments {
		notes, err := steps.Notes(group.Text())
		if err != nil {
			complain(": %v", err)
		}
		for _, said := range notes {
			if said.Line > 0 && said.Name != "lines" { // a passage has no name
				complain(": the line of %s stands in the header, not at its step", said.Name)
			}
			if !slices.ContainsFunc(known,
				func(c book.Call) bool { return steps.Says([]book.Call{said}, c) }) {
				complain(" names %s, line %d, which %s does not have", said.Name, said.Line,
					chapter.C.File)
			}
		}
	}
	return problems
}

// The comparison itself is tried on a chapter with each of its faults.
func TestCompareSteps(t *testing.T) {
	chapter := book.Of(1)
	good := `// Problem: none.
// C: Base.c, steps 1–2 lines 17–29, 4 line 37,
// 5 line 46, 10 lines 55–56
package main

func main() {
	// 1. A socket (C: socket).
	// 2. in another comment
	_ = 1

	// 2. A name for it
	// (C: bind).
	_ = 2
	// 3. Base.c forgets it (C: listen, missing).
	_ = 3
	// 4. Wait (C: accept).
	_ = 4
	// 5. Read (C: read).
	_ = 5
	// 10. Close (C: close).
	_ = 10
}
`
	if p := compareSteps(chapter, []byte(good)); len(p) > 0 {
		t.Errorf("a good file fails: %q", p)
	}
	for _, tt := range []struct{ old, new, want string }{
		{"C: socket", "C: socket, line 18", "socket, line 18, which Base.c does not have"},
		{"C: socket", "C: socket, line 17", "the line of socket stands in the header"},
		{"(C: read)", "", "step 5 does not name (C: read), line 46"},
		{"(C: read)", "(C: recv)", "names recv, line 0, which Base.c does not have"},
		{"// 4. Wait", "// Wait", "no comment numbers step 4"},
		{"C: bind", "C: bind on line 29", "cannot read"},
		{"// 4. ", "// 14. ", "numbered 1 to 10"},
		{"4 line 37", "4 line 36", "the header does not say: C: Base.c, steps 1–2 lines 17–29, 4 " +
			"line 37"},
	} {
		p := strings.Join(compareSteps(chapter, []byte(strings.Replace(good, tt.old, tt.new, 1))),
			"\n")
		if !strings.Contains(p, tt.want) {
			t.Errorf("%q for %q: got %q, want %q", tt.new, tt.old, p, tt.want)
		}
	}
}

// columns is the width of a line, a tab as 4.
func columns(line string) int { return len([]rune(strings.ReplaceAll(line, "\t", "    "))) }

func TestMainFitsTheScreen(t *testing.T) {
	for i, chapter := range book.Chapters {
		t.Run(chapter.Dir, func(t *testing.T) {
			src := chapterFile(t, chapter.Dir)
			lines := linediff.Split(string(src))
			most := maxLines
			switch {
			case i == 0:
				most = maxLinesFirst
			case chapter.Forks:
				most = maxLinesFork
			}
			if len(lines) > most {
				t.Errorf("%s/main.go has %d lines, at most %d fit", chapter.Dir, len(lines), most)
			}
			for n, l := range lines {
				if w := columns(l); w > maxColumns {
					t.Errorf("%s/main.go:%d: %d columns, at most %d fit", chapter.Dir, n+1, w,
						maxColumns)
				}
			}
			for n, word := range []string{"// Problem: ", "// New idea: ", "// Still open: ",
				"// Run: "} {
				if !slices.ContainsFunc(lines[:min(12, len(lines))],
					func(l string) bool { return strings.HasPrefix(l, word) }) {
					t.Errorf("%s/main.go: the header misses its line %d, %q", chapter.Dir, n+1,
						word)
				}
			}
		})
	}
}

func TestLinesFit(t *testing.T) {
	eachGoFile(t, func(name string, src []byte) {
		for n, l := range linediff.Split(string(src)) {
			if w := columns(l); w > maxColumnsElse {
				t.Errorf("%s:%d: %d columns, at most %d fit", name, n+1, w, maxColumnsElse)
			}
		}
	})
}

// changed counts the lines that differ, of code and of comment; blank ones are
// no difference.
func changed(a, b string) (code, comment int) {
	for _, l := range linediff.Compare(linediff.Split(a), linediff.Split(b)) {
		text := strings.TrimSpace(l.Text)
		switch {
		case l.Kind == linediff.Same || text == "":
		case strings.HasPrefix(text, "//"):
			comment++
		default:
			code++
		}
	}
	return code, comment
}

func TestTheLessonIsTheDiff(t *testing.T) {
	for _, pair := range book.Diffs() {
		a, b := pair[0], pair[1]
		t.Run(a.Short()+" "+b.Short(), func(t *testing.T) {
			code, comment := changed(string(chapterFile(t, a.Dir)), string(chapterFile(t, b.Dir)))
			t.Logf("%d lines of code, %d of comment change", code, comment)
			most := maxChanged
			switch {
			case a.Number == 1, b.Raw: // another shape
				return
			case a.Forks || b.Forks:
				most = maxChanged3
			case b.Number == 8:
				most = maxChanged8
			case b.C == nil:
				most = maxChangedOn
			}
			if code > most[0] || comment > most[1] {
				t.Errorf("%d lines of code and %d of comment change from %s to %s, at most %d "+
					"and %d should",
					code, comment, a.Dir, b.Dir, most[0], most[1])
			}
		})
	}
}

var (
	pageLines = regexp.MustCompile(`\blines? (\d+(?:(?:, | and | to |–)\d+)*)`)
	pageSteps = regexp.MustCompile(`^(\d+)(?:–(\d+))?`)
)

// The table of a chapter's page has every line of the C file, and no other.
func TestPagesNameTheLines(t *testing.T) {
	for _, chapter := range book.Originals() {
		page, err := os.ReadFile(filepath.Join(repositoryRoot(t), "docs", chapter.Dir+".md"))
		if err != nil {
			t.Fatal(err)
		}
		said := map[int]int{} // line of C to the step that it is said of; 0: between steps
		inTable := false
		for _, line := range linediff.Split(string(page)) {
			cells := strings.Split(line, "|")
			inTable = len(cells) > 3 &&
				(inTable || strings.Contains(cells[2], "`"+chapter.C.File+"`"))
			if !inTable {
				continue
			}
			first, last := 0, 0
			if m := pageSteps.FindStringSubmatch(strings.TrimSpace(cells[1])); m != nil {
				first, _ = strconv.Atoi(m[1])
				if last = first; m[2] != "" {
					last, _ = strconv.Atoi(m[2])
				}
			}
			for _, m := range pageLines.FindAllStringSubmatch(cells[2], -1) {
				for i, word := range regexp.MustCompile(`\d+`).FindAllString(m[1], -1) {
					n, _ := strconv.Atoi(word)
					said[n] = first
					if last > first { // one line a step
						said[n] = first + i
					}
				}
			}
		}
		want := map[int]int{}
		for _, row := range chapter.C.Rows() {
			for _, call := range chapter.C.Calls(row) {
				want[call.Line] = row.Step
				if row.Extra > 0 {
					want[call.Line] = said[call.Line] // of its own, or with its step
				}
			}
			if row.Extra > 0 {
				for _, n := range chapter.C.After(row.Step)[row.Extra-1].Lines {
					if n > 0 {
						want[n] = 0
					}
				}
			}
		}
		if diff := cmp.Diff(want, said); diff != "" {
			t.Errorf("docs/%s.md: C's lines and their steps, -table of internal/book +page:\n%s",
				chapter.Dir, diff)
		}
	}
}

// codeIn is how a page says where a function or a type stands: `NAME` in [X.go](PATH).
var codeIn = regexp.MustCompile("`(?:\\w+\\.)?(\\w+)`\\s+in\\s+\\[[^]]+\\]\\(([^)#]+\\.go)\\)")

// What a page names in a file is there.
func TestPagesNameTheCode(t *testing.T) {
	root, named := repositoryRoot(t), 0
	pages, _ := book.Pages(os.DirFS(root))
	for _, page := range pages {
		text, err := os.ReadFile(filepath.Join(root, page))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range codeIn.FindAllStringSubmatch(string(text), -1) {
			named++
			file := path.Join(path.Dir(page), m[2])
			src, err := os.ReadFile(filepath.Join(root, file))
			if err != nil {
				t.Fatal(err)
			}
			is := regexp.MustCompile(`(?m)^(func|type|var|const)\b.*\b` + m[1] + `\b`)
			if !is.Match(src) {
				t.Errorf("%s names %s in %s, which has none", page, m[1], file)
			}
		}
	}
	if named == 0 {
		t.Error("no page names a function in a file")
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

// eachGoFile calls f with every Go file of the repository, named from its root.
func eachGoFile(t *testing.T, f func(name string, src []byte)) {
	t.Helper()
	root := repositoryRoot(t)
	files := 0
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "node_modules" || strings.HasPrefix(d.Name(), ".")) {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(file, ".go") {
			return nil
		}
		src, err := os.ReadFile(file)
		files++
		rel, _ := filepath.Rel(root, file)
		f(filepath.ToSlash(rel), src)
		return err
	})
	if err != nil || files == 0 {
		t.Fatalf("%d files checked: %v", files, err)
	}
}

func TestNoImportPointsForward(t *testing.T) {
	eachGoFile(t, func(name string, src []byte) {
		if strings.Contains(name, "/testdata/") {
			return
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), name, src, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range parsed.Imports {
			imported, _ := strconv.Unquote(spec.Path.Value)
			to, own := strings.CutPrefix(imported, "reverseproxy/")
			if wrong := checkArrow(path.Dir(name)+"/", to); own && wrong != "" {
				t.Errorf("%s imports %s: %s", name, to, wrong)
			}
		}
	})
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
