package forward

import "golang.org/x/sys/unix"

// Taking reports whether a write to the client waits for it to take bytes, and how
// many of this request's answer its kernel has acknowledged so far (tcp(7),
// TCP_INFO): fewer than none if it still takes the answer before. Any goroutine
// may call it while the request is in hand.
func (c *Client) Taking() (bytes int64, waiting bool) {
	raw, err := rawConn(c.Conn)
	if err != nil {
		return 0, false
	}
	err = raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.SOL_TCP, unix.TCP_INFO)
		if err == nil {
			bytes, waiting = int64(info.Bytes_acked)-c.before, c.writing.Load()
		}
	})
	return bytes, waiting && err == nil
}
