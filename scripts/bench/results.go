//go:build linux

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"reverseproxy/internal/peers"
	"reverseproxy/scripts/bench/load"
	"reverseproxy/scripts/bench/stat"
)

// schemaVersion changes when a field of results.json changes its meaning.
const schemaVersion = 2

// busyShare of all cores used by others spoils a run.
const busyShare = 0.15

// results is results.json.
type results struct {
	Schema      int               `json:"schema"`
	Started     time.Time         `json:"started"`
	Finished    time.Time         `json:"finished"`
	Complete    bool              `json:"complete"` // every cell in every round
	Why         string            `json:"why_incomplete,omitempty"`
	Command     string            `json:"command"`
	Rounds      int               `json:"rounds"`
	Backend     string            `json:"backend"`
	Machine     map[string]string `json:"machine"`
	Contestants []*contestant     `json:"contestants"`
	Cells       []*cell           `json:"cells"`
	Rows        []*row            `json:"rows"`
	Goals       []goal            `json:"goals"`
	Problems    []string          `json:"problems"`
	OtherCPU    stat.Spread       `json:"other_cpu_share"` // of all cores, over the samples
	BinTrue     stat.Spread       `json:"bin_true_starts_per_second"`
	Samples     []*sample         `json:"samples"`
}

// row sums up the rounds of one contestant in one cell: medians with spread.
type row struct {
	Cell       string      `json:"cell"`
	Contestant string      `json:"contestant"`
	RPS        stat.Spread `json:"requests_per_second"`
	P50        stat.Spread `json:"p50_us"`
	P99        stat.Spread `json:"p99_us"`
	P999       stat.Spread `json:"p999_us"`
	P99All     stat.Spread `json:"p99_corrected_us"`
	Max        stat.Spread `json:"max_us"`
	CPU        stat.Spread `json:"cpu_us_per_request"`
	CPUUser    stat.Spread `json:"cpu_user_us_per_request"`
	CPUSystem  stat.Spread `json:"cpu_system_us_per_request"`
	CPUSeconds stat.Spread `json:"cpu_s"`
	Peak       stat.Spread `json:"peak_memory_bytes"`
	Held       stat.Spread `json:"held_memory_bytes"`
	PerClient  stat.Spread `json:"memory_per_client_bytes"`
	MBps       stat.Spread `json:"megabytes_per_second"`
	Seconds    stat.Spread `json:"seconds"`
	Overflows  stat.Spread `json:"listen_overflows"`
	Processes  int         `json:"processes"`
	Threads    int         `json:"threads"`
	Zombies    int         `json:"zombies"`
	Idle       int         `json:"idle_clients,omitempty"` // fewest that stood
	Requests   int64       `json:"requests"`               // of all rounds
	Failed     int64       `json:"failed"`
	Discarded  int         `json:"discarded_rounds,omitempty"` // the machine was busy
	Note       string      `json:"note,omitempty"`
	// Base names the contestant that the ratios compare with.
	Base     string   `json:"base,omitempty"`
	RatioRPS *float64 `json:"ratio_requests_per_second,omitempty"`
	RatioCPU *float64 `json:"ratio_cpu,omitempty"`
	RatioMem *float64 `json:"ratio_memory,omitempty"`

	Timeline []load.Timeline `json:"timeline,omitempty"` // of the median round
	Latency  load.Histogram  `json:"latency_hdr"`        // all rounds together, microseconds
}

// summarize makes the rows, in the order of cells and contestants.
func summarize(cells []*cell, cs []*contestant, samples []*sample) []*row {
	var rows []*row
	for _, w := range cells {
		var block []*row
		for _, c := range cs {
			var mine []*sample
			for _, s := range samples {
				if s.Cell == w.ID && s.Contestant == c.ID {
					mine = append(mine, s)
				}
			}
			if len(mine) > 0 {
				block = append(block, newRow(w, c, mine))
			}
		}
		ratios(w, block)
		rows = append(rows, block...)
	}
	return rows
}

