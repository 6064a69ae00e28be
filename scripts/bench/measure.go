//go:build linux

package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"reverseproxy/internal/peers"
	"reverseproxy/internal/proc"
	"reverseproxy/scripts/bench/load"
	"reverseproxy/scripts/bench/origin"
)

// bench is one run of the program.
type bench struct {
	o             *options
	root, tmp     string
	started       time.Time
	version       string // of the repository
	port          int    // last one given to a contestant
	origin        *proc.Process
	backends      []string  // three, of the bench's own backend process
	nginx         *instance // -backend nginx: serves the small answers
	smallBackends []string
	under         []string  // what each contestant is started with: strace, or env
	measuring     time.Time // when the first round began
	contestants   []*contestant
	cells         []*cell
	samples       []*sample
	trues         []trueResult
	outOfTime     bool
	problems      []string
	said          string // last progress line
}

// sample is one contestant in one cell in one round.
type sample struct {
	Round      int     `json:"round"` // from 1
	Cell       string  `json:"cell"`
	Contestant string  `json:"contestant"`
	RPS        float64 `json:"requests_per_second"`
	P50        float64 `json:"p50_us"`
	P99        float64 `json:"p99_us"`
	P999       float64 `json:"p999_us"`
	// P99All is the 99th percentile with the requests that a waiting client did
	// not send: corrected for coordinated omission. 0 where none are left out.
	P99All float64 `json:"p99_corrected_us,omitempty"`
	Max    float64 `json:"max_us"`
	CPU    float64 `json:"cpu_us_per_request"` // of the proxy with its children
	// CPUUser and CPUSystem are its two parts: in the programs' own code, and in the
	// kernel's. The kernel counts them in ticks of 10 ms.
	CPUUser    float64 `json:"cpu_user_us_per_request"`
	CPUSystem  float64 `json:"cpu_system_us_per_request"`
	CPUSeconds float64 `json:"cpu_s"`
	Peak       int64   `json:"peak_memory_bytes"`
	Held       int64   `json:"held_memory_bytes,omitempty"` // while the silent clients stand
	// the kernel's part that grows with processes
	PageTables int64   `json:"held_page_tables_bytes,omitempty"`
	PerClient  float64 `json:"memory_per_client_bytes,omitempty"` // or per child process
	Processes  int     `json:"processes"`                         // most seen
	Threads    int     `json:"threads"`                           // most seen
	Zombies    int     `json:"zombies"`                           // at the end
	Idle       int     `json:"idle_clients,omitempty"`
	Requests   int64   `json:"requests"`
	Failed     int64   `json:"failed"`
	Seconds    float64 `json:"seconds"`
	MBps       float64 `json:"megabytes_per_second,omitempty"`
	Overflows  int64   `json:"listen_overflows"` // connections turned away at its full accept queue
	// GeneratorCPU and BackendCPU are shares of one core, 1 = it was the limit.
	GeneratorCPU float64 `json:"generator_cpu_share"`
	BackendCPU   float64 `json:"backend_cpu_share"`
	// OtherCPU is the share of all cores that went to processes which have no
	// part in the sample, and to other machines on the same hardware.
	OtherCPU float64          `json:"other_cpu_share"`
	Failures map[string]int64 `json:"failures,omitempty"`
	Timeline []load.Timeline  `json:"timeline,omitempty"`
	Latency  load.Histogram   `json:"latency_hdr"`
	Error    string           `json:"error,omitempty"` // it could not be measured
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

func (b *bench) say(format string, args ...any) {
	s := fmt.Sprintf(format, args...)
	b.problems = append(b.problems, s)
	fmt.Fprintln(os.Stderr, "bench:", s)
}

// prepare starts the backends and builds the contestants.
func (b *bench) prepare(ctx context.Context) error {
	b.version = peers.Version("git", "-C", b.root, "describe", "--always", "--dirty")
	var err error
	if b.origin, b.backends, err = backends(); err != nil {
		return err
	}
	if b.o.backend == "nginx" {
		if err := b.nginxBackend(ctx); err != nil {
			return err
		}
	}
	all := []*contestant{{ID: "straight", Family: "baseline", Model: "no proxy: straight to the " +
		"backend",
		KeepAlive: true}}
	all = append(all, b.chapters()...)
	all = append(all, b.originals()...)
	all = append(all, b.references()...)
	if b.o.tricks {
		all = b.techniques()
	} else if b.o.narration {
		all = b.narrations()
	}
	var chosen []*contestant
	for _, c := range all {
		if b.o.only.MatchString(c.ID) {
			chosen = append(chosen, c)
		}
	}
	if len(chosen) == 0 {
		return fmt.Errorf("-only %s: no contestant has such a name; -list shows them", b.o.only)
	}
	if !b.o.list {
		b.progress("building %d programs", len(chosen))
		chosen = b.build(chosen)
	}
	b.contestants, b.cells = chosen, b.o.cells()
	if b.o.tricks {
		b.cells = onlyTechniqueCells(b.cells)
	}
	b.plan()
	return nil
}

// plan gives the cells whose length is free what the budget leaves for them.
func (b *bench) plan() {
	fixed, shares := 0, 0
	for _, w := range b.cells {
		for _, c := range b.contestants {
			if c.takesPart(w) != "" {
				continue
			}
			fixed += w.fixed + 120 // to start and stop it
			if c.Family == "c" {
				fixed += w.overflow // its clients wait for their retries
			}
			shares += w.share
		}
	}
	room := int(b.o.budget.Milliseconds()*95/100)/b.o.rounds - fixed - 500
	most := 2000
	if b.o.quick {
		most = 600
	}
	for _, w := range b.cells {
		if w.share > 0 {
			length := min(max(room/shares, 200)*w.share, most)
			w.job.WarmupMS, w.job.RunMS = length/5, length*4/5
		}
	}
}

// close ends every process that is left.
func (b *bench) close() {
	if b.nginx != nil {
		b.nginx.stop()
	}
	if b.origin != nil {
		b.origin.Kill()
	}
}

// measure runs the rounds. Within a cell the contestants follow each other
// directly, in another order each round, so that what disturbs the machine
// for a while disturbs them all alike.
func (b *bench) measure(ctx context.Context) {
	b.measuring = time.Now()
	for round := 1; round <= b.o.rounds; round++ {
		for _, w := range b.cells {
			n := len(b.contestants)
			for i := range n {
				c := b.contestants[(i*stride(n)+round)%n]
				if c.takesPart(w) != "" {
					continue
				}
				if ctx.Err() != nil {
					return
				}
				if time.Since(b.measuring) > b.o.budget {
					b.outOfTime = true
					return
				}
				if w.ID == "d10000" && b.blockedAt1000(c, round) {
					continue
				}
				b.progress("round %d of %d: %s: %s", round, b.o.rounds, w.Title, c.ID)
				s := b.sample(ctx, w, c)
				s.Round = round
				if ctx.Err() == nil {
					b.samples = append(b.samples, s)
				}
			}
			if w.ID == "a64" && ctx.Err() == nil {
				beside := watchNeighbours()
				r, err := startTrue(ctx, 700*time.Millisecond, "true")
				if err == nil && !beside.tooBusy() {
					b.trues = append(b.trues, r)
				}
			}
		}
	}
}

// blockedAt1000 reports that 1,000 silent clients kept the contestant from
// serving anyone; ten times as many take long and show nothing more.
func (b *bench) blockedAt1000(c *contestant, round int) bool {
	for _, s := range b.samples {
		if s.Cell == "d1000" && s.Contestant == c.ID && s.Round == round {
			return s.Requests == 0
		}
	}
	return false
}

// stride is a step through n contestants that reaches all of them and keeps
// neighbours of the list apart.
func stride(n int) int {
	for s := n/2 - 1; s > 1; s-- {
		if gcd(s, n) == 1 {
			return s
		}
	}
	return 1
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// sample starts the contestant, lets the load process do the cell's job on
// it, and reads what that cost. CPU time and memory are read while nothing
// goes on, before and after, so that no request is counted in part.
func (b *bench) sample(ctx context.Context, w *cell, c *contestant) *sample {
	s := &sample{Cell: w.ID, Contestant: c.ID, Latency: load.NewHistogram()}
	inst, err := b.start(ctx, c, w.job)
	if err != nil {
		s.Error = err.Error()
		return s
	}
	defer inst.stop()
	job := w.job
	job.Target = inst.addr
	if c.Blocking && w.Idle > 0 {
		job.TimeoutMS = blockingMS
	}
	watch := b.watch(inst, c, b.backendPID(job.Path))
	before := watch.read()
	res, err := generate(ctx, job, func(standing int) {
		time.Sleep(100 * time.Millisecond) // until the last of them is accepted
		m := watch.mem()
		s.Held, s.PageTables, s.Idle = m.Bytes, m.PageTables, standing
		served := standing
		if c.Processes { // its children are fewer when their number is bounded
			served = m.Processes - before.mem.Processes
		}
		if served > 0 {
			s.PerClient = float64(m.Bytes-before.mem.Bytes) / float64(served)
		}
	})
	if err != nil {
		watch.end()
		s.Error = err.Error()
		return s
	}
	time.Sleep(20 * time.Millisecond) // children end, counters settle
	after := watch.read()
	watch.end()
	s.fill(w, res, before, after)
	s.Peak, s.Processes, s.Threads = watch.peak(after.mem), int(watch.processes.Load()),
		int(watch.threads.Load())
	s.Zombies = after.mem.Zombies
	return s
}

func (s *sample) fill(w *cell, res *load.Result, before, after reading) {
	s.Requests, s.Failed, s.Failures = res.Requests, res.Failed(), res.Failures
	s.Seconds = float64(res.ElapsedNS) / 1e9
	if s.Seconds > 0 {
		s.RPS = float64(res.Requests) / s.Seconds
	}
	s.Latency = res.Latency
	s.P50, s.P99, s.P999 = res.Latency.Percentile(50), res.Latency.Percentile(99),
		res.Latency.Percentile(99.9)
	s.Max = res.Latency.Percentile(100)
	if w.closedLoop() && s.RPS > 0 {
		s.P99All = correct(res.Latency, int64(float64(w.Clients)/s.RPS*1e6)).Percentile(99)
	}
	s.CPUSeconds = (after.cpu - before.cpu).Seconds()
	if res.AllAnswers > 0 {
		s.CPU = s.CPUSeconds * 1e6 / float64(res.AllAnswers)
		s.divide(after.user-before.user, after.system-before.system)
	}
	if w.Bytes > 0 && res.Bytes > 0 && s.Seconds > 0 {
		s.MBps = float64(res.Bytes) / 1e6 / s.Seconds
	}
	wall := after.at.Sub(before.at).Seconds()
	s.GeneratorCPU = float64(res.CPUNS) / 1e9 / wall
	s.BackendCPU = (after.backend - before.backend).Seconds() / wall
	own := (after.cpu - before.cpu + after.backend - before.backend).Seconds() +
		float64(res.CPUNS)/1e9
	s.OtherCPU = max(0, (after.busy-before.busy).Seconds()-own) / wall / float64(runtime.NumCPU())
	s.Overflows = after.overflows - before.overflows
	if w.Workload == "c" || w.Workload == "f" {
		s.Timeline = res.Timeline
	}
	if w.Workload == "f" {
		s.Timeline = nil // a thousand bars are no picture; the histogram has them
	}
}

// divide divides the CPU time a request as the kernel's ticks are divided.
func (s *sample) divide(user, system time.Duration) {
	if ticks := user + system; ticks > 0 {
		s.CPUUser = s.CPU * user.Seconds() / ticks.Seconds()
		s.CPUSystem = s.CPU - s.CPUUser
	}
}

// watcher reads a contestant's cost, and, of one whose processes come and go,
// looks at its memory five times a second.
type watcher struct {
	pid       int // 0 for the baseline
	backend   int
	comesGoes bool
	port      int
	stop      chan struct{}
	wg        sync.WaitGroup
	most      atomic.Int64 // bytes
	processes atomic.Int64
	threads   atomic.Int64
}

type reading struct {
	at        time.Time
	cpu       time.Duration
	user      time.Duration // cpu's two parts, in ticks
	system    time.Duration
	backend   time.Duration
	busy      time.Duration // of the whole machine
	overflows int64
	mem       proc.Memory
}

func (b *bench) watch(i *instance, c *contestant, backend int) *watcher {
	w := &watcher{backend: backend, comesGoes: c.Processes, stop: make(chan struct{})}
	if i.run == nil {
		return w
	}
	w.pid = i.run.PID()
	w.port = portOf(i.addr)
	w.wg.Go(func() { // ends with end()
		for pause := 200 * time.Millisecond; ; {
			select {
			case <-w.stop:
				return
			case <-time.After(pause):
			}
			if !w.comesGoes {
				now, _ := proc.Look(w.pid)
				raise(&w.threads, int64(now.Threads))
				continue
			}
			start := time.Now()
			w.mem() // of thousands of processes it takes long: look less often then
			pause = max(200*time.Millisecond, 20*time.Since(start))
		}
	})
	return w
}

func raise(v *atomic.Int64, n int64) {
	for old := v.Load(); n > old && !v.CompareAndSwap(old, n); old = v.Load() {
	}
}

// mem measures the memory now and keeps the greatest.
func (w *watcher) mem() proc.Memory {
	if w.pid == 0 {
		return proc.Memory{}
	}
	m := proc.Mem(w.pid)
	raise(&w.most, m.Bytes)
	raise(&w.processes, int64(m.Processes))
	raise(&w.threads, int64(m.Threads))
	return m
}

func (w *watcher) read() reading {
	r := reading{at: time.Now(), busy: proc.Busy(), backend: proc.CPU(w.backend), mem: w.mem()}
	if w.pid != 0 {
		_, dropped, _ := proc.Queue(w.port)
		r.overflows = int64(dropped)
		r.cpu = proc.CPU(w.pid)
		r.user, r.system = proc.UserSystem(w.pid)
	}
	return r
}

func (w *watcher) end() {
	close(w.stop)
	w.wg.Wait()
}

// peak is the greatest memory: of one process the kernel's own record, of
// several the most that was seen.
func (w *watcher) peak(m proc.Memory) int64 {
	if m.Processes == 1 && !w.comesGoes {
		return max(m.Peak, w.most.Load())
	}
	return w.most.Load()
}

// nginxBackend starts nginx for the small answers, on three ports.
func (b *bench) nginxBackend(ctx context.Context) error {
	if peers.Find("nginx") == "" {
		return fmt.Errorf("-backend nginx: nginx is not installed; on Debian: apt-get install " +
			"nginx-light")
	}
	dir := filepath.Join(b.tmp, "backend")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	listen := ""
	for range 3 {
		addr := fmt.Sprintf("127.0.0.1:%d", b.freePort())
		listen += fmt.Sprintf("listen %s backlog=4096; ", addr)
		b.smallBackends = append(b.smallBackends, addr)
	}
	args, err := peers.Place{Dir: dir}.NginxServing(fmt.Sprintf(
		`server { %s default_type text/plain; location / { return 200 "%s"; } }`,
		listen, strings.ReplaceAll(origin.Body, "\n", `\n`)))
	if err != nil {
		return err
	}
	b.nginx = &instance{run: proc.New(args...), dir: dir}
	if err := b.nginx.begin(ctx); err != nil {
		return err
	}
	return b.nginx.run.AwaitListening(startTime, b.smallBackends[2])
}

// portOf is the port of an address.
func portOf(addr string) int {
	_, text, _ := net.SplitHostPort(addr)
	port, _ := strconv.Atoi(text)
	return port
}

// backendsFor are the addresses that serve a path.
func (b *bench) backendsFor(path string) []string {
	if path == "/" && b.nginx != nil {
		return b.smallBackends
	}
	return b.backends
}

// backendPID is the process behind them.
func (b *bench) backendPID(path string) int {
	if path == "/" && b.nginx != nil {
		return b.nginx.run.PID()
	}
	return b.origin.PID()
}
