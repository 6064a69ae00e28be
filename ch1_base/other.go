//go:build !linux && !darwin

package main

import (
	"errors"
	"runtime"

	"reverseproxy/internal/cli"
)

func main() {
	app := cli.New()
	app.Start()
	app.Fatal(errors.New("the socket calls have other names and types on " + runtime.GOOS +
		"; this chapter runs on Linux and macOS, ch2_basic_proxy runs here too"))
}
