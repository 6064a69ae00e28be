package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"reverseproxy/internal/book"
	"reverseproxy/internal/harness"
	"reverseproxy/internal/proc"
	"reverseproxy/scripts/check/cases"
	"reverseproxy/scripts/check/suite"
)

// checkIt runs the command and returns what it printed.
func checkIt(args ...string) (code int, stdout, stderr string) {
	var o, e bytes.Buffer
	code = run(args, &o, &e)
	return code, o.String(), e.String()
}

// standard builds the httputil proxy and returns its path.
func standard(t *testing.T) string {
	t.Helper()
	return harness.BuildPlain(t, "scripts/check/httputilproxy")
}

func TestMain(m *testing.M) {
	// These tests mostly wait: more of them at once than there are cores.
	flag.Parse()
	flag.Set("test.parallel", "8")
	harness.Main(m)
}

func TestUsageErrors(t *testing.T) {
	for _, c := range []struct {
		args string
		want string
	}{
		{"", "no proxy named"},
		{"./no_such_dir", "is not a directory"},
		{"./suite ./suite", "one proxy at a time"},
		{"./suite -proxy 127.0.0.1:8080", "not both"},
		{"-proxy 127.0.0.1:8080", "go together"},
		{"-cmd ./x", "go together"},
		{"-proxy localhost -backends 127.0.0.1:8000", "not HOST:PORT"},
		{"-proxy 127.0.0.1:99999 -backends 127.0.0.1:8000", "port must be"},
		{"-proxy :8080 -backends 127.0.0.1:8000", "lacks the host"},
		{"-run ( ./suite", "-run"},
		{"-run zzz ./suite", "no case and no group matches -run zzz"},
		{"-explain nonsense", "-list shows them all"},
		{"-no-such-flag", "flag provided but not defined"},
	} {
		code, _, stderr := checkIt(strings.Fields(c.args)...)
		if code != exitUsage || !strings.Contains(stderr, c.want) {
			t.Errorf("check %s: exit %d, said %q", c.args, code, stderr)
		}
	}
	if code, _, _ := checkIt("-h"); code != exitOK {
		t.Errorf("-h exits %d", code)
	}
}

func TestListAndExplain(t *testing.T) {
	code, out, _ := checkIt("-list")
	if code != 0 || strings.Count(out, "\n") != len(cases.All())+1 {
		t.Errorf("-list exits %d with %d lines", code, strings.Count(out, "\n"))
	}
	code, out, _ = checkIt("-explain", "smuggle-cl-te")
	if code != 0 || !strings.Contains(out, "RFC 9112") || !strings.Contains(out, "must") {
		t.Errorf("-explain exits %d: %s", code, out)
	}
}

func TestNothingListens(t *testing.T) {
	code, _, stderr := checkIt("-proxy", proc.FreeAddr(), "-backends", proc.FreeAddr())
	if code != exitFails || !strings.Contains(stderr, "nothing listens") {
		t.Errorf("exit %d, said %q", code, stderr)
	}
	code, out, _ := checkIt("-json", "-proxy", proc.FreeAddr(), "-backends", proc.FreeAddr())
	var v map[string]string
	if err := json.Unmarshal([]byte(out), &v); code != exitFails || err != nil || v["error"] == "" {
		t.Errorf("exit %d, JSON %q", code, out)
	}
}

func TestPortsTaken(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	taken := ln.Addr().String()
	code, _, stderr := checkIt("-cmd", "sleep 5", "-proxy", taken, "-backends", proc.FreeAddr())
	if code != exitFails || !strings.Contains(stderr, "already listens") {
		t.Errorf("proxy's port taken: exit %d, said %q", code, stderr)
	}
	code, _, stderr = checkIt("-cmd", "sleep 5", "-proxy", proc.FreeAddr(), "-backends", taken)
	if code != exitFails || !strings.Contains(stderr, "cannot play the backend") {
		t.Errorf("backend's port taken: exit %d, said %q", code, stderr)
	}
	code, _, stderr = checkIt("-cmd", "echo no luck; exit 3", "-proxy", proc.FreeAddr(),
		"-backends", proc.FreeAddr())
	if code != exitFails || !strings.Contains(stderr,
		"ended at once") || !strings.Contains(stderr, "no luck") {
		t.Errorf("program that ends: exit %d, said %q", code, stderr)
	}
}

