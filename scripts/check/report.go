package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fatih/color"

	"reverseproxy/scripts/check/cases"
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
	if !o.json && !o.quiet {
		fmt.Fprintf(stdout, "Checking %s\n", bold(s.Name))
		opts.OnStart = func(c suite.Calibration) { printCalibration(stdout, c) }
	}
	switch {
	case o.verbose && !o.json:
		opts.OnEvent = func(r suite.Result) { printLine(stdout, r) }
	case !o.json && isTerminal(stderr):
		opts.OnEvent = progress(stderr)
		defer fmt.Fprint(stderr, "\r\x1b[K")
	}
	rep, err := suite.Run(s, cases.All(), opts)
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
		o.print(stdout, rep)
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
	fmt.Fprintf(w, "%s  %-7s %-24s %5d ms%s\n", mark, r.Level, r.ID, r.Millis, text)
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

// printCalibration says how patient the checker is, and why.
func printCalibration(w io.Writer, c suite.Calibration) {
	fmt.Fprintf(w, "Without a proxy a request takes %v here: the checker waits %v for the next "+
		"byte.\n",
		c.Hop.Round(10*time.Microsecond), c.Patience.Round(100*time.Millisecond))
	if c.Factor > 1 {
		fmt.Fprintf(w, "The machine is busy: that is %.1f times the usual.\n", c.Factor)
	}
	fmt.Fprintln(w)
}

// isTerminal reports whether w is one.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// progress shows on one line how far the run is.
func progress(w io.Writer) func(suite.Result) {
	var mu sync.Mutex
	done, failed := 0, 0
	return func(r suite.Result) {
		mu.Lock()
		defer mu.Unlock()
		done++
		if r.Outcome == suite.Failed {
			failed++
		}
		fmt.Fprintf(w, "\r%d cases, %d failed ", done, failed)
	}
}

// fewCases is how many cases are listed one by one when only they were asked for.
const fewCases = 40

// print writes the score, the first failures and then the rest.
func (o *options) print(w io.Writer, rep *suite.Report) {
	printScore(w, rep)
	if o.quiet {
		return
	}
	failed := failures(rep)
	explained, unrun := failed[:0:0], map[string][]string{}
	for _, r := range failed {
		if r.Reason == "" {
			explained = append(explained, r)
		} else {
			unrun[r.Reason] = append(unrun[r.Reason], r.ID)
		}
	}
	n := max(0, min(o.first, len(explained)))
	if n > 0 {
		fmt.Fprintf(w, "\n%s\n", bold("What failed first"))
	}
	for _, r := range explained[:n] {
		o.explainFailure(w, r)
	}
	for _, reason := range slices.Sorted(maps.Keys(unrun)) {
		fmt.Fprintf(w, "\n%s %d cases: %s\n", red("not run,"), len(unrun[reason]), reason)
	}
	if left := explained[n:]; len(left) > 0 {
		fmt.Fprintf(w, "\n%s %s\n", bold("What else failed"), faint(fmt.Sprintf("(-first %d "+
			"explains more, -run NAME only those)", n+10)))
		printIDs(w, left)
	}
	if len(rep.Results) <= fewCases && !o.verbose {
		fmt.Fprintf(w, "\n%s\n", bold("Case by case"))
		for _, r := range rep.Results {
			printLine(w, r)
		}
	} else {
		printGroups(w, rep)
	}
	if o.verbose {
		printWires(w, rep)
	}
}

// failures returns what failed: the musts first, each level in the order of the
// report, from the basics up.
func failures(rep *suite.Report) (failed []suite.Result) {
	for _, r := range rep.Results {
		if r.Outcome == suite.Failed {
			failed = append(failed, r)
		}
	}
	slices.SortStableFunc(failed, func(a, b suite.Result) int { return int(a.Level - b.Level) })
	return failed
}

// printScore prints what came of the run in a few lines.
func printScore(w io.Writer, rep *suite.Report) {
	score := rep.Score()
	l := score.Levels
	verdict := green("every must passed")
	if n := l["must"].Failed; n == 1 {
		verdict = red("1 must failed")
	} else if n > 1 {
		verdict = red(fmt.Sprintf("%d musts failed", n))
	}
	fmt.Fprintf(w, "%s: must %s, should %s, quality %s\n", bold("Score of "+rep.Proxy), l["must"],
		l["should"], l["quality"])
	fmt.Fprintf(w, "%d cases in %.1f s: %s, %d passed, %d failed, %d not applicable.\n",
		len(rep.Results), float64(rep.Millis)/1000, verdict,
		score.All.Passed, score.All.Failed, score.All.Skipped)
	for _, n := range rep.Notes {
		fmt.Fprintf(w, "Note: %s.\n", n)
	}
}

