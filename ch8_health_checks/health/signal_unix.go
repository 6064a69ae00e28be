//go:build unix

package health

import (
	"os"
	"syscall"
)

var usr1 os.Signal = syscall.SIGUSR1
