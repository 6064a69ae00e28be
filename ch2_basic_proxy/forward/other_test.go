//go:build !linux

package forward

import "time"

// unsent returns how many bytes the peer has not acknowledged yet. Only Linux
// tells; here it is after a while that there are none.
func unsent(uintptr) int {
	time.Sleep(200 * time.Millisecond)
	return 0
}
