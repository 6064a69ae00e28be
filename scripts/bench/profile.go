//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"reverseproxy/internal/peers"
	"reverseproxy/internal/proc"
	"reverseproxy/scripts/bench/load"
)

const (
	profileMS    = 4000 // milliseconds of one profile
	profileHertz = 1999 // looks a second
)

// parts are what CPU time goes to: the rows of the table of -profile. The kernel's
// go by the system call, the others by the package of the function that ran.
var parts = []string{"read", "write", "epoll", "futex, sleep", "kernel, rest", "scheduler",
	"memory", "net, poll", "program"}

// part is a column, and the functions that belong to it.
type part struct {
	functions *regexp.Regexp
	name      string
}

var (
	kernelParts = []part{ // by the function that a system call begins with
		{regexp.MustCompile(`^(ksys_read|vfs_readv?|do_readv|__sys_recv\w+)$`), "read"},
		{regexp.MustCompile(`^(ksys_write|vfs_writev?|do_writev|__sys_send\w+|do_splice\w*)$`),
			"write"},
		{regexp.MustCompile(`^do_epoll_`), "epoll"},
		{regexp.MustCompile(`futex|nanosleep|sched_yield|tgkill`), "futex, sleep"},
		{regexp.MustCompile(``), "kernel, rest"}, // of interrupts, too
	}
	ownParts = []part{ // by the function that ran
		{regexp.MustCompile(`^(net|syscall|os|golang\.org/x/sys/unix|internal/poll|` +
			`internal/runtime/syscall(/linux)?)\.`), "net, poll"},
		{regexp.MustCompile(`^(runtime|internal/runtime/\w+)\..*` +
			`(?i:alloc|gc|scan|sweep|mark|span|heap|mcache|mem|typed|barrier|wbBuf)`), "memory"},
		{regexp.MustCompile(`^(runtime|internal/runtime/\w+)\.`), "scheduler"},
		{regexp.MustCompile(``), "program"},
	}
)

// profile shows where each contestant's CPU time goes, in µs a request.
func (b *bench) profile(ctx context.Context) error {
	if peers.Find("perf") == "" {
		return errors.New("-profile needs perf; on Debian: apt-get install linux-perf")
	}
	lines := [][]string{append([]string{"", "CPU µs/request"}, parts...)}
	for _, c := range b.contestants {
		if c.args == nil {
			continue
		}
		b.progress("profiling %s", c.ID)
		cpu, share, err := b.profiled(ctx, c)
		if err != nil {
			return fmt.Errorf("%s: %w", c.ID, err)
		}
		line := []string{c.ID, number(cpu)}
		for _, part := range parts {
			line = append(line, fmt.Sprintf("%.1f", cpu*share[part]))
		}
		lines = append(lines, line)
	}
	fmt.Printf("\n\nCPU time a request, %d clients, keep-alive but for ch2 to ch5: in system "+
		"calls, and in the program\n", tracedClients)
	lines = turned(lines)  // a column for each proxy: a row for each were too wide to project
	for i := range lines { // the last column of a table is text
		lines[i] = append(lines[i], "")
	}
	printTable(os.Stdout, lines)
	return b.fillBlock(profileBlock, lines)
}

// turned returns a table with its rows as columns.
func turned(lines [][]string) [][]string {
	all := make([][]string, len(lines[0]))
	for _, line := range lines {
		for i, cell := range line {
			all[i] = append(all[i], cell)
		}
	}
	return all
}

// profiled profiles one contestant: its CPU time a request, µs, and the parts' shares.
func (b *bench) profiled(ctx context.Context, c *contestant) (float64, map[string]float64,
	error) {
	job := load.Job{Path: "/", Body: small, Clients: tracedClients, KeepAlive: c.KeepAlive,
		RunMS: profileMS, TimeoutMS: requestMS}
	inst, err := b.start(ctx, c, job)
	if err != nil {
		return 0, nil, err
	}
	defer inst.stop()
	job.Target = inst.addr
	warm := job
	warm.RunMS = profileMS / 8
	if _, err := generate(ctx, warm, nil); err != nil { // perf is to find all threads there
		return 0, nil, err
	}
	var pids []string
	for _, p := range proc.Tree(inst.run.PID()) {
		pids = append(pids, strconv.Itoa(p.PID))
	}
	file := filepath.Join(b.tmp, "perf.data")
	perf, err := proc.Run(peers.Find("perf"), "record", "-F", strconv.Itoa(profileHertz),
		"-g", "-o", file,
		"-p", strings.Join(pids, ","))
	if err != nil {
		return 0, nil, err
	}
	defer perf.Kill()
	for end := time.Now().Add(endTime); !looksOn(perf.PID()); time.Sleep(10 * time.Millisecond) {
		if perf.Ended() || time.Now().After(end) {
			return 0, nil, fmt.Errorf("perf does not begin: %s", perf.LastWords())
		}
	}
	before := proc.CPU(inst.run.PID())
	res, err := generate(ctx, job, nil)
	if err != nil {
		return 0, nil, err
	}
	used := proc.CPU(inst.run.PID()) - before
	perf.Interrupt() // it writes what it has
	if !perf.Wait(endTime) {
		return 0, nil, fmt.Errorf("perf does not end: %s", perf.LastWords())
	}
	script, err := exec.CommandContext(ctx, peers.Find("perf"), "script", "-i", file, "-F",
		"ip,sym,dso").Output()
	if err != nil {
		return 0, nil, fmt.Errorf("perf script: %w", err)
	}
	share, looks := shares(string(script))
	if wanted := used.Seconds() * profileHertz; looks < wanted/2 {
		return 0, nil, fmt.Errorf("perf looked %.0f times in the place of %.0f", looks, wanted)
	}
	return used.Seconds() * 1e6 / float64(max(res.AllAnswers, 1)), share, nil
}

// looksOn reports whether perf has begun.
func looksOn(pid int) bool { return slices.Contains(proc.Files(pid), "anon_inode:[perf_event]") }

// shares divides the samples of perf script among the parts. A sample is a stack, the
// innermost function first, and an empty line.
func shares(script string) (share map[string]float64, count float64) {
	share = map[string]float64{}
	samples := strings.Split(strings.TrimSpace(script), "\n\n")
	for _, stack := range samples {
		share[partOf(strings.Split(strings.TrimSpace(stack), "\n"))] += 1 / float64(len(samples))
	}
	return share, float64(len(samples))
}

// partOf is the part that a sample belongs to.
func partOf(stack []string) string {
	function := func(line string) string { // "81e2e5bb sock_recvmsg ([kernel.kallsyms])"
		_, name, _ := strings.Cut(strings.TrimSpace(line), " ")
		name, _, _ = strings.Cut(name, " (")
		return name
	}
	of := func(parts []part, name string) string {
		i := slices.IndexFunc(parts, func(p part) bool { return p.functions.MatchString(name) })
		return parts[i].name
	}
	const kernel = "([kernel.kallsyms])"
	if !strings.HasSuffix(stack[0], kernel) {
		return of(ownParts, function(stack[0]))
	}
	last := kernelParts[len(kernelParts)-1].name
	for _, line := range slices.Backward(stack) { // from the system call inwards
		if !strings.HasSuffix(line, kernel) {
			continue
		}
		if name := of(kernelParts, function(line)); name != last {
			return name
		}
	}
	return last
}
