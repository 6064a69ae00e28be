//go:build linux || darwin

package main

import (
	"errors"
	"os"
	"strings"
	"time"

	"reverseproxy/internal/cli"
	"reverseproxy/internal/narrate"
)

// must ends the program if the named system call failed.
func must(app *cli.App, call string, err error) {
	if err != nil {
		app.Fatal(os.NewSyscallError(call, err))
	}
}

// checkTimeout refuses a timeout that nobody could keep.
func checkTimeout(d time.Duration) error {
	if d <= 0 {
		return errors.New("-request-timeout must be more than 0, such as 10s")
	}
	return nil
}

// exitIfIdle ends the program at Ctrl+C if no client is in hand: it then waits
// in accept, which Ctrl+C does not end.
func exitIfIdle(app *cli.App) {
	if app.Log.InFlight() == 0 {
		app.Finish()
		os.Exit(0)
	}
}

// show prints what the client said, a line each, made safe.
func show(app *cli.App, data []byte) {
	for line := range strings.Lines(string(data)) {
		app.Say(narrate.Wrap("        | "+narrate.Clean(strings.TrimRight(line, "\r\n")), 0, 10))
	}
}

// text returns err's text, "" for nil.
func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
