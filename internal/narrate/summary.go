package narrate

import (
	"fmt"
	"sync/atomic"
	"time"
)

// Summary holds the figures of the line that every program prints at its end,
// so that the models can be compared.
type Summary struct {
	Connections int64   `json:"connections"`
	Requests    int64   `json:"requests"`
	Failed      int64   `json:"failed"`            // clients left without the answer they asked for
	MostAtOnce  int64   `json:"most_at_once"`      // connections, without idle ones
	CPUSeconds  float64 `json:"cpu_seconds"`       // user and system, with ended children
	PeakMemory  int64   `json:"peak_memory_bytes"` // of the largest process
}

// String returns the summary line.
func (s Summary) String() string {
	return fmt.Sprintf("Summary: %s, %s, %d failed, at most %d at once, "+
		"CPU %.3f s, peak memory %.1f MB",
		count(s.Connections, "connection"), count(s.Requests, "request"), s.Failed, s.MostAtOnce,
		s.CPUSeconds, float64(s.PeakMemory)/1e6)
}

// count returns "1 connection", "2 connections".
func count(n int64, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// Counts are kept even when nothing is narrated. They can be kept in memory
// that several processes share: all fields are only used atomically.
type Counts struct {
	total, requests, failed, now, most atomic.Int64
}

func (c *Counts) begin() {
	c.total.Add(1)
	c.idle(false)
}

// idle counts a connection out of those that are being served, or in again.
func (c *Counts) idle(idle bool) {
	if idle {
		c.now.Add(-1)
		return
	}
	now := c.now.Add(1)
	for most := c.most.Load(); now > most; most = c.most.Load() {
		if c.most.CompareAndSwap(most, now) {
			break
		}
	}
}

func (c *Counts) end(failed bool) {
	c.now.Add(-1)
	c.fail(failed)
}

func (c *Counts) fail(failed bool) {
	if failed {
		c.failed.Add(1)
	}
}

// Share makes n count in c, before it has counted anything.
func (n *Narrator) Share(c *Counts) { n.counts = c }

// InFlight returns how many connections are being served right now; idle ones
// are not.
func (n *Narrator) InFlight() int64 { return n.counts.now.Load() }

// Drain returns when no connection that this process accepted is being served
// any more. No new one may be accepted meanwhile.
func (n *Narrator) Drain() { n.open.Wait() }

// Summary returns the figures of the run so far.
func (n *Narrator) Summary() Summary {
	cpu, peak := resources()
	return Summary{
		Connections: n.counts.total.Load(),
		Requests:    n.counts.requests.Load(),
		Failed:      n.counts.failed.Load(),
		MostAtOnce:  n.counts.most.Load(),
		CPUSeconds:  cpu.Round(time.Millisecond).Seconds(),
		PeakMemory:  peak,
	}
}

// Relay passes on an event that a child process narrated.
func (n *Narrator) Relay(e Event) {
	if n.level == All {
		n.Emit(e)
	}
}

// Finished counts a connection as closed that this process accepted and another
// one served, with the number of its requests.
func (n *Narrator) Finished(requests int64, failed bool) {
	n.counts.requests.Add(requests)
	n.done(failed)
}

func (n *Narrator) done(failed bool) {
	n.counts.end(failed && !n.cut.Load())
	n.open.Done()
}

// Lost counts a connection as failed whose process died, if that process also
// accepted it.
func (n *Narrator) Lost() { n.counts.end(!n.cut.Load()) }

// CutOff counts every connection that is still being served as failed, because
// the program ends now, and returns how many those are.
func (n *Narrator) CutOff() int64 {
	n.cut.Store(true) // their own ends, if they still come, do not count again
	open := n.InFlight()
	n.counts.failed.Add(open)
	return open
}

// NewID returns a connection number that was not used before.
func (n *Narrator) NewID() uint64 { return n.lastID.Add(1) }
