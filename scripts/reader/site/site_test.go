package site

import (
	"fmt"
	"html"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"reverseproxy/internal/book"
	"reverseproxy/internal/harness"
	"reverseproxy/scripts/reader/cfiles"
)

// chapterMain makes up a main.go with the step comments of a chapter. As in the
// real ones, steps 1 to 3 are one call and step 10 stands before step 5.
func chapterMain(chapter book.Chapter) string {
	note := func(numbers ...int) string {
		var parts []string
		for _, n := range numbers {
			for _, c := range chapter.C.Steps[n] {
				parts = append(parts, fmt.Sprintf("%s, line %d", c.Name, c.Line))
			}
		}
		if parts == nil {
			return "(C: missing)"
		}
		return "(C: " + strings.Join(parts, "; ") + ")"
	}
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p("// Problem: <none>.\npackage main\n\nimport \"fmt\"\n")
	p("// main starts it.\nfunc main() {\n\tfmt.Println()\n")
	p("\t// 1–3. All three calls\n\t// %s.\n\tlisten()\n\n\tserve()\n}\n", note(1, 2, 3))
	p("// serve accepts.\nfunc serve() {\n\tfor {\n\t\t// 4. Accept %s.\n\t\taccept()", note(4))
	for _, e := range chapter.C.After(4) {
		if len(e.Calls) > 0 {
			p("\n\t\t// Start one (C: %s, line %d).\n\t\tgo handleClient()", e.Calls[0].Name,
				e.Calls[0].Line)
		} else {
			p("\n\t\t// Start one (C: nothing): a goroutine.\n\t\tgo handleClient()")
		}
	}
	p("\t}\n}\n\nfunc handleClient() {\n\tx := 1\n\n\t// 10. Close %s.\n\tdefer x.Close()\n",
		note(10))
	for n := 5; n <= 9; n++ {
		if len(chapter.C.Steps[n]) > 0 {
			p("\t// %d. %s\n\t// %s.\n\tx.Do(`<script>alert(%d)</script>`)\n", n, book.Steps[n],
				note(n), n)
		}
	}
	p("}\n\n// helper helps.\nfunc helper() {\n\thelp()\n}")
	return b.String()
}

// repository makes a repository of five chapters and a few documents.
func repository(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	write := func(name, text string) { cfiles.Write(t, root, name, text) }
	write("go.mod", "module book\n")
	for _, chapter := range book.Originals() {
		write(chapter.Dir+"/main.go", chapterMain(chapter))
	}
	write("README.md", "# The book\n\n[how](docs/how.md#a--b) [ch4](docs/ch4_threaded.md) "+
		"[code](ch4_threaded/main.go#L3-L5) "+
		"[dir](ch4_threaded/) ![picture](docs/p.png) [out](https://example.org/)\n\n"+
		"<script>alert(1)</script> <b>bold</b>\n\nno [no](javascript:alert(4)) <i>i</i>\n\n"+
		"<!-- a comment -->\n")
	write("docs/how.md", "# How\n\n## A & B\n\n## A & B\n\n```mermaid\n"+
		"sequenceDiagram\n  A->>B: hello <i>\n```\n\n"+
		"```diff\n-a\n+b\n```\n\n```console\n$ ls\nx\n"+
		"```\n\n    an <indented> block\n\n"+
		"| a | b |\n|---|---|\n| 1 | `<2>` |\n\n[back](../README.md) [again](#a--b-1)\n")
	write("docs/ch4_threaded.md", "# Chapter 4: threads\n")
	write("docs/p.png", "\x89PNG not really")
	return root
}

