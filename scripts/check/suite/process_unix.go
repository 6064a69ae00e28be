//go:build unix

package suite

import (
	"errors"
	"regexp"
	"syscall"
)

// refused reports whether err means that nothing listens.
func refused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }

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
