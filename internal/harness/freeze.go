//go:build unix

package harness

import (
	"bytes"
	"fmt"
	"os"
	"syscall"
)

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
