//go:build linux

package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"reverseproxy/scripts/bench/plots"
)

//go:embed report.html.tmpl
var reportTemplate string

// section is one part of the report: pictures, then tables.
type section struct {
	Title   string
	Text    string
	Figures []*picture
	Tables  []*table
}

type picture struct {
	Alt string
	SVG template.HTML // made by package plots, which escapes all text
}

type table struct {
	Title, Note string
	Head        []string
	Rows        [][]string
}

// only is the table with these columns; of two of a name, the last.
func (t *table) only(heads []string) *table {
	keep := func(line []string) (kept []string) {
		for i, h := range t.Head {
			if slices.Contains(heads, h) && !slices.Contains(t.Head[i+1:], h) {
				kept = append(kept, line[i])
			}
		}
		return kept
	}
	narrow := &table{Title: t.Title, Note: t.Note, Head: keep(t.Head)}
	for _, row := range t.Rows {
		narrow.Rows = append(narrow.Rows, keep(row))
	}
	return narrow
}

// sections says which workloads and which pictures belong together.
var sections = []struct{ workloads, pictures, title, text string }{
	{"a", "bench-throughput bench-latency bench-cpu.", "One request a connection",
		"Each client connects, sends one request, reads the answer, and begins again. " +
			"Latency counts from before the connect. \"p99 corr.\" adds the requests that a " +
			"client did not send " +
			"while it waited (coordinated omission). The whiskers are the least and the greatest " +
			"of the rounds."},
	{"r", "bench-rate", "Constant rate",
		"Requests begin on a schedule, answered or not, and the latency counts from the " +
			"scheduled time: a proxy that stalls is charged for everyone it kept waiting " +
			"(no coordinated omission)."},
	{"b", "bench-cpu-keepalive", "Keep-alive",
		"Clients keep their connections. What closes after each request takes no part. The null " +
			"relay moves the same bytes and reads none: what a proxy on an event loop needs " +
			"beyond it, it needs for HTTP. System time is the kernel's work for the proxy, user " +
			"time its own."},
	{"c", "bench-timelines", "Eight clients at once",
		"All eight connect at the same moment; the backend takes 200 ms for each. One client at " +
			"a time is a " +
			"staircase, any concurrency a wall. Waiting in the backlog is the time from the " +
			"finished handshake until " +
			"the request is at the backend. Who is long connecting has lost his handshake to a " +
			"full backlog " +
			"and tried again after a second."},
	{"d", "bench-memory", "Silent clients",
		"Clients that connect and say nothing, while one other client sends requests. Memory is " +
			"the resident set; " +
			"of several processes, pages they share are counted once (PSS)."},
	{"e", "bench-body", "A large body",
		"One download through the proxy. The peak memory shows whether the body is streamed."},
	{"f", "bench-burst", "A burst",
		"A thousand connections at the same moment. A backlog of 5 or 10 overflows, and the " +
			"client's kernel " +
			"tries again after 1, 2, 3, 4, 5, 7 seconds (before Linux 6.5: 1, 3, 7)."},
}

// writeHTML writes one page that needs nothing else.
func (r *results) writeHTML(dir string, figs []*plots.Figure) error {
	t, err := template.New("report").Parse(reportTemplate)
	if err != nil {
		return err
	}
	var parts []section
	for _, d := range sections {
		s := section{Title: d.title, Text: d.text}
		for _, f := range figs {
			for _, p := range strings.Fields(d.pictures) {
				if strings.HasPrefix(f.Name+".", p) &&
					!(p == "bench-cpu" && f.Name == "bench-cpu-keepalive") {
					s.Figures = append(s.Figures, &picture{f.Alt, template.HTML(f.Inline())})
				}
			}
		}
		for _, w := range r.Cells {
			if t := r.table(w); w.Workload == d.workloads && len(t.Rows) > 0 {
				s.Tables = append(s.Tables, t)
			}
		}
		if len(s.Figures)+len(s.Tables) > 0 {
			parts = append(parts, s)
		}
	}
	var b bytes.Buffer
	err = t.Execute(&b, map[string]any{"R": r, "Sections": parts,
		"Date": r.Started.Format("2 January 2006, 15:04"),
		"Took": fmt.Sprintf("%.0f s", r.Finished.Sub(r.Started).Seconds())})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "report.html"), b.Bytes(), 0o644)
}

// table is the table of a cell: a row for each contestant.
func (r *results) table(w *cell) *table {
	t := &table{Title: w.Title, Head: []string{"proxy"}}
	for _, c := range columns(w) {
		t.Head = append(t.Head, c.Head)
	}
	t.Head = append(t.Head, "remarks")
	for _, x := range r.Rows {
		if x.Cell != w.ID {
			continue
		}
		line := []string{x.Contestant}
		for _, c := range columns(w) {
			line = append(line, c.Text(x))
		}
		t.Rows = append(t.Rows, append(line, x.Note))
		if x.Base != "" && !strings.Contains("cf", w.Workload) { // these have no ratio columns
			t.Note = "Ratios against " + x.Base + ": the median of those of each round."
		}
	}
	return t
}
