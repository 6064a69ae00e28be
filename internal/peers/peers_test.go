package peers

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"reverseproxy/internal/harness"
)

// The ports of a C program are replaced as whole numbers only.
func TestC(t *testing.T) {
	harness.Need(t, "cc")
	src := filepath.Join(t.TempDir(), "p.c")
	code := "#include <stdio.h>\nint main(void) { int b[] = {8000, 8001, 8002};\n" +
		"printf(\"%d %d %d %d 18080\\n\", 8080, b[0], b[1], b[2]); return 0; }\n"
	if err := os.WriteFile(src, []byte(code), 0o600); err != nil {
		t.Fatal(err)
	}
	place := Place{Dir: t.TempDir(), Listen: "127.0.0.1:21000",
		Backends: []string{"127.0.0.1:31001", "127.0.0.1:31002", "127.0.0.1:31003"}}
	args, err := place.C(src)
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(args[0]).Output()
	if err != nil || string(out) != "21000 31001 31002 31003 18080\n" {
		t.Errorf("%s %v", out, err)
	}
}

func TestFill(t *testing.T) {
	p := Place{Dir: "/d", Listen: "127.0.0.1:1", Backends: []string{"a:1", "b:2"}}
	got := p.Fill("DIR LISTEN PORT MORE\nSERVERS", "server s# ADDR;", "MORE", "less")
	if want := "/d 127.0.0.1:1 1 less\nserver s1 a:1;\nserver s2 b:2;"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
