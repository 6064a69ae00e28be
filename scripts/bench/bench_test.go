//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"reverseproxy/internal/harness"
	"reverseproxy/internal/peers"
	"reverseproxy/internal/proc"
	"reverseproxy/scripts/bench/load"
	"reverseproxy/scripts/bench/stat"
)

func TestMain(m *testing.M) {
	withPNG = false  // package plots tests that
	mostOthers = 9   // the tests of other packages run beside these
	quickMS = 20_000 // for the same reason
	harness.Main(m)
}

// options4test is the command line. The bench starts itself again for its parts; a
// test binary would do, but with the race detector it is slow to start.
func options4test(t *testing.T, args ...string) *options {
	t.Helper()
	selfPath = harness.BuildPlain(t, "scripts/bench")
	o, err := parse(args)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// run4test runs the bench in this process and reads its results.json.
func run4test(t *testing.T, ctx context.Context, args ...string) (*results, string) {
	t.Helper()
	dir := t.TempDir()
	if err := run(ctx, options4test(t, append(args, "-o", dir)...)); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "results.json"))
	if err != nil {
		t.Fatal(err)
	}
	r := &results{}
	if err := json.Unmarshal(b, r); err != nil {
		t.Fatal(err)
	}
	return r, dir
}

// The smoke test: all workloads against the httputil program, over real
// sockets, with real processes, and every file of the report.
func TestSmoke(t *testing.T) {
	r, dir := run4test(t, t.Context(), "-quick", "-only", "^(straight|httputil)$", "-budget", "10m")
	if !r.Complete {
		t.Fatalf("not complete: %s %v", r.Why, r.Problems)
	}
	for _, cell := range []string{"a1", "a64", "b64", "c8", "d1000", "e", "f1000"} {
		x := r.find(cell, "httputil")
		// A machine that is busy with other things may let some time out, and the one client
		// beside the silent ones may not come to its turn.
		if x == nil || cell != "d1000" && (x.Requests == 0 || x.Failed > x.Requests/10) {
			t.Errorf("%s: %+v", cell, x)
			continue
		}
		if x.Peak.Median < 4e6 || x.Peak.Median > 200e6 {
			t.Errorf("%s: peak memory %.0f bytes", cell, x.Peak.Median)
		}
	}
	if x := r.find("a64", "httputil"); x.CPU.Median < 10 || x.CPU.Median > 20_000 {
		t.Errorf("%.1f µs of CPU a request", x.CPU.Median)
	}
	if x := r.find("d1000", "httputil"); x.Idle < 500 || x.PerClient.Median < 1000 {
		t.Errorf("%d silent clients of %.0f bytes", x.Idle, x.PerClient.Median)
	}
	if x := r.find("c8", "httputil"); len(x.Timeline) != 8 {
		t.Errorf("%d bars in the timeline", len(x.Timeline))
	}
	if x := r.find("c8", "straight"); x != nil {
		t.Error("the baseline has no backlog of its own to show")
	}
	for _, name := range []string{"report.html", "bench-timelines.svg",
		"bench-throughput-others.svg", "bench-burst-others.svg"} {
		if s, err := os.Stat(filepath.Join(dir, name)); err != nil || s.Size() < 2000 {
			t.Errorf("%s: %v", name, err)
		}
	}
	html, _ := os.ReadFile(filepath.Join(dir, "report.html"))
	for _, bad := range []string{"src=", "href=\"http", "@import", "<script"} {
		if bytes.Contains(html, []byte(bad)) {
			t.Errorf("the report holds %q: it must stand alone", bad)
		}
	}
	left(t)
}

// left fails when a process of the bench or a port's owner outlives it.
func left(t *testing.T) {
	t.Helper()
	if names := proc.Descendants(os.Getpid()); len(names) > 0 {
		t.Errorf("still running: %v", names)
	}
}

