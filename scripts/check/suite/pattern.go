package suite

// pattern returns n bytes that differ at every place and with the seed, so
// that lost, doubled, swapped or foreign bytes are seen.
func pattern(seed uint64, n int) []byte {
	p := make([]byte, n)
	fillPattern(p, seed, 0)
	return p
}

// fillPattern writes the pattern's bytes from offset off on into p.
func fillPattern(p []byte, seed uint64, off int64) {
	for i := range p {
		k := uint64(off+int64(i)) + seed*0x9e3779b97f4a7c15
		k ^= k >> 29
		k *= 0xbf58476d1ce4e5b9
		p[i] = byte(k >> 56)
	}
}

// patternSum adds p to a running FNV-1a sum; start with 0.
func patternSum(sum uint64, p []byte) uint64 {
	if sum == 0 {
		sum = 14695981039346656037
	}
	for _, b := range p {
		sum = (sum ^ uint64(b)) * 1099511628211
	}
	return sum
}

// firstDifference says where got parts from want, or "".
func firstDifference(got, want []byte) string {
	n := min(len(got), len(want))
	for i := 0; i < n; i++ {
		if got[i] != want[i] {
			lo := max(0, i-16)
			return "byte " + itoa(i) + " differs: got …" + Visible(string(got[lo:min(len(got),
				i+24)]), 80) +
				", want …" + Visible(string(want[lo:min(len(want), i+24)]), 80)
		}
	}
	if len(got) != len(want) {
		return itoa(len(got)) + " bytes instead of " + itoa(len(want))
	}
	return ""
}
