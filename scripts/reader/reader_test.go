package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"reverseproxy/internal/book"
	"reverseproxy/internal/harness"
	"reverseproxy/scripts/reader/cfiles"
	"reverseproxy/scripts/reader/site"
)

// smallBook makes a repository with two chapters and two documents and changes into it.
func smallBook(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	cfiles.Write(t, root, "go.mod", "module book\n")
	for _, dir := range []string{"ch2_basic_proxy", "ch4_threaded"} {
		chapter, _ := book.Find(dir)
		var b strings.Builder
		fmt.Fprintf(&b, "// Problem: %s\npackage main\n\nfunc main() {\n", dir)
		for n := 1; n <= 10; n++ {
			fmt.Fprintf(&b, "\t// %d. Step (C: %s).\n\tdo(%d)\n\n", n, chapter.C.Steps[n][0].Name,
				n)
		}
		b.WriteString("}\n" + strings.Repeat("\n// The same in both.\n", 20))
		cfiles.Write(t, root, dir+"/main.go", b.String())
	}
	cfiles.Write(t, root, "README.md",
		"# The book\n\n[mechanism](docs/working_mechanism.md)\n\n"+
			"| a long table head | another one |\n|---|---|\n"+
			"| `a/very/long/path/without/any/break/"+
			strings.Repeat("x", 90)+"` | b |\n\n```go\nfunc main() { "+strings.Repeat("long ", 60)+
			"}\n```\n")
	cfiles.Write(t, root, "docs/working_mechanism.md",
		"# How\n\n```mermaid\nsequenceDiagram\n  participant C as Client\n  C->>P: request\n  "+
			"P->>B: request\n```\n")
	t.Chdir(root)
	return root
}

// reader runs the program and returns its exit status and what it prints.
func reader(ctx context.Context, args ...string) (status int, stdout, stderr string) {
	var out, errs bytes.Buffer
	status = run(ctx, args, &out, &errs)
	return status, out.String(), errs.String()
}

func TestStaticSite(t *testing.T) {
	root := smallBook(t)
	out := filepath.Join(t.TempDir(), "site")
	status, stdout, stderr := reader(t.Context(), "-c", cfiles.Dir(t), "-o", out)
	if status != 0 || !strings.Contains(stdout, "open ") {
		t.Fatalf("exit %d: %s%s", status, stdout, stderr)
	}
	for _, name := range []string{"index.html", "chapters.html", "docs/working_mechanism.html",
		"side-by-side/ch4_threaded.html", "slides/index.html",
		"diff/ch2_basic_proxy--ch4_threaded.html", "assets/reader.css", "assets/reader.js"} {
		if _, err := os.Stat(filepath.Join(out, name)); err != nil {
			t.Error(err)
		}
	}
	// A second run takes the place of the first, and a dead link is listed.
	cfiles.Write(t, root, "docs/bad.md", "# Bad\n\n[x](gone.md)\n")
	status, stdout, stderr = reader(t.Context(), "-o", out)
	if status != 1 || !strings.Contains(stdout, `docs/bad.md: link "gone.md"`) ||
		!strings.Contains(stderr, "problems") {
		t.Errorf("a dead link: exit %d: %s%s", status, stdout, stderr)
	}
	// What the reader has not written is left alone.
	status, _, stderr = reader(t.Context(), "-o", root)
	if status != 1 || !strings.Contains(stderr, "not the reader's") {
		t.Errorf("-o into the repository: exit %d: %s", status, stderr)
	}
	if _, err := os.Stat(filepath.Join(root, "README.md")); err != nil {
		t.Error(err)
	}
}

func TestFaultsOfTheFolder(t *testing.T) {
	smallBook(t)
	file := filepath.Join(t.TempDir(), "file")
	cfiles.Write(t, filepath.Dir(file), "file", "x")
	out := func() string { return filepath.Join(t.TempDir(), "site") }
	for dir, want := range map[string]string{
		file:           "is a file: -c takes the folder",
		file + "-gone": "there is no folder",
	} {
		if status, _, stderr := reader(t.Context(), "-c", dir, "-o", out()); status != 1 ||
			!strings.Contains(stderr, want) {
			t.Errorf("-c %s: exit %d: %s", dir, status, stderr)
		}
	}
	status, stdout, _ := reader(t.Context(), "-c", t.TempDir(), "-o", out())
	if status != 0 || strings.Count(stdout, "is not there. Its outline is shown instead") != 5 {
		t.Errorf("an empty folder: exit %d: %s", status, stdout)
	}
}

func TestCommandLine(t *testing.T) {
	smallBook(t)
	for _, args := range [][]string{{"-bad"}, {"/some/folder"}} {
		if status, _, stderr := reader(t.Context(), args...); status != 2 || stderr == "" {
			t.Errorf("%q: exit %d: %s", args, status, stderr)
		}
	}
	if status, _, stderr := reader(t.Context(), "-h"); status != 0 ||
		!strings.Contains(stderr, "-c DIR") {
		t.Errorf("-h: exit %d: %s", status, stderr)
	}
	t.Chdir(t.TempDir())
	if status, _, stderr := reader(t.Context()); status != 1 ||
		!strings.Contains(stderr, "inside the repository") {
		t.Errorf("outside: exit %d: %s", status, stderr)
	}
}

