package health

import (
	"context"
	"net/http"
	"slices"

	"reverseproxy/ch2_basic_proxy/forward"
)

// waiter is a request that waits until a backend may have it.
type waiter struct {
	request *forward.Request
	tried   []string
	got     chan string // holds one: the backend's address
}

// wait waits in the queue, for as long as for a connection, until a backend may
// have the request.
func (f *Farm) wait(w *waiter) (addr string, err error) {
	err = w.request.Wait(f.settings.Connect, func(ctx context.Context) *forward.Error {
		select {
		case addr = <-w.got:
			return nil
		case <-ctx.Done():
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		i := slices.Index(f.queue, w)
		if i < 0 {
			addr = <-w.got // it came just now
			return nil
		}
		f.queue = slices.Delete(f.queue, i, i+1)
		f.tellQueue()
		return errBusy
	})
	return addr, err
}

// What becomes of a request that no backend has seen and none is left for.
var errNone = &forward.Error{Status: http.StatusServiceUnavailable, By: forward.ByBackend,
	Reason: "no backend is left: the last one refused the connection, or did not accept it"}

var errBusy = &forward.Error{Status: http.StatusServiceUnavailable, By: forward.ByProxy,
	Reason: "all backends are busy"}

// admit gives backends that may have another request to those that wait, in
// order.
func (f *Farm) admit() {
	for i := 0; i < len(f.queue); {
		w := f.queue[i]
		free, _ := f.free(w.tried)
		if len(free) == 0 {
			i++ // it has tried what is free
			continue
		}
		w.got <- f.take(w.request, free)
		f.queue = slices.Delete(f.queue, i, i+1)
		f.tellQueue()
	}
}

// tellQueue narrates the queue's length.
func (f *Farm) tellQueue() { f.app.Log.Queue(len(f.queue)) }
