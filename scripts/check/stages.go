package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
	"unicode/utf8"

	"reverseproxy/internal/narrate"
	"reverseproxy/scripts/check/cases"
	"reverseproxy/scripts/check/suite"
)

// The addresses of the C programs: what -stage and -next take for a program that is
// named by its command line alone.
const (
	usualProxy    = "127.0.0.1:8080"
	usualBackends = "127.0.0.1:8000,127.0.0.1:8001,127.0.0.1:8002"
)

// stageResult is what came of one stage.
type stageResult struct {
	*cases.Stage
	number  int // from 1
	cases   []suite.Case
	results []suite.Result // of the cases that were run; the last one may have failed
	problem string         // why it is not passed although no case failed
	note    string         // what else there is to say
	ran     bool
	took    time.Duration
}

// failed returns the case at which the stage stops; nil: at none.
func (s *stageResult) failed() *suite.Result {
	if n := len(s.results); n > 0 && s.results[n-1].Outcome == suite.Failed {
		return &s.results[n-1]
	}
	return nil
}

func (s *stageResult) passed() bool {
	return s.ran && s.failed() == nil && s.problem == ""
}

// title is the stage's name with its number.
func (s *stageResult) title() string { return fmt.Sprintf("Stage %d, %s", s.number, s.Name) }

// climb runs the stages from the first one to the last one asked for, and stops at the
// first that is not passed. What it remembers from one run to the next is nothing.
func (o *options) climb(s *suite.Subject, stdout, stderr io.Writer) int {
	defer s.Clean()
	fail := func(err error) int {
		fmt.Fprintf(stderr, "check: %v\n", err)
		return exitFails
	}
	fmt.Fprintf(stdout, "Checking %s\n\n", bold(s.Name))
	stages := make([]*stageResult, o.stage)
	for i := range stages {
		stages[i] = &stageResult{Stage: &cases.Stages[i], number: i + 1,
			cases: cases.Stages[i].Cases()}
	}
	note, err := ownWork(s)
	if err != nil {
		return fail(err)
	}
	if note != "" {
		fmt.Fprintln(stdout, note)
		stages[0].problem = note
	} else if err := o.climbStages(s, stages, stdout); err != nil {
		stages[0].problem = err.Error() // it could not be started: the reports say so, too
		fail(err)
	}
	for _, file := range []struct {
		name  string
		write func(io.Writer, *suite.Subject, []*stageResult) error
	}{{o.junit, writeJUnit}, {o.points, writePoints}} {
		if file.name == "" {
			continue
		}
		if err := writeFile(file.name, func(w io.Writer) error {
			return file.write(w, s, stages)
		}); err != nil {
			return fail(err)
		}
	}
	if stages[len(stages)-1].passed() {
		return exitOK
	}
	return exitFails
}

// climbStages runs the stages and tells what came of them.
func (o *options) climbStages(s *suite.Subject, stages []*stageResult, w io.Writer) error {
	if err := s.Build(); err != nil {
		return err
	}
	opts := suite.Options{Keep: o.verbose}
	if o.verbose {
		opts.OnEvent = func(r suite.Result) { printLine(w, r) }
	}
	path, err := suite.NewPath(s, opts)
	if err != nil {
		return err
	}
	open := true
	end := func() {
		if open {
			open = false
			path.Close()
		}
	}
	defer end()
	for _, st := range stages {
		start := time.Now()
		if st.Drill {
			end() // the drill starts the proxy itself
			st.drill(s)
		} else {
			st.results = path.Run(st.cases)
			st.judge()
		}
		st.ran, st.took = true, time.Since(start)
		st.print(w)
		if !st.passed() {
			o.explainStage(w, s, st)
			return nil
		}
	}
	o.praise(w, stages[len(stages)-1])
	return nil
}

// judge finds out whether the cases that did not apply leave enough to pass the stage.
func (s *stageResult) judge() {
	skipped := 0
	for _, r := range s.results {
		if r.Outcome == suite.Skipped {
			skipped++
		}
	}
	if skipped > 0 && s.failed() == nil {
		s.note = fmt.Sprintf("%d of them do not apply", skipped)
	}
	if skipped == len(s.cases) {
		s.problem = "none of its cases could be run: " + s.results[0].Reason
	}
}

// print prints one line about the stage.
func (s *stageResult) print(w io.Writer) {
	verdict := green("passed")
	if !s.passed() {
		verdict = red("not yet")
	}
	note := fmt.Sprintf("%d cases", len(s.cases))
	if s.Drill {
		note = "a drill of 20 s"
	}
	if s.note != "" {
		note += ", " + s.note
	}
	fmt.Fprintf(w, "stage %2d  %-30s %s  %s\n", s.number, s.Name, verdict, faint(note))
}

// explainStage says what is missing, how it was seen, and what helps.
func (o *options) explainStage(w io.Writer, s *suite.Subject, st *stageResult) {
	fmt.Fprintf(w, "\n%s\n", wrapped(bold(fmt.Sprintf("What stage %d wants:", st.number)), st.Goal))
	st.explain(w, o.verbose)
	hint := st.hint()
	if len(s.Backends) == 1 && st.problem != "" && st.number > 9 {
		hint = "Give -backends several addresses, such as " + usualBackends + "."
	}
	fmt.Fprintf(w, "\n%s\n%s docs/%s\n", wrapped(bold("Hint:"), hint), bold("Read:"), st.Page)
}

