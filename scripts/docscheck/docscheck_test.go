package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"reverseproxy/internal/harness"

	"github.com/google/go-cmp/cmp"
)

const program = `// Problem: none.
// Run: go run ./ch2_basic_proxy
package main

import "fmt"

// limits bound it.
type limits struct{ bytes int }

// main starts it.
func main() {
	// 1–3. A socket that listens (C: socket, line 1; bind, line 2).
	fmt.Println("listen")

	// region loop
	for range 2 {
		// 4. Wait (C: accept, line 3).
		fmt.Println("accept")

		handleClient()
	}
	// endregion
}

func handleClient() {
	// 10. Close.
	defer fmt.Println("close")

	// 5. Read.
	fmt.Println("read")

	// 10. Close another.
	defer fmt.Println("close")

	// 6. Connect.
	fmt.Println("connect")
}
`

// repository makes a temporary repository with the given files.
func repository(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		file := filepath.Join(root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// check runs a checker over a repository and returns what it prints.
func check(t *testing.T, root string, update bool) (ok bool, printed string) {
	t.Helper()
	var out bytes.Buffer
	c := checker{root: root, update: update, out: &out}
	ok = c.run(nil)
	return ok, out.String()
}

func readFile(t *testing.T, parts ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(parts...))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestQuote(t *testing.T) {
	root := repository(t, map[string]string{"ch2_basic_proxy/main.go": program})
	for _, tt := range []struct{ args, want string }{
		{"ch2_basic_proxy/main.go header", "// Problem: none.\n// Run: go run ./ch2_basic_proxy"},
		{"ch2_basic_proxy/main.go type limits", "// limits bound it.\n" +
			"type limits struct{ bytes int }"},
		{"ch2_basic_proxy/main.go step 1", "// 1–3. A socket that listens (C: socket, line 1; " +
			"bind, line 2).\nfmt.Println(\"listen\")\n\nfor range 2 {"},
		{"ch2_basic_proxy/main.go step 4", "// 4. Wait (C: accept, line 3).\n" +
			"fmt.Println(\"accept\")\n\nhandleClient()"},
		{"ch2_basic_proxy/main.go step 5", "// 5. Read.\nfmt.Println(\"read\")"},
		{"ch2_basic_proxy/main.go step 5..6", "// 5. Read.\nfmt.Println(\"read\")\n\n" +
			"// 10. Close another.\ndefer fmt.Println(\"close\")\n\n// 6. Connect.\n" +
			"fmt.Println(\"connect\")"},
		{"ch2_basic_proxy/main.go step 10", "// 10. Close.\ndefer fmt.Println(\"close\")\n\n" +
			"// 10. Close another.\ndefer fmt.Println(\"close\")"},
		{"ch2_basic_proxy/main.go#loop", "for range 2 {\n\t// 4. Wait (C: accept, line " +
			"3).\n\tfmt.Println(\"accept\")\n\n\thandleClient()\n}"},
		{"ch2_basic_proxy/main.go func main", "// main starts it.\n" +
			"func main() {\n\t// 1–3. A socket that listens (C: socket, line 1; bind, line 2).\n" +
			"\tfmt.Println(\"listen\")\n\n\tfor range 2 {\n\t\t// 4. Wait (C: accept, line 3).\n" +
			"\t\tfmt.Println(\"accept\")\n\n\t\thandleClient()\n\t}\n}"},
	} {
		got, err := quote(root, tt.args)
		if err != nil {
			t.Errorf("%s: %v", tt.args, err)
		}
		if diff := cmp.Diff(tt.want, strings.Join(got, "\n")); diff != "" {
			t.Errorf("%s:\n%s", tt.args, diff)
		}
	}
	for args, want := range map[string]string{
		"":                                     "quote what",
		"ch2_basic_proxy/main.go#none":         "no region",
		"ch2_basic_proxy/main.go func none":    "no func none",
		"ch2_basic_proxy/main.go step 7":       "no comment numbers step 7",
		"ch2_basic_proxy/main.go step 4..5":    "one by one",
		"ch2_basic_proxy/main.go step x":       "is no step",
		"ch2_basic_proxy/main.go func a b":     "cannot read",
		"../secret":                            "not a path inside",
		"missing.go":                           "cannot read missing.go",
		"ch2_basic_proxy/main.go#loop step 4 ": "not both",
	} {
		if _, err := quote(root, args); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want an error with %q", args, err, want)
		}
	}
}

func TestPageIsFilledAndDriftIsSeen(t *testing.T) {
	root := repository(t, map[string]string{
		"go.mod":                  "module tiny\n\ngo 1.25\n",
		"ch2_basic_proxy/main.go": program,
		"ch2_basic_proxy/b.txt":   "one\ntwo\n",
		"ch2_basic_proxy/c.txt":   "one\n2\n",
		"docs/page.md": "# Page\n\n- in a list\n\n  <!-- quote ch2_basic_proxy/main.go step 5 " +
			"-->\n\n  ```go\n  ```\n\n" +
			"<!-- diff ch2_basic_proxy/b.txt ch2_basic_proxy/c.txt -->\n```diff\n```\n\n" +
			"````md\n<!-- quote an example -->\n````\n",
	})
	if ok, out := check(t, root, false); ok ||
		!strings.Contains(out, "docs/page.md:5: the quote has drifted") {
		t.Fatalf("empty blocks pass:\n%s", out)
	}
	if ok, out := check(t, root, true); !ok || !strings.Contains(out, "2 rewritten") {
		t.Fatalf("update failed:\n%s", out)
	}
	page := readFile(t, root, "docs/page.md")
	for _, want := range []string{
		"  ```go\n  // 5. Read.\n  fmt.Println(\"read\")\n  ```\n",
		"```diff\n--- ch2_basic_proxy/b.txt\n+++ ch2_basic_proxy/c.txt\n@@ -1,2 +1,2 @@\n one\n" +
			"-two\n+2\n```\n",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page misses\n%s\nit is\n%s", want, page)
		}
	}
	if ok, out := check(t, root, false); !ok {
		t.Fatalf("the filled page does not pass:\n%s", out)
	}
	drifted := strings.Replace(program, `Println("read")`, `Println("reads")`, 1)
	file := filepath.Join(root, "ch2_basic_proxy/main.go")
	if err := os.WriteFile(file, []byte(drifted), 0o644); err != nil {
		t.Fatal(err)
	}
	ok, out := check(t, root, false)
	if ok || !strings.Contains(out, `-fmt.Println("read")`) ||
		!strings.Contains(out, `+fmt.Println("reads")`) {
		t.Errorf("the changed source is not seen:\n%s", out)
	}
}

