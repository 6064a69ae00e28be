//go:build !unix

package backends

import (
	"net"
	"os"
)

// Hold closes a listener; on other systems its port is free then.
func Hold(listener net.Listener) (held *os.File) {
	listener.Close()
	return nil
}

// Relisten is net.Listen: nothing is held.
func Relisten(_ *os.File, addr string) (net.Listener, error) { return net.Listen("tcp", addr) }
