//go:build linux

package loop

import (
	"context"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// name is what an address (host:port) means; without an error and without addresses
// that is not known so far.
type name struct {
	addrs []netip.AddrPort
	err   error
}

// lookUp returns what addr means. To look a host's name up may take long, and the loop
// waits for nothing: another goroutine does it, and wakes the loop. c goes on then.
func (l *Loop) lookUp(addr string, c *Conn) *name {
	n := &name{}
	if ap, err := netip.ParseAddrPort(addr); err == nil && !ap.Addr().IsUnspecified() {
		n.addrs = []netip.AddrPort{ap}
		return n
	}
	ctx, cancel := context.WithTimeout(context.Background(), l.settings.Connect)
	go func() { // ends with the lookup, at the latest with its time
		defer cancel()
		addrs, err := resolve(ctx, addr)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.found = append(l.found, func() {
			if n.addrs, n.err = addrs, err; c.backend != nil && c.backend.named == n {
				c.run()
			}
		})
		unix.Write(l.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	}()
	return n
}

// woken has those go on whose names have been looked up.
func (l *Loop) woken() {
	unix.Read(l.wake, make([]byte, 8)) // until then epoll tells of it again and again
	l.mu.Lock()
	found := l.found
	l.found = nil
	l.mu.Unlock()
	for _, goOn := range found {
		goOn()
	}
}

// resolve looks up the addresses of host:port, at least one. No host is this machine.
func resolve(ctx context.Context, addr string) (all []netip.AddrPort, err error) {
	host, service, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	port, err := net.DefaultResolver.LookupPort(ctx, "tcp", service)
	if err != nil {
		return nil, err
	}
	ips := []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}
	if ip, e := netip.ParseAddr(host); host != "" && (e != nil || !ip.IsUnspecified()) {
		if ips, err = net.DefaultResolver.LookupNetIP(ctx, "ip", host); err != nil {
			return nil, err
		}
	}
	for _, ip := range ips {
		all = append(all, netip.AddrPortFrom(ip, uint16(port)))
	}
	return all, nil
}
