package suite

import (
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// pulse measures, at the start and all the time, how quick this machine is
// just now. Where only speed is at stake, the checker waits in proportion: what
// a proxy can do is to be judged, not what else the machine has to do.
type pulse struct {
	factor atomic.Int64 // thousandths
	over   chan struct{}

	mu    sync.Mutex
	worst time.Time // when it last was busy
	most  int64     // the largest factor so far, in thousandths
}

const (
	pulseEvery = 250 * time.Millisecond
	pulseKeeps = 8 // samples, of two seconds
	factorMost = 3000
)

// startPulse calibrates and goes on measuring until stop is called. hop is what
// a request takes here without a proxy.
func startPulse() (p *pulse, hop time.Duration) {
	p = &pulse{over: make(chan struct{})}
	hop = time.Hour
	late := time.Duration(0)
	for range 5 {
		h := Unproxied()
		hop, late = min(hop, h), max(late, h)
	}
	p.note(late)
	// Ends with the run.
	go func() {
		var last [pulseKeeps]time.Duration
		for i := 0; ; i++ {
			start := time.Now()
			select {
			case <-p.over:
				return
			case <-time.After(pulseEvery):
			}
			late := time.Since(start) - pulseEvery // how late a timer wakes a goroutine
			last[i%pulseKeeps] = max(late, Unproxied())
			sorted := last
			slices.Sort(sorted[:])
			p.note(sorted[pulseKeeps/2]) // what is so most of the time
		}
	}()
	return p, hop
}

// note turns a delay into the factor: 1 up to busyHop, then one more for each.
func (p *pulse) note(d time.Duration) {
	f := min(max(1000, 1000*int64(d)/int64(BusyHop)), factorMost)
	p.factor.Store(f)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.most = max(p.most, f)
	if f > 1000 {
		p.worst = time.Now()
	}
}

func (p *pulse) stop() { close(p.over) }

// scale is d on a machine as busy as this one is.
func (p *pulse) scale(d time.Duration) time.Duration {
	if p == nil {
		return d
	}
	return d * time.Duration(p.factor.Load()) / 1000
}

// busySince reports whether the machine was busy at any time since then.
func (p *pulse) busySince(then time.Time) bool {
	if p == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.worst.After(then)
}

// stretched is the largest factor of the run.
func (p *pulse) stretched() float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return float64(p.most) / 1000
}

// BusyHop is more than unproxied takes on a machine that has nothing else to do.
const BusyHop = 3 * time.Millisecond

// Unproxied is how long a request and its answer take here from a goroutine to
// another, through the kernel but no proxy.
func Unproxied() time.Duration {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0
	}
	defer l.Close()
	// Ends when it has answered or the listener is closed.
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		if _, err := c.Read(make([]byte, 1)); err == nil {
			_, _ = c.Write([]byte("2"))
		}
	}()
	start := time.Now()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return 0
	}
	defer c.Close()
	if _, err := c.Write([]byte("1")); err == nil {
		_, _ = io.ReadAll(c)
	}
	return time.Since(start)
}
