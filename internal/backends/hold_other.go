//go:build !unix

package backends

import (
	"errors"
	"net"
	"os"
)

// hold keeps no port, on other systems.
func hold(net.Listener, string) *os.File { return nil }

// listenHeld is never called: nothing is held.
func listenHeld(*os.File) (net.Listener, error) { return nil, errors.ErrUnsupported }
