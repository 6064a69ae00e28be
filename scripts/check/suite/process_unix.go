//go:build unix

package suite

import (
	"errors"
	"os/exec"
	"regexp"
	"syscall"
)

// ownGroup puts the program and its children into a process group.
func ownGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// terminate asks the program to end, and its children: it may be a shell.
func terminate(cmd *exec.Cmd) { syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }

// killGroup ends the program and its children.
func killGroup(cmd *exec.Cmd) { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }

// killPID ends a process, and the group that it leads.
func killPID(pid int) {
	syscall.Kill(-pid, syscall.SIGKILL)
	syscall.Kill(pid, syscall.SIGKILL)
}

func isRefused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }

// simple is a command line of assignments and a program named by its path, as in
// A=1 B="x y" ./proxy -v.
var simple = regexp.MustCompile(`^\s*(\w+=("[^"]*"|'[^']*'|[^\s"'])*\s+)*` +
	`["']?[\w./-]*/[^;&|<>()$\x60\n#]*$`)

// shell returns the command line that runs text as a shell would.
func shell(text string) []string {
	if simple.MatchString(text) {
		text = "exec env " + text // the program gets the shell's pid; env knows assignments
	}
	return []string{"/bin/sh", "-c", text}
}
