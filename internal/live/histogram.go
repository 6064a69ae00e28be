package live

import "math/bits"

// histogram counts durations in buckets whose width grows with the duration:
// eight to each doubling, so that a percentile is at most about 6 % off.
// Adding is a few instructions, which the sink can afford for each request.
type histogram struct {
	buckets [8 * 40]uint32
	total   uint64
	longest int64 // microseconds
}

// add counts a duration of us microseconds.
func (h *histogram) add(us int64) {
	h.buckets[bucketOf(us)]++
	h.total++
	h.longest = max(h.longest, us)
}

// percentile returns the duration in microseconds that a share p (0–1) of
// all durations do not exceed; 0 if none was added.
func (h *histogram) percentile(p float64) int64 {
	if h.total == 0 {
		return 0
	}
	rank := uint64(p * float64(h.total))
	if rank >= h.total {
		rank = h.total - 1
	}
	var seen uint64
	for i, n := range h.buckets {
		seen += uint64(n)
		if seen > rank {
			return min(bucketMiddle(i), h.longest) // none took longer
		}
	}
	return h.longest
}

// bucketOf returns the bucket of a duration: below 8 one each, then the three
// bits after the leading one choose among the eight of that doubling.
func bucketOf(us int64) int {
	if us < 8 {
		return int(max(us, 0))
	}
	exponent := bits.Len64(uint64(us)) - 4 // 0 for 8–15
	i := 8*(exponent+1) + int(us>>exponent)&7
	return min(i, len(histogram{}.buckets)-1)
}

func bucketMiddle(i int) int64 {
	if i < 8 {
		return int64(i)
	}
	exponent := i/8 - 1
	low := int64(8+i%8) << exponent
	return low + (int64(1)<<exponent)/2
}
