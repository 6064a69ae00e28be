package proc

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// CanLook says that there is a /proc to look into. Elsewhere the functions of
// this file find nothing.
const CanLook = runtime.GOOS == "linux"

// tick is the unit of utime, cutime in /proc/PID/stat; Linux reports USER_HZ
// = 100 a second on every architecture Go runs on.
const tick = 10 * time.Millisecond

// Stat is what /proc/PID/stat says of a process.
type Stat struct {
	PID, Parent int
	Name        string
	State       byte // 'Z': a zombie
	Threads     int
	Reaped      time.Duration // CPU time of children that were waited for
	// User and System are the CPU time in the program's code and in the kernel's, both
	// with that of children that were waited for.
	User, System time.Duration
}

// Look reads what the kernel says of a process; ok is false if it is gone.
func Look(pid int) (s Stat, ok bool) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')') // the name may hold spaces
	if err != nil || open < 0 || end < open {
		return Stat{}, false
	}
	f := strings.Fields(string(b[end+1:]))
	if len(f) < 18 {
		return Stat{}, false
	}
	num := func(i int) int { n, _ := strconv.Atoi(f[i]); return n }
	return Stat{PID: pid, Parent: num(1), Name: string(b[open+1 : end]), State: f[0][0],
		Threads: num(17), Reaped: time.Duration(num(13)+num(14)) * tick,
		User:   time.Duration(num(11)+num(13)) * tick,
		System: time.Duration(num(12)+num(14)) * tick}, true
}

// Tree lists a process and its living descendants and zombies, it first.
func Tree(pid int) []Stat {
	root, ok := Look(pid)
	if !ok {
		return nil
	}
	children := map[int][]Stat{}
	for _, p := range all() {
		if s, ok := Look(p); ok {
			children[s.Parent] = append(children[s.Parent], s)
		}
	}
	tree := []Stat{root}
	for i := 0; i < len(tree); i++ {
		tree = append(tree, children[tree[i].PID]...)
	}
	return tree
}

// Activity returns how often each thread of a process and its descendants has given up
// its core, and whether all of them wait: for anything but a core or a disk. If it says
// the same twice, and that all wait, nothing has happened in between.
func Activity(pid int) (did string, asleep bool) {
	var b strings.Builder
	for _, s := range Tree(pid) {
		threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", s.PID))
		for _, file := range threads {
			text, _ := os.ReadFile(file)
			if running.Match(text) {
				return "", false
			}
			fmt.Fprintf(&b, "%s %s\n", file, bytes.Join(switches.FindAll(text, -1), nil))
		}
	}
	return b.String(), true
}

// In /proc/PID/task/TID/status: that a thread runs or would if it had a core, waits for a
// disk or is being traced; and how often it has given up its core.
var (
	running  = regexp.MustCompile(`(?m)^State:\s+[RDt]`)
	switches = regexp.MustCompile(`ctxt_switches:\s+\d+`)
)

// Children lists a process's children, zombies included.
func Children(pid int) []int {
	var pids []int
	for _, s := range Tree(pid) {
		if s.Parent == pid {
			pids = append(pids, s.PID)
		}
	}
	return pids
}

// Descendants lists the living processes below pid, zombies left out, as "PID
// NAME".
func Descendants(pid int) []string {
	var names []string
	for _, s := range Tree(pid) {
		if s.PID != pid && s.State != 'Z' {
			names = append(names, fmt.Sprintf("%d %s", s.PID, s.Name))
		}
	}
	return names
}

// Family lists the program and all that it has started and that still runs,
// whoever their parent is by now. Zombies are not among them: they have no
// environment to be recognised by.
func (p *Process) Family() []int {
	var pids []int
	for _, pid := range all() {
		if marked(pid, p.mark+"\x00") {
			pids = append(pids, pid)
		}
	}
	return pids
}

// dead reports whether a process has ended, and its files are closed. The kernel takes a
// process's memory away first, its environment with it, then its files; only then it is
// a zombie, unless another of its threads goes on.
func dead(pid int) bool {
	s, ok := Look(pid)
	return !ok || (s.State == 'Z' || s.State == 'X') && s.Threads <= 1
}

// all lists every process there is.
func all() (pids []int) {
	names, _ := filepath.Glob("/proc/[0-9]*")
	for _, name := range names {
		if pid, err := strconv.Atoi(filepath.Base(name)); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// marked reports whether a process has the text in its environment.
func marked(pid int, text string) bool {
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	return err == nil && bytes.Contains(env, []byte(text))
}

// Ours reports whether this program has started a process, or what has started it.
func Ours(pid int) bool { return marked(pid, ourMark) }

// CommandLine is how a process was started, its words separated by blanks.
func CommandLine(pid int) string {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return strings.TrimSpace(strings.ReplaceAll(string(b), "\x00", " "))
}

// Files returns what each descriptor of a process stands for: "socket:[123]",
// "pipe:[45]", "anon_inode:[eventpoll]", "/dev/null".
func Files(pid int) []string {
	var files []string
	links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil {
			files = append(files, target)
		}
	}
	return files
}

// CPU is the CPU time that pid, its living descendants, its zombies, and the
// children they have reaped have used so far. The last part has a resolution
// of 10 ms for each reaping process, the rest of nanoseconds.
func CPU(pid int) time.Duration {
	var sum time.Duration
	for _, s := range Tree(pid) {
		sum += clock(s.PID) + s.Reaped
	}
	return sum
}

// UserSystem is how CPU divides into the programs' own code and the kernel's, with a
// resolution of 10 ms for each process.
func UserSystem(pid int) (user, system time.Duration) {
	for _, s := range Tree(pid) {
		user, system = user+s.User, system+s.System
	}
	return user, system
}

// Memory is what a process and its descendants hold.
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

// Mem measures a process with its descendants. One process alone gives its
// resident set size; of several, pages that they share are counted once (PSS).
func Mem(pid int) Memory {
	var m Memory
	var pss int64
	for i, s := range Tree(pid) {
		if s.State == 'Z' {
			m.Zombies++
			continue
		}
		m.Processes++
		m.Threads += s.Threads
		status := Sizes(s.PID, "status")
		m.RSS += status["VmRSS"]
		m.PageTables += status["VmPTE"]
		if i == 0 {
			m.Peak = status["VmHWM"]
		}
		pss += Sizes(s.PID, "smaps_rollup")["Pss"]
	}
	m.Bytes = m.RSS
	if m.Processes > 1 && pss > 0 {
		m.Bytes = pss
	}
	return m
}

// Sizes reads the "Name: 123 kB" lines of a file in /proc/PID, in bytes.
func Sizes(pid int, name string) map[string]int64 {
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
