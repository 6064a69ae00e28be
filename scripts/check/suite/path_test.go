package suite_test

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"reverseproxy/scripts/check/cases"
	"reverseproxy/scripts/check/suite"
)

// reach walks the path as far as the proxy gets; it returns the stage that is not
// passed, from 1, and what stopped it. A stage of which no case applies is not passed.
func reach(t *testing.T, s *suite.Subject) (stage int, stopped string) {
	t.Helper()
	p, err := suite.NewPath(s, suite.Options{Patience: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for i, st := range cases.Stages {
		results := p.Run(st.Cases())
		passed := 0
		for _, r := range results {
			switch r.Outcome {
			case suite.Failed:
				return i + 1, fmt.Sprintf("%s: %s", r.ID, r.Problems[0])
			case suite.Passed:
				passed++
			}
		}
		if passed == 0 {
			return i + 1, "no case applies"
		}
	}
	return len(cases.Stages) + 1, ""
}

// stopsAt lists proxies with the stage that each must stop at: it passes all earlier
// ones. The student of level N is the smallest proxy that passes stage N; what stops it
// one stage later is that it can no more. Stages 14 and 15 are proved with chapters.
var stopsAt = []struct {
	stage   int
	student int    // level; 0: the reference proxy
	faults  string // with blanks between, of the reference proxy; one, of the student
}{
	{1, 1, "says nothing"}, {1, 1, "without a head"}, {1, 1, "waits for the end"},
	{1, 1, "reads nothing"},
	{2, 1, ""}, {2, 0, "drops-query"}, {2, 0, "rewrites-status"}, {2, 0, "merges-cookies"},
	{3, 2, ""}, {3, 0, "cuts-request"}, {3, 0, "cuts-response"}, {3, 0, "waits-for-close"},
	{4, 3, ""}, {4, 0, "dies"}, {4, 0, "sends-twice"},
	{5, 4, ""}, {5, 0, "head-waits"},
	{6, 5, ""}, {6, 0, "keeps-named"}, {6, 0, "keeps-named-response"}, {6, 0, "no-via"},
	{6, 0, "closes-silently"},
	{7, 6, ""}, {7, 0, "both-lengths"}, {7, 0, "takes-two-hosts"}, {7, 0, "goes-on-after-400"},
	{7, 0, "completes-upload"}, {7, 7, "size by int"},
	{8, 7, ""}, {8, 0, "error-tells"}, {8, 0, "completes-response"},
	{9, 8, ""}, {9, 0, "serial"}, {9, 0, "crosstalk"},
	{10, 9, ""}, {10, 0, "uneven"}, {10, 0, "first-only"},
	{11, 10, ""}, {11, 0, "always-closes"}, {11, 0, "drops-pipeline"},
	{12, 0, "no-reuse"}, {12, 0, "keeps-poison"}, {12, 0, "keeps-half-sent"},
	{13, 0, "no-timeouts no-failover"}, {13, 0, "no-failover"}, {13, 0, "no-retry-body"},
	{14, 0, ""}, // it passes 13, and checks nobody
}

func TestStagesStopWhatIsBroken(t *testing.T) {
	t.Parallel()
	broken := map[int]int{}
	for _, c := range stopsAt {
		broken[c.stage]++
		name := fmt.Sprintf("stage %d, reference %s", c.stage, c.faults)
		if c.student > 0 {
			name = fmt.Sprintf("stage %d, student %d %s", c.stage, c.student, c.faults)
		}
		t.Run(strings.TrimSpace(name), func(t *testing.T) {
			t.Parallel()
			var s *suite.Subject
			if c.student > 0 {
				s = suite.StudentSubject(t, c.student, c.faults)
			} else {
				s = suite.RefSubject(t, 3, strings.Fields(c.faults)...)
			}
			if got, why := reach(t, s); got != c.stage {
				t.Errorf("stops at stage %d: %s", got, why)
			}
		})
	}
	for stage := 1; stage <= 13; stage++ {
		if broken[stage] < 2 {
			t.Errorf("stage %d has %d broken proxies", stage, broken[stage])
		}
	}
}

// TestStagesAreDescribed: each stage names cases that exist, with hints, and no case
// stands there twice in a stage.
func TestStagesAreDescribed(t *testing.T) {
	if n := len(cases.Stages); n < 12 || n > 15 {
		t.Errorf("%d stages", n)
	}
	for i, s := range cases.Stages {
		if s.Name == "" || !strings.HasSuffix(s.Goal, ".") || s.Page == "" {
			t.Errorf("stage %d: name %q, goal %q, page %q", i+1, s.Name, s.Goal, s.Page)
		}
		seen := map[string]bool{}
		for _, step := range s.Steps {
			if !strings.HasSuffix(step.Hint, ".") {
				t.Errorf("stage %d, %s: hint %q", i+1, step.IDs, step.Hint)
			}
			for _, id := range strings.Fields(step.IDs) {
				if cases.Find(id) == nil && !s.Drill || seen[id] {
					t.Errorf("stage %d: case %s", i+1, id)
				}
				seen[id] = true
			}
		}
	}
}

// steady lists for each stage but the drill a proxy that passes it and one that does not.
var steady = []struct{ chapter, fault string }{
	1:  {"ch2_basic_proxy", "student says nothing"},
	2:  {"ch2_basic_proxy", "drops-query"},
	3:  {"ch2_basic_proxy", "cuts-request"},
	4:  {"ch4_threaded", "dies"},
	5:  {"ch2_basic_proxy", "head-waits"},
	6:  {"ch4_threaded", "no-via"},
	7:  {"ch4_threaded", "takes-two-hosts"},
	8:  {"ch4_threaded", "completes-response"},
	9:  {"ch4_threaded", "serial"},
	10: {"ch5_load_balancer", "uneven"},
	11: {"ch6_keep_alive", "always-closes"},
	12: {"ch6_keep_alive", "keeps-poison"},
	13: {"ch7_timeouts_retries", "no-failover"},
	14: {"ch8_health_checks", ""},
}

// TestStagesAreSteady runs each stage CHECK_RUNS times beside a busy loop on each core:
// the same verdict each time.
func TestStagesAreSteady(t *testing.T) {
	runs, err := strconv.Atoi(os.Getenv("CHECK_RUNS"))
	if err != nil {
		t.Skip("takes minutes a run: only with CHECK_RUNS")
	}
	for range runtime.NumCPU() {
		loop := exec.Command("/bin/sh", "-c", "while :; do :; done")
		if err := loop.Start(); err != nil {
			t.Skip(err)
		}
		defer loop.Wait()
		defer loop.Process.Kill()
	}
	for i, pair := range steady {
		if i == 0 {
			continue
		}
		t.Run(fmt.Sprintf("stage %d", i), func(t *testing.T) {
			good := &suite.Subject{Name: pair.chapter, Chapter: "../../../" + pair.chapter}
			defer good.Clean()
			bad := suite.RefSubject(t, 3, strings.Fields(pair.fault)...)
			if fault, ok := strings.CutPrefix(pair.fault, "student "); ok {
				bad = suite.StudentSubject(t, 1, fault)
			}
			all := cases.Stages[i-1].Cases()
			for n := range runs {
				for _, s := range []*suite.Subject{good, bad} {
					p, err := suite.NewPath(s, suite.Options{})
					if err != nil {
						t.Fatal(err)
					}
					results := p.Run(all)
					p.Close()
					last := results[len(results)-1]
					passed := last.Outcome == suite.Passed
					if passed != (s == good) {
						t.Errorf("run %d, %s: %s %s %v", n+1, s.Name, last.ID, last.Outcome,
							last.Problems)
					}
				}
			}
		})
	}
}