// The quotes, diffs and links of this repository's pages are true. The transcripts take
// minutes: go run ./scripts/docscheck runs them too.
func TestPagesOfThisRepository(t *testing.T) {
	var out bytes.Buffer
	c := checker{root: repositoryRoot(t), norun: true, out: &out}
	if !c.run(nil) {
		t.Error(out.String())
	}
}

func TestMalformedPages(t *testing.T) {
	for page, want := range map[string]string{
		"<!-- quote x\n":                                 "not closed",
		"<!-- quote x -->\ntext\n":                       "no fenced block follows",
		"<!-- quote x -->\n```\n":                        "block is not closed",
		"<!-- run -->\n```\nx\n```\n":                    "run what?",
		"<!-- run ls -->\n```\n$ ls\n```\n":              "not in both",
		"<!-- run -->\n```\nx\n$ ls\n```\n":              "before the first command",
		"<!-- run -bad ls -->\n```\n```\n":               "no option -bad",
		"<!-- run -->\n```\n$ true\n^C\n```\n":           "nothing runs in the background",
		"<!-- run -timeout 50ms sleep 5 -->\n```\n```\n": "took longer than 50ms",
		"```\n$ ls\n```\n":                               "no run comment stands before it",
		"*Not run by docscheck:*\n```\n$ ls\n```\n":      "no run comment stands before it",
		"<!-- run -->\n```\n$ sleep 1; true &\n```\n":    "write two commands",
		"<!-- run cat DIR/none.c -->\n```\n```\n":        "none.c",
	} {
		root := repository(t, map[string]string{"README.md": page})
		if ok, out := check(t, root, false); ok || !strings.Contains(out, want) {
			t.Errorf("%q: want %q, got %s", page, want, out)
		}
	}
}

