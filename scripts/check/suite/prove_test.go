package suite_test

import (
	"flag"
	"fmt"
	"maps"
	"net"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"reverseproxy/scripts/check/cases"
	"reverseproxy/scripts/check/suite"

	"github.com/google/go-cmp/cmp"
)

// TestMain lets the test binary play the reference proxy as a program, so
// that the ways of starting one can be tested.
func TestMain(m *testing.M) {
	if os.Getenv("REFPROXY_BACKENDS") != "" {
		suite.RunRef()
		return
	}
	// These tests mostly wait: more of them at once than there are cores.
	flag.Parse()
	flag.Set("test.parallel", "8")
	os.Exit(m.Run())
}

// byBusy is d on a machine that was as busy as it was during a run.
func byBusy(d time.Duration, rep *suite.Report) time.Duration {
	return time.Duration(float64(d) * max(1, rep.Busy))
}

// failures returns the ids of the cases that failed.
func failures(rep *suite.Report) map[string][]string {
	out := map[string][]string{}
	for _, r := range rep.Results {
		if r.Outcome == suite.Failed {
			out[r.ID] = r.Problems
		}
	}
	return out
}

// TestCorrectProxyPassesEverything is the other half of the proof: nothing is
// asked for that a correct proxy does not do.
func TestCorrectProxyPassesEverything(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 3} {
		t.Run(fmt.Sprintf("%d backends", n), func(t *testing.T) {
			t.Parallel()
			// Time enough for the race detector on a busy machine too.
			rep, err := suite.Run(
				suite.RefSubject(t, n),
				cases.All(),
				suite.Options{Budget: 2 * time.Minute},
			)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(map[string][]string{}, failures(rep)); d != "" {
				t.Errorf("failed cases (-want +got):\n%s", d)
			}
			if !rep.Complete {
				t.Errorf("not complete after %d ms", rep.Millis)
			}
			// A case that is not played fails nobody. It makes no health checks, is no
			// program, and may have one backend only.
			for _, r := range rep.Results {
				if r.Outcome == suite.Skipped && n > 1 && r.Group != "health" &&
					r.Group != "process" && runtime.GOOS == "linux" {
					t.Errorf("%s is not played: %s", r.ID, r.Reason)
				}
			}
		})
	}
}

// TestKeptConnectionsMayEnd: a request is lost, and must not be sent again, when it goes
// over a connection that has ended just before. A proxy that notices such an end a
// little late, keeps connections for POSTs too, and never tries again breaks no MUST.
func TestKeptConnectionsMayEnd(t *testing.T) {
	t.Parallel()
	run := func() map[string][]string {
		rep, err := suite.Run(
			suite.RefSubject(t, 3, "notices-late", "posts-on-kept", "tries-once"),
			cases.All(),
			suite.Options{Budget: 2 * time.Minute,
				Only: regexp.MustCompile("^(keep-alive|pool|retry)$")},
		)
		if err != nil {
			t.Fatal(err)
		}
		return failures(rep)
	}
	// These need another try.
	allowed := strings.Fields("pool-race-close pool-race-reset pool-race-408 retry-broken")
	failed := run()
	for tries := 1; tries < 3; tries++ {
		maps.DeleteFunc(failed, func(id string, _ []string) bool {
			return slices.Contains(allowed, id)
		})
		if len(failed) == 0 {
			return
		}
		// On a busy machine the proxy may have noticed an end later than anybody waits; but
		// not in the same case again and again.
		again := run()
		maps.DeleteFunc(failed, func(id string, _ []string) bool { return again[id] == nil })
	}
	for id, problems := range failed {
		t.Errorf("%s, in three runs: %v", id, problems)
	}
}

