package health

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"reverseproxy/ch2_basic_proxy/forward"
)

// checkAll checks one backend after the other, over and over, each every -inter,
// until ctx ends. So the checks are spread evenly in time, the first ones too:
// together they would be a burst, for the backends and for what they share.
func (f *Farm) checkAll(ctx context.Context) {
	pause := time.NewTicker(max(f.inter/time.Duration(len(f.backends)), 1))
	defer pause.Stop()
	for i := 0; ctx.Err() == nil; i = (i + 1) % len(f.backends) {
		b := f.backends[i]
		go f.checkOne(ctx, b) // ends within -check-timeout
		select {
		case <-ctx.Done():
		case <-pause.C:
		}
	}
}

// checkOne checks a backend once, over a connection of its own, so that it never
// waits behind requests.
func (f *Farm) checkOne(ctx context.Context, b *Backend) {
	within, cancel := context.WithTimeout(ctx, min(f.timeout, f.inter))
	defer cancel()
	began := time.Now()
	status, err := f.probe(within, b.Addr)
	if ctx.Err() != nil || forward.Exhausted(err) {
		return // cancelled, or the proxy's own lack: it says nothing of the backend
	}
	r, err := f.checked(status, err)
	f.app.Log.Check(b.Addr, status, time.Since(began), err)
	why := fmt.Sprint(status)
	switch {
	case err != nil:
		why = err.Error()
	case status == 0:
		why = "connected"
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	b.check(time.Now(), r, why)
	f.update()
}

// checked says what a check's status, or its error, means.
func (f *Farm) checked(status int, err error) (result, error) {
	var op *net.OpError
	var timeout interface{ Timeout() bool }
	switch dial := errors.As(err, &op) && op.Op == "dial"; {
	case dial && op.Timeout():
		return refused, errors.New("no connection in time")
	case dial:
		return refused, op.Err
	case errors.As(err, &timeout) && timeout.Timeout():
		return slow, errors.New("no answer in time")
	case err != nil:
		return broken, err
	case status == 0, status >= f.least && status <= f.most:
		return passed, nil
	case status == http.StatusNotFound:
		return gone, nil
	}
	return bad, fmt.Errorf("status %d", status)
}

// ask is a check: it returns the status with which the backend at addr answers,
// or 0 if a connection is enough.
func (l *limits) ask(ctx context.Context, addr string) (status int, err error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if l.path == checkTCP {
		return 0, nil
	}
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(past) })()
	request, err := http.NewRequest(http.MethodGet, "http://backend"+l.path, nil)
	if err != nil {
		return 0, err
	}
	request.Host, request.Close = addr, true
	request.Header.Set("User-Agent", "health check")
	if err := request.Write(conn); err != nil {
		return 0, err
	}
	for r := bufio.NewReader(io.LimitReader(conn, mostAnswer)); ; {
		response, err := http.ReadResponse(r, request)
		if err != nil {
			return 0, err
		}
		if status = response.StatusCode; status >= 200 || status == http.StatusSwitchingProtocols {
			return status, nil
		}
	}
}

// past is a deadline that ends all waiting.
var past = time.Unix(1, 0)

// mostAnswer is how much of an answer to a check is read, for its status.
const mostAnswer = 64 << 10 // bytes
