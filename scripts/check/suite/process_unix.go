//go:build unix

package suite

import (
	"errors"
	"os/exec"
	"strings"
	"syscall"
)

// ownGroup puts the program and its children into a process group.
func ownGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// terminate asks the program to end.
func terminate(cmd *exec.Cmd) { syscall.Kill(cmd.Process.Pid, syscall.SIGTERM) }

// killGroup ends the program and its children.
func killGroup(cmd *exec.Cmd) { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }

func isRefused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }

// shell returns the command line that runs text as a shell would.
func shell(text string) []string {
	if strings.ContainsAny(text, ";&|<>()$`\n") || strings.HasPrefix(text, "cd ") {
		return []string{"/bin/sh", "-c", text}
	}
	return []string{"/bin/sh", "-c", "exec " + text} // the program gets the shell's pid
}
