package forward

import (
	"context"
	"net"
)

// Listen does what net.Listen("tcp", addr) does: it creates a socket, binds it to
// the address and listens. Only TCP's keep-alive probes are left out, for which
// each accepted socket would be set up by four system calls: every wait here has
// its timeout.
func Listen(addr string) (net.Listener, error) {
	config := net.ListenConfig{KeepAlive: -1}
	return config.Listen(context.Background(), "tcp", addr)
}