// TestCommand runs a program as students do, reads its report as JSON and as
// text, and looks that nothing is left running.
func TestCommand(t *testing.T) {
	t.Parallel()
	bin := standard(t)
	proxy, backend := proc.FreeAddr(), proc.FreeAddr()
	args := []string{"-cmd", fmt.Sprintf("%s -listen %s -backends %s", bin, proxy, backend),
		"-proxy", proxy, "-backends", backend}
	code, out, stderr := checkIt(append(args, "-json", "-run", "^(basic|via)-")...)
	var rep struct {
		Results []struct {
			ID, Level, Outcome string
			Wires              []suite.Wire
		}
		Score suite.Score
	}
	if err := json.Unmarshal([]byte(out), &rep); err != nil {
		t.Fatalf("%v (exit %d, %s)", err, code, stderr)
	}
	if code != exitFails { // it fails basic-query, a must
		t.Errorf("exit %d", code)
	}
	for _, r := range rep.Results {
		if r.ID == "via-request" && (r.Outcome != "fail" || r.Level != "must" ||
			len(r.Wires) == 0 ||
			!strings.Contains(r.Wires[0].Sent, `Host: www.example.test\r\n`)) {
			t.Errorf("via-request: %+v", r)
		}
	}
	if rep.Score.Levels["must"].Passed < 8 {
		t.Errorf("score %+v", rep.Score.Levels)
	}
	code, out, _ = checkIt(append(args, "-run", "^basic-(get|status)$")...)
	if code != exitOK ||
		!regexp.MustCompile(`(?m)^pass +must +basic-status +\d+ ms$`).MatchString(out) ||
		strings.Contains(out, "\x1b[") {
		t.Errorf("exit %d:\n%s", code, out)
	}
	if c, err := net.Dial("tcp", proxy); err == nil {
		c.Close()
		t.Errorf("the program still listens")
	}
}

// TestOneShotProgram checks a program that serves one client and exits.
func TestOneShotProgram(t *testing.T) {
	t.Parallel()
	dir := "../../ch2_basic_proxy"
	_, err := os.Stat(dir)
	needs(t, err == nil, "ch2_basic_proxy")
	bin := harness.BuildPlain(t, "ch2_basic_proxy")
	proxy, backend := proc.FreeAddr(), proc.FreeAddr()
	code, out, stderr := checkIt("-cmd", fmt.Sprintf("%s -once -log off -listen %s -backend %s",
		bin, proxy, backend),
		"-proxy", proxy, "-backends", backend, "-run",
		"^(basic-.*|resp-held-length|req-20000|crosstalk-100|process-lives)$")
	if code != exitOK || !strings.Contains(out,
		"serves one client and exits") || !strings.Contains(out, "pass  must    crosstalk-100") {
		t.Errorf("exit %d:\n%s\n%s", code, out, stderr)
	}
}

// TestScoresAreStable runs a chapter beside a busy loop on each core: the same cases fail
// as on a machine with nothing else to do (TestChaptersAgainstTheirGaps). CHECK_RUNS says
// how often.
func TestScoresAreStable(t *testing.T) {
	runs := 1
	if os.Getenv("CHECK_RUNS") != "" {
		fmt.Sscan(os.Getenv("CHECK_RUNS"), &runs)
	}
	if testing.Short() {
		t.Skip("takes a while")
	}
	chapter := book.Of(5)
	dir := "../../" + chapter.Dir
	_, err := os.Stat(dir)
	needs(t, err == nil, chapter.Dir)
	for range runtime.NumCPU() {
		loop := exec.Command("/bin/sh", "-c", "while :; do :; done")
		needs(t, loop.Start() == nil, "/bin/sh")
		defer loop.Wait()
		defer loop.Process.Kill()
	}
	s := &suite.Subject{Name: "ch5", Chapter: dir}
	defer s.Clean()
	for i := range runs {
		rep, err := suite.Run(s, cases.All(), suite.Options{Budget: 3 * time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		failed := []string{}
		for _, r := range rep.Results {
			if r.Outcome == suite.Failed {
				failed = append(failed, r.ID)
				t.Log(i+1, r.ID, r.Problems)
			}
		}
		slices.Sort(failed)
		if d := cmp.Diff(gaps(chapter), failed); d != "" {
			t.Errorf("run %d has other verdicts than without the loops:\n%s", i+1, d)
		}
	}
}

// TestScoreboardPageHasTheseCases: the page was written with the cases of today.
func TestScoreboardPageHasTheseCases(t *testing.T) {
	page, err := os.ReadFile("../../docs/scoreboard.md")
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile(`(?m)^\| ([a-z0-9-]+) \| (must|should|quality) \|`)
	var got, want []string
	for _, m := range row.FindAllStringSubmatch(string(page), -1) {
		got = append(got, m[1]+" "+m[2])
	}
	for _, c := range cases.All() {
		want = append(want, c.ID+" "+c.Level.String())
	}
	slices.Sort(got)
	slices.Sort(want)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("go run ./scripts/check -scoreboard -c DIR writes it anew (-cases +page):\n%s", d)
	}
}
