package main

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"reverseproxy/internal/harness"
	"reverseproxy/scripts/check/cases"
	"reverseproxy/scripts/check/suite"
)

// A case before leaves more idle connections than the group retry sends requests to fill
// the proxy's budget. No try may go over one of them: it would be repeated at the same
// backend, which is right.
func TestRetryCasesAfterManyIdle(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	t.Parallel()
	program := harness.BuildPlain(t, "ch9_balancing_algorithms")
	const many = 210
	leave := suite.Case{ID: "leaves-idle", Level: suite.Should, Mode: suite.Alone,
		Run: func(t *suite.T) {
			var together, clients sync.WaitGroup
			together.Add(many)
			t.Serve(func(x *suite.Exchange) {
				x.Request()
				together.Done()
				together.Wait()
				x.Send(suite.Kept(200, "ok"))
				x.Keep()
			})
			for i := range many {
				clients.Go(func() { // ends with its answer
					defer t.Catch()
					t.Do(t.Get(fmt.Sprint(i)), "GET")
				})
			}
			clients.Wait()
		}}
	all := slices.DeleteFunc(cases.All(), func(c suite.Case) bool {
		return c.ID != "basic-get" && c.ID != "retry-broken"
	})
	s := &suite.Subject{Name: "ch9", Uneven: true, Count: 3, Argv: []string{program, "-listen",
		"127.0.0.1:0", "-backends", "%BACKENDS%", "-log", "off", "-algorithm", "rendezvous",
		"-check", "off", "-max-fails", "0", "-reuse", "always"}}
	rep, err := suite.Run(s, slices.Insert(all, 1, leave), suite.Options{Budget: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rep.Results {
		if r.Outcome != suite.Passed {
			t.Errorf("%s: %v, %v", r.ID, r.Outcome, r.Problems)
		}
	}
}
