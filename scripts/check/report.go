package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"sort"
	"strings"

	"github.com/fatih/color"

	"reverseproxy/scripts/check/suite"
)

// Colours of the outcomes; color.NoColor turns them off when stdout is no
// terminal or NO_COLOR is set.
var (
	green  = color.New(color.FgGreen).SprintFunc()
	red    = color.New(color.FgRed).SprintFunc()
	yellow = color.New(color.FgYellow).SprintFunc()
	faint  = color.New(color.Faint).SprintFunc()
	bold   = color.New(color.Bold).SprintFunc()
)

// check runs the suite on a subject and prints the report.
func (o *options) check(s *suite.Subject, only *regexp.Regexp, stdout, stderr io.Writer) int {
	defer s.Clean()
	if err := s.Build(); err != nil {
		fmt.Fprintf(stderr, "check: %v\n", err)
		return exitFails
	}
	opts := suite.Options{Only: only, Keep: o.verbose}
	if !o.json {
		fmt.Fprintf(stdout, "Checking %s\n\n", bold(s.Name))
		opts.OnEvent = func(r suite.Result) { printLine(stdout, r) }
	}
	rep, err := suite.Run(s, opts)
	if err != nil {
		if o.json {
			json.NewEncoder(stdout).Encode(map[string]string{"proxy": s.Name, "error": err.Error()})
		}
		fmt.Fprintf(stderr, "check: %v\n", err)
		return exitFails
	}
	if o.json {
		enc := json.NewEncoder(stdout)
		enc.SetIndent("", "  ")
		enc.SetEscapeHTML(false)
		enc.Encode(struct {
			*suite.Report
			Score suite.Score `json:"score"`
		}{rep, rep.Score()})
	} else {
		if o.verbose {
			printWires(stdout, rep)
		}
		printReport(stdout, rep)
	}
	if rep.Score().Levels[suite.Must.String()].Failed > 0 {
		return exitFails
	}
	return exitOK
}

// printLine prints one case when it has ended.
func printLine(w io.Writer, r suite.Result) {
	mark, text := green("pass"), ""
	switch r.Outcome {
	case suite.Failed:
		mark, text = red("FAIL"), first(r.Problems)
		if r.Level == suite.Quality {
			mark = yellow("fail")
		}
	case suite.Skipped:
		mark, text = faint("n/a "), r.Reason
	}
	if text != "" {
		text = "  " + faint(cut(text, 100))
	}
	fmt.Fprintf(w, "%s  %-7s %-28s %5d ms%s\n", mark, r.Level, r.ID, r.Millis, text)
}

func first(s []string) string {
	if len(s) == 0 {
		return ""
	}
	return s[0]
}

func cut(s string, n int) string {
	s, _, _ = strings.Cut(s, "\n")
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}

// printReport prints the score, then the failures explained.
func printReport(w io.Writer, rep *suite.Report) {
	score := rep.Score()
	failed := 0
	for _, r := range rep.Results {
		if r.Outcome == suite.Failed {
			failed++
		}
	}
	if failed > 0 {
		fmt.Fprintf(w, "\n%s\n", bold("What failed, and what was seen"))
		explainFailures(w, rep)
	}
	fmt.Fprintf(w, "\n%s\n", bold("Score of "+rep.Proxy))
	fmt.Fprintf(w, "%-22s %10s %10s %10s\n", "", "must", "should", "quality")
	for _, g := range suite.Groups() {
		if row, ok := score.Groups[g]; ok {
			fmt.Fprintf(w, "%-22s %10s %10s %10s\n", g, row["must"], row["should"], row["quality"])
		}
	}
	l := score.Levels
	fmt.Fprintf(w, "%-22s %10s %10s %10s\n", "all", l["must"], l["should"], l["quality"])
	for _, n := range rep.Notes {
		fmt.Fprintf(w, "Note: %s.\n", n)
	}
	verdict := green("every must passed")
	if n := l["must"].Failed; n > 0 {
		verdict = red(fmt.Sprintf("%d musts failed", n))
	}
	fmt.Fprintf(w, "%d cases in %.1f s: %s, %d passed, %d failed, %d not applicable.\n",
		len(rep.Results), float64(rep.Millis)/1000, verdict, score.All.Passed, score.All.Failed, score.All.Skipped)
}

