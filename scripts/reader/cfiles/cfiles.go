// Package cfiles writes C files for the reader's tests: made up from the table of calls,
// each call on the line where the original has it, and nothing else of the originals.
package cfiles

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"reverseproxy/internal/book"
)

// Text makes up a file that has the calls of a chapter's C program on their lines.
func Text(chapter book.Chapter) string {
	c := chapter.C
	lines := make([]string, c.Lines)
	lines[0] = "/* a file for tests: socket(1), bind(2) */"
	var from, to = []int{5}, []int{c.Lines}
	if c.File == "threaded_proxy.c" { // two functions
		from, to = []int{5, 87}, []int{85, c.Lines}
	}
	for i := range from {
		lines[from[i]-1] = fmt.Sprintf("int work%d(void)", i)
		lines[from[i]] = "{"
		lines[to[i]-1] = "}"
	}
	put := func(call book.Call, what string) {
		lines[call.Line-1] = fmt.Sprintf("    x = %s(%q, 1); // %s", call.Name, "<close(fd)>", what)
	}
	for _, row := range c.Rows() {
		for i, call := range c.Calls(row) {
			put(call, book.Steps[row.Step])
			if above := call.Line - 2; i == 0 && row.Extra == 0 && lines[above] == "" {
				lines[above] = fmt.Sprintf("    // %d. %s", row.Step, book.Steps[row.Step])
			}
		}
	}
	return strings.Join(lines, "\n") + "\n"
}

// Dir writes the files of all chapters into a temporary folder.
func Dir(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for _, chapter := range book.Originals() {
		Write(t, dir, chapter.C.File, Text(chapter))
	}
	return dir
}

// Write writes a file.
func Write(t testing.TB, dir, name, text string) {
	t.Helper()
	file := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
