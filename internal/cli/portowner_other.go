//go:build !linux

package cli

// portOwner cannot name the program elsewhere.
func portOwner(string) (owner string, nobody bool) { return "", false }
