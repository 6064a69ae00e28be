package narrate

import (
	"bytes"
	"runtime"
)

// MainGoroutine names the worker of a program that serves one client at a time.
func MainGoroutine() string { return "main goroutine" }

// Goroutine names the calling goroutine as the runtime numbers it,
// "goroutine 21". The number is for people to look at, nothing else.
func Goroutine() string {
	var buf [64]byte
	head := buf[:runtime.Stack(buf[:], false)] // "goroutine 21 [running]:..."
	fields := bytes.Fields(head)
	if len(fields) < 2 {
		return "goroutine"
	}
	return "goroutine " + string(fields[1])
}
