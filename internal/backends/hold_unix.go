//go:build unix

package backends

import (
	"net"
	"net/netip"
	"os"
	"syscall"
)

// Hold closes a listener but keeps its port: connections are refused, and no other
// program gets it. Without that, who still asks for the backend there, such as a health
// check, could come upon a stranger. It may fail; the port is free then.
func Hold(listener net.Listener) (held *os.File) {
	if raw, err := listener.(*net.TCPListener).SyscallConn(); err == nil {
		// A program that is just being started has a copy of all that this process holds,
		// until it runs: this one is not to listen on. (On Linux; elsewhere it may.)
		raw.Control(func(fd uintptr) { syscall.Shutdown(int(fd), syscall.SHUT_RDWR) })
	}
	listener.Close()
	addr := listener.Addr().String()
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
	if family == syscall.AF_INET6 { // as net.Listen has it
		syscall.SetsockoptInt(fd, syscall.IPPROTO_IPV6, syscall.IPV6_V6ONLY, 0)
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

// Relisten listens on a port that was held, and takes what holds it: to close that and to
// listen anew could fail, because of such a copy. If it is nil, it is net.Listen.
func Relisten(held *os.File, addr string) (net.Listener, error) {
	if held == nil {
		return net.Listen("tcp", addr)
	}
	defer held.Close() // the listener has its own
	fd := int(held.Fd())
	// For the next time: a connection that lingers then is no obstacle.
	syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
	const backlog = 4096 // the kernel has its own limit
	if err := syscall.Listen(fd, backlog); err != nil {
		return nil, os.NewSyscallError("listen", err)
	}
	return net.FileListener(held)
}
