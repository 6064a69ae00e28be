package forward

import (
	"io"
	"net"
	"sync/atomic"
	"time"
)

// tunnel joins the two connections after 101 Switching Protocols: what one
// sends, the other gets, whatever it means (RFC 9110, section 7.8). When one
// side ends its sending (FIN), the other is told so and may go on.
func (x *Exchange) tunnel() error {
	x.overOnce.Do(func() { close(x.over) })
	x.mu.Lock()
	x.switching = true
	watching := x.complete
	x.mu.Unlock()
	if watching {
		x.client.stop(true, false) // sendBody only watches; what comes now is the tunnel's
	}
	<-x.requestSide
	x.client.resume()
	x.mu.Lock()
	err := x.requestErr
	x.mu.Unlock()
	if err != nil {
		return err
	}
	x.client.readIdle, x.backend.readIdle = x.limits.Idle, x.limits.Idle
	var last atomic.Int64 // when a byte last passed, either way, in Unix nanoseconds
	last.Store(time.Now().UnixNano())

	up := make(chan error, 1)
	// Ends when the client ends its sending, or when stop is called for an
	// error of the other direction.
	go func() {
		err := pipe(&x.backend, &x.client, &last)
		if err != nil {
			x.stopTunnel()
		}
		up <- err
	}()
	down := pipe(&x.client, &x.backend, &last)
	if down != nil {
		x.stopTunnel()
	}
	return tunnelError(<-up, down)
}

func (x *Exchange) stopTunnel() {
	x.client.stop(true, true)
	x.backend.stop(true, true)
}

// pipe copies from src to dst until src ends its sending, and then ends dst's.
// Silence is an error only when both directions are silent.
func pipe(dst, src *peer, last *atomic.Int64) error {
	buf := buffers.Get().(*[sizeRoom + bufferSize + 2]byte)
	defer buffers.Put(buf)
	for {
		n, err := src.buf.Read(buf[:])
		if n > 0 {
			last.Store(time.Now().UnixNano())
			if _, err := dst.Write(buf[:n]); err != nil {
				return err
			}
		}
		switch {
		case err == nil:
		case err == io.EOF:
			if tcp, ok := dst.Conn.(*net.TCPConn); ok {
				tcp.CloseWrite()
			}
			return nil
		case isTimeout(err) && !src.stopped() && time.Since(time.Unix(0, last.Load())) < src.readIdle:
			// The other direction is alive.
		default:
			return err
		}
	}
}

// stopped reports whether stop has been called for reads.
func (p *peer) stopped() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.noReads
}

// tunnelError says how a tunnel ended, from the errors of its two directions.
// One that fails stops the other, which then reports a timeout.
func tunnelError(up, down error) error {
	cause := up
	if cause == nil || isTimeout(cause) && down != nil {
		cause = down
	}
	switch {
	case cause == nil:
		return nil
	case isTimeout(cause):
		return &Error{Reason: "the tunnel stood still too long", Client: true}
	}
	return &Error{Reason: "the tunnel broke off", Err: cause, Client: true}
}
