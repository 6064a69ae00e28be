package narrate

import (
	"bytes"
	"runtime"
)

// Goroutine names the calling goroutine as the runtime numbers it, "goroutine
// 21", or "main goroutine". The number is for people to look at, nothing else.
func Goroutine() string {
	var buf [64]byte
	head := buf[:runtime.Stack(buf[:], false)] // "goroutine 21 [running]:..."
	fields := bytes.Fields(head)
	if len(fields) < 2 {
		return "goroutine"
	}
	if string(fields[1]) == "1" {
		return "main goroutine"
	}
	return "goroutine " + string(fields[1])
}
