package narrate

import (
	"runtime"
	"syscall"
	"time"
)

// resources returns the CPU time of this process and the memory that the Go
// runtime obtained from Windows, in bytes.
func resources() (cpu time.Duration, peak int64) {
	var created, exited, kernel, user syscall.Filetime
	if self, err := syscall.GetCurrentProcess(); err == nil &&
		syscall.GetProcessTimes(self, &created, &exited, &kernel, &user) == nil {
		// A span of time in a Filetime is a count of 100 ns, without the epoch.
		span := func(f syscall.Filetime) time.Duration {
			return time.Duration(int64(f.HighDateTime)<<32|int64(f.LowDateTime)) * 100
		}
		cpu = span(kernel) + span(user)
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return cpu, int64(m.Sys)
}
