//go:build unix

// Package kept tests programs that keep connections for many requests as ch6 does: the
// real program, with clients and backends that the test plays.
package kept

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"reverseproxy/internal/harness"
	"reverseproxy/internal/narrate"
)

// chapter is a program that is put through the tests.
type chapter struct{ harness.Model }

// tests is the table.
var tests = []struct {
	name string
	run  func(chapter, *testing.T)
}{
	{"Pipelined", chapter.pipelined},
	{"Reuse", chapter.reuse},
	{"NeverLeavesNothing", chapter.neverLeavesNothing},
	{"KeepaliveNone", chapter.keepaliveNone},
	{"KeepaliveOne", chapter.keepaliveOne},
	{"KeepaliveRequests", chapter.keepaliveRequests},
	{"KeepaliveTimeout", chapter.keepaliveTimeout},
	{"EmptyLinesAreNoRequest", chapter.emptyLinesAreNoRequest},
	{"EmptyLinesWithoutPause", chapter.emptyLinesWithoutPause},
	{"KeepaliveTime", chapter.keepaliveTime},
	{"KeepAliveHint", chapter.keepAliveHint},
	{"HTTP10", chapter.http10},
	{"AnswersWithoutBody", chapter.answersWithoutBody},
	{"ErrorPages", chapter.errorPages},
	{"CloseIsOneSided", chapter.closeIsOneSided},
	{"FlagsAreChecked", chapter.flagsAreChecked},
	{"Race", chapter.race},
	{"FINAndRace", chapter.finAndRace},
	{"SentLate", chapter.sentLate},
	{"SecondTryFails", chapter.secondTryFails},
	{"ClosedWhileIdle", chapter.closedWhileIdle},
	{"NotReused", chapter.notReused},
	{"UpgradeDeclined", chapter.upgradeDeclined},
	{"UnreadBody", chapter.unreadBody},
	{"BackendsApart", chapter.backendsApart},
	{"FINBehindTheBody", chapter.finBehindTheBody},
	{"UploadAfterDownload", chapter.uploadAfterDownload},
	{"ClientLeavesWhileIdle", chapter.clientLeavesWhileIdle},
	{"ClientLeavesMidway", chapter.clientLeavesMidway},
	{"CtrlC", chapter.ctrlC},
	{"NothingLeft", chapter.nothingLeft},
	{"FewDescriptors", chapter.fewDescriptors},
	{"SlotsAreShared", chapter.slotsAreShared},
}

// Run puts a chapter through the table, then through the scenarios and lives that all
// proxies go through. It keeps no other promise than that: connections are kept by the
// rules of package keep, and a try that fails is the client's failure.
func Run(t *testing.T, m harness.Model) {
	k := chapter{m}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) { test.run(k, t) })
	}
	t.Run("Scenarios", func(t *testing.T) { harness.RunScenarios(t, k.brief()) })
	t.Run("Lives", func(t *testing.T) { harness.RunLives(t, k.brief()) })
}

// brief keeps idle connections so briefly that each scenario finds none.
func (k chapter) brief() harness.Model {
	return harness.Chapter(k.Number, "-keepalive-timeout", "100ms")
}

// request is a request with some header lines and a body; the client would like
// to send more on the connection.
func request(line, fields, body string) string {
	if body != "" {
		fields += fmt.Sprintf("Content-Length: %d\r\n", len(body))
	}
	return line + " HTTP/1.1\r\nHost: kept.test\r\n" + fields + "\r\n" + body
}

func get(path string) string { return request("GET "+path, "", "") }

// answer is the backend's response, which keeps the connection.
func answer(body string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

// start starts the chapter with a backend that the test plays.
func (k chapter) start(t *testing.T, flags ...string) *harness.Proxy {
	t.Helper()
	return harness.Launch{Model: k.Model, Flags: flags}.StartWithBackend(t)
}

// wants reads one response from c, and no more.
func wants(t *testing.T, c *harness.Conn, status int, body string) (connection string) {
	t.Helper()
	r, got, err := c.TryResponse("GET")
	if err != nil {
		t.Fatalf("the client reads no response: %v", err)
	}
	if r.StatusCode != status || body != "" && got != body {
		t.Fatalf("the client reads %d, %q, want %d, %q", r.StatusCode, got, status, body)
	}
	if r.Close {
		return "close"
	}
	return r.Header.Get("Connection")
}

// serves has the backend read one request with a line that begins so, and answer.
func serves(t *testing.T, b *harness.Conn, line, response string) {
	t.Helper()
	if got := b.Request().Line; !strings.HasPrefix(got, line) {
		t.Fatalf("the backend reads %q, want %q", got, line)
	}
	b.Send(response)
}

// same compares and complains.
func same(t *testing.T, what string, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s: want (-), got (+):\n%s", what, diff)
	}
}

// connects waits for the n-th step 6, and counts the reused connections so far.
func connects(t *testing.T, p *harness.Proxy, n int) (reused int) {
	t.Helper()
	for _, e := range p.WaitEvents(t, "connect", n, step(narrate.Connect)) {
		if e.Reused {
			reused++
		}
	}
	return reused
}

// step matches the events of a step.
func step(s narrate.Step) func(narrate.Event) bool {
	return func(e narrate.Event) bool { return e.Step == s }
}

// pooled waits for what becomes of a connection to the backend, or, with the
// peer "", of the client's, and why.
func pooled(t *testing.T, p *harness.Proxy, peer, state, why string) {
	t.Helper()
	p.WaitEvent(t, state+": "+why, func(e narrate.Event) bool {
		return e.Kind == narrate.KindPool && e.Peer == peer && e.State == state &&
			strings.Contains(e.Text, why)
	})
}
