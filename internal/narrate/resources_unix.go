//go:build unix

package narrate

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// resources returns the CPU time of this process and its ended children, and
// the most memory that one of them had resident, in bytes (getrusage(2)). On
// Linux rusage also counts what the starting program had before exec, so there
// this process's own peak is read from /proc.
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
		if own := peakResident(); who == syscall.RUSAGE_SELF && own > 0 {
			rss = own
		}
		peak = max(peak, rss)
	}
	return cpu, peak
}

// peakResident returns VmHWM of /proc/self/status in bytes, 0 where there is
// none.
func peakResident() int64 {
	status, _ := os.ReadFile("/proc/self/status")
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	var kib int64
	fmt.Sscan(rest, &kib)
	return kib * 1024
}
