package health

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
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
	switch {
	case errors.As(err, &timeout) && timeout.Timeout():
		return slow, errors.New("no answer in time")
	case errors.As(err, &op) && op.Op == "dial":
		return refused, op.Err
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
	if l.path == checkTCP {
		conn, err := dialer.DialContext(ctx, "tcp", addr)
		if err == nil {
			conn.Close()
		}
		return 0, err
	}
	u, err := url.ParseRequestURI(l.path)
	if err != nil {
		return 0, err
	}
	u.Scheme, u.Host = "http", "backend"
	transport := http.Transport{DisableKeepAlives: true, DisableCompression: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "tcp", addr)
		}}
	request := (&http.Request{Method: http.MethodGet, URL: u, Host: addr,
		Header: http.Header{"User-Agent": {"health check"}}}).WithContext(ctx)
	response, err := transport.RoundTrip(request)
	if err != nil {
		return 0, err
	}
	response.Body.Close()
	return response.StatusCode, nil
}
