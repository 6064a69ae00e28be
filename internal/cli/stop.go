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

// Pauses after failed accepts: the first, and the longest.
const (
	firstBackoff = 5 * time.Millisecond
	maxBackoff   = 1 * time.Second
)

// sayTime is how long the last lines may take to be written.
const sayTime = 1 * time.Second

// onSignal arranges that the first Ctrl+C (or SIGTERM) calls stop, gives
// requests in flight their time, and then ends the program; that a second one
// ends it at once.
func (a *App) onSignal(stop func()) {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	// Ends with the program.
	go func() {
		<-signals
		close(a.stopping)
		stop()
		select {
		case <-signals:
		case <-time.After(stopTime):
		}
		// Whoever reads the output may have stopped reading: then it is left unsaid.
		time.AfterFunc(sayTime, func() { os.Exit(0) })
		n := a.Log.CutOff()
		if a.onCut != nil {
			a.onCut()
		}
		if n > 0 {
			a.say(fmt.Sprintf("Cut off: %d connections that were still being served", n))
		}
		a.summarize()
		os.Exit(0)
	}()
}

// OnCut sets what to do when requests in flight have used up their time.
func (a *App) OnCut(f func()) { a.onCut = f }

// Stopping returns a channel that is closed at Ctrl+C.
func (a *App) Stopping() <-chan struct{} { return a.stopping }

// Stopped is asked after a failed accept whether the program is to end. If not,
// it reports the failure and pauses: 5 ms at first, twice as long each time, 1 s
// at most, so that a lack of descriptors does not become a busy loop.
func (a *App) Stopped(err error) bool {
	select {
	case <-a.stopping:
		return true
	default:
	}
	if errors.Is(err, net.ErrClosed) {
		return true
	}
	a.backoff *= 2
	if time.Since(a.lastError) > 2*maxBackoff {
		a.backoff = firstBackoff // the failure before is long past
	}
	a.backoff = min(a.backoff, maxBackoff)
	a.Log.Problem("Accept failed: %v; next try in %v", err, a.backoff)
	select {
	case <-a.stopping:
		return true
	case <-time.After(a.backoff):
	}
	a.lastError = time.Now()
	return false
}
