//go:build unix

package harness

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"reverseproxy/internal/proc"
)

// lookAgain is the pause between two looks into /proc, which tells nobody when
// it changes.
const lookAgain = 5 * time.Millisecond

// NeedProc skips a test where there is no /proc.
func NeedProc(t *testing.T) {
	t.Helper()
	if !proc.CanLook {
		t.Skip("this system has no /proc to look into")
	}
}

// Children returns the process numbers of the program's children, zombies
// included, in ascending order.
func (p *Proxy) Children(t T) []int {
	pids := proc.Children(p.PID())
	slices.Sort(pids)
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
	for _, pid := range p.run.Family() {
		s, _ := proc.Look(pid)
		list = append(list, fmt.Sprintf("%d %s", pid, s.Name))
	}
	return list
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

// waitFor looks until problem returns "". Where nothing can be seen it does not
// wait.
func (p *Proxy) waitFor(t T, problem func() string) {
	t.Helper()
	if !proc.CanLook {
		return
	}
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
		for _, target := range proc.Files(pid) {
			if strings.HasPrefix(target, "anon_inode:") {
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
		peak = max(peak, proc.Sizes(pid, "status")["VmHWM"])
	}
	if peak == 0 && proc.CanLook {
		t.Fatalf("/proc says nothing of the memory of %s", p.Model.Name)
	}
	return peak
}

// WaitSockets waits until the program, or a child of it, has n sockets open.
func (p *Proxy) WaitSockets(t T, pid, n int) {
	t.Helper()
	p.waitFor(t, func() string {
		count := 0
		for _, target := range proc.Files(pid) {
			if strings.HasPrefix(target, "socket:") {
				count++
			}
		}
		if count != n {
			return fmt.Sprintf("process %d has %d sockets, want %d", pid, count, n)
		}
		return ""
	})
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
	s, _ := proc.Look(p.PID())
	return s.Threads
}

// WaitIdle waits until no thread of the program and its children runs or wants
// to: between two looks none was awake and none was switched to.
func (p *Proxy) WaitIdle(t T) {
	t.Helper()
	last := ""
	p.waitFor(t, func() string {
		now, asleep := proc.Activity(p.PID())
		defer func() { last = now }()
		if !asleep || now != last {
			return "it does not come to rest"
		}
		return ""
	})
}
