package main

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"reverseproxy/internal/peers"
	"reverseproxy/internal/proc"
	"reverseproxy/scripts/check/cases"
	"reverseproxy/scripts/check/suite"
)

// TestPrintedConfigurationsStart gives the configurations of the page to the
// programs they are for.
func TestPrintedConfigurationsStart(t *testing.T) {
	for _, p := range []struct {
		tool, conf, server string
		argv               []string
	}{
		{"nginx", nginxConf, nginxServer, []string{"-t", "-q", "-c"}},
		{"nginx", nginxPlain, nginxServer, []string{"-t", "-q", "-c"}},
		{"haproxy", haproxyConf, haproxyServer, []string{"-c", "-q", "-f"}},
		{"haproxy", haproxyPlain, haproxyServer, []string{"-c", "-q", "-f"}},
	} {
		tool := peers.Find(p.tool)
		needs(t, tool != "", p.tool)
		dir := t.TempDir()
		text := strings.ReplaceAll(printed(p.conf, p.server), "/tmp/", dir+"/")
		file := filepath.Join(dir, "conf")
		if err := os.WriteFile(file, []byte(text+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(tool, append(p.argv, file)...).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s\n%s", p.tool, err, out, text)
		}
		if strings.Contains(text, "PORT") || strings.Count(text, "127.0.0.1:8001") != 1 {
			t.Errorf("the printed configuration is not one to start:\n%s", text)
		}
	}
}

// TestScoreboardOfOne: -run takes names of proxies there, and the page of
// everybody is left alone.
func TestScoreboardOfOne(t *testing.T) {
	t.Chdir("../..")
	before, err := os.ReadFile(scoreboardPage)
	if err != nil {
		t.Fatal(err)
	}
	code, out, stderr := checkIt("-scoreboard", "-run", "^ch4")
	if code != exitOK || !strings.Contains(out, "ch4_threaded") || strings.Contains(out,
		"ch5") || !strings.Contains(out, "left as it is") {
		t.Errorf("exit %d: %s %s", code, out, stderr)
	}
	if after, _ := os.ReadFile(scoreboardPage); !bytes.Equal(before, after) {
		t.Errorf("%s was written", scoreboardPage)
	}
	if code, _, stderr = checkIt("-scoreboard", "-run",
		"nobody"); code != exitUsage || !strings.Contains(stderr, "none of those") {
		t.Errorf("-run nobody: exit %d, said %q", code, stderr)
	}
}

// TestMendsNameCases: what is said to mend a case names one that exists.
func TestMendsNameCases(t *testing.T) {
	known := map[string]bool{}
	for _, c := range cases.All() {
		known[c.ID] = true
	}
	for _, m := range mends {
		for _, id := range strings.Fields(m.cases) {
			if !known[id] {
				t.Errorf("no case %s (%s)", id, m.who)
			}
		}
	}
}

// TestReasonsAreWhatWasSeen: the same case is filed under what was seen of it,
// whatever its name makes one expect.
func TestReasonsAreWhatWasSeen(t *testing.T) {
	for problem, want := range map[string]string{
		"the program has 5 zombie children":                                    "Zombie children",
		"while the first client is held, another one gets no answer within 2s": "Others wait",
		"the answer was held back while the backend kept its connection open: no response: it " +
			"went silent": "Held back",
		"the connection was closed after 4095 of 20000 body bytes":                 "Cut",
		"the client got another body than was sent: 4095 bytes instead of 1048576": "Cut",
		`the backend got X-Private: "secret"`: "Passed on " +
			"as it came",
		`the request was forwarded as "GET / HTTP/1.1"`: "Passed on " +
			"as it came",
		"no response: the connection went silent": "Silence",
		"no response: the connection was closed":  "Closed without an answer",
		"something that nobody has thought of":    "*Seen:*",
	} {
		var b strings.Builder
		bySight(&b, []suite.Result{{ID: "resp-20000", Outcome: suite.Failed,
			Problems: []string{problem}}})
		if got, _, _ := strings.Cut(b.String(), "\n"); !strings.Contains(got, want) {
			t.Errorf("%q is filed as %s", problem, got)
		}
	}
	var b strings.Builder
	bySight(&b, []suite.Result{{ID: "resp-20000", Outcome: suite.Failed, Problems: []string{"x"},
		Died: "signal: broken pipe"}})
	if !strings.Contains(b.String(), "broken pipe") {
		t.Errorf("a death is filed as %s", b.String())
	}
}

// TestFirstTry: who fails nearly everything sees the score and the first
// failures on one screen.
func TestFirstTry(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	backend := proc.FreeAddr()
	// A proxy of one read and one write each way; ends when the listener is closed.
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				buf := make([]byte, 4096)
				n, _ := c.Read(buf)
				b, err := net.Dial("tcp", backend)
				if err != nil {
					return
				}
				defer b.Close()
				b.Write(buf[:n])
				n, _ = b.Read(buf)
				c.Write(buf[:n])
			}()
		}
	}()
	args := []string{"-proxy", ln.Addr().String(), "-backends", backend, "-run",
		"^(basics|request framing|smuggling.*|trailers|errors)$"}
	code, out, stderr := checkIt(args...)
	lines := strings.Split(out, "\n")
	if code != exitFails || len(lines) > 160 {
		t.Errorf("exit %d, %d lines %s", code, len(lines), stderr)
	}
	if at := regexp.MustCompile(`(?m)^Score of `).FindStringIndex(out); at == nil ||
		strings.Count(out[:at[0]], "\n") > 6 {
		t.Errorf("the score does not come first:\n%s", out)
	}
	if n := strings.Count(out, "RFC 9"); n < 3 || n > 4 {
		t.Errorf("%d failures are explained, not 3:\n%s", n, out)
	}
	args = append(args, "-run", "^request framing$") // enough for these two; the last counts
	_, out, _ = checkIt(append(args, "-first", "1")...)
	if n := strings.Count(out, "(must, RFC"); n != 1 {
		t.Errorf("-first 1 explains %d failures", n)
	}
	code, out, _ = checkIt(append(args, "-q")...)
	if n := strings.Count(out, "\n"); code != exitFails || n > 4 || !strings.Contains(out,
		"musts failed") {
		t.Errorf("-q: exit %d, %d lines:\n%s", code, n, out)
	}
}
