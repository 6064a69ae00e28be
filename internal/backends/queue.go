package backends

import (
	"context"
	"errors"
	"sync"
	"time"
)

// queueLength is how many requests wait for a backend of bounded capacity, at
// least; it holds the work of two seconds. Further ones are turned away (503).
const queueLength = 200

// errFull is what a request meets in front of a full queue.
var errFull = errors.New("the queue is full")

// queue bounds what a backend can do: one request after another, each in the same
// time, in the order in which they came. One whose client has given up still
// costs its time, as in most programs: nobody tells them.
type queue struct {
	service time.Duration
	jobs    chan chan struct{} // each is closed when it has been served
	gate    *sync.RWMutex      // the group's
}

func newQueue(perSecond int, gate *sync.RWMutex) *queue {
	return &queue{time.Second / time.Duration(perSecond),
		make(chan chan struct{}, max(queueLength, 2*perSecond)), gate}
}

// work serves what is in the queue. It ends with the context.
func (q *queue) work(ctx context.Context) {
	end := time.Now() // of the last one's service
	for ctx.Err() == nil {
		var job chan struct{}
		select {
		case job = <-q.jobs: // it has waited: if the timer was late, that is made up for
		default:
			select {
			case <-ctx.Done():
				return
			case job = <-q.jobs:
				end = time.Now()
			}
		}
		end = end.Add(q.service)
		time.Sleep(time.Until(end))
		if q.pass() {
			end = time.Now()
		}
		close(job)
	}
}

// pass waits while the group is frozen, and reports whether it was.
func (q *queue) pass() (frozen bool) {
	frozen = !q.gate.TryRLock()
	if frozen {
		q.gate.RLock()
	}
	q.gate.RUnlock()
	return frozen
}

// wait returns when the request has been served, or its client has left.
func (q *queue) wait(ctx context.Context) error {
	q.pass()
	job := make(chan struct{})
	select {
	case q.jobs <- job:
	default:
		return errFull
	}
	select {
	case <-job:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
