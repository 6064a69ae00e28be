package cli

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"
)

// resolveTime bounds the look-ups at the start. A name that takes longer, or that
// nobody knows yet, is left to the connections.
const resolveTime = 1 * time.Second

func lookUps() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), resolveTime)
}

// resolve returns the addresses behind addr (host:port); none if they cannot be
// known now. An empty host is the address empty.
func resolve(ctx context.Context, addr string, empty netip.Addr) (all []netip.AddrPort) {
	host, service, err := net.SplitHostPort(addr)
	if err != nil {
		return nil
	}
	port, err := net.DefaultResolver.LookupPort(ctx, "tcp", service)
	if err != nil {
		return nil
	}
	ips := []netip.Addr{empty}
	if host != "" {
		ips, _ = net.DefaultResolver.LookupNetIP(ctx, "ip", host) // an address is its own answer
	}
	for _, ip := range ips {
		if ip = ip.Unmap(); ip.IsLoopback() {
			ip = ip.WithZone("") // ::1%lo is ::1
		}
		all = append(all, netip.AddrPortFrom(ip, uint16(port)))
	}
	return all
}

// targets returns where connections to addr go to. No host is this machine.
func targets(ctx context.Context, addr string) []netip.AddrPort {
	return resolve(ctx, addr, netip.IPv4Unspecified())
}

// places returns where a listener on addr listens. No host is every address.
func places(addr string) []netip.AddrPort {
	ctx, cancel := lookUps()
	defer cancel()
	return resolve(ctx, addr, netip.IPv6Unspecified())
}

// covers reports whether a listener on the address on also has the address ip:
// 0.0.0.0 has all of IPv4, [::] has all.
func covers(on, ip netip.Addr) bool {
	return on == ip || on.IsUnspecified() && (on.Is6() || ip.Is4())
}

// collide reports whether no two programs can listen on both addresses.
func collide(a, b string) bool {
	return slices.ContainsFunc(places(a), func(a netip.AddrPort) bool {
		return slices.ContainsFunc(places(b), func(b netip.AddrPort) bool { return overlap(a, b) })
	})
}

// overlap is collide for one address each. Port 0 is any free one.
func overlap(a, b netip.AddrPort) bool {
	return a.Port() == b.Port() && a.Port() != 0 &&
		(covers(a.Addr(), b.Addr()) || covers(b.Addr(), a.Addr()))
}

// reaches reports whether a connection to target ends at the socket that
// listens on listener. own are the addresses of this machine's interfaces.
func reaches(target, listener netip.AddrPort, own []netip.Addr) bool {
	if target.Port() != listener.Port() {
		return false
	}
	ip := target.Addr()
	here := []netip.Addr{ip}
	if ip.IsUnspecified() { // a connection to it stays on this machine
		here = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}
		if ip.Is6() {
			here = append(here, netip.IPv6Loopback())
		}
	}
	return slices.ContainsFunc(here, func(ip netip.Addr) bool {
		return listener.Addr() == ip ||
			covers(listener.Addr(), ip) &&
				(ip.IsLoopback() || slices.Contains(own, ip.WithZone("")))
	})
}

// ownAddrs returns the addresses of this machine's interfaces.
func ownAddrs() (own []netip.Addr) {
	addrs, _ := net.InterfaceAddrs()
	for _, a := range addrs {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil {
			own = append(own, prefix.Addr().Unmap())
		}
	}
	return own
}

// pinNames looks up names of this machine among the backends, such as
// localhost, once and for all. Another name's address may change while the
// program runs, and a name of several addresses is tried address by address:
// both are looked up for each connection.
func (a *App) pinNames() {
	ctx, cancel := lookUps()
	defer cancel()
	for i, backend := range a.Backends {
		if to := targets(ctx, backend); len(to) == 1 && to[0].Addr().IsLoopback() {
			a.Backends[i] = to[0].String()
		}
	}
}

// RefuseItself ends the program if a backend is the proxy itself, however it is
// spelled: each request would run in a circle, and ch2 would wait for itself.
func (a *App) RefuseItself(listener string) {
	on, err := netip.ParseAddrPort(listener)
	if err != nil {
		return
	}
	ctx, cancel := lookUps()
	defer cancel()
	own := ownAddrs()
	itself := func(to netip.AddrPort) bool { return reaches(to, on, own) }
	for _, backend := range a.Backends {
		if slices.ContainsFunc(targets(ctx, backend), itself) {
			a.Fatal(fmt.Errorf("the backend %s is this proxy itself, which listens on %s; "+
				"name another with %s", backend, listener, a.backendFlag()))
		}
	}
}
