package main

import (
	"fmt"
	"os"
	"regexp"
	"strings"

	"reverseproxy/scripts/check/suite"
)

// cause explains many failures of a C original at once.
type cause struct {
	name, text string
	only       string // the programs it holds for, "" for all
	ids        *regexp.Regexp
}

// causes are the reasons for which the C originals fail; the first that
// matches a case counts. The last one takes what is left.
var causes = []cause{
	{"The silent-client freeze", "The program serves one client at a time and waits for each without a limit: a client that " +
		"connects and says nothing, or is slow, keeps all others waiting.", "Reverse_Proxy.c proxy_load_balancer.c",
		regexp.MustCompile(`^free-|^balance-slow-one$`)},
	{"Zombie children", "Children that have ended are never waited for; each stays in the process table as a zombie.",
		"fork_proxy.c", regexp.MustCompile(`^process-children$`)},
	{"One client, then the end", "The program serves one client and exits; the checker started it anew for each.",
		"Reverse_Proxy.c", regexp.MustCompile(`^process-`)},
	{"Death and hanging", "Writing to a client that has left kills the program (SIGPIPE), or it waits for ever for somebody who " +
		"has gone; the checker had to start it again.", "", regexp.MustCompile(`^process-lives$|^abort-survives`)},
	{"The held reply", "The response is collected until the backend closes its connection, and only then sent: from a " +
		"backend that keeps connections open it comes after the backend's idle time, and nothing can be streamed.", "",
		regexp.MustCompile(`^resp-held|^resp-extra|^head-(length|chunked|plain)|^status-|^stream-(events|length|close|head)|` +
			`^interim-103-passed|^upgrade-|^backend-|^post-not-replayed-kept|^crosstalk-reuse`)},
	{"The truncation", "The request is read once and the response is kept in one buffer, at most 4,095 bytes each: what is " +
		"larger is cut, and whoever waits for the rest waits in vain. A request that comes in several segments is cut after the first.",
		"", regexp.MustCompile(`^req-(20000|1mib|chunked|pieces|chunk-pieces|head-then-body)|^resp-(20000|1mib|chunked|close)|` +
			`^http10-|^limit-|^stream-|^crosstalk-uploads|^backpressure|^expect-|^process-memory|^early-|^smuggle-body-request`)},
	{"Nobody is given up", "No timeout anywhere: a silent client or backend is waited for without end, and a client that has " +
		"left is not noticed.", "", regexp.MustCompile(`^timeout-|^error-tls$|^abort-(waiting|upload|download)`)},
	{"The short queue", "The queue of listen() holds 5 or 10 connections: when more come at once, the kernel drops them and " +
		"they try again seconds later.", "", regexp.MustCompile(`^burst-|^crosstalk-|^free-`)},
	{"No answer for errors", "When the backend refuses or breaks off, the connection to the client just closes.", "",
		regexp.MustCompile(`^error-|^abort-|^balance-|^resp-(garbage|status)`)},
	{"Bytes are passed on unread", "The program does not read HTTP: it passes on what it gets. So nothing is checked, removed or " +
		"added, and every trick with lengths, encodings and lines reaches the backend.", "", regexp.MustCompile(``)},
}

// page writes the scoreboard as Markdown.
func page(list []*contestant, missing []string) string {
	var b strings.Builder
	b.WriteString(`# Scoreboard

Every proxy below went through the same cases of ` + "`scripts/check`" + `. The figures are passed cases of
those that apply: load balancing needs several backends, a look at the process needs a proxy that the
checker started. **must** is a MUST of the RFCs or what safety demands, **should** a SHOULD or a
robustness that production proxies have, **quality** what a very good proxy does beyond that.

This page is written by ` + "`go run ./scripts/check -scoreboard`" + ` (with ` + "`-c DIR`" + ` also for the C originals).
Any single case can be looked at: ` + "`go run ./scripts/check -explain smuggle-cl-te`" + `; with its bytes:
` + "`go run ./scripts/check -v -run '^smuggle-cl-te$' ./ch4_threaded`" + `.

`)
	var ran []*contestant
	for _, c := range list {
		if c.report != nil {
			ran = append(ran, c)
		}
	}
	levelTable(&b, ran)
	for _, m := range missing {
		fmt.Fprintf(&b, "\nNot here: %s.\n", clean(m))
	}
	groupTable(&b, ran)
	b.WriteString("\n## What each failure means\n")
	for _, c := range ran {
		failuresOf(&b, c)
	}
	matrix(&b, ran)
	setups(&b, ran)
	return b.String()
}

