//go:build unix

package cli_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"reverseproxy/internal/book"
	"reverseproxy/internal/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// place is where handleClient has deferred Close, or the event loop has read a request.
var place = regexp.MustCompile(
	`(?m)^\t(defer \w+\.Close\(&err\)|c\.Route\(p\.turns\.Next\(\)\))$`)

// TestPanicIsShown plants a mistake in each chapter's main.go, as a student might,
// and wants value, file and line on stderr with -log off.
func TestPanicIsShown(t *testing.T) {
	for _, chapter := range book.Proxies() {
		for _, mistake := range []struct{ name, code, value string }{
			{"nil", "var none *struct{ n int }; none.n++", "nil pointer dereference"},
			{"value", `panic("oops: \x1b[2J")`, `panic: oops: \x1b[2J`},
			{"index", "_ = os.Args[len(os.Args)]", "index out of range"},
			{"inside", "strings.Repeat(p.app.Name, -1)", "negative Repeat count"}, // in the library
		} {
			if mistake.name != "nil" && chapter.Dir != harness.Threaded.Dir {
				continue // one mistake will do for the others
			}
			t.Run(chapter.Dir+" "+mistake.name, func(t *testing.T) {
				t.Parallel()
				program, line := planted(t, chapter.Dir, mistake.code)
				stderr := crash(t, program)
				at := fmt.Sprintf("main.go:%d", line)
				function := "handleClient"
				if chapter.Raw {
					function = "readRequest"
				}
				for _, word := range []string{mistake.value, at, function} {
					if !strings.Contains(stderr, word) {
						t.Errorf("stderr does not mention %q:\n%s", word, stderr)
					}
				}
				for s := range strings.Lines(stderr) {
					if !strings.Contains(s, "    at ") && len(strings.TrimRight(s, "\n")) > 80 {
						t.Errorf("longer than 80 columns: %q", s)
					}
				}
			})
		}
	}
}

// planted builds a chapter with code put behind that place, and
// returns the program and the code's line.
func planted(t *testing.T, dir, code string) (program string, line int) {
	t.Helper()
	file := filepath.Join(harness.Root(), dir, "main.go")
	src, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	at := place.FindIndex(src)
	if at == nil {
		t.Fatalf("%s: no place for a mistake", file)
	}
	line = 1 + bytes.Count(src[:at[1]], []byte("\n"))
	src = append(src[:at[1]:at[1]], append([]byte("; "+code), src[at[1]:]...)...)
	for _, pkg := range []string{"os", "strings"} {
		if strings.Contains(code, pkg+".") && !bytes.Contains(src, []byte("\t\""+pkg+"\"\n")) {
			src = bytes.Replace(src, []byte("import ("), []byte(`import "`+pkg+`"; import (`), 1)
		}
	}
	temp := t.TempDir()
	changed, overlay := filepath.Join(temp, "main.go"), filepath.Join(temp, "overlay.json")
	program = filepath.Join(temp, dir)
	replace, _ := json.Marshal(map[string]map[string]string{"Replace": {file: changed}})
	if err := os.WriteFile(changed, src, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(overlay, replace, 0o600); err != nil {
		t.Fatal(err)
	}
	build := exec.Command("go", "build", "-overlay", overlay, "-o", program, "./"+dir)
	build.Dir = harness.Root()
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return program, line
}

// crash sends a request to the program, which answers 500, and returns what
// the program has written to stderr by its end.
func crash(t *testing.T, program string) string {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.Command(program, "-listen", "127.0.0.1:0", "-log", "off")
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(stdout)
	ready, _ := lines.ReadString('\n')
	addr := strings.Fields(ready + " Ready on nothing")[2]
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "GET / HTTP/1.1\r\nHost: proxy.test\r\n\r\n")
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || response.StatusCode != http.StatusInternalServerError {
		t.Errorf("answered with %v (%v), want 500", response, err)
	}
	cmd.Process.Signal(os.Interrupt)
	io.Copy(io.Discard, lines)
	cmd.Wait()
	return stderr.String()
}
