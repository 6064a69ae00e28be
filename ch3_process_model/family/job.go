package family

import (
	"fmt"
	"net"
	"net/netip"

	"reverseproxy/internal/narrate"
)

// What parent and child have agreed on.
const (
	jobVariable = "PROXY_CHILD" // environment: the job

	// A child's exit status is the sum of these; 0 is a request answered.
	failedStatus = 1 // its client got no answer
	silentStatus = 4 // its client sent no request

	firstFile    = 3 // the client's socket, or the listening one
	boardFile    = 4 // standing children: the scoreboard
	lifelineFile = 5 // standing children: ends when they are to stop
)

// A job is what a child is started for.
type job struct {
	Level    narrate.Level // how much it is to tell
	Pipe     int           // the file to tell it to
	Standing bool
	Slot     int    // of a standing child: its place on the scoreboard
	Conn     uint64 // of another: the number of its connection,
	Accepted int64  // when that was accepted, Unix nanoseconds,
	Peer     string // and the client's address
}

const jobFormat = "%d %d %t %d %d %d %q" // the fields in their order

// String returns the job for the environment.
func (j job) String() string {
	return fmt.Sprintf(jobFormat, j.Level, j.Pipe, j.Standing, j.Slot, j.Conn, j.Accepted, j.Peer)
}

func parseJob(s string) (j job, ok bool) {
	_, err := fmt.Sscanf(s, jobFormat, &j.Level, &j.Pipe, &j.Standing,
		&j.Slot, &j.Conn, &j.Accepted, &j.Peer)
	return j, err == nil && j.Slot >= 0 && j.Slot < maxPrefork
}

// peer returns the address of the child's client.
func (j job) peer() net.Addr {
	addr, err := netip.ParseAddrPort(j.Peer)
	if err != nil {
		return &net.TCPAddr{}
	}
	return net.TCPAddrFromAddrPort(addr)
}
