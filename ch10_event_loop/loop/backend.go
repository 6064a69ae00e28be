//go:build linux

package loop

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"reverseproxy/ch2_basic_proxy/forward"
)

// dialPause is how long is waited before another look for a free descriptor or port.
const dialPause = 10 * time.Millisecond

// A backend is a connection to a backend.
type backend struct {
	socket
	addr       string        // host:port
	owner      *Conn         // whose it is, or was
	since      time.Duration // when it was made, since the loop's start
	requests   int           // that it has carried
	connecting bool          // the handshake is not complete
	connectBy  time.Duration // deadline for that
	named      *name         // what its addr means; nil: not looked at
	tried      int           // of the name's addresses
	first      error         // the first one's error

	sendsNow bool // sendAtOnce has been called

	heard  bool  // a byte of the response has come
	unsent error // why the request's header could not be written
	whole  bool  // the response has been read to its end
}

// newBackend begins a connection to the backend at addr, for c's request.
func (l *Loop) newBackend(addr string, c *Conn) *backend {
	b := &backend{addr: addr, owner: c, since: l.nano, connecting: true}
	b.init(l, -1)
	b.connectBy = l.nano + l.settings.Connect
	l.pool.open++
	l.pool.fit()
	return b
}

// connect goes on with the handshake: errWait if it is not complete. Of a name's several
// addresses, one after the other has its turn. If none takes the connection, the first one's
// error tells why, or has all tried again: without a free descriptor or port.
func (b *backend) connect() error {
	l := b.loop
	if b.named == nil {
		b.named = l.lookUp(b.addr, b.owner)
	}
	switch n := b.named; {
	case n.err != nil:
		return n.err
	case len(n.addrs) == 0: // not found so far
		return b.awaitClient(b.connectBy)
	}
	for {
		err := b.shakeHands(b.named.addrs[b.tried:])
		if err == nil || err == errWait {
			return err
		}
		if b.tried == 0 {
			b.first = err
		}
		b.socket.close()
		b.socket = socket{}
		b.init(l, -1)
		b.connecting = true
		if b.tried++; b.tried < len(b.named.addrs) {
			continue
		}
		if !forward.Exhausted(b.first) || l.nano >= b.connectBy {
			return b.first
		}
		b.tried = 0
		l.pool.oldest()
		return b.awaitClient(l.nano + dialPause)
	}
}

// shakeHands goes on with the handshake with the first of some addresses.
func (b *backend) shakeHands(addrs []netip.AddrPort) error {
	l := b.loop
	if b.fd < 0 {
		if err := b.dial(addrs[0]); err != nil {
			return err
		}
		b.within((b.connectBy - l.nano) / time.Duration(len(addrs)))
	}
	switch {
	case b.writable:
		b.connecting = false
		b.by(0)
		if !b.socket.broken {
			return nil
		}
		e, err := unix.GetsockoptInt(b.fd, unix.SOL_SOCKET, unix.SO_ERROR)
		if err == nil && e != 0 {
			err = unix.Errno(e)
		}
		return err
	case b.late():
		return errLate
	}
	return errWait
}

// awaitClient waits until then without a descriptor: the client's socket has the
// deadline.
func (b *backend) awaitClient(until time.Duration) error {
	if b.loop.nano >= b.connectBy {
		return errLate
	}
	b.owner.client.restBy = until
	b.loop.timers.set(&b.owner.client)
	return errWait
}

// dial makes a socket and has the kernel begin the handshake.
func (b *backend) dial(addr netip.AddrPort) error {
	sa, family, err := sockaddr(addr)
	if err != nil {
		return err
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if b.loop.use.Piggyback && b.owner.x.read {
		// The handshake's last packet waits for the request, which comes at once and whole:
		// the backend is woken once, not twice.
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_QUICKACK, 0)
	}
	for err = unix.EINTR; err == unix.EINTR; {
		err = unix.Connect(fd, sa)
	}
	if err != nil && err != unix.EINPROGRESS {
		unix.Close(fd)
		return err
	}
	b.fd, b.backend, b.conn = fd, b, b.owner
	if err := b.loop.register(&b.socket); err != nil {
		b.socket.close()
		return err
	}
	return nil
}

// sendAtOnce has the kernel send small pieces at once, where it would wait for more (Nagle's
// algorithm). Only who writes twice before an answer needs it: a body, a tunnel.
func (b *backend) sendAtOnce() {
	if !b.sendsNow {
		unix.SetsockoptInt(b.fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		b.sendsNow = true
	}
}

// begin makes the connection carry a request.
func (b *backend) begin() {
	b.requests++
	b.sent, b.heard, b.whole, b.unsent = 0, false, false, nil
	b.by(0)
}

// reusable reports whether the connection can carry another request, and if not, why; see
// forward.Backend.Reusable.
func (c *Conn) reusable(b *backend) (ok bool, reason string) {
	x := c.x
	if !x.forwarded {
		return true, "" // it has not been used
	}
	return forward.Use{Request: &x.request, Response: &x.response, Broke: b.unsent != nil,
		GivenUp: c.given, Complete: x.complete, Whole: b.whole, More: len(b.held()) > 0}.Reusable()
}

// sockaddr returns an address as the kernel takes it.
func sockaddr(ap netip.AddrPort) (unix.Sockaddr, int, error) {
	if ip := ap.Addr().Unmap(); ip.Is4() {
		return &unix.SockaddrInet4{Port: int(ap.Port()), Addr: ip.As4()}, unix.AF_INET, nil
	}
	sa := &unix.SockaddrInet6{Port: int(ap.Port()), Addr: ap.Addr().As16()}
	if zone := ap.Addr().Zone(); zone != "" {
		n, err := strconv.Atoi(zone)
		if ifi, e := net.InterfaceByName(zone); e == nil {
			n, err = ifi.Index, nil
		}
		if err != nil {
			return nil, 0, fmt.Errorf("%s: no such interface", zone)
		}
		sa.ZoneId = uint32(n)
	}
	return sa, unix.AF_INET6, nil
}
