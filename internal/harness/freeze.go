//go:build unix

package harness

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// Freeze stops the program and its children (SIGSTOP), so that something can
// happen before they look. Thaw lets them go on.
func (p *Proxy) Freeze(t T) {
	t.Helper()
	for _, pid := range append([]int{p.PID()}, p.Children(t)...) {
		syscall.Kill(pid, syscall.SIGSTOP)
		p.waitFor(t, func() string { // each thread stops on its own
			threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
			for _, name := range threads {
				text, err := os.ReadFile(name)
				if err == nil && !bytes.Contains(text, []byte(") T ")) {
					return fmt.Sprintf("process %d does not stop", pid)
				}
			}
			return ""
		})
	}
}

// Thaw lets what Freeze has stopped go on.
func (p *Proxy) Thaw(t T) {
	for _, pid := range append([]int{p.PID()}, p.Children(t)...) {
		syscall.Kill(pid, syscall.SIGCONT)
	}
}