// printGroups prints the score of each group.
func printGroups(w io.Writer, rep *suite.Report) {
	score := rep.Score()
	fmt.Fprintf(w, "\n%s %10s %10s %10s\n", bold(fmt.Sprintf("%-24s", "By group")), "must",
		"should", "quality")
	for _, g := range cases.Groups() {
		if row, ok := score.Groups[g]; ok {
			fmt.Fprintf(w, "%-24s %10s %10s %10s\n", g, row["must"], row["should"], row["quality"])
		}
	}
}

// printIDs lists cases by their groups, one line a group.
func printIDs(w io.Writer, list []suite.Result) {
	ids := map[string][]string{}
	for _, r := range list {
		ids[r.Group] = append(ids[r.Group], r.ID)
	}
	for _, g := range cases.Groups() {
		if len(ids[g]) > 0 {
			fmt.Fprintf(w, "  %s: %s\n", g, faint(strings.Join(ids[g], " ")))
		}
	}
}

// explainFailure prints a failure with its meaning and its bytes.
func (o *options) explainFailure(w io.Writer, r suite.Result) {
	fmt.Fprintf(w, "\n%s (%s, %s)\n  %s\n", red(r.ID), r.Level, r.RFC, r.Why)
	printProblems(w, r)
	most := 2
	if o.verbose {
		most = 6
	}
	wires(w, r, most)
}

// printProblems prints what went wrong in a case.
func printProblems(w io.Writer, r suite.Result) {
	for _, p := range r.Problems {
		fmt.Fprintf(w, "  %s %s\n", yellow("→"), p)
	}
	if r.Died != "" && !strings.Contains(first(r.Problems), r.Died) {
		fmt.Fprintf(w, "  %s meanwhile the proxy ended: %s\n", yellow("→"), r.Died)
	}
}

// wires prints the bytes of a case, of so many connections at most.
func wires(w io.Writer, r suite.Result, most int) {
	for i, x := range r.Wires {
		if i == most {
			fmt.Fprintf(w, "    %s\n", faint(fmt.Sprintf("and %d more connections; -v shows them",
				len(r.Wires)-i)))
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
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if i == blockLines {
			fmt.Fprintf(w, "      %s\n", faint(fmt.Sprintf("and %d more lines", len(lines)-i)))
			break
		}
		fmt.Fprintf(w, "      %s\n", cut(line, blockWidth))
	}
}

// What is shown of one direction of a connection.
const (
	blockLines = 14
	blockWidth = 96
)

// printWires prints the bytes of the passed cases.
func printWires(w io.Writer, rep *suite.Report) {
	for _, r := range rep.Results {
		if r.Outcome == suite.Passed {
			fmt.Fprintf(w, "\n%s (%s, %s)\n  %s\n", green(r.ID), r.Level, r.RFC, r.Why)
			wires(w, r, 6)
		}
	}
}

// list prints every case, one line each.
func list(w io.Writer, only *regexp.Regexp) int {
	n := 0
	for _, c := range cases.All() {
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
	if c := cases.Find(id); c != nil {
		fmt.Fprintf(w, "%s\n  group  %s\n  level  %s: %s\n  rule   %s\n  %s\n", bold(c.ID),
			c.Group, c.Level,
			levelMeans(c.Level), c.RFC, c.Why)
		only := "-run '^" + c.ID + "$'"
		if c.Group == cases.OfStages {
			only = "-stage 1"
		}
		fmt.Fprintf(w, "\nTo see every byte of it: go run ./scripts/check -v %s PROXY\n", only)
		return exitOK
	}
	fmt.Fprintf(stderr, "check: %v\n", errors.New("no case "+id+"; -list shows them all"))
	return exitUsage
}

func levelMeans(l suite.Level) string {
	return [...]string{
		"a MUST of the RFCs that binds a gateway, or what wholeness and safety demand",
		"a SHOULD of the RFCs, or a robustness that production proxies have",
		"what a very good proxy does beyond that",
	}[l]
}
