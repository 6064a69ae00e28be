package harness

import (
	"fmt"
	"runtime"
	"sync"
)

// Trial runs a check that may fail without failing the test: it is how a check
// is itself checked, with a proxy that is known to be broken.
type Trial struct {
	mu       sync.Mutex
	failures []string
	cleanups []func()
}

// Try runs check, with its cleanups, and returns what it complained of; nothing
// means that it passed.
func Try(check func(T)) []string {
	trial := &Trial{}
	done := make(chan struct{})
	// Ends with the check: Fatalf ends the goroutine, as *testing.T's does.
	go func() {
		defer close(done)
		defer trial.cleanUp()
		check(trial)
	}()
	<-done
	trial.mu.Lock()
	defer trial.mu.Unlock()
	return trial.failures
}

func (r *Trial) cleanUp() {
	for {
		r.mu.Lock()
		last := len(r.cleanups) - 1
		if last < 0 {
			r.mu.Unlock()
			return
		}
		f := r.cleanups[last]
		r.cleanups = r.cleanups[:last]
		r.mu.Unlock()
		f()
	}
}

// Helper does nothing.
func (r *Trial) Helper() {}

// Logf does nothing.
func (r *Trial) Logf(string, ...any) {}

// Errorf notes a failure.
func (r *Trial) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures = append(r.failures, fmt.Sprintf(format, args...))
}

// Fatalf notes a failure and ends the check.
func (r *Trial) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}

// Cleanup has f called when the check has ended.
func (r *Trial) Cleanup(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cleanups = append(r.cleanups, f)
}

// Failed reports whether the check has complained.
func (r *Trial) Failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.failures) > 0
}
