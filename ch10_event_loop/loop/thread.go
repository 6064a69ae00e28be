//go:build linux

package loop

import (
	"fmt"
	"syscall"
)

// threadName names the calling thread as ps -L and top -H do.
func threadName() string { return fmt.Sprintf("thread %d", syscall.Gettid()) }
