//go:build unix

package suite

import (
	"errors"
	"syscall"
)

// refused reports whether err means that nothing listens.
func refused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }
