package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestLicences: NOTICE.md names every module that anything here is built from,
// and no other; the licence and the README say so.
func TestLicences(t *testing.T) {
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join("..", "..", name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	if licence := read("LICENSE"); !strings.HasPrefix(licence, "MIT License\n") ||
		!strings.Contains(licence, "the reverseproxy authors") {
		t.Error("LICENSE is not MIT's, of the reverseproxy authors")
	}
	if readme := read("README.md"); !strings.Contains(readme, "](LICENSE)") ||
		!strings.Contains(readme, "](NOTICE.md)") {
		t.Error("the README does not link to LICENSE and NOTICE.md")
	}
	var named []string
	rows := regexp.MustCompile(`(?m)^\| (\S+) \| [^|]+ \| [^|]+ \|$`)
	for _, row := range rows.FindAllStringSubmatch(read("NOTICE.md"), -1) {
		if row[1] != "module" {
			named = append(named, row[1])
		}
	}
	cmd := exec.Command("go", "list", "-deps", "-test", "-f",
		"{{with .Module}}{{if not .Main}}{{.Path}}{{end}}{{end}}", "./...")
	cmd.Dir = filepath.Join("..", "..")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	built := strings.Fields(string(out))
	slices.Sort(built)
	slices.Sort(named)
	if diff := cmp.Diff(slices.Compact(built), named); diff != "" {
		t.Errorf("modules that are built (-), named in NOTICE.md (+):\n%s", diff)
	}
}
