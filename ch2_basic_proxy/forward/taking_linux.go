package forward

import "golang.org/x/sys/unix"

// Taking reports whether a write to the client waits for it to take bytes, and how
// many its kernel has acknowledged so far (tcp(7), TCP_INFO). Any goroutine may
// call it.
func (c *Client) Taking() (bytes int64, waiting bool) {
	raw, err := rawConn(c.Conn)
	if err != nil {
		return 0, false
	}
	err = raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.SOL_TCP, unix.TCP_INFO)
		if err == nil {
			bytes, waiting = int64(info.Bytes_acked), c.writing.Load()
		}
	})
	return bytes, waiting && err == nil
}
