//go:build unix

package cli

import (
	"math"
	"net/netip"
	"syscall"
)

// Descriptors that are set aside before connections get theirs.
const (
	ownDescriptors  = 24  // of the program itself
	pageDescriptors = 512 // of the live page and of the requests that its buttons send
	maxPipes        = 256 // see Pipes
)

// FitDescriptors returns how many connections of the n that are wanted the
// limit on open files (ulimit -n) leaves room for, at least one, if each takes
// so many descriptors: two in a proxy, one for the client and one for the
// backend. All of them are reserved when a client is accepted. Who is beyond that
// waits in the backlog instead of failing halfway.
func (a *App) FitDescriptors(n, each int) int {
	limit := openFiles()
	room := limit - ownDescriptors - 2*Pipes()
	if a.watch != "" {
		room -= min(room/4, pageDescriptors)
	}
	if a.demo {
		room -= len(a.Backends) // their listeners
		each++                  // and a socket of theirs for each connection
	}
	for _, addr := range a.Backends {
		if _, err := netip.ParseAddrPort(addr); err != nil {
			each++ // looking up a name takes sockets, too
			break
		}
	}
	return max(1, min(n, room/each))
}

// Pipes returns how many pipes, of two descriptors each, there may be at once
// for bodies on their way through the kernel (splice). They are few and have
// their own part of the descriptors: a body can do without one, a connection
// cannot do without its socket.
func Pipes() int { return min(maxPipes, openFiles()/16) }

// openFiles returns the limit on this process's open files.
func openFiles() int {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
		return math.MaxInt32
	}
	return int(min(uint64(limit.Cur), math.MaxInt32))
}
