package suite_test

import (
	"testing"
	"time"

	"reverseproxy/internal/harness"
	"reverseproxy/scripts/check/cases"
	"reverseproxy/scripts/check/suite"
)

// What the checker's own look at ejection had a proxy think of its backends, no case
// meets: the proxy is started anew, though it did not seem to mind.
func TestNoCaseMeetsTheProbe(t *testing.T) {
	t.Parallel()
	program := harness.BuildPlain(t, "ch5_load_balancer")
	s := &suite.Subject{Name: "ch5", Count: 3, Argv: []string{program, "-listen", "127.0.0.1:0",
		"-backends", "%BACKENDS%", "-log", "off"}}
	all := cases.All()
	look := suite.Case{ID: "look", Level: suite.Must, Run: func(t *suite.T) {
		if runs, accidents := t.Lab.History(); runs != 2 || len(accidents) > 0 || t.Lab.Ejects {
			t.Errorf("started %d times, after %v, ejects %t", runs, accidents, t.Lab.Ejects)
		}
	}}
	rep, err := suite.Run(s, append(all[:1:1], look), suite.Options{Budget: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rep.Results {
		if r.Outcome != suite.Passed {
			t.Errorf("%s: %v, %v %s", r.ID, r.Outcome, r.Problems, r.Reason)
		}
	}
}
