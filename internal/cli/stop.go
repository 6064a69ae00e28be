package cli

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// sayTime is how long the last lines may take to be written.
const sayTime = 1 * time.Second

// OnStop adds what to do at Ctrl+C, before the listener is closed, such as
// closing idle connections. It must not wait.
func (a *App) OnStop(f func()) { a.onStop = append(a.onStop, f) }

// OnCut adds what to do when requests in flight have used up their time.
func (a *App) OnCut(f func()) { a.onCut = append(a.onCut, f) }

// Stop does what Ctrl+C does at first. A child calls it that is told to stop.
func (a *App) Stop() {
	a.stop.Do(func() {
		close(a.stopping)
		for _, f := range a.onStop {
			f()
		}
	})
}

// Stopping returns a channel that is closed at Ctrl+C.
func (a *App) Stopping() <-chan struct{} { return a.stopping }

// Stopped is asked after a failed accept whether that is so because the program
// is to end.
func (a *App) Stopped(err error) bool {
	select {
	case <-a.stopping:
		return true
	default:
		return errors.Is(err, net.ErrClosed)
	}
}

// onSignal arranges that the first Ctrl+C (or SIGTERM) calls what OnStop added,
// gives requests in flight their time, and then ends the program; that a second
// one ends it at once.
func (a *App) onSignal() {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	// Ends with the program.
	go func() {
		<-signals
		a.Stop()
		select {
		case <-signals:
		case <-time.After(stopTime):
		}
		// Whoever reads the output may have stopped reading: then it is left unsaid.
		time.AfterFunc(sayTime, func() { os.Exit(0) })
		n := a.Log.CutOff()
		for _, f := range a.onCut {
			f()
		}
		if n > 0 {
			a.Say(fmt.Sprintf("Clients cut off in the middle: %d", n))
		}
		a.summarize()
		os.Exit(0)
	}()
}
