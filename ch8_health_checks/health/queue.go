package health

import (
	"slices"
	"time"

	"reverseproxy/ch2_basic_proxy/forward"
)

// waiter is a request that waits until a backend may have it.
type waiter struct {
	tried  []string
	choose Choose
	got    chan *Backend // holds one
}

// wait puts a request at the end of the queue, for as long as it would wait for a
// connection, and unlocks the farm.
func (f *Farm) wait(w *waiter) (*Backend, error) {
	f.queue = append(f.queue, w)
	f.tellQueue()
	f.mu.Unlock()
	limit := time.NewTimer(f.settings.Connect)
	defer limit.Stop()
	select {
	case b := <-w.got:
		return b, nil
	case <-limit.C:
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if i := slices.Index(f.queue, w); i >= 0 {
		f.queue = slices.Delete(f.queue, i, i+1)
		f.tellQueue()
		return nil, forward.Unavailable("all backends are busy", nil)
	}
	return <-w.got, nil // it came just now
}

// admit gives backends that may have another request to those that wait, in
// order.
func (f *Farm) admit() {
	for i := 0; i < len(f.queue); i++ {
		w := f.queue[i]
		if free, _ := f.free(w.tried); len(free) > 0 {
			w.got <- f.take(w.choose(free))
			f.queue = slices.Delete(f.queue, i, i+1)
			f.tellQueue()
			i = -1 // from the beginning: as a rule there is nothing left
		}
	}
}

// tellQueue narrates the queue's length.
func (f *Farm) tellQueue() { f.app.Log.Queue(len(f.queue)) }
