package csource_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"reverseproxy/internal/book"
	"reverseproxy/scripts/reader/cfiles"
	"reverseproxy/scripts/reader/csource"
)

func TestScanCalls(t *testing.T) {
	src := `#define READ(x) read(x) \
	  close(x)
# include <listen(1)>
int bind(int fd);           // a declaration: bind(0)
static int
helper (int fd) { return close(fd); }
/* connect(1)
   connect(2) */
char *s = "accept(1)";
int main(void)
{
    printf("socket(1) \" socket(2)");  char c = '"'; c = '\'';
    p->read(1); s.write(2);
    if (x > read (fd)) { // write(3)
        struct t v = { write(fd) };
    }
    // a comment that goes on \
    close(7);
  #define W(x) write(x)
    return sizeof(int);
}
`
	want := []string{"close 6 helper 1", "printf 12 main 1", "read 14 main 1", "write 15 main 3"}
	scan := csource.ScanCalls(src)
	var got []string
	for _, c := range scan.Calls {
		got = append(got, fmt.Sprintf("%s %d %s %d", c.Name, c.Line, c.Func, c.Depth))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if scan.FuncStart["helper"] != 5 || scan.FuncStart["main"] != 10 {
		t.Errorf("functions: %v", scan.FuncStart)
	}
	for _, junk := range []string{"", "\"", "'", "/*", "//", "#", "}}}}((((", "{{{{", "\\", "a(",
		"a{a(\n", "\xff(\x00"} {
		csource.ScanCalls(junk)
	}
}

func load(t *testing.T, dir, name string) (*csource.File, error) {
	t.Helper()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	return csource.Load(root, name)
}

// Files that have the calls on the known lines are aligned without a note, and
// every line that is not blank is in one piece or in the head.
func TestAlignKnownFiles(t *testing.T) {
	dir := cfiles.Dir(t)
	for _, chapter := range book.Originals() {
		t.Run(chapter.C.File, func(t *testing.T) {
			f, err := load(t, dir, chapter.C.File)
			if err != nil {
				t.Fatal(err)
			}
			a := csource.Align(chapter.C, f)
			if len(a.Notes)+len(f.Notes) > 0 {
				t.Errorf("notes: %q %q", a.Notes, f.Notes)
			}
			checkAlignment(t, chapter, f, a, 0)
		})
	}
}

// checkAlignment checks that the pieces hold the table's calls, shifted by some
// lines, and that no line is lost or shown twice.
func checkAlignment(t *testing.T, chapter book.Chapter, f *csource.File, a csource.Alignment,
	shift int) {
	t.Helper()
	shown := make([]int, len(f.Lines)+1)
	for n := 1; n <= a.HeadTo; n++ {
		shown[n]++
	}
	found := map[book.Row][]book.Call{}
	for _, p := range a.Pieces {
		for n := p.From; n <= p.To; n++ {
			shown[n]++
		}
		found[p.Row] = append(found[p.Row], p.Calls...)
		for _, c := range p.Calls {
			if c.Line < p.From || c.Line > p.To {
				t.Errorf("%v: %v is not in lines %d to %d", p.Row, c, p.From, p.To)
			}
		}
	}
	for n, times := range shown {
		if n > 0 && times != 1 && strings.TrimSpace(f.Lines[n-1]) != "" {
			t.Errorf("line %d is shown %d times", n, times)
		}
	}
	for _, row := range chapter.C.Rows() {
		var want []book.Call
		for _, c := range chapter.C.Calls(row) {
			want = append(want, book.Call{Name: c.Name, Line: c.Line + shift})
		}
		if diff := cmp.Diff(want, found[row]); diff != "" {
			t.Errorf("%v: %s", row, diff)
		}
	}
}

// The lines that open the block of a call belong to it, not to the call before.
func TestElseGoesWithItsCall(t *testing.T) {
	chapter := book.Of(3)
	lines := strings.Split(cfiles.Text(chapter), "\n")
	for _, branch := range []string{
		"    {exit(0);|}|else|{|    close(fd);",
		"    {exit(0);|} else {||    // parent|    close(fd);",
		"    {exit(0);|    }|else if (pid > 0)|    {|    close(fd);",
		"    {exit(0);}|else {|for (;;) {||    close(fd);",
	} {
		copied := slices.Clone(lines)
		copy(copied[137:], strings.Split(branch, "|"))
		f, err := csource.Parse(chapter.C.File, strings.Join(copied, "\n"))
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range csource.Align(chapter.C, f).Pieces {
			if p.Row != (book.Row{Step: 10, Extra: 2}) {
				continue
			}
			first := slices.IndexFunc(f.Lines, func(l string) bool {
				return strings.Contains(l, "else")
			}) + 1
			if p.From != first {
				t.Errorf("%q: the parent's part begins on line %d, not with the else on %d",
					branch, p.From, first)
			}
		}
	}
}

// The last line counts, too, when no newline ends it.
func TestLastLineCounts(t *testing.T) {
	chapter := book.Of(1)
	for _, end := range []string{"", "\n", "\r\n"} {
		text := strings.TrimSuffix(cfiles.Text(chapter), "\n") + end
		f, err := csource.Parse(chapter.C.File, text)
		if err != nil {
			t.Fatal(err)
		}
		if a := csource.Align(chapter.C, f); len(a.Notes) > 0 {
			t.Errorf("ended by %q: %q", end, a.Notes)
		}
	}
}

// A student's copy with lines added, a step taken out and calls added is aligned as
// far as it goes, and the differences are named.
func TestAlignChangedFiles(t *testing.T) {
	chapter := book.Of(4)
	text := cfiles.Text(chapter)
	dir := t.TempDir()

	cfiles.Write(t, dir, "shifted.c", strings.Repeat("// mine\n", 7)+text)
	f, err := load(t, dir, "shifted.c")
	if err != nil {
		t.Fatal(err)
	}
	a := csource.Align(chapter.C, f)
	checkAlignment(t, chapter, f, a, 7)
	notes := strings.Join(a.Notes, "\n")
	if !strings.Contains(notes, "it has 154 lines, not 147") ||
		!strings.Contains(notes, "bind on line 114, not 107") {
		t.Errorf("notes: %s", notes)
	}

	without := strings.Replace(text, "x = listen(", "x = lissen(", 1)
	cfiles.Write(t, dir, "without.c", without)
	f, _ = load(t, dir, "without.c")
	a = csource.Align(chapter.C, f)
	if want := []string{"listen (step 3, line 116) was not found"}; !cmp.Equal(want, a.Notes) {
		t.Errorf("notes: %q, want %q", a.Notes, want)
	}
	if slices.ContainsFunc(a.Pieces, func(p csource.Piece) bool { return p.Row.Step == 3 }) {
		t.Error("a step without its call has a piece")
	}

	// The functions the other way round, and read called recv.
	half := strings.Index(text, "int work1")
	turned := text[half:] + strings.ReplaceAll(text[:half], "read(", "recv(")
	cfiles.Write(t, dir, "turned.c", turned)
	f, _ = load(t, dir, "turned.c")
	a = csource.Align(chapter.C, f)
	rows := map[book.Row]bool{}
	for _, p := range a.Pieces {
		rows[p.Row] = true
	}
	if len(rows) != 11 || a.Pieces[0].Row.Step != 1 {
		t.Errorf("functions the other way round: %d rows, %+v", len(rows), a.Pieces)
	}
}

// Calls that deal with errors stand between those of the steps, as in the originals.
func TestAlignChoosesAmongCalls(t *testing.T) {
	chapter := book.Of(2)
	lines := strings.Split(cfiles.Text(chapter), "\n")
	for _, n := range []int{30, 37, 45, 54, 66, 77, 78} {
		lines[n-1] = "    if (x < 0) { close(fd); write(2, m, n); }"
	}
	f, err := csource.Parse(chapter.C.File, strings.Join(lines, "\n"))
	if err != nil {
		t.Fatal(err)
	}
	a := csource.Align(chapter.C, f)
	if len(a.Notes) > 0 {
		t.Errorf("notes: %q", a.Notes)
	}
	checkAlignment(t, chapter, f, a, 0)
}

// Without comments that number the steps, a step begins at the paragraph that leads to its call.
func TestCutAtParagraphs(t *testing.T) {
	chapter := book.Of(2)
	f, err := csource.Parse("x.c", `int main(void)
{
    int s = socket(1);
    if (s < 0)
        exit(1);

    puts("made");

    prepare();
    bind(s);
    listen(s);

    while (1) {
        int c = accept(s);

        if (c < 0) {
            continue;
        }

        int n = read(c);
    }
}
`)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range csource.Align(chapter.C, f).Pieces {
		got = append(got, fmt.Sprintf("%d: %d-%d", p.Row.Step, p.From, p.To))
	}
	want := []string{"1: 1-7", "2: 9-10", "3: 11-11", "4: 13-18", "5: 20-22"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestLoadRefuses(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(t.TempDir(), "secret.c")
	cfiles.Write(t, filepath.Dir(secret), "secret.c", "int main() { socket(); }")
	cfiles.Write(t, dir, "nul.c", "int\x00main")
	cfiles.Write(t, dir, "empty.c", " \n\n")
	cfiles.Write(t, dir, "huge.c", strings.Repeat("x\n", csource.MaxBytes/2+1))
	cfiles.Write(t, dir, "folder.c/inside", "x")
	if err := os.Symlink(secret, filepath.Join(dir, "link.c")); err != nil {
		t.Skip(err)
	}
	if err := os.Symlink("loop.c", filepath.Join(dir, "loop.c")); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"missing.c": "missing.c is not there",
		"nul.c":     "holds NUL bytes",
		"empty.c":   "is empty",
		"huge.c":    "more than 65536",
		"folder.c":  "is no regular file",
		"link.c":    "link.c cannot be read",
		"loop.c":    "loop.c cannot be read",
		"../x.c":    "cannot be read",
	} {
		if f, err := load(t, dir, name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, %v, want %q", name, f, err, want)
		}
	}
}

func TestManyCalls(t *testing.T) {
	dir := t.TempDir()
	cfiles.Write(t, dir, "wide.c",
		"int main() { "+strings.Repeat("socket(1); ", 5_000)+"}\r\n\xff\xfe\n")
	f, err := load(t, dir, "wide.c")
	if err != nil {
		t.Fatal(err)
	}
	a := csource.Align(book.Of(2).C, f)
	if notes := strings.Join(append(f.Notes, a.Notes...), "\n"); !strings.Contains(notes,
		"not UTF-8") ||
		!strings.Contains(notes, "5000 socket calls") {
		t.Errorf("notes: %s", notes)
	}
}

// The largest file is read in time that grows with its size, not with its square.
func TestLargestFiles(t *testing.T) {
	for _, unit := range []string{"#", "close(", "\"", "p->close("} {
		f, err := csource.Parse("x.c",
			"int main(){"+strings.Repeat(unit, (csource.MaxBytes-20)/len(unit)))
		if err != nil {
			t.Fatal(err)
		}
		csource.Align(book.Of(3).C, f)
	}
}

// Nothing that is called a C file makes the reader fail.
func FuzzAlign(f *testing.F) {
	for _, chapter := range book.Originals() {
		f.Add(cfiles.Text(chapter))
	}
	f.Add("int main(){socket(\nbind(}{close(close(\n\n// 5.\nread(")
	f.Add("}\n{\nread();\n}")
	f.Fuzz(func(t *testing.T, src string) {
		file, err := csource.Parse("x.c", src)
		if err != nil {
			return
		}
		for _, chapter := range book.Originals() {
			a := csource.Align(chapter.C, file)
			last := a.HeadTo
			for _, p := range a.Pieces {
				if p.From <= last-0 && p.From < 1 || p.To < p.From || p.To > len(file.Lines) ||
					p.From <= last {
					t.Fatalf("pieces overlap or leave the file of %d lines: head %d, %+v",
						len(file.Lines), a.HeadTo, a.Pieces)
				}
				last = p.To
			}
		}
	})
}
