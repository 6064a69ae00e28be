//go:build !linux

// Command bench needs Linux.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr,
		"bench: it measures through /proc and epoll, so it runs on Linux only; "+
			"on macOS and Windows use a Linux virtual machine, WSL or a container")
	os.Exit(1)
}