// explainFailures prints each failure with its meaning and its bytes. Cases
// that were not run for one reason are listed together.
func explainFailures(w io.Writer, rep *suite.Report) {
	unrun := map[string][]string{}
	for _, r := range rep.Results {
		if r.Outcome != suite.Failed {
			continue
		}
		if r.Reason != "" {
			unrun[r.Reason] = append(unrun[r.Reason], r.ID)
			continue
		}
		fmt.Fprintf(w, "\n%s (%s, %s)\n", red(r.ID), r.Level, r.RFC)
		fmt.Fprintf(w, "  %s\n", r.Why)
		for _, p := range r.Problems {
			fmt.Fprintf(w, "  %s %s\n", yellow("→"), p)
		}
		wires(w, r)
	}
	reasons := make([]string, 0, len(unrun))
	for k := range unrun {
		reasons = append(reasons, k)
	}
	sort.Strings(reasons)
	for _, k := range reasons {
		fmt.Fprintf(w, "\n%s %d cases: %s\n", red("not run,"), len(unrun[k]), k)
		fmt.Fprintf(w, "  %s\n", faint(strings.Join(unrun[k], " ")))
	}
}

// wires prints the bytes of a case.
func wires(w io.Writer, r suite.Result) {
	for i, x := range r.Wires {
		if i == 6 {
			fmt.Fprintf(w, "    %s\n", faint(fmt.Sprintf("and %d more connections", len(r.Wires)-i)))
			break
		}
		to, from := x.Peer+" → proxy", "proxy → "+x.Peer
		if strings.HasPrefix(x.Peer, "backend") { // the order in which it happened
			block(w, from, x.Received, x.ReceivedBytes)
			block(w, to, x.Sent, x.SentBytes)
			continue
		}
		block(w, to, x.Sent, x.SentBytes)
		block(w, from, x.Received, x.ReceivedBytes)
	}
}

func block(w io.Writer, label, text string, n int64) {
	fmt.Fprintf(w, "    %s (%d bytes)\n", faint(label), n)
	if n == 0 {
		return
	}
	for _, line := range strings.Split(text, "\n") {
		fmt.Fprintf(w, "      %s\n", line)
	}
}

// printWires prints the bytes of the passed cases.
func printWires(w io.Writer, rep *suite.Report) {
	for _, r := range rep.Results {
		if r.Outcome == suite.Passed {
			fmt.Fprintf(w, "\n%s (%s, %s)\n  %s\n", green(r.ID), r.Level, r.RFC, r.Why)
			wires(w, r)
		}
	}
}

// list prints every case, one line each.
func list(w io.Writer, only *regexp.Regexp) int {
	n := 0
	for _, c := range suite.Cases() {
		if only != nil && !only.MatchString(c.ID) && !only.MatchString(c.Group) {
			continue
		}
		n++
		fmt.Fprintf(w, "%-28s %-8s %-18s %-22s %s\n", c.ID, c.Level, c.Group, c.RFC, c.Why)
	}
	fmt.Fprintf(w, "%d cases\n", n)
	return exitOK
}

// explain prints one case.
func explain(w, stderr io.Writer, id string) int {
	for _, c := range suite.Cases() {
		if c.ID == id {
			fmt.Fprintf(w, "%s\n  group  %s\n  level  %s: %s\n  rule   %s\n  %s\n", bold(c.ID), c.Group, c.Level,
				levelMeans(c.Level), c.RFC, c.Why)
			fmt.Fprintf(w, "\nTo see every byte of it: go run ./scripts/check -v -run '^%s$' PROXY\n", c.ID)
			return exitOK
		}
	}
	fmt.Fprintf(stderr, "check: %v\n", errors.New("no case "+id+"; -list shows them all"))
	return exitUsage
}

func levelMeans(l suite.Level) string {
	return [...]string{
		"a MUST of the RFCs, or what safety demands",
		"a SHOULD of the RFCs, or a robustness that production proxies have",
		"what a very good proxy does beyond that",
	}[l]
}