func TestLinks(t *testing.T) {
	root := repository(t, map[string]string{
		"README.md": "# One & two\n\n## One & two\n\n[a](#one--two) [b](#one--two-1) " +
			"[c](docs/a.md#x_y-z) [d](docs/) [e](https://example.org/none) <!-- x --> " +
			"[g](docs/x.go#L2)\n\n<!-- of\n\ntwo -->\n",
		"docs/a.md": "# `x_y` Z\n\n![no](pic.png)\n\n[up](../../etc)\n[abs](/etc)\n[n](#none)\n" +
			"[m](../README.md#none)\n" +
			"[l](x.go#L3)\n\n<img src=\"gone.png\">\n",
		"docs/x.go": "package x\n\n",
	})
	ok, out := check(t, root, false)
	if ok {
		t.Fatal("dead links pass")
	}
	if strings.Contains(out, "README.md:5") {
		t.Errorf("good links fail:\n%s", out)
	}
	for _, want := range []string{
		`docs/a.md:3: link "pic.png"`, `docs/a.md:5: link "../../etc" leads out`,
		`docs/a.md:6: link "/etc" leads out`,
		`docs/a.md:7: link "#none"`, `docs/a.md:8: link "../README.md#none"`,
		`docs/a.md:9: link "x.go#L3"`,
		`docs/a.md:11: the reader shows HTML as text: <img src="gone.png">`,
	} {
		if !strings.Contains(out, want) {
			t.Errorf("not reported: %s\n%s", want, out)
		}
	}
}

// server is a program that behaves like a chapter: it says when it is ready,
// prints a line for each connection and a summary at Ctrl+C.
const server = `package main

import (
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:8080", "")
	flag.String("backend", "127.0.0.1:8000", "")
	exit := flag.Int("exit", 0, "")
	flag.Parse()
	if *exit > 0 {
		fmt.Fprintln(os.Stderr, "failed")
		os.Exit(*exit)
	}
	l, err := net.Listen("tcp", *listen)
	if err != nil {
		panic(err)
	}
	fmt.Println("Ready on", l.Addr())
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt)
	go func() { <-stop; l.Close() }()
	n := 0
	for {
		c, err := l.Accept()
		if err != nil {
			fmt.Printf("Summary: %d connections, CPU %d.5 s\n", n, os.Getpid())
			return
		}
		n++
		pid := os.Getpid()
		fmt.Printf("goroutine %d: accepted %v after 1.%d ms\n", pid, c.RemoteAddr(), pid)
		c.Read(make([]byte, 4096))
		fmt.Fprintf(c, "HTTP/1.0 200 OK\r\n\r\nhello %d", n)
		c.Close()
	}
}
`

func TestTranscript(t *testing.T) {
	harness.Need(t, "sh")
	harness.Need(t, "curl")
	root := repository(t, map[string]string{
		"go.mod":                  "module tiny\n\ngo 1.25\n",
		"ch2_basic_proxy/main.go": server,
		"README.md": "<!-- run -->\n```console\n$ go run ./ch2_basic_proxy &\n" +
			"$ curl -s http://localhost:8080/\n^C\n```\n\n" +
			"<!-- run go run ./ch2_basic_proxy -exit 3 -->\n```\n```\n\n" +
			"<!-- run\ngo run ./ch2_basic_proxy -listen localhost:8080 &\nsleep 5 &\n" +
			"curl -s \\\n  http://127.0.0.1:8080/\nkill -9 $!\nwait\n-->\n```\n```\n\n" +
			"<!-- run -needs no-such-tool no-such-tool -->\n```\nleft alone\n```\n",
	})
	t.Setenv("CI", "")
	if ok, out := check(t, root, true); !ok ||
		!strings.Contains(out, "no-such-tool is not installed") {
		t.Fatalf("update failed:\n%s", out)
	}
	page := readFile(t, root, "README.md")
	for _, want := range []string{
		"$ go run ./ch2_basic_proxy &\nReady on 127.0.0.1:8080\n" +
			"$ curl -s http://localhost:8080/\nhello 1\ngoroutine ",
		"^C\nSummary: 1 connections", "```\nfailed\nexit status 3\n```",
		"```\nReady on 127.0.0.1:8080\nhello 1\ngoroutine ",
		"left alone",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page misses %q; it is\n%s", want, page)
		}
	}
	ok, out := check(t, root, true)
	if !ok || strings.Contains(out, "rewritten") || readFile(t, root, "README.md") != page {
		t.Fatalf("a second run differs:\n%s", out)
	}
	page = regexp.MustCompile(`(?m)^Ready on .*$`).ReplaceAllString(page, "...")
	page = strings.Replace(page, "hello 1", "hello 2", 1)
	if err := os.WriteFile(filepath.Join(root, "README.md"), []byte(page), 0o644); err != nil {
		t.Fatal(err)
	}
	ok, out = check(t, root, false)
	if ok || !strings.Contains(out, "-hello 2") || !strings.Contains(out, "+hello 1") {
		t.Errorf("a wrong transcript passes:\n%s", out)
	}
	if strings.Count(out, "prints something else") != 1 {
		t.Errorf("... does not stand for any line:\n%s", out)
	}
}

