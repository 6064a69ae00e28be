package forward

import (
	"errors"
	"io"
	"math"
	"sync/atomic"
	"time"
)

// tunnel joins the two connections after 101 Switching Protocols: what one
// sends, the other gets, whatever it means (RFC 9110, section 7.8). When one
// side ends its sending (FIN), the other is told so and may go on. The second
// direction runs beside this one.
func (t *try) tunnel() *Error {
	client, backend := &t.client.peer, &t.backend.peer
	if t.ended == nil {
		t.backend.slow = nil // nobody is to watch the client
	} else { // what comes from the client is the tunnel's now
		t.done()
		t.mu.Lock()
		t.switching = true
		watching := t.complete
		t.mu.Unlock()
		if watching {
			client.stop(true, false)
		}
		<-t.ended
		client.resume()
	}
	if t.err != nil {
		var e *Error
		errors.As(t.err, &e)
		return e
	}
	idle := t.client.settings.Idle
	client.readIdle, backend.readIdle = idle, idle
	var upward, downward passage
	upward.end()

	up := make(chan *Error, 1)
	// Ends when the client ends its sending, or when stop is called for an
	// error of the other direction.
	go func() {
		var err *Error
		defer func() {
			if p := recover(); p != nil {
				err = PanicError(p)
			}
			if err != nil {
				stopBoth(client, backend)
			}
			up <- err
		}()
		err = pipe(backend, client, &upward, &downward, ByBackend, ByClient)
	}()
	down := pipe(client, backend, &downward, &upward, ByClient, ByBackend)
	if down != nil {
		stopBoth(client, backend)
	}
	return first(<-up, down)
}

func stopBoth(client, backend *peer) {
	client.stop(true, true)
	backend.stop(true, true)
}

// first returns the error that ended the tunnel. It stopped the other direction,
// which then reports that it was stopped.
func first(up, down *Error) *Error {
	if up == nil || up.Err == errStopped && down != nil {
		return down
	}
	return up
}

var errStopped = errors.New("the other direction has ended")

// A passage is when one direction of a tunnel has last passed something on, in Unix
// nanoseconds: for ever, while it does.
type passage struct{ last atomic.Int64 }

func (p *passage) begin() { p.last.Store(math.MaxInt64) }
func (p *passage) end()   { p.last.Store(time.Now().UnixNano()) }

// silent reports whether nothing has passed for so long. What has been sent to a side
// that does not take it is no silence: the write's own limit ends that.
func (p *passage) silent(d time.Duration) bool {
	return time.Since(time.Unix(0, p.last.Load())) >= d
}

// pipe copies from src to dst until src ends its sending, and then ends dst's.
// Silence is an error only when both directions are silent. writes and reads
// say whose failure one of dst and of src is.
func pipe(dst, src *peer, mine, other *passage, writes, reads Side) *Error {
	buf := headBuffers.Get().(*[headSize]byte) // small: it is held through all silence
	defer headBuffers.Put(buf)
	for {
		n, err := src.Read(buf[:])
		if n > 0 {
			mine.begin()
			if _, err := dst.Write(buf[:n]); err != nil {
				return tunnelError(err, dst, writes)
			}
			mine.end()
		}
		switch {
		case err == nil:
		case err == io.EOF:
			dst.closeWrite()
			return nil
		case isTimeout(err) && !src.stopped() &&
			!(mine.silent(src.readIdle) && other.silent(src.readIdle)):
			// The other direction is alive.
		default:
			return tunnelError(err, src, reads)
		}
	}
}

func tunnelError(err error, p *peer, by Side) *Error {
	switch {
	case isTimeout(err) && p.stopped():
		return &Error{Reason: "the tunnel broke off", Err: errStopped, By: by}
	case isTimeout(err):
		if !isWriteError(err) { // both were silent, and it is the client's tunnel
			by = ByClient
		}
		return &Error{Reason: "the tunnel stood still too long", By: by}
	}
	return &Error{Reason: "the tunnel broke off", Err: err, By: by}
}
