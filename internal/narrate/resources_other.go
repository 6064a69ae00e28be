//go:build !unix && !windows

package narrate

import (
	"runtime"
	"time"
)

// resources returns the memory that the Go runtime obtained, in bytes.
func resources() (cpu time.Duration, peak int64) {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return 0, int64(m.Sys)
}