func levelTable(b *strings.Builder, list []*contestant) {
	b.WriteString("| proxy | version | must | should | quality | of all |\n|---|---|---|---|---|---|\n")
	for _, c := range list {
		s := c.report.Score()
		all := s.All.Passed + s.All.Failed
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %.0f %% |\n", c.name, c.version, s.Levels["must"], s.Levels["should"],
			s.Levels["quality"], 100*float64(s.All.Passed)/float64(max(1, all)))
	}
	for _, c := range list {
		for _, n := range c.report.Notes {
			fmt.Fprintf(b, "\n%s: %s.\n", c.name, clean(n))
		}
	}
}

func groupTable(b *strings.Builder, list []*contestant) {
	b.WriteString("\n## By group\n\n| group |")
	for _, c := range list {
		fmt.Fprintf(b, " %s |", c.name)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(list)) + "\n")
	for _, g := range suite.Groups() {
		fmt.Fprintf(b, "| %s |", g)
		for _, c := range list {
			var t suite.Tally
			for _, l := range c.report.Score().Groups[g] {
				t.Passed += l.Passed
				t.Failed += l.Failed
			}
			fmt.Fprintf(b, " %s |", t)
		}
		b.WriteString("\n")
	}
}

// failuresOf explains what a contestant failed.
func failuresOf(b *strings.Builder, c *contestant) {
	fmt.Fprintf(b, "\n### %s\n\n", c.name)
	var failed []suite.Result
	for _, r := range c.report.Results {
		if r.Outcome == suite.Failed {
			failed = append(failed, r)
		}
	}
	switch {
	case len(failed) == 0:
		b.WriteString("Nothing failed.\n")
	case strings.HasSuffix(c.name, ".c"):
		byCause(b, c.name, failed)
	case chapterGaps[c.name] != nil:
		byGap(b, c, failed)
	default:
		eachFailure(b, failed)
	}
}

// byCause groups the failures of a C original.
func byCause(b *strings.Builder, name string, failed []suite.Result) {
	ids := map[string][]string{}
	for _, r := range failed {
		for _, k := range causes {
			if k.only != "" && !strings.Contains(k.only, name) {
				continue
			}
			if k.ids.MatchString(r.ID) {
				ids[k.name] = append(ids[k.name], r.ID)
				break
			}
		}
	}
	for _, k := range causes {
		if l := ids[k.name]; len(l) > 0 {
			more := ""
			if n := len(l); n > 14 {
				l, more = l[:12], fmt.Sprintf(" and %d more (see Case by case)", n-12)
			}
			fmt.Fprintf(b, "- **%s.** %s Cases: `%s`%s.\n", k.name, k.text, strings.Join(l, "`, `"), more)
		}
	}
}

// byGap groups the failures of a chapter by its named gaps.
func byGap(b *strings.Builder, c *contestant, failed []suite.Result) {
	var rest []suite.Result
	ids := map[string][]string{}
	for _, r := range failed {
		g, ok := gapOf(c.name, r.ID)
		if !ok {
			rest = append(rest, r)
			continue
		}
		ids[g.name] = append(ids[g.name], r.ID)
	}
	for _, g := range chapterGaps[c.name] {
		if l := ids[g.name]; len(l) > 0 {
			fmt.Fprintf(b, "- Named gap: **%s** (closed by %s). Cases: `%s`.\n", g.name, g.closedBy, strings.Join(l, "`, `"))
		}
	}
	eachFailure(b, rest)
}