// Ctrl+C: the report of what is there so far, exit 0, and nothing left
// running. The bench runs as a process of its own, as in a terminal.
func TestInterrupt(t *testing.T) {
	dir := t.TempDir()
	run := proc.New(harness.BuildPlain(t, "scripts/bench"), "-quick", "-only",
		"^(straight|httputil)$", "-workloads", "af",
		"-rounds", "50", "-o", dir)
	run.Cmd.Env = append(os.Environ(), "TMPDIR="+dir)
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	if !run.Await(3*time.Minute,
		func() bool { return strings.Contains(run.LastWords(), "round 2 of 50") }) {
		t.Errorf("no second round: %s", run.LastWords())
	}
	below := proc.Descendants(run.PID())
	if err := run.Cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if code := run.Code(); code != 0 && code != exitBusy { // other tests run beside this
		t.Errorf("exit %d: %s", code, run.LastWords())
	}
	if len(below) == 0 {
		t.Error("nothing ran below the bench; then this test shows nothing")
	}
	left(t) // orphans would have come to init or to us; see also the port below
	b, err := os.ReadFile(filepath.Join(dir, "results.json"))
	if err != nil {
		t.Fatal(err)
	}
	var r results
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	if r.Complete || !strings.Contains(r.Why, "interrupted") || len(r.Rows) == 0 {
		t.Errorf("complete %v, %q, %d rows", r.Complete, r.Why, len(r.Rows))
	}
	for _, pid := range below {
		if strings.Contains(cmdline(pid), dir) {
			t.Errorf("%s still runs: %s", pid, cmdline(pid))
		}
	}
	if dirs, _ := filepath.Glob(filepath.Join(dir, "bench-[0-9]*")); len(dirs) > 0 {
		t.Errorf("temporary files are left: %v", dirs)
	}
}

func cmdline(pid string) string {
	b, _ := os.ReadFile(filepath.Join("/proc", strings.Fields(pid)[0], "cmdline"))
	return string(b)
}

// The names in results.json are an interface: other programs read it. A
// change of meaning needs another schemaVersion.
func TestSchema(t *testing.T) {
	want := `bin_true_starts_per_second cells command complete contestants finished goals machine
		problems rounds rows samples schema started backend why_incomplete other_cpu_share`
	same(t, "results", want, results{})
	same(t, "row", `base cell contestant cpu_s cpu_us_per_request cpu_user_us_per_request
		cpu_system_us_per_request failed held_memory_bytes
		idle_clients latency_hdr listen_overflows max_us megabytes_per_second
		memory_per_client_bytes discarded_rounds note p50_us p999_us p99_us p99_corrected_us
		peak_memory_bytes processes ratio_cpu ratio_memory ratio_requests_per_second
		requests requests_per_second seconds threads timeline zombies`, row{})
	same(t, "spread", "max median min n", stat.Spread{})
	same(t, "goal", "against figure goal value verdict what", goal{})
	same(t, "cell", "bytes clients id idle rate title workload", cell{})
	same(t, "contestant", "blocking family id keep_alive model processes version", contestant{})
	same(t, "timeline", "arrived_us connected_us done_us first_us start_us", load.Timeline{})
	if schemaVersion != 2 {
		t.Error("describe the new version here")
	}
}

func same(t *testing.T, what, want string, v any) {
	t.Helper()
	var got []string
	for i := range reflect.TypeOf(v).NumField() {
		f := reflect.TypeOf(v).Field(i)
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); f.IsExported() {
			got = append(got, name)
		}
	}
	slices.Sort(got)
	names := strings.Fields(want)
	slices.Sort(names)
	if d := cmp.Diff(names, got); d != "" {
		t.Errorf("%s: -want +got\n%s", what, d)
	}
}

