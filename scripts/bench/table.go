//go:build linux

package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/mattn/go-isatty"

	"reverseproxy/scripts/bench/stat"
)

// number prints a figure with three significant digits and thousands marks.
func number(x float64) string {
	switch {
	case x >= 1000:
		s := fmt.Sprintf("%.0f", x)
		for i := len(s) - 3; i > 0; i -= 3 {
			s = s[:i] + "," + s[i:]
		}
		return s
	case x >= 100:
		return fmt.Sprintf("%.0f", x)
	case x >= 10:
		return fmt.Sprintf("%.1f", x)
	}
	return fmt.Sprintf("%.2f", x)
}

func scaled(s stat.Spread, unit float64) string {
	if s.N == 0 {
		return "-"
	}
	return number(s.Median * unit)
}

// count prints the median of whole numbers.
func count(s stat.Spread) string {
	if s.N == 0 {
		return "-"
	}
	return strings.TrimSuffix(strings.TrimSuffix(number(s.Median), ".00"), ".0")
}

// spreadText is the median with its spread: "8,120 ±4%".
func spreadText(s stat.Spread, unit float64) string {
	if s.N < 2 || s.Median == 0 {
		return scaled(s, unit)
	}
	return fmt.Sprintf("%s ±%.0f%%", scaled(s, unit), s.Percent())
}

func times(x *float64) string {
	if x == nil {
		return "-"
	}
	return fmt.Sprintf("%.2f×", *x)
}

// column is one column of a cell's table.
type column struct {
	Head string
	Text func(r *row) string
}

func columns(w *cell) []column {
	const toMS, toMB, toKB = 1e-3, 1e-6, 1e-3
	rate := column{"requests/s", func(r *row) string { return spreadText(r.RPS, 1) }}
	ratioRPS := column{"ratio", func(r *row) string { return times(r.RatioRPS) }}
	p50 := column{"p50 ms", func(r *row) string { return scaled(r.P50, toMS) }}
	p99 := column{"p99 ms", func(r *row) string { return spreadText(r.P99, toMS) }}
	p99all := column{"p99 corr. ms", func(r *row) string { return spreadText(r.P99All, toMS) }}
	p999 := column{"p99.9 ms", func(r *row) string { return scaled(r.P999, toMS) }}
	cpu := column{"CPU µs/request", func(r *row) string { return spreadText(r.CPU, 1) }}
	user := column{"user", func(r *row) string { return scaled(r.CPUUser, 1) }}
	system := column{"system", func(r *row) string { return scaled(r.CPUSystem, 1) }}
	ratioCPU := column{"ratio", func(r *row) string { return times(r.RatioCPU) }}
	peak := column{"peak MB", func(r *row) string { return scaled(r.Peak, toMB) }}
	failed := column{"failed", func(r *row) string { return itoa(r.Failed) }}
	overflows := column{"backlog overflows", func(r *row) string { return count(r.Overflows) }}
	last := column{"all done after ms", func(r *row) string { return spreadText(r.Seconds, 1e3) }}
	switch w.Workload {
	case "c":
		return []column{last, p50, peak, overflows, failed}
	case "d":
		return []column{{"clients", func(r *row) string { return itoa(int64(r.Idle)) }},
			{"memory MB", func(r *row) string { return spreadText(r.Held, toMB) }},
			{"ratio", func(r *row) string { return times(r.RatioMem) }},
			{"kB/client", func(r *row) string { return scaled(r.PerClient, toKB) }},
			{"processes", func(r *row) string { return itoa(int64(r.Processes)) }},
			{"threads", func(r *row) string { return itoa(int64(r.Threads)) }}, p50, p99, failed}
	case "e":
		return []column{{"MB/s", func(r *row) string { return spreadText(r.MBps, 1) }}, ratioRPS,
			{"CPU s", func(r *row) string { return spreadText(r.CPUSeconds, 1) }}, peak, failed}
	case "f":
		return []column{{"answered", func(r *row) string { return itoa(r.Requests) }},
			last, p50, p99, overflows, peak, failed}
	}
	if w.closedLoop() {
		return []column{rate, ratioRPS, p50, p99, p99all, p999, cpu, ratioCPU, user, system, peak,
			overflows, failed}
	}
	return []column{rate, ratioRPS, p50, p99, p999, cpu, ratioCPU, user, system, peak, overflows,
		failed}
}

// print writes the tables of all cells, the goals and what went wrong.
func (r *results) print(out io.Writer) {
	for _, w := range r.Cells {
		t := r.table(w)
		if len(t.Rows) == 0 {
			continue
		}
		head := append([]string{""}, t.Head[1:len(t.Head)-1]...) // the outer ones need no names
		fmt.Fprintf(out, "\n%s (%s)\n", t.Title, w.ID)
		printTable(out, append([][]string{append(head, "")}, t.Rows...))
		if t.Note != "" {
			fmt.Fprintf(out, "  %s\n", t.Note)
		}
	}
	lines := [][]string{{"goal", "against", "wanted", "", "figure"}}
	missing := 0
	for _, g := range r.Goals {
		if g.Verdict == notMeasured {
			missing++
			continue
		}
		lines = append(lines, []string{g.What, g.Against, g.Goal, g.Verdict, g.Figure})
	}
	if len(lines) > 1 {
		fmt.Fprintln(out, "\nGoals")
		printTable(out, lines)
	}
	if missing > 0 {
		fmt.Fprintf(out, "\n%d goals were not measured: their proxies or workloads did not take "+
			"part "+
			"(the C originals need -c DIR).\n", missing)
	}
	for _, p := range r.Problems {
		fmt.Fprintln(out, "\nNote:", p)
	}
	if r.Why != "" {
		fmt.Fprintln(out, "\nNot complete:", r.Why)
	}
}

// printTable aligns the cells; the first and last columns to the left.
func printTable(out io.Writer, lines [][]string) {
	var width []int
	for _, l := range lines {
		for i, s := range l {
			if i == len(width) {
				width = append(width, 0)
			}
			width[i] = max(width[i], utf8.RuneCountInString(s))
		}
	}
	for _, l := range lines {
		var b strings.Builder
		for i, s := range l {
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(s))
			if i == 0 || i == len(l)-1 || lines[0][0] != "" {
				b.WriteString(s + pad + "  ")
			} else {
				b.WriteString(pad + s + "  ")
			}
		}
		fmt.Fprintln(out, strings.TrimRight("  "+b.String(), " "))
	}
}

// progress tells what goes on: on a terminal in one line that is written
// over, elsewhere one line for each cell of each round.
func (b *bench) progress(format string, args ...any) {
	s := fmt.Sprintf("%4.0f s  ", time.Since(b.started).Seconds()) + fmt.Sprintf(format, args...)
	if isatty.IsTerminal(os.Stdout.Fd()) {
		fmt.Printf("\r\x1b[K%s", s)
		return
	}
	cut := s[8:]
	if i := strings.LastIndex(cut, ": "); i > 0 {
		cut = cut[:i]
	}
	if cut != b.said {
		b.said = cut
		fmt.Println(s[:8] + cut)
	}
}

func (b *bench) list() {
	fmt.Println("Contestants:")
	for _, c := range b.contestants {
		fmt.Printf("  %-16s %s%s\n", c.ID, c.Model, parenthesis(c.Version))
	}
	fmt.Print("\nWorkloads:\n" + workloadHelp)
}

func parenthesis(s string) string {
	if s == "" {
		return ""
	}
	return " (" + s + ")"
}
