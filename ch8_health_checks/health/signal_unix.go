//go:build unix

package health

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"
)

// checkDrain checks -drain.
func (f *Farm) checkDrain() error {
	if f.drain != "" && !slices.Contains(f.app.Backends, f.drain) {
		return fmt.Errorf("-drain %s is none of -backends", f.drain)
	}
	return nil
}

// onSignal has SIGUSR1 drain the backend that -drain names, and use it again,
// until ctx ends.
func (f *Farm) onSignal(ctx context.Context) {
	if f.drain == "" {
		return
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1)
	go func() { // ends with ctx
		defer signal.Stop(signals)
		for on := true; ; on = !on {
			select {
			case <-signals:
				f.Drain(f.drain, on)
			case <-ctx.Done():
				return
			}
		}
	}()
}
