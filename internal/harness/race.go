//go:build race

package harness

// Race reports whether this test runs with the race detector.
const Race = true
