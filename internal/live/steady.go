package live

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// "Keep sending" is bounded like the other buttons: one kind of request, so many
// a second, so many connections. What is due while all are at work is left out.
const (
	maxRate     = 50 // requests a second
	maxSteady   = 32 // connections at once, where each carries one request
	keptClients = 8  // connections that carry many, in turn
	steadyPath  = "/slow?ms=100"
	steadyName  = "steady" // of its clients, as viewers get it; see store.js
)

// steady is a stream of requests at a steady rate, which goes on until it is
// stopped: by any viewer, by the end of the viewer that started it, by the
// program's end, or when the proxy takes no client any more.
type steady struct {
	shots *shooter
	proxy string
	keeps bool          // connections are used again
	due   chan struct{} // a request to send, for a client with an idle connection
	rates chan int      // new rates
	stop  chan struct{} // closed at the end
}

// steadyState is what the shooter knows about its stream; its lock guards it.
type steadyState struct {
	now     *steady // nil: none runs
	rate    int     // requests a second
	viewer  uint64  // who asked for it, or changed it last
	clients int     // at work or idle, those of an earlier stream included
}

// keepSending starts a stream for a viewer or changes its rate; 0 ends it.
func (s *shooter) keepSending(proxy string, keeps bool, rate int, viewer uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch st := &s.steady; {
	case s.closed:
		return errRefused("the program is ending")
	case rate == 0:
		s.stopSteady()
	case st.now != nil:
		select {
		case <-st.now.rates: // one that was not taken yet is out of date
		default:
		}
		st.now.rates <- rate
		st.rate, st.viewer = rate, viewer
	default:
		*st = steadyState{rate: rate, viewer: viewer, clients: st.clients, now: &steady{shots: s,
			proxy: dialable(proxy), keeps: keeps, due: make(chan struct{}),
			rates: make(chan int, 1), stop: make(chan struct{})}}
		s.running.Add(1)
		go func(now *steady) { // ends when the stream is stopped
			defer s.running.Done()
			now.pace(rate)
		}(st.now)
	}
	return nil
}

// stopSteady ends the stream: answers that are under way are waited for, idle
// connections are closed. The lock is held.
func (s *shooter) stopSteady() {
	if s.steady.now != nil {
		close(s.steady.now.stop)
		s.steady.now, s.steady.rate = nil, 0
	}
}

// left ends the stream if it is that viewer's.
func (s *shooter) left(viewer uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.steady.viewer == viewer {
		s.stopSteady()
	}
}

// rateNow returns the stream's requests a second, 0 without one.
func (s *shooter) rateNow() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.steady.rate
}

// pace has a request sent each time one is due.
func (k *steady) pace(rate int) {
	gap := func(rate int) time.Duration { return time.Second / time.Duration(rate) }
	ticker := time.NewTicker(gap(rate))
	defer ticker.Stop()
	for {
		select {
		case <-k.stop:
			return
		case rate := <-k.rates:
			ticker.Reset(gap(rate))
		case <-ticker.C:
			if !k.start() {
				select {
				case k.due <- struct{}{}: // the one that has been idle longest takes it
				default: // all are at work
				}
			}
		}
	}
}

// start starts one more client if there may be one.
func (k *steady) start() bool {
	s := k.shots
	s.mu.Lock()
	defer s.mu.Unlock()
	most := maxSteady
	if k.keeps {
		most = keptClients
	}
	if s.closed || s.steady.now != k || s.steady.clients == most {
		return false
	}
	s.steady.clients++
	s.running.Add(1)
	go func() { // ends with its request, or, if it is kept, with the stream
		defer s.running.Done()
		k.work()
		s.mu.Lock()
		defer s.mu.Unlock()
		s.steady.clients--
	}()
	return true
}

// work sends a request, and further ones as they are due if connections are kept.
func (k *steady) work() {
	for more := true; more; {
		more = false
		err := k.shots.client(k.proxy, steadyName, shot{1, func(c net.Conn,
			host string) (status int, bytes int64, err error) {
			if !k.keeps {
				return get(steadyPath)(c, host)
			}
			status, bytes, more, err = k.many(c, host)
			return status, bytes, err
		}})
		if dial := new(net.OpError); errors.As(err, &dial) && dial.Op == "dial" {
			k.end() // nobody listens: the program ends
			return
		}
		if k.keeps && !more {
			more = k.next()
		}
	}
}

// end ends this stream, unless another one has followed it.
func (k *steady) end() {
	k.shots.mu.Lock()
	defer k.shots.mu.Unlock()
	if k.shots.steady.now == k {
		k.shots.stopSteady()
	}
}

// next waits until a request is due; false at the stream's end.
func (k *steady) next() bool {
	select {
	case <-k.due:
		return true
	case <-k.stop:
		return false
	}
}

// many sends requests on one connection until the stream or the proxy ends it.
// owed is a request that the proxy has not taken, since it was closing the
// connection: it goes over another one.
func (k *steady) many(c net.Conn, host string) (status int, bytes int64, owed bool, err error) {
	answers := bufio.NewReader(c)
	for first := true; first || k.next(); first = false {
		c.SetDeadline(time.Now().Add(shotTimeout))
		err := sendRequest(c, host, steadyPath, "")
		if err == nil {
			_, err = answers.Peek(1)
		}
		if err != nil {
			var slow net.Error
			if owed = !first && !(errors.As(err, &slow) && slow.Timeout()); owed {
				err = nil // a connection that is idle may be closed at any time
			}
			return status, bytes, owed, err
		}
		resp, err := http.ReadResponse(answers, nil)
		if err != nil {
			return status, bytes, false, err
		}
		n, err := io.Copy(io.Discard, resp.Body)
		status, bytes = resp.StatusCode, bytes+n
		if err != nil || resp.Close {
			return status, bytes, false, err
		}
	}
	return status, bytes, false, nil
}

// keepSending is the action: the rate is in requests a second, 0 for none.
func (s *Server) keepSending(c command) error {
	switch {
	case len(s.config.BackendAddrs) == 0:
		return errRefused("this program forwards nothing")
	case c.Rate < 0 || c.Rate > maxRate:
		return errRefused(fmt.Sprintf("the rate must be between 0 and %d requests a second",
			maxRate))
	case s.proxyAddr() == "":
		return errRefused("the proxy does not listen yet")
	}
	err := s.shots.keepSending(s.proxyAddr(), s.config.Keeps, c.Rate, c.Viewer)
	if err == nil && c.Rate > 0 && !s.hub.watches(c.Viewer) {
		s.shots.left(c.Viewer) // it may have left while it asked
		return errRefused("only a page that watches can keep sending")
	}
	return err
}
