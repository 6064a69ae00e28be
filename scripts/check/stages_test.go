package main

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"reverseproxy/internal/proc"
	"reverseproxy/scripts/check/cases"
	"reverseproxy/scripts/check/suite"
)

// stoppedAt returns the number of the stage that a report calls not passed yet; 0: none.
func stoppedAt(out string) (stage int) {
	if m := regexp.MustCompile(`(?m)^stage +(\d+) .* not yet `).FindStringSubmatch(out); m != nil {
		fmt.Sscan(m[1], &stage)
	}
	return stage
}

// TestChaptersOnThePath: each chapter comes as far as its idea carries it, and proxies
// with chapter 8's checks switched wrongly stop at the last two stages.
func TestChaptersOnThePath(t *testing.T) {
	if testing.Short() {
		t.Skip("takes up to a minute a chapter")
	}
	t.Parallel()
	turn := make(chan struct{}, 4) // four at a time: they mostly wait
	for _, c := range []struct {
		chapter, args string
		stops         int
	}{
		{"ch2_basic_proxy", "", 9},
		{"ch3_process_model", "", 10},
		{"ch4_threaded", "", 10},
		{"ch5_load_balancer", "", 11},
		{"ch6_keep_alive", "", 13},
		{"ch7_timeouts_retries", "", 14},
		{"ch8_health_checks", "", 0},
		{"ch8_health_checks", "-fall 1000", 14}, // never believes a check
		// A GET that hangs is lost; who is dead is never noticed.
		{"ch8_health_checks", "-retry-on connect,broken", 15},
		{"ch8_health_checks", "-check off -max-fails 0 -fail-ratio 0", 15},
	} {
		t.Run(strings.TrimSpace(c.chapter+" "+c.args), func(t *testing.T) {
			t.Parallel()
			turn <- struct{}{}
			defer func() { <-turn }()
			dir := "../../" + c.chapter
			_, err := os.Stat(dir)
			needs(t, err == nil, "the chapter "+c.chapter)
			code, out, stderr := checkIt("-next", dir, "-args", c.args)
			if got := stoppedAt(out); got != c.stops || (code == exitOK) != (c.stops == 0) {
				t.Errorf("exit %d, stops at stage %d:\n%s%s", code, got, out, stderr)
			}
		})
	}
}

// fixedPage is a program that answers each client with a fixed page: stage 1.
const fixedPage = `package main

import ("bufio"; "net"; "os"; "fmt")

func main() {
	ln, err := net.Listen("tcp", os.Args[1])
	if err != nil { panic(err) }
	for {
		c, err := ln.Accept()
		if err != nil { panic(err) }
		for r := bufio.NewReader(c); ; {
			if line, err := r.ReadString('\n'); err != nil || line == "\r\n" { break }
		}
		fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n\x01\x1b[31m\xff&<")
		c.Close()
		%s
	}
}
`

// program builds a Go program of one file, in a module of its own.
func program(t *testing.T, source string) (bin string) {
	t.Helper()
	dir := t.TempDir()
	bin = filepath.Join(dir, "program.exe")
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(source), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("go", "build", "-o", bin,
		filepath.Join(dir, "main.go")).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return bin
}

