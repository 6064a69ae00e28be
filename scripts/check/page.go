package main

import (
	_ "embed" // intro.md
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"

	"reverseproxy/internal/book"
	"reverseproxy/internal/peers"
	"reverseproxy/scripts/check/cases"
	"reverseproxy/scripts/check/suite"
)

// sight is one way in which a failure was seen. The failures of a C original are
// grouped by what was seen of each, not by what its source makes one expect.
type sight struct {
	name, text string
	seen       *regexp.Regexp // in the problems that the case has noted
}

// sights in the order in which they count. What none of them fits is shown by itself.
var sights = []sight{
	{"Zombie children", "Children that had ended were still in the process table.", see(`zombie`)},
	{"One client, then the end",
		"The program had served one client and was gone; the checker started it anew.",
		see(`serves one client and exits`)},
	{"Death and hanging", "The program died while the case ran, or had to be started again.",
		see(`has died`, `died or hung`, `proxy ended`)},
	{"Others wait",
		"While one client or backend was slow or silent, another client was not served in time.",
		see(`while the first client is held`, `eight clients took`, `while one backend hangs`)},
	{"Held back", "What the backend had sent did not reach the client while the backend kept " +
		"its connection open.",
		see(`(held|holds) back`, `while the backend (thinks|waits)`, `kept its connection open`)},
	{"Cut", "Less arrived than was sent, or other bytes.",
		see(`bytes instead of`, `of [0-9]+ body bytes`, `another body`, `bytes arrived`,
			`whole (body|response head|request)`, `arrived (with|instead)`,
			`before its (body|head)`)},
	{"No time left", "The case was not run: what hung before had used up the time.",
		see(`^not run`)},
	{"Closed after one answer", "The connection ended after its first answer.",
		see(`closes after`)},
	{"Taken for sound", "What was to be refused was answered as if nothing were wrong.",
		see(`answered "HTTP/1.1 [23]`, `had "HTTP/1.1 2`, `reach the client: "HTTP/1.1 2`)},
	{"Passed on as it came",
		"The other side got the bytes that were to be refused, removed or written anew.",
		see(`(the backends?|the client|the HTTP/1\.0 client) (got|gets)`, `forwarded`, `reached`,
			`arrived as`, `malformed`, `tells? the backend`, `looks complete`,
			`connections? without a request`, `(was|were) taken`, `printed`)},
	{"Silence", "Nothing came, and the connection stayed open: the case gave up waiting.",
		see(`silent`, `did not reach`, `i/o timeout`, `still (open|served|accepted|waiting)`,
			`no answer`, `had (no|"")`, `waits`)},
	{"Closed without an answer", "The connection ended and no answer had come.",
		see(`no response`, `was closed`, `was reset`, `nothing:`, `no status line`, `broke`)},
}

// see matches any of the patterns.
func see(patterns ...string) *regexp.Regexp {
	return regexp.MustCompile(strings.Join(patterns, "|"))
}

// intro is the beginning of the page.
//
//go:embed intro.md
var intro string

// page writes the scoreboard as Markdown.
func page(list []*contestant, missing []string) string {
	var b strings.Builder
	b.WriteString(intro)
	var ran, rows []*contestant
	for _, c := range list {
		if c.report != nil {
			rows = append(rows, c)
			if !c.plain {
				ran = append(ran, c)
			}
		}
	}
	levelTable(&b, rows)
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
	b.WriteString("| proxy | version | must | should | quality | of all " +
		"|\n|---|---|---|---|---|---|\n")
	for _, c := range list {
		s := c.report.Score()
		all := s.All.Passed + s.All.Failed
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %.0f %% |\n", c.row(), c.version,
			s.Levels["must"], s.Levels["should"],
			s.Levels["quality"], 100*float64(s.All.Passed)/float64(max(1, all)))
	}
	for _, c := range list {
		for _, n := range c.report.Notes {
			fmt.Fprintf(b, "\n%s: %s.\n", c.row(), clean(n))
		}
	}
}

