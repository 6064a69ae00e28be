package book

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Every chapter's folder is an entry, and every entry a folder, in order.
func TestTheTableIsWhole(t *testing.T) {
	root, err := Root()
	if err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(filepath.Join(root, "ch*_*", "main.go"))
	for _, file := range files {
		if dir := filepath.Base(filepath.Dir(file)); !found(dir) {
			t.Errorf("%s is missing", dir)
		}
	}
	for i, c := range Chapters {
		if c.Number != i+1 || c.Dir[:len(c.Short())+1] != c.Short()+"_" || c.About == "" ||
			c.Worker == "" {
			t.Errorf("entry %d: %+v", i+1, c)
		}
		if _, err := os.Stat(filepath.Join(root, c.Dir, "main.go")); err != nil {
			t.Error(err)
		}
	}
}

func found(dir string) bool { _, ok := Find(dir); return ok }

func TestWhere(t *testing.T) {
	want := []string{
		"Base.c, steps 1–2 lines 17–29, 4 line 37, 5 line 46, 10 lines 55–56",
		"Reverse_Proxy.c, steps 1–3 lines 17–36, 4 line 43, 5–10 lines 52–113",
		"fork_proxy.c, steps 1–3 lines 21–41, 4 line 51, 5–10 lines 69–137",
		"threaded_proxy.c, steps 1–3 lines 95–116, 4 line 125, 5–10 lines 12–84",
		"proxy_load_balancer.c, steps 1–3 lines 17–36, 4 line 43, 5–10 lines 51–118",
	}
	var got []string
	for _, c := range Originals() {
		got = append(got, c.C.Where())
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
