//go:build !linux

package forward

// splice cannot be done on this system.
func splice(dst, src *peer, n int64, ending func()) (handled bool, err error) { return false, nil }