func groupTable(b *strings.Builder, list []*contestant) {
	b.WriteString("\n## By group\n\n| group |")
	for _, c := range list {
		fmt.Fprintf(b, " %s |", c.name)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(list)) + "\n")
	for _, g := range cases.Groups() {
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
	chapter, _ := book.Find(c.name)
	switch {
	case len(failed) == 0:
		b.WriteString("Nothing failed.\n")
	case strings.HasSuffix(c.name, ".c"):
		bySight(b, failed)
	case chapter.Forwards():
		byGap(b, chapter, failed)
	default:
		eachFailure(b, c.name, failed)
	}
}

// bySight groups the failures of a C original by what was seen.
func bySight(b *strings.Builder, failed []suite.Result) {
	type seen struct{ id, problem string }
	groups := make([][]seen, len(sights))
	var rest []suite.Result
next:
	for _, r := range failed {
		problems := r.Problems
		if r.Died != "" {
			problems = []string{"the proxy ended: " + r.Died}
		}
		for i, s := range sights {
			if at := slices.IndexFunc(problems, s.seen.MatchString); at >= 0 {
				groups[i] = append(groups[i], seen{r.ID, problems[at]})
				continue next
			}
		}
		rest = append(rest, r)
	}
	for i, g := range groups {
		if len(g) == 0 {
			continue
		}
		ids, more := make([]string, 0, len(g)), ""
		for _, s := range g {
			ids = append(ids, s.id)
		}
		if n := len(ids); n > 14 {
			ids, more = ids[:12], fmt.Sprintf(" and %d more (see Case by case)", n-12)
		}
		fmt.Fprintf(b, "- **%s.** %s Cases: `%s`%s. *Seen in the first:* %s\n", sights[i].name,
			sights[i].text,
			strings.Join(ids, "`, `"), more, code(cut(clean(g[0].problem), 160)))
	}
	eachFailure(b, "", rest)
}

// byGap groups the failures of a chapter by its named gaps.
func byGap(b *strings.Builder, c book.Chapter, failed []suite.Result) {
	left := failed
	for _, g := range c.Gaps {
		var ids []string
		left = slices.DeleteFunc(slices.Clone(left), func(r suite.Result) bool {
			of := slices.Contains(g.Cases, r.ID)
			if of {
				ids = append(ids, r.ID)
			}
			return of
		})
		if len(ids) > 0 {
			fmt.Fprintf(b, "- Named gap: **%s** (closed by %s). Cases: `%s`.\n", g.Name,
				g.ClosedBy, strings.Join(ids, "`, `"))
		}
	}
	eachFailure(b, "", left)
}

// eachFailure lists failures one by one, with the setting or the newer version
// that mends them, where there is one.
func eachFailure(b *strings.Builder, name string, failed []suite.Result) {
	for _, r := range failed {
		fmt.Fprintf(b, "- `%s` (%s, %s): %s *Seen:* %s%s\n", r.ID, r.Level, r.RFC, r.Why,
			code(cut(clean(first(r.Problems)), 160)), mendOf(name, r.ID))
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
	b.WriteString("\n## Case by case\n\n" +
		"✓ passed, ✗ failed, · does not apply.\n\n| case | level |")
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
	for _, k := range cases.All() {
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
	b.WriteString("\nnginx and HAProxy run on free ports of the loopback interface; their " +
		"timeouts are shorter than usual, so that\n" +
		"nobody has to wait for them. The ports are examples here.\n")
	for _, c := range list {
		switch c.name {
		case "nginx":
			b.WriteString("\n```nginx\n" + printed(nginxConf, nginxServer) + "```\n")
		case "HAProxy":
			b.WriteString("\n```\n" + printed(haproxyConf, haproxyServer) + "\n```\n")
		}
	}
}

// printed is a configuration as the page shows it: one that starts.
func printed(conf, server string) string {
	return peers.Place{Dir: "/tmp", Listen: "127.0.0.1:8080",
		Backends: []string{"127.0.0.1:8000", "127.0.0.1:8001", "127.0.0.1:8002"}}.Fill(conf, server)
}
