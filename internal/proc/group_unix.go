//go:build unix

package proc

import (
	"os/exec"
	"regexp"
	"syscall"
)

func ownGroup(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
}

func interruptGroup(cmd *exec.Cmd) { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }

func killGroup(cmd *exec.Cmd) { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }

func kill(pid int) { _ = syscall.Kill(pid, syscall.SIGKILL) }

// simple is a command line of assignments and a program named by its path, as in
// A=1 B="x y" ./proxy -v.
var simple = regexp.MustCompile(`^\s*(\w+=("[^"]*"|'[^']*'|[^\s"'])*\s+)*` +
	`["']?[\w./-]*/[^;&|<>()$\x60\n#]*$`)

// Shell is the command line that runs text as a shell would.
func Shell(text string) []string {
	if simple.MatchString(text) {
		text = "exec env " + text // the program gets the shell's pid; env knows assignments
	}
	return []string{"/bin/sh", "-c", text}
}
