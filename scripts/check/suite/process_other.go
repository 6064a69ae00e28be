//go:build !unix

package suite

import (
	"strings"
)

// refused reports whether err means that nothing listens.
func refused(err error) bool { return strings.Contains(err.Error(), "refused") }

// shell returns the command line that runs text.
func shell(text string) []string { return []string{"cmd", "/C", text} }