// broken lists each fault with the cases meant for it.
var broken = []struct {
	fault string // several with blanks between
	cases string // ids, each of which must fail
}{
	{"cuts-response", "resp-20000 resp-1mib resp-chunked-1mib"},
	{"cuts-request", "req-20000 req-1mib"},
	{"waits-for-close", "resp-held-length resp-held-chunked"},
	{"crosstalk", "crosstalk-100"},
	{"both-lengths", "smuggle-cl-te smuggle-te-cl"},
	{"takes-last-length", "smuggle-cl-differ"},
	{"takes-any-te", "smuggle-te-xchunked smuggle-te-identity smuggle-te-list"},
	{"takes-two-hosts", "smuggle-host-two"},
	{"takes-obs-fold", "smuggle-obs-fold"},
	{"takes-space-colon", "smuggle-space-colon"},
	{"takes-nul", "smuggle-nul"},
	{"passes-bad-fields", "resp-bare-cr"},
	{"goes-on-after-400", "smuggle-after-400"},
	{"goes-on-after-close", "smuggle-after-close"},
	{"replays", "post-not-replayed post-not-replayed-kept"},
	{"completes-response", "abort-in-chunk abort-between-chunks"},
	{"completes-upload", "abort-upload-chunked"},
	{"keeps-named", "hop-connection-names hop-connection-case"},
	{"keeps-hop", "hop-request"},
	{"keeps-named-response", "hop-response-names"},
	{"drops-trailers", "trailer-response trailer-request"},
	{"head-waits", "head-length"},
	{"no-timeouts", "timeout-silent-client timeout-408 timeout-504 timeout-body-stalls"},
	{"serial", "free-silent-client free-slow-backend free-parallel"},
	{"merges-cookies", "basic-set-cookie"},
	{"wrong-host", "host-one"},
	{"buffers-response", "stream-events stream-head-first"},
	{"buffers-request", "stream-upload early-response expect-refused"},
	{"no-backpressure", "backpressure-down"},
	{"no-via", "via-request"},
	{"no-xff", "xff-added xff-chain"},
	{"cuts-chain", "xff-chain"},
	{"asks-gzip", "basic-no-invention"},
	{"decodes-path", "basic-percent"},
	{"drops-query", "basic-query"},
	{"stops-at-nul", "basic-binary"},
	{"rewrites-status", "basic-status"},
	{"no-linger", "error-lingering"},
	{"no-errors", "error-refused abort-close-silent error-400-answered"},
	{"error-tells", "error-body"},
	{"error-head-body", "error-head error-head-malformed"},
	{"waits-for-lines", "error-tls-at-once error-other-protocols limit-line-9000 " +
		"resp-garbage-at-once"},
	{"endless-head", "limit-line-64k"},
	{"takes-high-bytes", "line-high-bytes"},
	{"takes-leading-lf", "line-leading-lf"},
	{"takes-two-max-forwards", "max-forwards-twice"},
	{"takes-any-upgrade", "upgrade-grammar"},
	{"drops-upgrade", "upgrade-426"},
	{"te-413", "te-unknown-501 te-not-final-400"},
	{"takes-empty-ext", "chunk-ext-empty"},
	{"overhead-in-all", "req-chunk-padded req-chunk-blanks req-chunk-ext-rate resp-chunk-padded " +
		"resp-chunk-blanks resp-chunk-ext-rate"},
	{"takes-overhead", "limit-chunk-overhead limit-response-overhead"},
	{"few-interim", "interim-hundred"},
	{"endless-interim", "interim-endless"},
	{"chunks-http10", "http10-no-chunks"},
	{"takes-103-as-final", "interim-103-final"},
	{"swallows-100", "expect-100 interim-103-passed"},
	{"1xx-to-http10", "interim-http10"},
	{"no-upgrade", "upgrade-tunnel"},
	{"no-half-close", "upgrade-half-close"},
	{"closes-silently", "close-announced"},
	{"always-closes", "keep-alive-client pipelining-served"},
	{"drops-pipeline", "pipelining-served"},
	{"no-reuse", "backend-reuse backend-reuse-kept"},
	{"leaks-backend", "backend-released"},
	{"keeps-poison", "resp-extra-bytes pool-late-length pool-extra-chunked pool-late-chunked " +
		"pool-extra-head pool-late-head pool-extra-204 pool-late-204 pool-extra-304 " +
		"pool-late-304 pool-extra-empty pool-late-empty pool-extra-body"},
	{"keeps-dead tries-once", "backend-stale pool-idle-reset"},
	{"keeps-dead keeps-poison passes-408", "pool-idle-408"},
	{"tries-once", "pool-race-close pool-race-reset pool-race-408 retry-broken"},
	{"passes-408", "pool-race-408"},
	{"keeps-half-sent", "pool-early-413 pool-expect-200 pool-expect-417"},
	{"forgets-head", "pool-expect-head"},
	{"drops-upgrade-body", "pool-upgrade-body"},
	{"tunnels-early", "pool-upgrade-early"},
	{"takes-101 keeps-poison", "pool-101"},
	{"ignores-hint", "pool-hint"},
	{"limit-silent", "pool-request-limit"},
	{"shares-backends", "pool-own-backend"},
	{"no-retry-in-head", "retry-in-head"},
	{"no-retry-body", "retry-body"},
	{"retries-cut-body", "retry-body-large"},
	{"replays", "retry-patch"},
	{"retries-begun", "retry-begun"},
	{"retries-on", "retry-each-once"},
	{"no-failover", "retry-refused"},
	{"own-503", "retry-last-answer"},
	{"ignores-retry-after", "retry-after"},
	{"ignores-leavers", "abort-waiting"},
	{"dies", "abort-survives"},
	{"endless-head", "limit-head-endless limit-head-long"},
	{"delays", "resp-held-latency"},
	{"uneven", "balance-even"},
	{"first-only", "balance-all-used"},
	{"no-failover", "balance-refused-hidden"},
	{"never-returns", "balance-return"},
	{"sends-twice", "basic-once"},
	{"sends-more", "basic-once"},
	{"writes-then-reads", "stream-echo stream-duplex"},
}

