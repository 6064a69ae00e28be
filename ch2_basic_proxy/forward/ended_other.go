//go:build !linux

package forward

import "time"

// resetGrace is how long a write is waited for, when a read meets the end of file.
const resetGrace = 100 * time.Millisecond

// endedByReset reports whether the end of file that a read has met is a reset in truth.
// A write that is under way may have been told of that: after a reset it ends at once;
// one that waits for longer was not.
func (p *peer) endedByReset() bool {
	end := time.Now().Add(resetGrace)
	for p.writing.Load() && !p.wasReset.Load() && time.Now().Before(end) {
		time.Sleep(time.Millisecond)
	}
	return p.wasReset.Load()
}