func TestSummarize(t *testing.T) {
	cells := []*cell{{ID: "a64", Workload: "a"}}
	cs := []*contestant{{ID: "ch4"}, {ID: "C-threaded"}, {ID: "absent"}}
	take := func(id string, round int, rps, cpu float64, failed int64) *sample {
		h := load.NewHistogram()
		h.Record(int64(round) * 1_000_000)
		s := &sample{Cell: "a64", Contestant: id, Round: round, RPS: rps, CPU: cpu, Requests: 10,
			Failed: failed, Latency: h}
		if failed > 0 {
			s.Failures = map[string]int64{"timeout": failed}
		}
		return s
	}
	rows := summarize(cells, cs, []*sample{
		take("ch4", 1, 300, 10, 0), take("C-threaded", 1, 100, 20, 1),
		take("C-threaded", 2, 90, 22, 2), take("ch4", 2, 100, 11, 0),
		take("ch4", 3, 200, 50, 0), take("C-threaded", 3, 110, 21, 0),
		{Cell: "a64", Contestant: "ch4", Round: 4, Error: "did not start"},
	})
	if len(rows) != 2 {
		t.Fatalf("%d rows", len(rows))
	}
	ch4, c := rows[0], rows[1]
	if d := cmp.Diff(stat.Spread{Median: 200, Min: 100, Max: 300, N: 3}, ch4.RPS,
		cmpopts.IgnoreUnexported(stat.Spread{})); d != "" {
		t.Errorf("requests/s: -want +got\n%s", d)
	}
	if ch4.Base != "C-threaded" || *ch4.RatioRPS != 200.0/110 || *c.RatioRPS != 1 {
		t.Errorf("ratios against %s: %v, %v", ch4.Base, *ch4.RatioRPS, *c.RatioRPS)
	}
	if d := cmp.Diff(0.5, *ch4.RatioCPU, cmpopts.EquateApprox(1e-9, 0)); d != "" {
		t.Error(d)
	}
	if ch4.Note != "did not start" || c.Note != "timeout 3" || c.Failed != 3 {
		t.Errorf("notes %q, %q", ch4.Note, c.Note)
	}
	if n := ch4.Latency.TotalCount(); n != 3 || ch4.Latency.Percentile(100) < 2990 {
		t.Errorf("the rounds' histograms are not together: %d values", n)
	}
}

// One client in a hundred waits a second, while a client sends every 10 ms: it
// kept 98 requests from being sent, which would have waited 990, 980, … ms.
func TestCorrectedPercentile(t *testing.T) {
	h := load.NewHistogram()
	for range 99 {
		h.Record(int64(time.Millisecond))
	}
	h.Record(int64(time.Second))
	c := correct(h, 10_000)
	if n := c.TotalCount(); n < 196 || n > 200 { // the histogram rounds
		t.Errorf("%d values, want about 198", n)
	}
	if raw, p75 := h.Percentile(99), c.Percentile(75); raw > 1100 || p75 < 450_000 ||
		p75 > 550_000 {
		t.Errorf("p99 before %v µs, want 1000; p75 after %v µs, want 500,000", raw, p75)
	}
	if same := correct(load.NewHistogram(), 0); same.TotalCount() != 0 {
		t.Error("nothing measured, but corrected")
	}
}

