package retry

import "sync"

// Budget is a token bucket for the tries after a failure (gRPC's proposal A6). A
// failure takes one token, a success gives half a one back, and a retry is allowed
// while more than half of the tokens are there. So a few failures are all tried
// again; when every second try fails, or more, that soon ends, and retries do not
// add their load to backends that have too much already.
type Budget struct {
	full int                       // tokens at most; 0 turns it off
	told func(level, full float64) // told what has changed

	mu    sync.Mutex
	level float64 // tokens there
	began bool    // told has been told of a full bucket
}

// perSuccess is what a success gives back, in tokens.
const perSuccess = 0.5

// Failure takes a token, and reports whether there may be another try.
func (b *Budget) Failure() bool {
	if b.full == 0 {
		return true
	}
	return b.add(-1) > float64(b.full)/2
}

// Success gives half a token back.
func (b *Budget) Success() {
	if b.full > 0 {
		b.add(perSuccess)
	}
}

// add returns the level after it has changed by n, between none and full.
func (b *Budget) add(n float64) float64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	before := b.level
	b.level = min(max(before+n, 0), float64(b.full))
	if b.told != nil && (b.level != before || !b.began) {
		b.began = true
		b.told(b.level, float64(b.full))
	}
	return b.level
}