func newRow(w *cell, c *contestant, all []*sample) *row {
	r := &row{Cell: w.ID, Contestant: c.ID, Latency: load.NewHistogram()}
	var good []*sample // by round; nil: none
	failures := map[string]int64{}
	for i, s := range all {
		if s.Error != "" {
			r.Note = s.Error
			continue
		}
		if s.busy() {
			r.Discarded++
			continue
		}
		for len(good) < max(s.Round, i+1) { // it may have missed one
			good = append(good, nil)
		}
		good[len(good)-1] = s
		r.Requests += s.Requests
		r.Failed += s.Failed
		for k, n := range s.Failures {
			failures[k] += n
		}
		r.Processes, r.Threads = max(r.Processes, s.Processes), max(r.Threads, s.Threads)
		r.Zombies = max(r.Zombies, s.Zombies)
		if r.Idle == 0 || s.Idle < r.Idle {
			r.Idle = s.Idle
		}
		if s.Latency.Histogram != nil {
			r.Latency.Merge(s.Latency.Histogram)
		}
	}
	if r.Discarded > 0 {
		r.Note = strings.TrimPrefix(fmt.Sprintf("%s; machine busy in %d of %d rounds", r.Note,
			r.Discarded, len(all)), "; ")
	}
	r.spreads(good)
	if note := failureNote(failures); note != "" {
		r.Note = strings.TrimPrefix(r.Note+"; "+note, "; ")
	}
	for _, s := range good {
		if s != nil && (s.Seconds == r.Seconds.Median || r.Timeline == nil) {
			r.Timeline = s.Timeline
		}
	}
	return r
}

// spreads fills the figures. What had no answer at all has no latency and no
// CPU time a request.
func (r *row) spreads(ss []*sample) {
	of := func(get func(*sample) float64) stat.Spread {
		v := make([]float64, len(ss))
		for i, s := range ss {
			if v[i] = math.NaN(); s != nil {
				v[i] = get(s)
			}
		}
		return stat.Of(v...)
	}
	answered := func(get func(*sample) float64) stat.Spread {
		return of(func(s *sample) float64 {
			if s.Requests == 0 {
				return math.NaN()
			}
			return get(s)
		})
	}
	r.RPS = of(func(s *sample) float64 { return s.RPS })
	r.P50 = answered(func(s *sample) float64 { return s.P50 })
	r.P99 = answered(func(s *sample) float64 { return s.P99 })
	r.P999 = answered(func(s *sample) float64 { return s.P999 })
	r.P99All = answered(func(s *sample) float64 { return s.P99All })
	r.Max = answered(func(s *sample) float64 { return s.Max })
	r.CPU = answered(func(s *sample) float64 { return s.CPU })
	r.CPUUser = answered(func(s *sample) float64 { return s.CPUUser })
	r.CPUSystem = answered(func(s *sample) float64 { return s.CPUSystem })
	r.CPUSeconds = of(func(s *sample) float64 { return s.CPUSeconds })
	r.Peak = of(func(s *sample) float64 { return float64(s.Peak) })
	r.Held = of(func(s *sample) float64 { return float64(s.Held) })
	r.PerClient = of(func(s *sample) float64 { return s.PerClient })
	r.MBps = answered(func(s *sample) float64 { return s.MBps })
	r.Seconds = of(func(s *sample) float64 { return s.Seconds })
	r.Overflows = of(func(s *sample) float64 { return float64(s.Overflows) })
}

