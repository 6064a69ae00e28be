//go:build !unix

package proc

import "os/exec"

// Here a program cannot be sent Ctrl+C: it is killed.

func ownGroup(*exec.Cmd) {}

func interruptGroup(cmd *exec.Cmd) { _ = cmd.Process.Kill() }

func killGroup(cmd *exec.Cmd) { _ = cmd.Process.Kill() }

func kill(int) {}

// Shell is the command line that runs text.
func Shell(text string) []string { return []string{"cmd", "/C", text} }
