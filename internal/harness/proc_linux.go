package harness

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// lookAgain is the pause between two looks into /proc, which tells nobody when
// it changes.
const lookAgain = 5 * time.Millisecond

// NeedProc skips a test where there is no /proc.
func NeedProc(*testing.T) {}

// process is what /proc/PID/stat says of a process.
type process struct{ pid, parent int }

// processes lists all processes.
func processes(t T) []process {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatalf("/proc: %v", err)
	}
	var list []process
	for _, file := range files {
		if s, ok := readStat(file); ok {
			list = append(list, s)
		}
	}
	return list
}

// readStat reads "PID (NAME) STATE PPID ...".
func readStat(file string) (process, bool) {
	text, err := os.ReadFile(file)
	if err != nil {
		return process{}, false // it has just ended
	}
	open, end := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
	if open < 0 || end < 0 {
		return process{}, false
	}
	var s process
	s.pid, _ = strconv.Atoi(strings.TrimSpace(string(text[:open])))
	s.parent, _ = strconv.Atoi(strings.Fields(string(text[end+1:]))[1])
	return s, true
}

// Children returns the process numbers of the program's children, zombies
// included, in ascending order.
func (p *Proxy) Children(t T) []int {
	t.Helper()
	var pids []int
	for _, s := range processes(t) {
		if s.parent == p.PID() {
			pids = append(pids, s.pid)
		}
	}
	sort.Ints(pids)
	return pids
}

// WaitChildren waits until the program has n children, zombies included.
func (p *Proxy) WaitChildren(t T, n int) []int {
	t.Helper()
	var pids []int
	p.waitFor(t, func() string {
		if pids = p.Children(t); len(pids) == n {
			return ""
		}
		return fmt.Sprintf("%d children, want %d", len(pids), n)
	})
	return pids
}

// Family lists the processes that the program has started, itself included,
// that still run, "PID NAME", whoever their parent is by now. Zombies are not
// among them: they have no environment to be recognised by.
func (p *Proxy) Family() []string {
	var list []string
	for _, pid := range p.family() {
		name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		list = append(list, fmt.Sprintf("%d %s", pid, strings.TrimSpace(string(name))))
	}
	return list
}

func (p *Proxy) family() []int {
	var pids []int
	files, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, file := range files {
		if env, err := os.ReadFile(file); err == nil && bytes.Contains(env, []byte(p.mark+"\x00")) {
			pid, _ := strconv.Atoi(strings.Split(file, "/")[2])
			pids = append(pids, pid)
		}
	}
	return pids
}

