package cases

import (
	"errors"
	"net"
	"syscall"
	"time"
)

// deafListener listens on addr with a full queue, so that the kernel answers
// no further SYN: to the proxy the backend looks like a host that is gone.
func deafListener(addr string) (closeAll func(), err error) {
	a, err := net.ResolveTCPAddr("tcp4", addr)
	if err != nil || a.IP.To4() == nil {
		return nil, errors.New("no IPv4 address")
	}
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	var held []net.Conn
	closeAll = func() {
		for _, c := range held {
			c.Close()
		}
		syscall.Close(fd)
	}
	syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
	sa := &syscall.SockaddrInet4{Port: a.Port, Addr: [4]byte(a.IP.To4())}
	if err := syscall.Bind(fd, sa); err != nil {
		closeAll()
		return nil, err
	}
	if err := syscall.Listen(fd, 0); err != nil {
		closeAll()
		return nil, err
	}
	for i := 0; i < 8; i++ {
		c, err := net.DialTimeout("tcp", addr, 150*time.Millisecond)
		if err != nil {
			return closeAll, nil // full
		}
		held = append(held, c)
	}
	closeAll()
	return nil, errors.New("the queue does not fill")
}
