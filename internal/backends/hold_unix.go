//go:build unix

package backends

import (
	"net/netip"
	"os"
	"syscall"
)

// hold keeps the port of an address that nobody listens on any more: connections are
// refused, and no other program gets it. Without that, who still asks for the backend
// there, such as a health check, could come upon a stranger. It may fail; the port is
// free then.
func hold(addr string) (held *os.File) {
	at, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil
	}
	family, sockaddr := syscall.AF_INET6, syscall.Sockaddr(&syscall.SockaddrInet6{
		Port: int(at.Port()), Addr: at.Addr().As16()})
	if at.Addr().Is4() {
		family, sockaddr = syscall.AF_INET, &syscall.SockaddrInet4{
			Port: int(at.Port()), Addr: at.Addr().As4()}
	}
	syscall.ForkLock.RLock()
	fd, err := syscall.Socket(family, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil
	}
	// Connections of the backend's may linger on the port (TIME_WAIT): that is no
	// obstacle. Once it is taken, it is nobody else's.
	syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
	if syscall.Bind(fd, sockaddr) != nil {
		syscall.Close(fd)
		return nil
	}
	syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 0)
	return os.NewFile(uintptr(fd), addr)
}
