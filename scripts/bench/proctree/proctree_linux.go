// Package proctree reads what a process and its descendants have cost: CPU
// time from the kernel's per-process clocks, memory from /proc.
package proctree

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// tick is the unit of utime, cutime in /proc/PID/stat; Linux reports USER_HZ
// = 100 a second on every architecture Go runs on.
const tick = 10 * time.Millisecond

type stat struct {
	pid, ppid int
	state     byte
	threads   int
	reaped    time.Duration // cutime + cstime: children that were waited for
}

func readStat(pid int) (stat, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}, err
	}
	i := bytes.LastIndexByte(b, ')') // the name may hold spaces
	if i < 0 {
		return stat{}, fmt.Errorf("/proc/%d/stat: no name", pid)
	}
	f := strings.Fields(string(b[i+1:]))
	if len(f) < 18 {
		return stat{}, fmt.Errorf("/proc/%d/stat: %d fields", pid, len(f))
	}
	num := func(i int) int { n, _ := strconv.Atoi(f[i]); return n }
	return stat{pid: pid, ppid: num(1), state: f[0][0], threads: num(17),
		reaped: time.Duration(num(13)+num(14)) * tick}, nil
}

// tree lists pid and its living descendants and zombies, pid first.
func tree(pid int) []stat {
	root, err := readStat(pid)
	if err != nil {
		return nil
	}
	children := map[int][]stat{}
	names, _ := filepath.Glob("/proc/[0-9]*")
	for _, n := range names {
		if p, err := strconv.Atoi(filepath.Base(n)); err == nil {
			if s, err := readStat(p); err == nil {
				children[s.ppid] = append(children[s.ppid], s)
			}
		}
	}
	all := []stat{root}
	for i := 0; i < len(all); i++ {
		all = append(all, children[all[i].pid]...)
	}
	return all
}

// Clock reads the CPU clock of another process: nanoseconds of user and
// system time of all its threads, ended ones included (clock_getcpuclockid(3)).
func Clock(pid int) time.Duration {
	const sched = 2 // CPUCLOCK_SCHED
	var ts unix.Timespec
	if unix.ClockGettime(int32(^pid<<3|sched), &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// CPU is the CPU time that pid, its living descendants, its zombies, and the
// children they have reaped have used so far. The last part has a resolution
// of 10 ms for each reaping process, the rest of nanoseconds.
func CPU(pid int) time.Duration {
	var sum time.Duration
	for _, s := range tree(pid) {
		sum += Clock(s.pid) + s.reaped
	}
	return sum
}

// Memory is what a process tree holds.
type Memory struct {
	Bytes int64 // proportional set size of all: shared pages counted once
	RSS   int64 // resident set size of all, bytes
	Peak  int64 // greatest resident size of the first process alone, bytes
	// PageTables is what the kernel needs to map it all, bytes; not in the above.
	PageTables int64
	Processes  int // without zombies
	Zombies    int
	Threads    int
}

// Mem measures the tree of pid. One process alone gives its resident set
// size; of several, pages that they share are counted once (PSS).
func Mem(pid int) Memory {
	var m Memory
	var pss int64
	for i, s := range tree(pid) {
		if s.state == 'Z' {
			m.Zombies++
			continue
		}
		m.Processes++
		m.Threads += s.threads
		status := fields(s.pid, "status")
		m.RSS += status["VmRSS"]
		m.PageTables += status["VmPTE"]
		if i == 0 {
			m.Peak = status["VmHWM"]
		}
		pss += fields(s.pid, "smaps_rollup")["Pss"]
	}
	m.Bytes = m.RSS
	if m.Processes > 1 && pss > 0 {
		m.Bytes = pss
	}
	return m
}

// fields reads the "Name: 123 kB" lines of a file in /proc/PID, in bytes.
func fields(pid int, name string) map[string]int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
	if err != nil {
		return nil
	}
	m := map[string]int64{}
	for line := range strings.Lines(string(b)) {
		k, v, _ := strings.Cut(line, ":")
		if f := strings.Fields(v); len(f) == 2 && f[1] == "kB" {
			n, _ := strconv.ParseInt(f[0], 10, 64)
			m[k] = n << 10
		}
	}
	return m
}

// Kill ends pid and its descendants at once.
func Kill(pid int) {
	for _, s := range tree(pid) {
		_ = unix.Kill(s.pid, unix.SIGKILL)
	}
}

// Ended reports whether pid is gone or a zombie.
func Ended(pid int) bool {
	s, err := readStat(pid)
	return err != nil || s.state == 'Z'
}

// Threads is the number of threads of one process, 0 when it is gone.
func Threads(pid int) int {
	s, _ := readStat(pid)
	return s.threads
}

// Descendants lists the living processes below pid, zombies left out, as "PID
// NAME".
func Descendants(pid int) []string {
	var names []string
	for i, s := range tree(pid) {
		if i > 0 && s.state != 'Z' {
			b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", s.pid))
			names = append(names, fmt.Sprintf("%d %s", s.pid, bytes.TrimSpace(b)))
		}
	}
	return names
}

// Busy is the time that all cores together have not been idle since the
// machine started, with what a hypervisor gave to others (steal).
func Busy() time.Duration {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	line, _, _ := strings.Cut(string(b), "\n")
	var sum time.Duration
	for i, f := range strings.Fields(line) {
		// cpu user nice system idle iowait irq softirq steal guest guest_nice;
		// guest time is in user already.
		if n, err := strconv.ParseInt(f, 10, 64); err == nil && i != 4 && i != 5 && i <= 8 {
			sum += time.Duration(n) * tick
		}
	}
	return sum
}
