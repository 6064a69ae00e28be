package narrate

import (
	"fmt"
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
	return Wrap(fmt.Sprintf("Summary: %s, %s, %d failed, at most %d at once,",
		count(s.Connections, "connection"), count(s.Requests, "request"), s.Failed, s.MostAtOnce),
		0, 9) +
		fmt.Sprintf("\n         CPU %.3f s, peak memory %.1f MB", s.CPUSeconds,
			float64(s.PeakMemory)/1e6)
}

// count returns "1 connection", "2 connections".
func count(n int64, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// Totals are what has been counted. They are counted even when nothing is
// narrated.
type Totals struct {
	Connections int64
	Requests    int64
	Failed      int64 // clients left without the answer they asked for
	Open        int64 // connections that are being served now, without idle ones
	Owed        int64 // connections that would fail if they ended now
	MostOpen    int64
}

// Add adds what another process has counted.
func (t *Totals) Add(u Totals) {
	t.Connections += u.Connections
	t.Requests += u.Requests
	t.Failed += u.Failed
	t.Open += u.Open
	t.Owed += u.Owed
	t.MostOpen = max(t.MostOpen, u.MostOpen, t.Open)
}

// count makes one change to what has been counted: all of it, or nothing.
func (n *Narrator) count(change Totals) {
	n.counting.Lock()
	defer n.counting.Unlock()
	if n.cut {
		return
	}
	n.totals.Add(change)
	if n.counted != nil {
		n.counted(n.totals)
	}
}

// one is 1 for true, in counts.
func one(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// Counted has f called after each change of the totals. Call it before the
// first event.
func (n *Narrator) Counted(f func(Totals)) { n.counted = f }

// Include adds to the totals what f returns: what other processes have counted.
// Call it before the first event.
func (n *Narrator) Include(f func() Totals) { n.include = f }

// Totals returns what has been counted so far.
func (n *Narrator) Totals() Totals {
	n.counting.Lock()
	defer n.counting.Unlock()
	return n.sum()
}

func (n *Narrator) sum() Totals {
	t := n.totals
	if n.include != nil && !n.cut {
		t.Add(n.include())
	}
	return t
}

// InFlight returns how many connections are being served right now; idle ones
// are not.
func (n *Narrator) InFlight() int64 { return n.Totals().Open }

// Drain returns when no connection that this process accepted is being served
// any more. No new one may be accepted meanwhile.
func (n *Narrator) Drain() { n.open.Wait() }

// Summary returns the figures of the run so far.
func (n *Narrator) Summary() Summary {
	t := n.Totals()
	cpu, peak := resources()
	return Summary{
		Connections: t.Connections,
		Requests:    t.Requests,
		Failed:      t.Failed,
		MostAtOnce:  t.MostOpen,
		CPUSeconds:  cpu.Round(time.Millisecond).Seconds(),
		PeakMemory:  peak,
	}
}

// Finished counts a connection as closed that this process accepted and another
// one served, with the number of its requests.
func (n *Narrator) Finished(requests int64, failed bool) {
	n.count(Totals{Requests: requests, Open: -1, Owed: -1, Failed: one(failed)})
	n.open.Done()
}

// CutOff counts every connection that is still owed an answer as failed, because
// the program ends now, and returns how many those are. Their own ends, if they
// still come, are not counted any more.
func (n *Narrator) CutOff() int64 {
	n.counting.Lock()
	defer n.counting.Unlock()
	n.totals, n.cut = n.sum(), true
	n.totals.Failed += n.totals.Owed
	return n.totals.Owed
}
