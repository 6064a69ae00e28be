package forward

import "golang.org/x/sys/unix"

// tcpClose is TCP_CLOSE, a connection's state after RST, and after FIN both ways.
const tcpClose = 7

// EndedByReset reports whether a TCP connection of which a read has met the end of file
// was reset in truth. got is how many bytes have been read from it. The kernel counts
// the FIN of a regular end as one more byte that has come (tcp(7), TCP_INFO).
func EndedByReset(fd int, got int64) bool {
	info, err := unix.GetsockoptTCPInfo(fd, unix.SOL_TCP, unix.TCP_INFO)
	return err == nil && info.State == tcpClose && int64(info.Bytes_received) == got
}

func (p *peer) endedByReset() (reset bool) {
	raw, err := rawConn(p.Conn)
	if err == nil {
		raw.Control(func(fd uintptr) { reset = EndedByReset(int(fd), p.got) })
	}
	return reset
}
