//go:build linux

package loop

import (
	"fmt"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"

	"reverseproxy/ch2_basic_proxy/forward"
	"reverseproxy/internal/narrate"
)

// Accept is step 4: it takes a client out of the listener's queue. It returns false
// when the queue is empty, when there are as many clients as there may be, and after
// so many that it is others' turn.
func (l *Loop) Accept() bool {
	for {
		for l.atLimit() {
			if !l.makeRoom() {
				return false
			}
		}
		if l.accepts == acceptsAtOnce {
			return false
		}
		// Package unix's Accept4 would ask the socket for its protocol, each time.
		fd, sa, err := syscall.Accept4(l.server.fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch err {
		case nil:
			l.accepts++
			l.newConn(fd, sa)
			return true
		case unix.EAGAIN:
			return false
		case unix.EINTR, unix.ECONNABORTED:
		default:
			if forward.Exhausted(err) && l.pool.oldest() {
				continue
			}
			l.listenLater()
			l.log.Problem("accept: %v", err)
			return false
		}
	}
}

// newConn begins a client's connection.
func (l *Loop) newConn(fd int, sa syscall.Sockaddr) {
	c := &Conn{loop: l, state: l.begin, since: l.nano, peer: addrPort(sa)}
	c.client.init(l, fd)
	c.client.conn = c
	l.clients++
	l.pool.fit()
	from := ""
	if l.log.Level() != narrate.Off && c.peer.IsValid() {
		from = c.peer.String()
	}
	c.log = l.log.AcceptFrom(from)
	if err := l.register(&c.client); err != nil {
		c.failure = forward.Unavailable("the proxy has no connection left",
			fmt.Errorf("epoll_ctl: %w", err))
		c.close()
		return
	}
	c.client.within(l.settings.Request)
	if l.stop.Load() {
		c.lastChance()
	}
}

// lastChance gives a client that has nothing in hand a moment: its request may be on
// its way. One that lingers has had its answer.
func (c *Conn) lastChance() {
	switch {
	case c.final == lingering:
		c.client.within(1)
	case !c.begun && !c.ending:
		c.client.within(stopGrace)
	}
}

// atLimit reports whether there are as many clients as there may be. For each that is
// served, a descriptor is set aside for its backend; one that waits for its next request
// needs only its own.
func (l *Loop) atLimit() bool {
	return l.clients >= l.limit || 2*l.clients-l.waiting.n >= l.room
}

// makeRoom has a client that keeps a connection without using it give its place up,
// the one that has waited longest. If none waits, those that are answered are told
// that it was the last answer, until one leaves, and nobody is accepted.
func (l *Loop) makeRoom() bool {
	var last *Conn
	for c := l.waiting.first; c != nil && c != last; c = l.waiting.first {
		if c.spare() {
			return true
		}
		last = c // if it is the first again, slow motion holds it
	}
	l.wanted, l.full = true, true
	l.listen(0)
	return false
}

// spare closes a client's connection that waits for its next request, unless that has
// come just now.
func (c *Conn) spare() bool {
	c.client.readable = true // epoll_wait may not have told of it yet
	c.client.by(c.loop.nano - 1)
	c.unwanted = true
	c.run()
	return c.client.fd < 0
}

// left notes that a client has left.
func (l *Loop) left() {
	l.clients--
	l.wanted = false
	l.roomMade()
}

// roomMade has the listening socket looked at again, if that was all it waited for.
func (l *Loop) roomMade() {
	if l.full && !l.atLimit() {
		l.full = false
		l.listenAgain()
	}
}

// listenLater looks at the listening socket no more for a while.
func (l *Loop) listenLater() {
	l.listen(0)
	l.server.within(acceptPause)
}

// listenAgain looks at it again.
func (l *Loop) listenAgain() {
	if !l.full && !l.stopping {
		l.listen(unix.EPOLLIN)
	}
}

func (l *Loop) listen(events uint32) {
	unix.EpollCtl(l.poll, unix.EPOLL_CTL_MOD, l.server.fd,
		&unix.EpollEvent{Events: events, Fd: int32(l.server.fd)})
}

// addrPort returns an address from the kernel; the zero value if it is none.
func addrPort(sa syscall.Sockaddr) netip.AddrPort {
	switch a := sa.(type) {
	case *syscall.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *syscall.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), uint16(a.Port))
	}
	return netip.AddrPort{}
}

// A list is a list of connections, each at most once.
type list struct {
	first, last *Conn
	n           int
}

func (l *list) add(c *Conn) {
	c.waits, c.previous, c.next = true, l.last, nil
	l.n++
	if l.last == nil {
		l.first = c
	} else {
		l.last.next = c
	}
	l.last = c
}

func (l *list) remove(c *Conn) {
	if !c.waits {
		return
	}
	if c.previous == nil {
		l.first = c.next
	} else {
		c.previous.next = c.next
	}
	if c.next == nil {
		l.last = c.previous
	} else {
		c.next.previous = c.previous
	}
	c.waits, c.previous, c.next = false, nil, nil
	l.n--
}