// killAll ends all that the program has started.
func (p *Proxy) killAll() {
	for end := time.Now().Add(Patience); time.Now().Before(end); time.Sleep(lookAgain) {
		pids := p.family()
		if len(pids) == 0 {
			return
		}
		for _, pid := range pids {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

// WaitFamilyGone waits until nothing runs that the program has started.
func (p *Proxy) WaitFamilyGone(t T) {
	t.Helper()
	p.waitFor(t, func() string {
		if left := p.Family(); len(left) > 0 {
			return "still there: " + strings.Join(left, ", ")
		}
		return ""
	})
}

// waitFor looks until problem returns "".
func (p *Proxy) waitFor(t T, problem func() string) {
	t.Helper()
	for end := time.Now().Add(Patience); ; time.Sleep(lookAgain) {
		text := problem()
		if text == "" {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: %s", p.Model.Name, text)
		}
	}
}

// Descriptors counts the files that the program and its children have open.
// Two kinds do not count, because Go's runtime makes them at need and keeps
// them for the next time: the objects it waits for events with, and pipes with
// both ends in one process, through which splice(2) moves bodies.
func (p *Proxy) Descriptors(t T) int {
	t.Helper()
	count := 0
	for _, pid := range append(p.Children(t), p.PID()) {
		ends := map[string]int{}
		links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		for _, link := range links {
			target, err := os.Readlink(link)
			if err != nil || strings.HasPrefix(target, "anon_inode:") {
				continue
			}
			count++
			if ends[target]++; ends[target] == 2 && strings.HasPrefix(target, "pipe:") {
				count -= 2
			}
		}
	}
	return count
}

// WaitDescriptors waits until the program has n descriptors open (see
// Descriptors).
func (p *Proxy) WaitDescriptors(t T, n int) {
	t.Helper()
	p.waitFor(t, func() string {
		if got := p.Descriptors(t); got != n {
			return fmt.Sprintf("%d descriptors are open, want %d as before", got, n)
		}
		return ""
	})
}

// PeakMemory returns the most bytes that the program or one of its children
// that run now has had resident (VmHWM).
func (p *Proxy) PeakMemory(t T) int64 {
	t.Helper()
	var peak int64
	for _, pid := range append(p.Children(t), p.PID()) {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		for line := range strings.Lines(string(text)) {
			if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "VmHWM:" {
				kib, _ := strconv.ParseInt(fields[1], 10, 64)
				peak = max(peak, kib<<10)
			}
		}
	}
	if peak == 0 {
		t.Fatalf("/proc says nothing of the memory of %s", p.Model.Name)
	}
	return peak
}

// Sockets counts the sockets that a process has open.
func Sockets(pid int) int {
	count := 0
	links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil && strings.HasPrefix(target, "socket:") {
			count++
		}
	}
	return count
}

// WaitThreadGone waits until the program has no thread of that number any more.
func (p *Proxy) WaitThreadGone(t T, tid string) {
	t.Helper()
	p.waitFor(t, func() string {
		if _, err := os.Stat(fmt.Sprintf("/proc/%d/task/%s", p.PID(), tid)); err == nil {
			return "thread " + tid + " has not ended"
		}
		return ""
	})
}

// Threads returns how many threads the program has.
func (p *Proxy) Threads(t T) int {
	t.Helper()
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/[0-9]*", p.PID()))
	return len(tasks)
}

// WaitIdle waits until no thread of the program and its children runs or wants
// to: between two looks none was awake and none was switched to.
func (p *Proxy) WaitIdle(t T) {
	t.Helper()
	last := ""
	p.waitFor(t, func() string {
		now, awake := p.activity(t)
		defer func() { last = now }()
		if awake || now != last {
			return "it does not come to rest"
		}
		return ""
	})
}

// activity returns the threads with their counts of context switches, and
// whether one of them is not asleep.
func (p *Proxy) activity(t T) (counts string, awake bool) {
	t.Helper()
	var tasks []string
	for _, pid := range append(p.Children(t), p.PID()) {
		list, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/[0-9]*/status", pid))
		tasks = append(tasks, list...)
	}
	var b strings.Builder
	for _, task := range tasks {
		text, _ := os.ReadFile(task)
		b.WriteString(task)
		for line := range strings.Lines(string(text)) {
			if strings.HasPrefix(line, "State:") && !strings.Contains(line, "sleeping") {
				awake = true
			}
			if strings.Contains(line, "ctxt_switches") {
				b.WriteString(line)
			}
		}
	}
	return b.String(), awake
}

// Freeze stops the program and its children (SIGSTOP), so that something can
// happen before they look. Thaw lets them go on.
func (p *Proxy) Freeze(t T) {
	t.Helper()
	for _, pid := range append([]int{p.PID()}, p.Children(t)...) {
		syscall.Kill(pid, syscall.SIGSTOP)
		p.waitFor(t, func() string {
			text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			if bytes.Contains(text, []byte(") T ")) {
				return ""
			}
			return fmt.Sprintf("process %d does not stop", pid)
		})
	}
}

// Thaw lets what Freeze has stopped go on.
func (p *Proxy) Thaw(t T) {
	for _, pid := range append([]int{p.PID()}, p.Children(t)...) {
		syscall.Kill(pid, syscall.SIGCONT)
	}
}