// startServer serves a book on a free port until the test ends.
func startServer(t *testing.T, o site.Options) string {
	t.Helper()
	s, stop := serveBook(t, o)
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	return s.addr()
}

// serveBook serves a book on a free port until it is stopped.
func serveBook(t *testing.T, o site.Options) (s *server, stop func() error) {
	t.Helper()
	s, err := newServer(settings{site: o, listen: "127.0.0.1:0"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	// This goroutine ends when ctx is cancelled.
	go func() { done <- s.serve(ctx) }()
	return s, func() error {
		cancel()
		return <-done
	}
}

// whole is the book of this repository, with the C files that cfiles makes up. It takes long
// to make, with the race detector above all, so all tests look at the same one.
var whole struct {
	once   sync.Once
	server *server
}

// atTheEnd is what remains to be done when all tests have run.
var atTheEnd []func()

func TestMain(m *testing.M) {
	harness.Main(m, func() {
		for _, f := range atTheEnd {
			f()
		}
	})
}

// thisBook returns the book of this repository, and where it is served.
func thisBook(t *testing.T) (built *site.Site, base string) {
	t.Helper()
	whole.once.Do(func() {
		c, err := os.MkdirTemp("", "cfiles-") // it outlives the test that asks first
		if err != nil {
			t.Fatal(err)
		}
		for _, chapter := range book.Originals() {
			cfiles.Write(t, c, chapter.C.File, cfiles.Text(chapter))
		}
		s, stop := serveBook(t, site.Options{Root: harness.Root(), CDir: c})
		whole.server = s
		atTheEnd = append(atTheEnd, func() { stop(); os.RemoveAll(c) })
	})
	if whole.server == nil {
		t.Fatal("the book could not be made")
	}
	built, err := whole.server.site()
	if err != nil {
		t.Fatal(err)
	}
	return built, "http://" + whole.server.addr() + "/"
}

func TestServer(t *testing.T) {
	root := smallBook(t)
	addr := startServer(t, site.Options{Root: root})
	get := func(method, path, host string) (int, string, http.Header) {
		t.Helper()
		req, err := http.NewRequest(method, "http://"+addr+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(body), resp.Header
	}
	for _, tt := range []struct {
		method, path, host string
		want               int
	}{
		{"GET", "/", addr, 200},
		{"HEAD", "/", addr, 200},
		{"GET", "/side-by-side/ch4_threaded.html", "localhost:9091", 200},
		{"GET", "/", "[::1]:9091", 200},
		{"GET", "/", "evil.example", 421},
		{"GET", "/", "localhost.evil.example:9091", 421},
		{"GET", "/", "127.0.0.1.evil.example", 421},
		{"POST", "/", addr, 405},
		{"GET", "/none.html", addr, 404},
		{"GET", "/../../../../etc/passwd", addr, 404},
		{"GET", "/%2e%2e/%2e%2e/etc/passwd", addr, 404},
		{"GET", "/ch4_threaded/main.go", addr, 404},
	} {
		status, body, head := get(tt.method, tt.path, tt.host)
		if status != tt.want {
			t.Errorf("%s %s, Host %s: %d, want %d", tt.method, tt.path, tt.host, status, tt.want)
		}
		if !strings.Contains(head.Get("Content-Security-Policy"), "default-src 'none'") {
			t.Errorf("%s: no policy", tt.path)
		}
		if status == 200 && tt.method == "GET" && !strings.Contains(body, "<!DOCTYPE html>") {
			t.Errorf("%s: %s", tt.path, body)
		}
	}
	// A source that changes is read again.
	cfiles.Write(t, root, "README.md", "# Another book\n")
	later := time.Now().Add(time.Second)
	if err := os.Chtimes(filepath.Join(root, "README.md"), later, later); err != nil {
		t.Fatal(err)
	}
	if _, body, _ := get("GET", "/", addr); !strings.Contains(body, "Another book") {
		t.Error("an edited page is not built anew")
	}
	if status, _, stderr := reader(t.Context(), "-listen", addr); status != 1 ||
		!strings.Contains(stderr, "in use") {
		t.Errorf("a port in use: exit %d: %s", status, stderr)
	}
}

// The program serves until Ctrl+C and then exits with 0.
func TestServesUntilInterrupted(t *testing.T) {
	smallBook(t)
	ctx, cancel := context.WithCancel(t.Context())
	read, write := io.Pipe()
	status := make(chan int, 1)
	// This goroutine ends when run returns, after cancel.
	go func() {
		status <- run(ctx, []string{"-listen", "127.0.0.1:0"}, write, io.Discard)
		write.Close()
	}()
	line := make([]byte, 200)
	n, err := read.Read(line)
	if err != nil || !strings.HasPrefix(string(line[:n]), "Ready on 127.0.0.1:") {
		t.Fatalf("%q %v", line[:n], err)
	}
	cancel()
	if got := <-status; got != 0 {
		t.Errorf("exit %d", got)
	}
}