// eachFailure lists failures one by one.
func eachFailure(b *strings.Builder, failed []suite.Result) {
	for _, r := range failed {
		seen := ""
		if len(r.Problems) > 0 {
			seen = clean(r.Problems[0])
		}
		fmt.Fprintf(b, "- `%s` (%s, %s): %s *Seen:* %s\n", r.ID, r.Level, r.RFC, r.Why, code(cut(seen, 160)))
	}
}

// code quotes text so that Markdown leaves it alone.
func code(s string) string { return "`` " + strings.ReplaceAll(s, "``", "` `") + " ``" }

// volatile is what differs from run to run.
var volatile = []struct {
	what *regexp.Regexp
	with string
}{
	{regexp.MustCompile(`zq[0-9a-f]{6}n[0-9]+k`), "TOKEN"},
	{regexp.MustCompile(`127\.0\.0\.1:[0-9]+(->127\.0\.0\.1:[0-9]+)?`), "127.0.0.1:PORT"},
	{regexp.MustCompile(`checker started it [0-9]+ times`), "checker started it anew for each"},
	{regexp.MustCompile(`died or hung [0-9]+ times`), "died or hung"},
	{regexp.MustCompile(`; first: .*`), ""},
	{regexp.MustCompile(`[0-9]+ (more )?descriptors`), "many more descriptors"},
}

// clean removes from a text what differs from run to run or names this machine.
func clean(s string) string {
	s = strings.ReplaceAll(s, os.TempDir()+"/", "")
	for _, v := range volatile {
		s = v.what.ReplaceAllString(s, v.with)
	}
	return s
}

// matrix shows every case beside every contestant.
func matrix(b *strings.Builder, list []*contestant) {
	b.WriteString("\n## Case by case\n\n✓ passed, ✗ failed, · does not apply.\n\n| case | level |")
	for _, c := range list {
		fmt.Fprintf(b, " %s |", c.name)
	}
	b.WriteString("\n|---|---|" + strings.Repeat("---|", len(list)) + "\n")
	marks := map[suite.Outcome]string{suite.Passed: "✓", suite.Failed: "✗", suite.Skipped: "·"}
	outcomes := make([]map[string]suite.Outcome, len(list))
	for i, c := range list {
		outcomes[i] = map[string]suite.Outcome{}
		for _, r := range c.report.Results {
			outcomes[i][r.ID] = r.Outcome
		}
	}
	for _, k := range suite.Cases() {
		fmt.Fprintf(b, "| %s | %s |", k.ID, k.Level)
		for i := range list {
			fmt.Fprintf(b, " %s |", marks[outcomes[i][k.ID]])
		}
		b.WriteString("\n")
	}
}

// setups says how each contestant was started.
func setups(b *strings.Builder, list []*contestant) {
	b.WriteString("\n## How they were started\n\n")
	for _, c := range list {
		fmt.Fprintf(b, "- %s: %s.\n", c.name, c.how)
	}
	b.WriteString("\nnginx and HAProxy run on free ports of the loopback interface with common configurations; only their\n" +
		"timeouts are shorter than usual, so that nobody has to wait for them.\n")
	for _, c := range list {
		switch c.name {
		case "nginx":
			b.WriteString("\n```nginx\n" + configured(nginxConf, "    server 127.0.0.1:PORT;\n") + "```\n")
		case "HAProxy":
			b.WriteString("\n```\n" + configured(haproxyConf, "  server s1 127.0.0.1:PORT\n") + "\n```\n")
		}
	}
}

func configured(conf, server string) string {
	return strings.NewReplacer("SERVERS", strings.Repeat(server, 3), "LISTEN", "127.0.0.1:PORT").Replace(conf)
}
