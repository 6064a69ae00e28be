//go:build !linux

package workers

// threadName cannot number the thread on this system.
func threadName() string { return "thread" }
