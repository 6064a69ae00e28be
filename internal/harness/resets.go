//go:build unix

package harness

import (
	"fmt"

	"reverseproxy/internal/narrate"
)

// resetsBeforeAccept has clients connect and reset (SO_LINGER 0, close) while
// the program stands still: it accepts sockets that no longer have a peer. Half
// of them have sent a whole request before. A client that leaves is never the
// proxy's fault, and no process may end over it.
func resetsBeforeAccept(t T, p *Proxy) {
	const n = 12
	seen := len(p.Events())
	children := fmt.Sprint(p.Children(t))
	p.Freeze(t)
	for i := range n {
		c := p.Dial(t)
		if i%2 == 1 {
			c.Send("GET /gone HTTP/1.1\r\nHost: proxy.test\r\n\r\n")
		}
		c.Reset()
	}
	p.Thaw(t)
	open := map[uint64]bool{}
	p.waitFor(t, func() string {
		clear(open)
		for _, e := range p.Events()[seen:] {
			switch e.Step {
			case narrate.Accept:
				open[e.Conn] = true
			case narrate.Close:
				open[e.Conn] = false
			}
		}
		for conn, open := range open {
			if open {
				return fmt.Sprintf("connection %d of a client that left is not closed", conn)
			}
		}
		if len(open) < n { // other kernels than Linux do not even show them
			return fmt.Sprintf("%d of %d clients are accepted", len(open), n)
		}
		return ""
	})
	failed := 0
	for _, e := range p.Events()[seen:] {
		if e.Step == narrate.Close && e.Failed {
			failed++
		}
		if e.Fault == "proxy" || e.Status == 500 {
			t.Errorf("a client that left is told as the proxy's fault: %+v", e)
			break
		}
	}
	if failed > n/2 { // the others have said nothing, as health checks do
		t.Errorf("%d clients are left without an answer, but only %d have asked", failed, n/2)
	}
	if now := fmt.Sprint(p.Children(t)); p.Model.Standing > 0 && now != children {
		t.Errorf("the standing children were %s, are %s", children, now)
	}
	if p.Backend != nil {
		p.Backend.drain(t)
	}
}