func TestGoals(t *testing.T) {
	one := func(id, cell string, rps, p99 float64) *row {
		return &row{Cell: cell, Contestant: id, Requests: 100, RPS: stat.Of(rps),
			P99All: stat.Of(p99),
			MBps:   stat.Of(rps), Peak: stat.Of(p99 * 1e6)}
	}
	r := &results{Rows: []*row{one("ch4", "a64", 900, 100), one("C-threaded", "a64", 800, 1000),
		one("ch5", "a64", 700, 300), one("ch3", "a64", 150, 0), one("ch4", "e", 900, 40),
		one("nginx", "e", 600, 1), one("HAProxy", "e", 500, 1)}, BinTrue: stat.Of(400)}
	for _, id := range []string{"ch3", "ch4", "ch5"} {
		r.Contestants = append(r.Contestants, &contestant{ID: id})
	}
	got := map[string]string{}
	for _, g := range goals(r) {
		if g.Verdict != notMeasured {
			got[g.What+" "+g.Goal+" "+g.Against] = g.Verdict + " " + g.Figure
		}
	}
	want := map[string]string{
		"ch4: requests/s, a64 ≥ 1.05 × C-threaded": "reached 1.12 × (900 " +
			"against 800/s)",
		"ch4: corrected p99, a64 ≤ 0.2 × C-threaded": "reached 0.10 × (0.10 " +
			"against 1.00 ms)",
		"ch4: failed requests, a64 ≤ 0 -": "reached 0",
		"ch5: requests/s, a64 ≥ 1.05 × C-threaded": "not reached 0.88 × (700 " +
			"against 800/s)",
		"ch5: corrected p99, a64 ≤ 0.2 × C-threaded": "not reached 0.30 × " +
			"(0.30 against 1.00 ms)",
		"ch5: failed requests, a64 ≤ 0 -": "reached 0",
		"ch3: requests/s, a64 ≥ 0.5 × starting /bin/true the same way": "not reached 0.38 × (150 " +
			"against 400/s)",
		"ch4: speed, e ≥ 1.3 × nginx": "reached 1.50 × (900 " +
			"against 600 MB/s)",
		"ch4: peak memory, e ≤ 32 MB -": "not reached 40.0 MB",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}

// A goal against the better of two is held against the one that is harder to reach, round by
// round.
func TestGoalAgainstTheBetter(t *testing.T) {
	one := func(id string, cpu ...float64) *row {
		return &row{Cell: "b64", Contestant: id, Requests: 100, CPU: stat.Of(cpu...)}
	}
	r := &results{Contestants: []*contestant{{ID: "ch10"}}, Rows: []*row{
		one("ch10", 10, 40, 12), one("nginx", 20, 44, 16), one("HAProxy", 15, 80, 13)}}
	for _, g := range goals(r) {
		if g.Verdict == reached {
			if want := "0.75 × (12.0 against 20.0 µs)"; g.Against != "nginx" || g.Figure != want {
				t.Errorf("%s against %s, want nginx, %s", g.Figure, g.Against, want)
			}
			return
		}
	}
	t.Error("no goal is reached")
}

// Every contestant has looks of its own; two that share a picture differ.
func TestStylesDiffer(t *testing.T) {
	r := &results{}
	for id := range maps.Keys(styles) {
		r.Contestants = append(r.Contestants, &contestant{ID: id})
	}
	r.Contestants = append(r.Contestants, &contestant{ID: "ch6"}, &contestant{ID: "ch7"},
		&contestant{ID: "ch8"}, &contestant{ID: "ch9"},
		&contestant{ID: "ch10"})
	for i, a := range r.Contestants {
		for _, b := range r.Contestants[:i] {
			if cmp.Equal(r.style(a.ID), r.style(b.ID)) {
				t.Errorf("%s and %s look the same", a.ID, b.ID)
			}
		}
	}
}

func TestStrideReachesAll(t *testing.T) {
	for n := 1; n < 40; n++ {
		seen := map[int]bool{}
		for i := range n {
			seen[i*stride(n)%n] = true
		}
		if len(seen) != n {
			t.Errorf("%d contestants: %d reached", n, len(seen))
		}
	}
}

// A command line that would measure nothing, or something else than it says, is refused.
func TestBadOptions(t *testing.T) {
	for _, args := range [][]string{{"-only", "("}, {"-workloads", "xyz"}, {"-backend", "apache"},
		{"stray"}, {"-narration", "-workloads", "ab"}, {"-loop", "-narration"}, {"-rate", "-1"},
		{"-rate", "NaN"}} {
		if _, err := parse(args); err == nil {
			t.Errorf("%v was accepted", args)
		}
	}
	for _, args := range [][]string{{"-loop", "-narration=false"}, {"-from", "x", "-loop"}} {
		if _, err := parse(args); err != nil {
			t.Errorf("%v: %v", args, err)
		}
	}
}

// The generator against wrk, on the backend without a proxy: a short form of
// -selfcheck with room for a machine that has other things to do. The backend answers after
// 50 ms: what can be asked at full speed would be that machine's business.
func TestAgreesWithWrk(t *testing.T) {
	wrk := peers.Find("wrk")
	if wrk == "" {
		harness.Missing(t, "wrk is not installed; on Debian: apt-get install wrk")
	}
	if testing.Short() {
		t.Skip("takes seconds")
	}
	b := &bench{o: options4test(t), tmp: t.TempDir()}
	defer b.close()
	var err error
	if b.origin, b.backends, err = backends(); err != nil {
		t.Fatal(err)
	}
	k := &check{path: "/slow?ms=50", clients: 16,
		target: &contestant{ID: "straight", Family: "baseline"},
		size:   checkSize{pairs: 3, most: 10, seconds: 1, within: 0.5}}
	if err := b.compareWithWrk(t.Context(), wrk, k); err != nil {
		t.Fatal(err)
	}
	if !k.print() {
		t.Errorf("requests/s %v against %v, p99 %v against %v", k.ours[0], k.wrk[0], k.ours[1],
			k.wrk[1])
	}
}

// The page's tables are written between its markers and nowhere else, and no
// path of the machine they were made on gets into it.
func TestWriteDocs(t *testing.T) {
	dir := t.TempDir()
	page := filepath.Join(dir, docsPage)
	text := "# Title\n<!-- bench machine -->\nold\n<!-- /bench -->\nbetween\n<!-- bench a64 -->\n" +
		"<!-- /bench -->\n" +
		"![x](img/bench-cpu.svg)\n"
	if err := os.WriteFile(page, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cells := []*cell{{ID: "a64", Workload: "a", Title: "Sixty-four"}}
	cs := []*contestant{{ID: "ch4", Family: "chapter"}}
	samples := []*sample{{Cell: "a64", Contestant: "ch4", RPS: 1234, CPU: 99, Requests: 10,
		Latency: load.NewHistogram()}}
	r := &results{Cells: cells, Contestants: cs, Rows: summarize(cells, cs, samples),
		Machine: map[string]string{},
		Command: "go run ./scripts/bench -c /home/x/c -o /tmp/y -docs docs -rounds 5"}
	if err := r.writeDocs(dir, docsPage); err != nil {
		t.Fatal(err)
	}
	b, _ := os.ReadFile(page)
	got := string(b)
	for _, want := range []string{"# Title\n", "\nbetween\n", "| ch4 | 1,234 |",
		"`go run ./scripts/bench -c DIR -rounds 5`"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in\n%s", want, got)
		}
	}
	if strings.Contains(got, "/home/x") || strings.Contains(got, "\nold\n") {
		t.Errorf("left over:\n%s", got)
	}
	if _, err := os.Stat(filepath.Join(dir, "img", "bench-cpu.svg")); err != nil {
		t.Error(err)
	}
}

// The page of the loops has the columns that matter there, and the CPU's ratio.
func TestNarrowTable(t *testing.T) {
	w := &cell{ID: "b64", Workload: "b", Title: "T"}
	r := &results{Cells: []*cell{w}}
	half := 0.5
	r.Rows = []*row{{Cell: "b64", Contestant: "ch10", RPS: stat.Of(1), CPU: stat.Of(2),
		P99: stat.Of(3000), CPUUser: stat.Of(0.5), CPUSystem: stat.Of(1.5), RatioCPU: &half}}
	got := r.table(w).only(loopColumns)
	want := &table{Title: "T", Head: loopColumns,
		Rows: [][]string{{"ch10", "1.00", "3.00", "2.00", "0.50×", "0.50", "1.50", "0", ""}}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}
