package harness

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"reverseproxy/internal/proc"
)

// built holds the programs that this test process has built.
var built struct {
	mu       sync.Mutex
	dir      string
	programs map[string]*program
}

type program struct {
	once sync.Once
	path string
	err  error
}

// Main runs a package's tests and removes what Build has made. Each package
// that builds a program calls it: func TestMain(m *testing.M) { harness.Main(m) }
// after are called when the tests have ended.
//
// A program with the race detector sleeps for a second before it exits, in case that what
// still runs meets a race. Here hundreds of processes end, and no lesson is about that
// second: it is taken away.
func Main(m *testing.M, after ...func()) {
	os.Setenv("GORACE", strings.TrimSpace(os.Getenv("GORACE")+" atexit_sleep_ms=0"))
	code := m.Run()
	for _, f := range after {
		f()
	}
	if built.dir != "" {
		os.RemoveAll(built.dir)
	}
	os.Exit(code)
}

// Build builds the main package in a folder of the repository, such as
// "ch4_threaded", once for each test process, and returns the program's path.
// It has the race detector if the test has it.
func Build(t T, folder string) string {
	t.Helper()
	return build(t, folder, Race)
}

// BuildPlain is Build without the race detector, which multiplies memory and
// time: for tests that measure them.
func BuildPlain(t T, folder string) string {
	t.Helper()
	return build(t, folder, false)
}

func build(t T, folder string, race bool) string {
	t.Helper()
	p, dir, err := lookUp(folder, race)
	if err != nil {
		t.Fatalf("a folder for the programs: %v", err)
	}
	p.once.Do(func() {
		p.path = filepath.Join(dir, fmt.Sprintf("%s-%t.exe", filepath.Base(folder), race))
		args := []string{"./" + folder}
		if race {
			args = []string{"-race", "./" + folder}
		}
		p.err = proc.Build(Root(), p.path, args...)
	})
	if p.err != nil {
		t.Fatalf("%v", p.err)
	}
	return p.path
}

func lookUp(folder string, race bool) (*program, string, error) {
	built.mu.Lock()
	defer built.mu.Unlock()
	if built.dir == "" {
		dir, err := os.MkdirTemp("", "harness-")
		if err != nil {
			return nil, "", err
		}
		built.dir, built.programs = dir, map[string]*program{}
	}
	key := fmt.Sprint(folder, race)
	if built.programs[key] == nil {
		built.programs[key] = &program{}
	}
	return built.programs[key], built.dir, nil
}

// Root returns the repository's folder.
func Root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(filepath.Dir(filepath.Dir(file)))
}

// Need skips the test if a tool is not installed; where CI is set to true, it
// fails instead, so that nothing is left out unnoticed.
func Need(t *testing.T, tool string) {
	t.Helper()
	if _, err := exec.LookPath(tool); err != nil {
		Missing(t, tool+" is not installed")
	}
}

// Missing skips the test for the given reason, or fails it where CI is true.
func Missing(t *testing.T, reason string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(reason)
	}
	t.Skip(reason)
}