// TestReports reads what -junit and -points write: of a proxy that stops at stage 2.
func TestReports(t *testing.T) {
	t.Parallel()
	bin := program(t, fmt.Sprintf(fixedPage, ""))
	proxy, dir := proc.FreeAddr(), t.TempDir()
	junit, points := filepath.Join(dir, "junit.xml"), filepath.Join(dir, "results.json")
	code, out, stderr := checkIt("-stage", "4", "-cmd", bin+" "+proxy, "-proxy", proxy,
		"-backends", proc.FreeAddr(), "-junit", junit, "-points", points)
	if code != exitFails || stoppedAt(out) != 2 || !strings.Contains(out, "basic-get") ||
		!strings.Contains(out, "RFC 9110") || !strings.Contains(out, "Hint:") ||
		!strings.Contains(out, "docs/ch2_basic_proxy.md") {
		t.Errorf("exit %d:\n%s%s", code, out, stderr)
	}
	var x struct {
		Suites []struct {
			Name     string `xml:"name,attr"`
			Tests    int    `xml:"tests,attr"`
			Failures int    `xml:"failures,attr"`
			Skipped  int    `xml:"skipped,attr"`
			Cases    []struct {
				Name    string `xml:"name,attr"`
				Skipped string `xml:"skipped"`
				Failure *struct {
					Message string `xml:"message,attr"`
					Text    string `xml:",chardata"`
				} `xml:"failure"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	text, err := os.ReadFile(junit)
	if err == nil {
		err = xml.Unmarshal(text, &x)
	}
	if err != nil || len(x.Suites) != 4 {
		t.Fatalf("%v, %d suites:\n%s", err, len(x.Suites), text)
	}
	for i, s := range x.Suites {
		n, failures, skipped := len(cases.Stages[i].Cases()), 0, 0
		if i == 1 {
			failures, skipped = 1, n-1
		} else if i > 1 {
			skipped = n
		}
		if s.Tests != n || len(s.Cases) != n || s.Failures != failures || s.Skipped != skipped {
			t.Errorf("suite %+v", s)
		}
	}
	if f := x.Suites[1].Cases[0].Failure; f == nil || f.Message == "" ||
		!strings.Contains(f.Text, `HTTP/1.1 200 OK\r\n`) || !strings.Contains(f.Text, "Hint: ") {
		t.Errorf("failure %+v", f)
	}

	if s := x.Suites[1].Cases[1].Skipped; s != notReached {
		t.Errorf("skipped %q", s)
	}

	var g gradescope
	text, err = os.ReadFile(points)
	if err == nil {
		err = json.Unmarshal(text, &g)
	}
	if err != nil || len(g.Tests) != 4 {
		t.Fatalf("%v:\n%s", err, text)
	}
	var got []string
	for _, x := range g.Tests {
		got = append(got, fmt.Sprintf("%s %g/%g %s %s", x.Number, x.Score, x.MaxScore, x.Status,
			x.Visibility))
	}
	if d := cmp.Diff([]string{"1 1/1 passed visible", "2 0/1 failed visible",
		"3 0/1 failed visible", "4 0/1 failed visible"}, got); d != "" || g.Score != 1 {
		t.Errorf("score %g (-want +got):\n%s", g.Score, d)
	}
}

// TestStagePassed: a program that serves one client and exits passes stage 1, and is
// told of stage 2; no stage is remembered.
func TestStagePassed(t *testing.T) {
	t.Parallel()
	bin := program(t, fmt.Sprintf(fixedPage, "return"))
	for range 2 {
		proxy := proc.FreeAddr()
		code, out, stderr := checkIt("-stage", "1", "-cmd", bin+" "+proxy, "-proxy", proxy,
			"-backends", proc.FreeAddr())
		if code != exitOK || !strings.Contains(out, "Stage 1 is reached.") ||
			!strings.Contains(out, "Next, stage 2, "+cases.Stages[1].Name) {
			t.Errorf("exit %d:\n%s%s", code, out, stderr)
		}
	}
}

// fragile forwards, and ends at the first error with a client.
const fragile = `package main

import ("bufio"; "io"; "net"; "os"; "strings")

func main() {
	ln, err := net.Listen("tcp", os.Args[1])
	if err != nil { panic(err) }
	for {
		c, err := ln.Accept()
		if err != nil { panic(err) }
		head := ""
		for r := bufio.NewReader(c); !strings.HasSuffix(head, "\r\n\r\n"); {
			line, err := r.ReadString('\n')
			if err != nil { os.Exit(3) }
			head += line
		}
		b, err := net.Dial("tcp", os.Args[2])
		if err != nil { os.Exit(3) }
		io.WriteString(b, head)
		io.Copy(c, b)
		b.Close()
		c.Close()
	}
}
`

// TestDeathIsNotForgiven: a program that a client has ended is started again for the
// next one, and that one's answer hides nothing.
func TestDeathIsNotForgiven(t *testing.T) {
	t.Parallel()
	bin := program(t, fragile)
	proxy, backend := proc.FreeAddr(), proc.FreeAddr()
	p, err := suite.NewPath(&suite.Subject{Name: "fragile", Proxy: proxy,
		Command: bin + " " + proxy + " " + backend, Backends: []string{backend}}, suite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for range 3 {
		r := p.Run([]suite.Case{*cases.Find("basic-get"), *cases.Find("abort-survives")})
		if n := len(r); n != 2 || r[1].Outcome != suite.Failed {
			t.Errorf("%+v", r)
		}
	}
}

// TestReportsOfWhatDoesNotStart: a grader gets its file all the same.
func TestReportsOfWhatDoesNotStart(t *testing.T) {
	points := filepath.Join(t.TempDir(), "results.json")
	code, _, stderr := checkIt("-next", "-cmd", "echo no luck; exit 3", "-proxy", proc.FreeAddr(),
		"-backends", proc.FreeAddr(), "-points", points)
	text, err := os.ReadFile(points)
	var g gradescope
	if err == nil {
		err = json.Unmarshal(text, &g)
	}
	if code != exitFails || err != nil || g.Score != 0 || len(g.Tests) != len(cases.Stages) ||
		!strings.Contains(g.Tests[0].Output, "no luck") || !strings.Contains(stderr, "no luck") {
		t.Errorf("exit %d, %v, said %q:\n%s", code, err, stderr, text)
	}
}

// TestStageUsage: what is said about flags that do not fit.
func TestStageUsage(t *testing.T) {
	for args, want := range map[string]string{
		"-stage 99 ./suite":            "the stages are 1 to",
		"-stage 1 -next ./suite":       "not both",
		"-next -run basic ./suite":     "without -run",
		"-next":                        "no proxy named",
		"-junit x ./suite":             "go with -stage or -next",
		"-next -cmd x -proxy 1.2.3.4:": "the port must be",
	} {
		code, _, stderr := checkIt(strings.Fields(args)...)
		if code != exitUsage || !strings.Contains(stderr, want) {
			t.Errorf("check %s: exit %d, said %q", args, code, stderr)
		}
	}
	if code, out, _ := checkIt("-stages"); code != exitOK ||
		strings.Count(out, "docs/") != len(cases.Stages) {
		t.Errorf("-stages: exit %d:\n%s", code, out)
	}
}

// TestUsualAddresses: a program that is named by its command alone is looked for where
// the C programs listen.
func TestUsualAddresses(t *testing.T) {
	ln, err := net.Listen("tcp", usualProxy)
	if err != nil {
		t.Skipf("%s is taken", usualProxy)
	}
	defer ln.Close()
	if code, _, stderr := checkIt("-next", "-cmd", "sleep 5"); code != exitFails ||
		!strings.Contains(stderr, "already listens on "+usualProxy) {
		t.Errorf("exit %d, said %q", code, stderr)
	}
}

// TestOwnWork: a Go program that has net/http, itself or through what it imports, is told
// so kindly; one that has not is not.
func TestOwnWork(t *testing.T) {
	t.Parallel()
	const own = "package main\n\nimport (\n\t_ \"net\"\n\t%s\n)\n\nfunc main() {}\n"
	for name, c := range map[string]struct {
		imports string // of main.go
		more    string // helper/helper.go
		want    string
	}{
		"without":      {"", "", ""},
		"itself":       {`_ "net/http"`, "", "it imports net/http"},
		"httputil":     {`_ "net/http/httputil"`, "", "it imports net/http"},
		"through":      {`_ "mine/helper"`, `import _ "net/http"`, "mine/helper imports net/http"},
		"textproto":    {`_ "net/textproto"`, "", ""},
		"other helper": {`_ "mine/helper"`, `import _ "net"`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			files := map[string]string{"go.mod": "module mine\n\ngo 1.25\n",
				"main.go":          fmt.Sprintf(own, c.imports),
				"helper/helper.go": "package helper\n\n" + c.more + "\n"}
			for file, text := range files {
				file = filepath.Join(dir, file)
				os.MkdirAll(filepath.Dir(file), 0o755)
				if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			points := filepath.Join(dir, "results.json")
			code, out, stderr := checkIt("-next", "-points", points, dir)
			if told := strings.Contains(out, "A note first"); told != (c.want != "") ||
				!strings.Contains(out, c.want) || code != exitFails {
				t.Errorf("exit %d:\n%s%s", code, out, stderr)
			}
			if c.want != "" {
				text, _ := os.ReadFile(points)
				var g gradescope
				if json.Unmarshal(text, &g) != nil || g.Score != 0 ||
					!strings.Contains(g.Tests[0].Output, c.want) {
					t.Errorf("%s", text)
				}
			}
		})
	}
}

// TestPageOfTheStages: the page lists the stages as they are, and its workflow for GitHub
// Actions has at most 20 lines.
func TestPageOfTheStages(t *testing.T) {
	text, err := os.ReadFile("../../docs/stages.md")
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range cases.Stages {
		row := regexp.MustCompile(fmt.Sprintf(`(?m)^\| %d \| %s \|.*\(%s\)`, i+1,
			regexp.QuoteMeta(s.Name), regexp.QuoteMeta(s.Page)))
		if !row.Match(text) {
			t.Errorf("docs/stages.md has no row for stage %d, %s, that links to %s", i+1, s.Name,
				s.Page)
		}
	}
	_, workflow, _ := strings.Cut(string(text), "```yaml\n")
	workflow, _, _ = strings.Cut(workflow, "```")
	if n := strings.Count(workflow, "\n"); n < 5 || n > 20 {
		t.Errorf("the workflow has %d lines", n)
	}
}
