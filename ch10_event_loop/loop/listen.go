//go:build linux

package loop

import (
	"net"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"reverseproxy/internal/narrate"
)

// backlog is how many clients may wait in a queue; the kernel has a limit of its own
// (net.core.somaxconn), and takes the smaller.
const backlog = 65535

// Listen is steps 1–3: it makes a listening socket for each loop. Several share the
// address by SO_REUSEPORT, as nginx's workers can: each has a queue of its own, and the
// kernel puts a new client into one of them by a hash of its address and port.
func Listen(s *Settings) (servers []int, err error) {
	s.app.Log.Unpaused = true
	addr := s.app.Listen
	for i := range s.Loops {
		// With SO_REUSEPORT another program's socket there would be no error. So the
		// first is bound without it, and given it only then.
		server, bound, err := s.listen(addr, i > 0, s.Loops > 1)
		if err != nil {
			return nil, err
		}
		addr = bound // where -listen says port 0, all get the same
		servers = append(servers, server)
	}
	return servers, nil
}

func (s *Settings) listen(addr string, reuse, shared bool) (server int, bound string, err error) {
	a, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return 0, "", err
	}
	ap := a.AddrPort()
	every := !ap.Addr().IsValid() || ap.Addr().Unmap().IsUnspecified() // ":80", "0.0.0.0:80"
	if every {
		ap = netip.AddrPortFrom(netip.IPv6Unspecified(), ap.Port())
	}
	sa, family, err := sockaddr(ap)
	if err != nil {
		return 0, "", err
	}
	kind := unix.SOCK_STREAM | unix.SOCK_NONBLOCK | unix.SOCK_CLOEXEC
	server, err = unix.Socket(family, kind, 0)
	if every && err == unix.EAFNOSUPPORT { // a kernel without IPv6
		sa, family = &unix.SockaddrInet4{Port: int(ap.Port())}, unix.AF_INET
		server, err = unix.Socket(family, kind, 0)
	}
	if err != nil {
		return 0, "", os.NewSyscallError("socket", err)
	}
	// Clients inherit TCP_NODELAY and TCP_QUICKACK from the socket that they came to.
	unix.SetsockoptInt(server, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	if every { // that of IPv6 is for IPv4, too, whatever the system's default
		unix.SetsockoptInt(server, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0)
	}
	unix.SetsockoptInt(server, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	if reuse {
		unix.SetsockoptInt(server, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	}
	if err := unix.Bind(server, sa); err != nil {
		return 0, "", os.NewSyscallError("bind", err)
	}
	if shared {
		unix.SetsockoptInt(server, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	}
	if err := unix.Listen(server, backlog); err != nil {
		return 0, "", os.NewSyscallError("listen", err)
	}
	if s.Use.Piggyback { // listen would undo it; HAProxy calls it "option tcp-smart-accept"
		unix.SetsockoptInt(server, unix.IPPROTO_TCP, unix.TCP_QUICKACK, 0)
	}
	return server, localAddr(server), nil
}

// localAddr returns the address that a socket is bound to.
func localAddr(fd int) string {
	sa, err := syscall.Getsockname(fd)
	if err != nil {
		return "?"
	}
	return addrPort(sa).String()
}

// Ready narrates steps 1–3 and says that clients may come.
func (s *Settings) Ready(servers []int) {
	addr := localAddr(servers[0])
	s.app.RefuseItself(addr)
	s.app.Log.Start(narrate.Socket, "")
	s.app.Log.Start(narrate.Bind, addr)
	s.app.Log.Start(narrate.Listen, "")
	s.app.AtEnd(s.Tally)
	s.app.ReadyAt(addr)
}
