//go:build !unix

package suite

import (
	"os/exec"
	"strings"
)

func ownGroup(*exec.Cmd) {}

func terminate(cmd *exec.Cmd) { cmd.Process.Kill() }

func killGroup(cmd *exec.Cmd) { cmd.Process.Kill() }

func killPID(int) {}

func isRefused(err error) bool { return strings.Contains(err.Error(), "refused") }

// shell returns the command line that runs text.
func shell(text string) []string { return []string{"cmd", "/C", text} }