// However late a line comes that the page shows, it is waited for; and a command is not typed
// before the one in the background has done its work, however long it has to wait for a core.
func TestTranscriptTakesItsTime(t *testing.T) {
	harness.Need(t, "sh")
	root := repository(t, map[string]string{
		"README.md": "<!-- run -->\n```console\n$ (sleep 2; echo late) &\n$ true\nlate\n```\n\n" +
			"<!-- run -->\n```console\n" +
			"$ (while [ $((i+=1)) -lt 300000 ]; do :; done; touch done; sleep 9) &\n" +
			"$ ls done; rm done\ndone\n```\n",
	})
	if ok, out := check(t, root, false); !ok {
		t.Error(out)
	}
}

// DIR/X.c is the stand-in or, with -c, the reader's file; both have free ports.
func TestCPrograms(t *testing.T) {
	harness.Need(t, "sh")
	root := repository(t, map[string]string{
		"README.md": "*Not run by docscheck: it needs root.*\n```\n$ reboot\n```\n\n" +
			"<!-- run cat DIR/x.c -->\n```\nstand-in on 8080\n```\n",
		"scripts/docscheck/testdata/c/x.c": "stand-in on 8080\n",
		"mine/x.c":                         "mine on 8080\n",
	})
	if ok, out := check(t, root, false); !ok {
		t.Errorf("the stand-in is not found:\n%s", out)
	}
	var out bytes.Buffer
	c := checker{root: root, cdir: filepath.Join(root, "mine"), out: &out}
	if c.run(nil) || !strings.Contains(out.String(), "+mine on 8080") {
		t.Errorf("the file of -c is not taken:\n%s", out.String())
	}
	p := player{ports: map[string]string{"8080": "2345"}}
	if got := p.portsIn("bind(8080), buffer[8000]"); got != "bind(2345), buffer[8000]" {
		t.Errorf("got %s", got)
	}
}

func TestNormalize(t *testing.T) {
	s := script{masks: []*regexp.Regexp{regexp.MustCompile(`seed=\d+`)}}
	for _, tt := range []struct{ a, b string }{
		{"127.0.0.1:41234 took 212 µs", "127.0.0.1:50001  took 1.2 ms"},
		{"child 812 (pid=812), goroutine 7", "child 9 (pid=10), goroutine 123"},
		{`{"time":"2024-01-02T03:04:05.123Z","elapsed_us":4}`,
			`{"time":"2025-01-02T03:04:05Z","elapsed_us":512}`},
		{"CPU 0.050 s, peak memory 14.2 MB", "CPU 1 s, peak memory 9 MB"},
		{"Date: Mon, 02 Jan 2006 15:04:05 GMT", "Date: Tue, 03 Feb 2026 00:00:00 GMT"},
		{"\x1b[32mok\x1b[0m seed=3", "ok seed=4"},
	} {
		if !s.matches([]string{tt.a}, []string{tt.b}) {
			t.Errorf("%q and %q differ: %q", tt.a, tt.b, s.normalize([]string{tt.a, tt.b}))
		}
	}
	for _, tt := range []struct{ a, b string }{
		{"127.0.0.1:8000", "127.0.0.1:8001"},
		{"84 bytes", "85 bytes"},
		{"-idle-timeout 60s", "-idle-timeout 61s"},
		{"12 connections, at most 3 at once", "12 connections, at most 4 at once"},
	} {
		if s.matches([]string{tt.a}, []string{tt.b}) {
			t.Errorf("%q and %q count as the same", tt.a, tt.b)
		}
	}
}
