package health

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
)

// checkDrain checks -drain.
func (f *Farm) checkDrain() error {
	f.signalled = slices.Index(f.app.Backends, f.drain)
	switch {
	case f.drain == "":
	case f.signalled < 0:
		return fmt.Errorf("-drain %s is none of -backends", f.drain)
	case usr1 == nil:
		return errors.New("-drain needs SIGUSR1, which this system does not have; " +
			"the live page (-watch) can drain, too")
	}
	return nil
}

// onSignal has SIGUSR1 drain the backend that -drain names, and the next one use it
// again, until ctx ends.
func (f *Farm) onSignal(ctx context.Context) {
	if f.drain == "" {
		return
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, usr1)
	go func() { // ends with ctx
		defer signal.Stop(signals)
		for {
			select {
			case <-signals:
				f.mu.Lock()
				b := f.find(f.app.Backends[f.signalled])
				f.setDrained(b, !b.drained)
				f.mu.Unlock()
			case <-ctx.Done():
				return
			}
		}
	}()
}

// Drain has a backend get no new requests, or get them again. Its idle connections
// are closed; those in use end by themselves.
func (f *Farm) Drain(addr string, on bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	b := f.find(addr)
	if b == nil {
		return fmt.Errorf("there is no backend %s", addr)
	}
	f.setDrained(b, on)
	return nil
}

func (f *Farm) setDrained(b *Backend, on bool) {
	b.drained, b.cause = on, "somebody wants it to drain"
	if !on {
		b.cause = "somebody wants it to be used again"
	}
	f.update()
}

// closeIdle closes the idle connections of a backend that is draining.
func (f *Farm) closeIdle(b *Backend) {
	if b.draining() {
		f.Idle(b.Addr)
	}
}
