package main

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"reverseproxy/internal/harness"
	"reverseproxy/scripts/check/cases"
	"reverseproxy/scripts/check/suite"
)

// TestHealthCasesCanFail runs the group health on chapter 8 with flags that make it
// blind, unforgiving or deaf: then the cases of that fail, and only with them.
func TestHealthCasesCanFail(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds for each way")
	}
	t.Parallel()
	program := harness.BuildPlain(t, "ch8_health_checks")
	for flags, want := range map[string][]string{
		"":              nil,
		"-fall 1000000": {"health-ill", "health-silent"},
		// Whoever seems ill once stays so: a late answer must not do.
		"-rise 1000000 -inter 1s -check-timeout 1s": {"health-back"},
		"-check-status 200-499":                     {"health-drain"},
		"-inter 1h":                                 {"health-ill", "health-beside-traffic"},
		"-check off -max-fails 0":                   {"-"},
	} {
		t.Run(flags, func(t *testing.T) {
			t.Parallel()
			argv := append([]string{program, "-listen", "127.0.0.1:0", "-backends", "%BACKENDS%",
				"-log", "off", "-inter", "700ms", "-check-timeout", "700ms", "-slow-start", "0"},
				strings.Fields(flags)...)
			s := &suite.Subject{Name: "ch8 " + flags, Argv: argv, Count: 3}
			only := regexp.MustCompile("^health-")
			if len(want) > 0 && want[0] != "-" {
				only = regexp.MustCompile("^(" + strings.Join(want, "|") + ")$")
			}
			rep, err := suite.Run(s, cases.All(), suite.Options{Budget: 3 * time.Minute,
				Only: only, Once: len(want) > 0})
			if err != nil {
				t.Fatal(err)
			}
			failed := []string{}
			for _, r := range rep.Results {
				switch {
				case r.Outcome == suite.Failed:
					failed = append(failed, r.ID)
					t.Logf("%s: %s: %v", s.Name, r.ID, r.Problems)
				case r.Outcome == suite.Passed && slices.Contains(want, "-"):
					t.Errorf("%s: %s passed, though no checks come", s.Name, r.ID)
				}
			}
			for _, id := range want {
				if id != "-" && !slices.Contains(failed, id) {
					t.Errorf("%s: %s did not fail", s.Name, id)
				}
			}
			if flags == "" && len(failed) > 0 {
				t.Errorf("%s: failed: %v", s.Name, failed)
			}
			t.Logf("%s: failed: %v", s.Name, failed)
		})
	}
}

// A hash sends all requests of one URI to one backend. The cases send others, so that
// they say as much of such a proxy.
func TestHealthCasesOfAHash(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	t.Parallel()
	program := harness.BuildPlain(t, "ch9_balancing_algorithms")
	s := &suite.Subject{Name: "ch9", Uneven: true, Count: 3, Argv: []string{program, "-listen",
		"127.0.0.1:0", "-backends", "%BACKENDS%", "-log", "off", "-algorithm", "rendezvous",
		"-inter", "700ms", "-check-timeout", "700ms", "-slow-start", "0"}}
	rep, err := suite.Run(s, cases.All(), suite.Options{Budget: 3 * time.Minute,
		Only: regexp.MustCompile("^(health-|retry-broken)")})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rep.Results {
		if r.Outcome != suite.Passed {
			t.Errorf("%s: %v, %v %s", r.ID, r.Outcome, r.Problems, r.Reason)
		}
	}
}

// A backend that is out of service when a case begins, for what came before, is waited
// for: that the proxy does not use it just then says nothing.
func TestHealthCasesOfOneThatIsOut(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	t.Parallel()
	s := &suite.Subject{Name: "out at first", Uneven: true, Count: 2,
		Running: func(backends []string, _ suite.Timeouts) (addr string, err error) {
			var ill atomic.Bool // the first backend
			out := time.Now().Add(6 * time.Second)
			go func() { // ends with the test
				for t.Context().Err() == nil {
					r, err := http.Get("http://" + backends[0])
					ill.Store(err != nil || r.StatusCode != http.StatusOK)
					if err == nil {
						r.Body.Close()
					}
					time.Sleep(100 * time.Millisecond)
				}
			}()
			rewrite := func(r *httputil.ProxyRequest) {
				r.Out.URL.Scheme, r.Out.URL.Host = "http", backends[0]
				if ill.Load() || time.Now().Before(out) {
					r.Out.URL.Host = backends[1]
				}
			}
			proxy := httptest.NewServer(&httputil.ReverseProxy{Rewrite: rewrite})
			t.Cleanup(proxy.Close)
			return proxy.Listener.Addr().String(), nil
		}}
	rep, err := suite.Run(s, cases.All(), suite.Options{Budget: time.Minute,
		Only: regexp.MustCompile("^health-back$")})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rep.Results {
		if r.Outcome != suite.Passed {
			t.Errorf("%s: %v, %v %s", r.ID, r.Outcome, r.Problems, r.Reason)
		}
	}
}