func failureNote(m map[string]int64) string {
	var parts []string
	for k, n := range m {
		parts = append(parts, fmt.Sprintf("%s %d", k, n))
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}

// ratios compares every row of a cell with one of them: the C program with
// threads where it takes part, else httputil, no proxy at all or the floor; a body with
// no proxy at all.
func ratios(w *cell, block []*row) {
	want := []string{"C-threaded", "httputil", "straight", nullRelay}
	if w.Workload == "e" {
		want = []string{"straight"}
	}
	var base *row
	for _, id := range want {
		for _, r := range block {
			if base == nil && r.Contestant == id && r.Requests > 0 {
				base = r
			}
		}
	}
	if base == nil {
		return
	}
	for _, r := range block {
		r.Base = base.Contestant
		speed, other := r.RPS, base.RPS
		if w.Workload == "e" {
			speed, other = r.MBps, base.MBps
		}
		r.RatioRPS = ratio(speed, other)
		r.RatioCPU = ratio(r.CPU, base.CPU)
		r.RatioMem = ratio(r.Held, base.Held)
	}
}

func ratio(a, b stat.Spread) *float64 {
	if x := a.Ratio(b); !math.IsNaN(x) && x > 0 {
		return &x
	}
	return nil
}

// collect makes the results of what has been measured so far.
func (b *bench) collect(interrupted bool) *results {
	r := &results{Schema: schemaVersion, Started: b.started, Finished: time.Now(),
		Rounds:  b.o.rounds,
		Command: "go run ./scripts/bench " + strings.Join(os.Args[1:], " "),
		Backend: b.backendName(),
		Machine: machine(), Contestants: b.contestants, Cells: b.cells, Samples: b.samples,
		Problems: append([]string{}, b.problems...)}
	r.Complete = !interrupted && !b.outOfTime
	switch {
	case interrupted:
		r.Why = "interrupted: what was measured until then"
	case b.outOfTime:
		r.Why = fmt.Sprintf("the time of %s was used up: what was measured until then", b.o.budget)
	}
	r.Rows = summarize(b.cells, b.contestants, b.samples)
	var starts []float64
	for _, t := range b.trues {
		starts = append(starts, float64(t.Started)/float64(t.NS)*1e9)
	}
	r.BinTrue = stat.Of(starts...)
	var others []float64
	for _, s := range b.samples {
		if s.Error == "" {
			others = append(others, s.OtherCPU)
		}
	}
	r.OtherCPU = stat.Of(others...)
	r.Machine["used by others meanwhile"] = fmt.Sprintf("%.0f %% of all cores",
		r.OtherCPU.Median*100)
	if r.OtherCPU.Median > busyShare {
		r.Problems = append(r.Problems, fmt.Sprintf("other programs took %.0f %% of the machine "+
			"meanwhile (median): "+
			"requests/s and latencies are theirs too; CPU a request and memory can still be "+
			"compared",
			r.OtherCPU.Median*100))
	}
	discarded := 0
	for _, x := range r.Rows {
		discarded += x.Discarded
	}
	if discarded > 0 {
		r.Problems = append(r.Problems, fmt.Sprintf("%d of %d measurements are discarded: other "+
			"programs took more than %.0f %% of the machine meanwhile", discarded, len(r.Samples),
			mostOthers*100))
	}
	r.Goals = goals(r)
	return r
}

func (b *bench) backendName() string {
	if b.o.backend == "nginx" {
		return peers.Version("nginx", "-v") + " for the 24-byte answers, the bench's own for " +
			"/slow and /bytes"
	}
	return "the bench's own: HTTP/1.1 on one thread with epoll, in a process of its own"
}

// busy reports whether something was measured only while the machine was busy.
func (r *results) busy() bool { return slices.ContainsFunc(r.Rows, (*row).busy) }

func (r *results) find(cell, contestant string) *row {
	for _, x := range r.Rows {
		if x.Cell == cell && x.Contestant == contestant {
			return x
		}
	}
	return nil
}

func (r *results) writeJSON(dir string) error {
	b, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "results.json"), append(b, '\n'), 0o644)
}

// machine describes where the run took place.
func machine() map[string]string {
	m := map[string]string{"cores": itoa(int64(runtime.NumCPU())), "go": runtime.Version(),
		"system": runtime.GOOS + "/" + runtime.GOARCH,
		"cpu":    procField("/proc/cpuinfo", "model name"),
		"memory": gigabytes(procField("/proc/meminfo", "MemTotal"))}
	if b, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m["kernel"] = strings.TrimSpace(string(b))
	}
	if b, err := os.ReadFile("/proc/loadavg"); err == nil {
		m["load average at the end"] = strings.Join(strings.Fields(string(b))[:3], " ")
	}
	return m
}

// gigabytes makes "25 GB" of the kernel's "24684084 kB", which means KiB.
func gigabytes(s string) string {
	n, err := strconv.ParseFloat(strings.TrimSuffix(s, " kB"), 64)
	if err != nil {
		return s
	}
	return fmt.Sprintf("%.0f GB", n*1024/1e9)
}

func procField(file, name string) string {
	f, err := os.Open(file)
	if err != nil {
		return ""
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if k, v, ok := strings.Cut(s.Text(), ":"); ok && strings.TrimSpace(k) == name {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// correct adds the requests that clients did not send while they waited for an
// answer (coordinated omission): of each answer slower than twice the mean time
// between two requests of a client (interval, µs) those that would have been
// sent meanwhile, each with the rest of the wait. Gil Tene's HdrHistogram does
// it so in recordValueWithExpectedInterval.
func correct(h load.Histogram, interval int64) load.Histogram {
	out := load.NewHistogram()
	if h.Histogram == nil || interval <= 0 {
		return h
	}
	for _, bar := range h.Distribution() {
		if bar.Count == 0 {
			continue
		}
		v := (bar.From + bar.To) / 2
		_ = out.RecordValues(v, bar.Count)
		if v >= 2*interval {
			for m := v - interval; m > interval; m -= interval {
				_ = out.RecordValues(m, bar.Count)
			}
		}
	}
	return out
}