func build(t *testing.T, o Options) *Site {
	t.Helper()
	s, err := Build(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestDocuments(t *testing.T) {
	s := build(t, Options{Root: repository(t)})
	if len(s.Problems) > 0 {
		t.Fatalf("problems: %q", s.Problems)
	}
	readme := string(s.Files["index.html"])
	for _, want := range []string{
		`<a href="docs/how.html#a--b">how</a>`,
		`<a href="source/ch4_threaded/main.go.html#L3">code</a>`,
		`<a href="source/ch4_threaded/index.html">dir</a>`, `<img src="docs/p.png"`,
		`<a href="https://example.org/">out</a>`,
		`&lt;script&gt;alert(1)&lt;/script&gt;`, `&lt;i&gt;i&lt;/i&gt;`, `>Chapter 4: threads</a>`,
	} {
		if !strings.Contains(readme, want) {
			t.Errorf("README lacks %s\n%s", want, readme)
		}
	}
	for _, bad := range []string{"<script>", "<i>", `="javascript:`, "a comment"} {
		if strings.Contains(readme, bad) {
			t.Errorf("README holds %s: %s", bad, readme)
		}
	}
	how := string(s.Files["docs/how.html"])
	for _, want := range []string{
		`<h2 id="a--b-1">`, "<svg", "hello &lt;i&gt;",
		`<span class="line deleted">`,
		`<span class="line typed">$ ls</span>`, "<code>&lt;2&gt;</code>",
		`<span class="line">an &lt;indented&gt; block</span>`, `href="../index.html"`,
		`href="../assets/reader.css"`,
	} {
		if !strings.Contains(how, want) {
			t.Errorf("how.md lacks %s\n%s", want, how)
		}
	}
	if !strings.Contains(string(s.Files["source/ch4_threaded/main.go.html"]), "&lt;script&gt;") {
		t.Error("the source page does not escape")
	}
}

func TestProblemsAreListed(t *testing.T) {
	root := repository(t)
	cfiles.Write(t, root, "docs/bad.md",
		"# Bad\n\n[a](gone.md) [b](how.md#none) [c](../../etc/passwd) ![d](gone.png) "+
			"[e](../ch4_threaded/main.go#L999) [f](#none)\n\n"+
			"![remote](https://example.org/x.png)\n\n```mermaid\nflowchart LR\n  A-->B\n```\n")
	s := build(t, Options{Root: root})
	all := strings.Join(s.Problems, "\n")
	for _, want := range []string{`link "gone.md": there is no docs/gone.md`,
		`docs/how.html has no "none"`,
		`leads out of the repository`, `link "gone.png"`, `has no "L999"`,
		`docs/bad.html has no "none"`, "loads from another host",
		"docs/bad.md: a diagram cannot be drawn"} {
		if !strings.Contains(all, want) {
			t.Errorf("not listed: %s\n%s", want, all)
		}
	}
	if bad := string(s.Files["docs/bad.html"]); !strings.Contains(bad, "flowchart LR") {
		t.Error("a diagram that cannot be drawn does not show its source")
	}
}

var (
	cellTag = regexp.MustCompile(
		`<section class="cell (c|go|kernel) r(\d+) s(\d+)" data-rows="([^"]*)"`)
	lineID = regexp.MustCompile(`id="(go|c)-L(\d+)"`)
)

// rowsOfPage lists the rows of each side of a page.
func rowsOfPage(page string) map[string][]string {
	rows := map[string][]string{}
	for _, m := range cellTag.FindAllStringSubmatch(page, -1) {
		rows[m[1]] = append(rows[m[1]], m[4])
	}
	return rows
}

// checkLines checks that every line of a file that is not blank stands on a page
// once.
func checkLines(t *testing.T, page, side string, src string) {
	t.Helper()
	shown := map[string]int{}
	for _, m := range lineID.FindAllStringSubmatch(page, -1) {
		if m[1] == side {
			shown[m[2]]++
		}
	}
	for i, l := range strings.Split(src, "\n") {
		want := 1
		if strings.TrimSpace(l) == "" {
			want = min(shown[fmt.Sprint(i+1)], 1)
		}
		if got := shown[fmt.Sprint(i+1)]; got != want {
			t.Errorf("%s line %d is shown %d times: %s", side, i+1, got, l)
		}
	}
}

func TestSideBySide(t *testing.T) {
	root, cdir := repository(t), cfiles.Dir(t)
	with := build(t, Options{Root: root, CDir: cdir})
	without := build(t, Options{Root: root})
	if len(with.Problems)+len(with.Notes)+len(without.Problems)+len(without.Notes) > 0 {
		t.Errorf("problems: %q %q %q %q", with.Problems, with.Notes, without.Problems,
			without.Notes)
	}
	wantGo := map[string][]string{
		"ch1_base":          {"1 2 3", "4", "5", "10"},
		"ch2_basic_proxy":   {"1 2 3", "4", "5", "6", "7", "8", "9", "10"},
		"ch3_process_model": {"1 2 3", "4", "4a", "5", "6", "7", "8", "9", "10", "10a", "10b"},
		"ch4_threaded":      {"1 2 3", "4", "4a", "5", "6", "7", "8", "9", "10"},
		"ch5_load_balancer": {"1 2 3", "4", "4a", "5", "5a", "6", "7", "8", "9", "10"},
	}
	for _, chapter := range book.Originals() {
		t.Run(chapter.Dir, func(t *testing.T) {
			for _, s := range []*Site{with, without} {
				page := string(s.Files["side-by-side/"+chapter.Dir+".html"])
				rows := rowsOfPage(page)
				if diff := cmp.Diff(wantGo[chapter.Dir], rows["go"]); diff != "" {
					t.Errorf("Go rows: %s", diff)
				}
				if diff := cmp.Diff(strings.Fields(strings.Join(rows["go"], " ")),
					rows["c"]); diff != "" {
					t.Errorf("C and Go differ in rows: %s", diff)
				}
				if diff := cmp.Diff(rows["c"], rows["kernel"]); diff != "" {
					t.Errorf("C and kernel differ in rows: %s", diff)
				}
				checkLines(t, page, "go", chapterMain(chapter))
				if strings.Contains(page, "<script>alert") {
					t.Error("code is not escaped")
				}
			}
			page := string(with.Files["side-by-side/"+chapter.Dir+".html"])
			checkLines(t, page, "c", cfiles.Text(chapter))
			for _, calls := range chapter.C.Steps {
				for _, c := range calls {
					if !strings.Contains(page,
						fmt.Sprintf(`<div class="ln call" id="c-L%d">`, c.Line)) {
						t.Errorf("%s on line %d is not marked", c.Name, c.Line)
					}
					outline := string(without.Files["side-by-side/"+chapter.Dir+".html"])
					if !strings.Contains(outline, fmt.Sprintf("<span>line %d</span>", c.Line)) {
						t.Errorf("the outline lacks %s, line %d", c.Name, c.Line)
					}
				}
			}
		})
	}
}

// Comments without line numbers, two of one number in a function, and notes at
// the end of a line find their rows.
func TestRowsOfComments(t *testing.T) {
	client := []string{
		"5 client := forward.NewClient(conn, p.settings, log), request, err := " +
			"forward.ReadRequest(client)",
		"6 backend, err := forward.Connect(p.app.Backends[0], p.settings, log)",
		"7 if err := request.Write(backend); err != nil {",
		"8 response, err := forward.ReadResponse(backend, request)",
		"9 return response.Write(client)",
		"10 defer client.Close(&err), defer backend.Close()",
	}
	server := []string{`1 listener, err := net.Listen("tcp", app.Listen)`,
		"4 conn, err := listener.Accept()"}
	ch3 := slices.Concat(server,
		[]string{
			"4a socket, err := family.File(conn) // one more descriptor of the socket (dup), " +
				"child := exec.Command(p.family.Program(), p.family.Args()...)"}, client,
		[]string{"10a p.handleClient(conn, log), os.Exit(p.family.Status()) // 0: the client has " +
			"its answer (C: exit)",
			"10b conn.Close() // the child has the socket; this is the parent's copy (C: close)"})
	ch5 := slices.Concat(server, []string{"4a go p.handleClient(conn, p.app.Log.Accept(conn))"},
		client[:1], []string{"5a addr := p.turns.Next()",
			"6 backend, err := forward.Connect(addr, p.settings, log)"}, client[2:])
	for number, want := range map[int][]string{3: ch3, 5: ch5} {
		chapter := book.Of(number)
		src, err := os.ReadFile("testdata/" + chapter.Short() + ".go.txt")
		if err != nil {
			t.Fatal(err)
		}
		cut, err := cutGo(chapter, src)
		if err != nil {
			t.Fatal(err)
		}
		first := map[string][]string{} // of each piece, the first line of code
		lines := strings.Split(string(src), "\n")
		for _, p := range cut.pieces {
			for _, sp := range p.spans {
				for _, l := range lines[sp.from-1 : sp.to] {
					l = strings.TrimSpace(l)
					if l != "" && !strings.HasPrefix(l, "//") && !strings.HasPrefix(l, "func ") &&
						!strings.HasPrefix(l, "for ") &&
						!strings.HasPrefix(l, "if conn") {
						first[rowID(p.rows[0])] = append(first[rowID(p.rows[0])], l)
						break
					}
				}
			}
		}
		var got []string
		for _, row := range chapter.C.Rows() {
			if l := first[rowID(row)]; l != nil {
				got = append(got, rowID(row)+" "+strings.Join(l, ", "))
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", chapter.Short(), diff)
		}
	}
}

// Every row of every chapter has a text about the kernel.
func TestKernelTexts(t *testing.T) {
	for _, chapter := range book.Originals() {
		for _, row := range chapter.C.Rows() {
			if len(kernelFor(chapter.Dir, row).Does) == 0 {
				t.Errorf("%s: nothing about row %s", chapter.Dir, rowID(row))
			}
		}
	}
	for dir, rows := range chapterKernelTexts {
		chapter, ok := book.Find(dir)
		if chapter.Beside > 0 {
			chapter.C = tenSteps
		}
		for row := range rows {
			if !ok || !slices.Contains(chapter.C.Rows(), row) {
				t.Errorf("%s has no row %v", dir, row)
			}
		}
	}
}

func TestMissingAndChangedC(t *testing.T) {
	root, cdir := repository(t), cfiles.Dir(t)
	if err := os.Remove(filepath.Join(cdir, "Base.c")); err != nil {
		t.Fatal(err)
	}
	chapter := book.Of(2)
	cfiles.Write(t, cdir, "Reverse_Proxy.c",
		"// mine\n"+strings.Replace(cfiles.Text(chapter), "x = connect(", "x = konnect(", 1))
	cfiles.Write(t, cdir, "fork_proxy.c", "\x00\x01binary")
	s := build(t, Options{Root: root, CDir: cdir})
	notes := strings.Join(s.Notes, "\n")
	for page, want := range map[string]string{
		"ch1_base":          "Base.c is not there",
		"ch2_basic_proxy":   "Reverse_Proxy.c: connect (step 6, line 76) was not found",
		"ch3_process_model": "fork_proxy.c is no text",
	} {
		body := html.UnescapeString(string(s.Files["side-by-side/"+page+".html"]))
		if !strings.Contains(notes, want) || !strings.Contains(body, want) {
			t.Errorf("%s: %q is not reported: %s", page, want, notes)
		}
	}
	page := string(s.Files["side-by-side/ch2_basic_proxy.html"])
	if !strings.Contains(page, `<div class="ln call" id="c-L53">`) {
		t.Error("what can be aligned is not")
	}
	if strings.Contains(string(s.Files["side-by-side/ch4_threaded.html"]), `class="notes"`) {
		t.Error("a good file has notes")
	}
}

func TestNoChapters(t *testing.T) {
	root := t.TempDir()
	s := build(t, Options{Root: root, CDir: t.TempDir()})
	if len(s.Problems) > 0 || len(s.Notes) != 5 {
		t.Errorf("problems %q, notes %q", s.Problems, s.Notes)
	}
	if !strings.Contains(string(s.Files["side-by-side/ch1_base.html"]), "has no main.go yet") ||
		s.Files["index.html"] == nil {
		t.Error("an empty repository has no pages")
	}
	if err := os.Mkdir(filepath.Join(root, "ch2_basic_proxy"), 0o755); err != nil {
		t.Fatal(err)
	}
	cfiles.Write(t, root, "ch2_basic_proxy/main.go", "package main\nfunc (")
	s = build(t, Options{Root: root})
	if len(s.Problems) == 0 || s.Files["side-by-side/ch2_basic_proxy.html"] == nil {
		t.Errorf("a main.go that does not compile: %q", s.Problems)
	}
}

func TestDiffPages(t *testing.T) {
	root := repository(t)
	s := build(t, Options{Root: root})
	var diffs []string
	for name := range s.Files {
		if strings.HasPrefix(name, "diff/") {
			diffs = append(diffs, strings.TrimPrefix(name, "diff/"))
		}
	}
	slices.Sort(diffs)
	want := []string{"ch1_base--ch2_basic_proxy.html", "ch2_basic_proxy--ch3_process_model.html",
		"ch2_basic_proxy--ch4_threaded.html",
		"ch3_process_model--ch4_threaded.html", "ch4_threaded--ch5_load_balancer.html"}
	if diff := cmp.Diff(want, diffs); diff != "" {
		t.Error(diff)
	}
	page := string(s.Files["diff/ch2_basic_proxy--ch4_threaded.html"])
	del, add := strings.Count(page, `<td class="no deleted">`),
		strings.Count(page, `<td class="no added">`)
	if del == 0 || !strings.Contains(page, fmt.Sprintf("%d lines out", del)) ||
		!strings.Contains(page, fmt.Sprintf("%d lines in", add)) {
		t.Errorf("%d deleted and %d added rows, not as counted", del, add)
	}
}

// The book of this repository builds, and every line of every chapter has its place.
func TestThisBook(t *testing.T) {
	if harness.Race {
		t.Skip("takes a minute: the reader's own tests make this book with the race detector")
	}
	root := harness.Root()
	s := build(t, Options{Root: root, CDir: cfiles.Dir(t)})
	for _, p := range s.Problems {
		t.Error(p)
	}
	// The page before chapter 1 stands there, and every page leads to every chapter.
	start := string(s.Files["index.html"])
	if at := strings.Index(start, `<h2>Chapters</h2>`); at < 0 ||
		!strings.Contains(start[:at], `href="docs/ch0_before_you_start.html"`) ||
		strings.Contains(start[at:strings.Index(start, "<main")], `ch0_`) {
		t.Error("ch0 does not stand before the chapters")
	}
	ch1 := string(s.Files["docs/ch1_base.html"])
	if !strings.Contains(ch1, `<a rel="prev" href="../docs/ch0_before_you_start.html">`) {
		t.Error("ch0 is not the page before chapter 1")
	}
	side := string(s.Files["side-by-side/ch1_base.html"])
	for _, chapter := range book.Chapters {
		link := `href="../docs/` + chapter.Dir + `.html" title=`
		if chapter.C != nil || chapter.Beside > 0 {
			link = `href="../side-by-side/` + chapter.Dir + `.html" title=`
		}
		if !strings.Contains(side, link) {
			t.Errorf("no way from a page side by side to %s", chapter.Dir)
		}
	}
	for _, chapter := range book.Chapters {
		if chapter.Beside == 0 {
			continue
		}
		page := string(s.Files["side-by-side/"+chapter.Dir+".html"])
		rows := rowsOfPage(page)
		want := []string{"1 2 3", "4", "5", "6", "7", "8", "9", "10"}
		for _, side := range []string{"c", "go"} {
			if diff := cmp.Diff(want, rows[side]); diff != "" {
				t.Errorf("%s beside ch%d, %s: %s", chapter.Dir, chapter.Beside, side, diff)
			}
		}
		for side, of := range map[string]book.Chapter{"c": book.Of(chapter.Beside), "go": chapter} {
			src, err := os.ReadFile(filepath.Join(root, of.Dir, "main.go"))
			if err != nil {
				t.Fatal(err)
			}
			checkLines(t, page, side, string(src))
		}
	}
	for _, chapter := range book.Originals() {
		src, err := os.ReadFile(filepath.Join(root, chapter.Dir, "main.go"))
		if err != nil {
			t.Fatal(err)
		}
		t.Run(chapter.Dir, func(t *testing.T) {
			page := string(s.Files["side-by-side/"+chapter.Dir+".html"])
			checkLines(t, page, "go", string(src))
			cut, err := cutGo(chapter, src)
			if err != nil {
				t.Fatal(err)
			}
			for _, row := range chapter.C.Rows() {
				has := slices.ContainsFunc(cut.pieces,
					func(p goPiece) bool { return slices.Contains(p.rows, row) })
				if (row.Extra > 0 || len(chapter.C.Steps[row.Step]) > 0) && !has {
					t.Errorf("row %s has no Go beside it", rowID(row))
				}
			}
		})
	}
}
