//go:build !linux

package main

import (
	"errors"
	"runtime"

	"reverseproxy/internal/cli"
)

func main() {
	app := cli.New()
	app.Start()
	app.Fatal(errors.New("epoll is a call of Linux, and this is " + runtime.GOOS +
		"; ch6_keep_alive does the same here with goroutines"))
}