// TestBrokenProxiesAreCaught runs, for each fault, the cases meant for it; the
// correct proxy passes the same cases.
func TestBrokenProxiesAreCaught(t *testing.T) {
	t.Parallel()
	for _, b := range broken {
		t.Run(b.fault, func(t *testing.T) {
			t.Parallel()
			ids := strings.Fields(b.cases)
			only := regexp.MustCompile("^(" + strings.Join(ids, "|") + ")$")
			rep, err := suite.Run(
				suite.RefSubject(t, 3, strings.Fields(b.fault)...),
				cases.All(),
				suite.Options{Only: only, Patience: time.Second, Once: true},
			)
			if err != nil {
				t.Fatal(err)
			}
			got := failures(rep)
			for _, id := range ids {
				if got[id] == nil {
					t.Errorf("case %s passed, although the proxy %s", id, b.fault)
				} else if strings.HasPrefix(got[id][0], "not run") {
					t.Errorf("case %s was not run: %s", id, got[id][0])
				}
			}
			for _, r := range rep.Results {
				if r.Outcome == suite.Failed && len(r.Wires) == 0 &&
					!strings.HasPrefix(r.ID, "balance") {
					t.Errorf("case %s does not show what was seen", r.ID)
				}
			}
		})
	}
}

// hopeless proxies must be reported quickly and in full.
func TestHopelessProxies(t *testing.T) {
	t.Parallel()
	hopeless := map[string]func(net.Conn){
		"closes at once": func(c net.Conn) { c.Close() },
		"answers garbage": func(c net.Conn) {
			c.Write([]byte("\x00\xffgarbage\r\n\r\n"))
			c.Close()
		},
		"hangs": func(c net.Conn) { time.Sleep(time.Hour) },
		"always 200": func(c net.Conn) {
			c.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
			c.Close()
		},
		"drips for ever": func(c net.Conn) {
			for {
				if _, err := c.Write([]byte("H")); err != nil {
					return
				}
				time.Sleep(100 * time.Millisecond)
			}
		},
	}
	for name, serve := range hopeless {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			// Ends when the listener is closed.
			go func() {
				for {
					c, err := ln.Accept()
					if err != nil {
						return
					}
					go serve(c)
				}
			}()
			start := time.Now()
			rep, err := suite.Run(&suite.Subject{Name: name, Proxy: ln.Addr().String(),
				Backends: []string{"127.0.0.1:0"}}, cases.All(), suite.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if s := rep.Score(); s.All.Passed != 0 || len(rep.Results) != len(cases.All()) {
				t.Errorf("%d cases reported, %d passed", len(rep.Results), s.All.Passed)
			}
			if d := time.Since(start); d > byBusy(45*time.Second, rep) {
				t.Errorf("took %v", d)
			}
		})
	}
}

// TestHangsInAllElse checks that the time for the whole run holds for a proxy
// that serves plain GETs and hangs in all else.
func TestHangsInAllElse(t *testing.T) {
	if testing.Short() {
		t.Skip("takes up to a minute")
	}
	t.Parallel()
	s := suite.RefSubject(t, 1, "waits-for-close", "no-timeouts", "serial")
	start := time.Now()
	rep, err := suite.Run(s, cases.All(), suite.Options{Budget: 16 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if d := time.Since(start); d > byBusy(24*time.Second, rep) {
		t.Errorf("took %v", d)
	}
	if len(rep.Results) != len(cases.All()) {
		t.Errorf("%d of %d cases reported", len(rep.Results), len(cases.All()))
	}
}

// TestCasesAreDescribed keeps the catalogue complete.
func TestCasesAreDescribed(t *testing.T) {
	seen := map[string]bool{}
	known := map[string]bool{}
	for _, g := range cases.Groups() {
		known[g] = true
	}
	for _, c := range cases.All() {
		if seen[c.ID] {
			t.Errorf("case %s is there twice", c.ID)
		}
		seen[c.ID] = true
		if c.RFC == "" || len(c.Why) < 30 || !strings.ContainsAny(c.Why[len(c.Why)-1:],
			".?") || !known[c.Group] {
			t.Errorf("case %s: rule %q, why %q, group %q", c.ID, c.RFC, c.Why, c.Group)
		}
	}
	if len(seen) < 90 {
		t.Errorf("only %d cases", len(seen))
	}
	caught := map[string]bool{}
	for _, b := range broken {
		for _, id := range strings.Fields(b.cases) {
			caught[id] = true
			if !seen[id] {
				t.Errorf("fault %s names case %s, which does not exist", b.fault, id)
			}
		}
	}
	for _, c := range cases.All() {
		if (c.Group == "pool" || c.Group == "retry") && !caught[c.ID] {
			t.Errorf("no fault shows that case %s can fail", c.ID)
		}
	}
}
