package main

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"math"
	"regexp"
	"strings"
	"time"

	"reverseproxy/scripts/check/suite"
)

// The elements of a JUnit report, as CI servers read it.
type (
	junitSuites struct {
		XMLName  xml.Name     `xml:"testsuites"`
		Name     string       `xml:"name,attr"`
		Tests    int          `xml:"tests,attr"`
		Failures int          `xml:"failures,attr"`
		Time     string       `xml:"time,attr"`
		Suites   []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name      string      `xml:"name,attr"`
		Tests     int         `xml:"tests,attr"`
		Failures  int         `xml:"failures,attr"`
		Errors    int         `xml:"errors,attr"`
		Skipped   int         `xml:"skipped,attr"`
		Time      string      `xml:"time,attr"`
		Timestamp string      `xml:"timestamp,attr"`
		Cases     []junitCase `xml:"testcase"`
	}
	junitCase struct {
		Name    string        `xml:"name,attr"`
		Class   string        `xml:"classname,attr"`
		Time    string        `xml:"time,attr"`
		Failure *junitFailure `xml:"failure"`
		Skipped string        `xml:"skipped,omitempty"` // why
	}
	junitFailure struct {
		Message string `xml:"message,attr"`
		Type    string `xml:"type,attr"`
		Text    string `xml:",chardata"`
	}
)

// notReached is why a case was not run.
const notReached = "not run: an earlier one has failed"

// writeJUnit writes the stages as JUnit XML: each stage a suite, each case a test.
func writeJUnit(w io.Writer, s *suite.Subject, stages []*stageResult) error {
	all := junitSuites{Name: s.Name}
	var took time.Duration
	for _, st := range stages {
		one := st.junit()
		all.Tests += one.Tests
		all.Failures += one.Failures
		took += st.took
		all.Suites = append(all.Suites, one)
	}
	all.Time = seconds(took)
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	enc := xml.NewEncoder(w)
	enc.Indent("", "  ")
	if err := enc.Encode(all); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

func (s *stageResult) junit() junitSuite {
	one := junitSuite{Name: s.title(), Time: seconds(s.took),
		Timestamp: time.Now().UTC().Format("2006-01-02T15:04:05")}
	add := func(id, problem, text, skipped string, took time.Duration) {
		c := junitCase{Name: id, Class: fmt.Sprintf("stage%02d", s.number), Time: seconds(took)}
		one.Tests++
		switch {
		case problem != "":
			one.Failures++
			c.Failure = &junitFailure{Message: plain(problem), Type: "failure", Text: text}
		case skipped != "":
			one.Skipped++
			c.Skipped = skipped
		}
		one.Cases = append(one.Cases, c)
	}
	for i, c := range s.cases {
		if i >= len(s.results) {
			add(c.ID, "", "", notReached, 0)
			continue
		}
		r := s.results[i]
		add(r.ID, first(r.Problems), s.why(), r.Reason, time.Duration(r.Millis)*time.Millisecond)
	}
	switch {
	case s.Drill && !s.ran:
		add("drill-dead", "", "", notReached, 0)
	case s.Drill:
		add("drill-dead", s.problem, s.why(), "", s.took)
	case s.problem != "":
		add("stage", s.problem, s.why(), "", 0)
	}
	return one
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.3f", d.Seconds()) }

// why is what a report says about a stage, as plain text.
func (s *stageResult) why() string {
	var b strings.Builder
	fmt.Fprintln(&b, s.Goal)
	if s.failed() != nil || s.problem != "" {
		s.explain(&b, false)
		fmt.Fprintf(&b, "\nHint: %s\nRead: docs/%s\n", s.hint(), s.Page)
	}
	return plain(b.String())
}

// plain is text without what colours it in a terminal, and without bytes that XML
// cannot hold.
func plain(text string) string {
	text = escapes.ReplaceAllString(text, "")
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' || r == 0xFFFE || r == 0xFFFF {
			return -1
		}
		return r
	}, text)
}

// escapes are the sequences that colour text in a terminal.
var escapes = regexp.MustCompile("\x1b\\[[0-9;]*m")

// gradescope is Gradescope's results.json.
type gradescope struct {
	Score  float64          `json:"score"`
	Time   float64          `json:"execution_time"` // in seconds, whole ones
	Output string           `json:"output"`
	Tests  []gradescopeTest `json:"tests"`
}

type gradescopeTest struct {
	Name       string  `json:"name"`
	Number     string  `json:"number"`
	Score      float64 `json:"score"`
	MaxScore   float64 `json:"max_score"`
	Status     string  `json:"status"` // passed or failed
	Output     string  `json:"output"`
	Visibility string  `json:"visibility"`
}

// writePoints writes the stages as Gradescope reads them, a point for each.
func writePoints(w io.Writer, s *suite.Subject, stages []*stageResult) error {
	g := gradescope{}
	for _, st := range stages {
		t := gradescopeTest{Name: st.Name, Number: fmt.Sprint(st.number), MaxScore: 1,
			Status: "failed", Output: st.why(), Visibility: "visible"}
		if st.passed() {
			t.Score, t.Status = 1, "passed"
			g.Score++
		} else if !st.ran && st.problem == "" {
			t.Output = notReached + ".\n" + t.Output
		}
		g.Time = math.Ceil(g.Time + st.took.Seconds())
		g.Tests = append(g.Tests, t)
	}
	g.Output = fmt.Sprintf("%s: %g of %d stages", s.Name, g.Score, len(stages))
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(g)
}
