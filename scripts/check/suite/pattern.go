package suite

// PatternSum adds p to a running FNV-1a sum; start with 0.
func PatternSum(sum uint64, p []byte) uint64 {
	if sum == 0 {
		sum = 14695981039346656037
	}
	for _, b := range p {
		sum = (sum ^ uint64(b)) * 1099511628211
	}
	return sum
}

// FirstDifference says where got parts from want, or "".
func FirstDifference(got, want []byte) string {
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
