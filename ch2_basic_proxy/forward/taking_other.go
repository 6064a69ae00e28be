//go:build !linux

package forward

// Taking reports how many bytes of this request's answer have been sent. Whether
// the client is waited for cannot be judged here: a kernel tells of a slow client's
// progress in great steps, and says nothing in between.
func (c *Client) Taking() (bytes int64, waiting bool) { return c.sent.Load() - c.before, false }