// explain shows what the stage stops at: the case, the rule, what went wrong and the
// bytes.
func (s *stageResult) explain(w io.Writer, verbose bool) {
	r := s.failed()
	if r == nil {
		fmt.Fprintf(w, "\n%s %s\n", yellow("→"), s.problem)
		return
	}
	rule := ""
	if strings.HasPrefix(r.RFC, "RFC") {
		rule = " (" + r.RFC + ")"
	}
	fmt.Fprintf(w, "\n%s\n", wrapped("It stops at the case "+red(r.ID)+rule+":", r.Why))
	printProblems(w, *r)
	most := 4
	if verbose {
		most = 12
	}
	wires(w, *r, most)
}

// hint is what helps with what the stage stops at.
func (s *stageResult) hint() string {
	if r := s.failed(); r != nil {
		return s.Hint(r.ID)
	}
	return s.Steps[0].Hint
}

// wrapped is a head with a text behind it, in lines of 80 columns.
func wrapped(head, text string) string {
	width := utf8.RuneCountInString(escapes.ReplaceAllString(head, ""))
	return head + " " + narrate.Wrap(text, width+1, 2)
}

// praise says what was reached, and what comes next.
func (o *options) praise(w io.Writer, last *stageResult) {
	reached := "Stage 1 is reached."
	if last.number > 1 {
		reached = fmt.Sprintf("Stages 1 to %d are reached.", last.number)
	}
	fmt.Fprintf(w, "\n%s\n", wrapped(bold(reached), last.Goal))
	if last.number == len(cases.Stages) {
		fmt.Fprintln(w, "That was the last one. The whole suite asks more: leave out -next.")
		return
	}
	next := cases.Stages[last.number]
	fmt.Fprintf(w, "\n%s\n%s docs/%s\n", wrapped(bold(fmt.Sprintf("Next, stage %d, %s:",
		last.number+1, next.Name)), next.Goal), bold("Read:"), next.Page)
}

// listStages prints the path.
func listStages(w io.Writer) int {
	for i, s := range cases.Stages {
		fmt.Fprintf(w, "%2d  %s %s\n    %s\n", i+1, bold(s.Name), faint("(docs/"+s.Page+")"),
			narrate.Wrap(s.Goal, 4, 4))
	}
	return exitOK
}

// drill runs scripts/drill -dead on the proxy. It is passed if nothing is lost that
// could be saved: no GET, no POST but those that a backend had when it began to hang.
// What fails may be the fault of a busy machine, and is run again.
func (s *stageResult) drill(subject *suite.Subject) {
	for range 3 {
		if s.problem, s.note = drillDead(subject); s.problem == "" {
			return
		}
	}
}

// mostLost is how many POSTs of a hundred may be lost in the drill. About one in a
// hundred is in the backend's hands before the first one has timed out; a proxy that
// never takes a backend out loses seven.
const mostLost = 5

func drillDead(subject *suite.Subject) (problem, note string) {
	dir, err := os.MkdirTemp("", "check-drill-")
	if err != nil {
		return err.Error(), ""
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "drill.json")
	args := []string{"run", "reverseproxy/scripts/drill", "-dead", "-json", file}
	if subject.Command != "" {
		args = append(args, "-cmd", subject.Command)
	}
	if subject.Chapter != "" {
		args = append(args, strings.Join(append([]string{subject.Chapter}, subject.Args...), " "))
	} else {
		args = append(args, "-proxy", subject.Proxy, "-backends",
			strings.Join(subject.Backends, ","))
	}
	out, err := exec.Command("go", args...).CombinedOutput()
	text, fileErr := os.ReadFile(file)
	if fileErr != nil {
		return fmt.Sprintf("the drill could not be run (%v): %s", err,
			strings.TrimSpace(string(out))), ""
	}
	var report struct {
		Results []struct {
			GETs      int `json:"gets"`
			POSTs     int `json:"posts"`
			LostGETs  int `json:"gets_lost"`
			LostPOSTs int `json:"posts_lost"`
			Twice     int `json:"posts_processed_twice"`
		} `json:"results"`
	}
	if err := json.Unmarshal(text, &report); err != nil || len(report.Results) != 1 {
		return fmt.Sprintf("the drill's report cannot be read: %v", err), ""
	}
	r := report.Results[0]
	note = fmt.Sprintf("lost: %d of %d GETs, %d of %d POSTs", r.LostGETs, r.GETs, r.LostPOSTs,
		r.POSTs)
	if r.LostGETs > 0 || r.Twice > 0 || r.LostPOSTs > r.POSTs*mostLost/100 {
		problem = fmt.Sprintf("%s; processed twice: %d POSTs. No GET may be lost, no POST "+
			"processed twice, and at most %d %% of the POSTs lost.", note, r.Twice, mostLost)
	}
	return problem, note
}

// writeFile makes a file of what write writes.
func writeFile(name string, write func(io.Writer) error) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	if err := write(f); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
