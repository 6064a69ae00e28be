//go:build !unix

package suite

import (
	"strings"
)

// refused reports whether err means that nothing listens.
func refused(err error) bool { return strings.Contains(err.Error(), "refused") }
