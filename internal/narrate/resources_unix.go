//go:build unix

package narrate

import (
	"runtime"
	"syscall"
	"time"
)

// resources returns the CPU time of this process and its ended children, and
// the most memory that one of them had resident, in bytes (getrusage(2)).
func resources() (cpu time.Duration, peak int64) {
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var u syscall.Rusage
		if syscall.Getrusage(who, &u) != nil {
			continue
		}
		cpu += time.Duration(u.Utime.Nano() + u.Stime.Nano())
		rss := int64(u.Maxrss)
		if runtime.GOOS != "darwin" { // macOS counts bytes, the others KiB
			rss *= 1024
		}
		peak = max(peak, rss)
	}
	return cpu, peak
}
