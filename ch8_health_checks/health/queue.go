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
	Reason: "no backend is left: all refuse connections"}

var errBusy = &forward.Error{Status: http.StatusServiceUnavailable, By: forward.ByProxy,
	Reason: "all backends are busy"}

// admit gives backends that may have another request to those that wait, in
// order.
func (f *Farm) admit() {
	for i := 0; i < len(f.queue); i++ {
		w := f.queue[i]
		if free, _ := f.free(w.tried); len(free) > 0 {
			w.got <- f.take(w.request, free)
			f.queue = slices.Delete(f.queue, i, i+1)
			f.tellQueue()
			i = -1 // from the beginning: as a rule there is nothing left
		}
	}
}

// tellQueue narrates the queue's length.
func (f *Farm) tellQueue() { f.app.Log.Queue(len(f.queue)) }
