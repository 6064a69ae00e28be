package cases

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
