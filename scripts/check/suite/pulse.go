package suite

import (
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// pulse measures, at the start and all the time, how quick this machine is just now,
// and is the clock by which the checker waits: what a proxy can do is to be judged, not
// what else the machine has to do. On a machine that is three times slower than usual
// three seconds count as one; so do four in which the checker itself did not run.
type pulse struct {
	factor   atomic.Int64 // thousandths
	over     chan struct{}
	deadline time.Time    // of the whole run
	passed   atomic.Int64 // cases so far
	failed   atomic.Int64

	mu      sync.Mutex
	worst   time.Time     // when the machine last was busy
	most    int64         // the largest factor so far, in thousandths
	counted time.Duration // by this clock, up to the last sample
	sampled time.Time
	began   time.Time
}

const (
	pulseEvery = 250 * time.Millisecond
	pulseKeeps = 8 // samples, of two seconds
	factorMost = 4000
)

// newPulse is the clock of a run that may take so long; it has not measured anything yet.
func newPulse(budget time.Duration) *pulse {
	now := time.Now()
	return &pulse{over: make(chan struct{}), deadline: now.Add(budget), began: now, sampled: now}
}

// startPulse calibrates and goes on measuring until stop is called. hop is what
// a request takes here without a proxy.
func startPulse(budget time.Duration) (p *pulse, hop time.Duration) {
	p, hop = newPulse(budget), time.Hour
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
			if late > pulseEvery {
				p.stood() // the checker itself
			}
		}
	}()
	return p, hop
}

// note turns a delay into the factor: 1 up to BusyHop, then one more for each.
func (p *pulse) note(d time.Duration) {
	f := min(max(1000, 1000*int64(d)/int64(BusyHop)), factorMost)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.counted, p.sampled = p.at(time.Now()), time.Now()
	p.factor.Store(f)
	p.most = max(p.most, f)
	if f > 1000 {
		p.worst = time.Now()
	}
}

// stood notes that the machine stood still for a moment: what failed then is in doubt.
func (p *pulse) stood() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.worst = time.Now()
}

// at is what the clock shows at a time after the last sample.
func (p *pulse) at(now time.Time) time.Duration {
	d := now.Sub(p.sampled)
	ran := min(d, pulseEvery) * 1000 / time.Duration(max(1000, p.factor.Load()))
	return p.counted + max(ran, d*1000/factorMost)
}

// now is what the clock shows: nothing at the start.
func (p *pulse) now() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.at(time.Now())
}

// left is how much of the time for the whole run is left, by the clock on the wall. What
// a busy machine has taken is given back, unless it may be the proxy that takes the time:
// one that fails most cases has the checker wait in most.
func (p *pulse) left() time.Duration {
	d := time.Until(p.deadline)
	if p.failed.Load() <= p.passed.Load() {
		d += time.Since(p.began) - p.now()
	}
	return d
}

// after calls f when left, which is asked again then, says that no time is left; stop
// keeps it from that.
func after(left func() time.Duration, f func()) (stop func()) {
	stopped := make(chan struct{})
	// Ends with the time, or with stop.
	go func() {
		for d := left(); d > 0; d = left() {
			select {
			case <-stopped:
				return
			case <-time.After(max(d, time.Millisecond)):
			}
		}
		f()
	}()
	return sync.OnceFunc(func() { close(stopped) })
}

// span is the function that says how much of d is left by the clock.
func (p *pulse) span(d time.Duration) (left func() time.Duration) {
	until := p.now() + d
	return func() time.Duration { return until - p.now() }
}

func (p *pulse) stop() { close(p.over) }

// scale is d on a machine as busy as this one is.
func (p *pulse) scale(d time.Duration) time.Duration {
	return d * time.Duration(max(1000, p.factor.Load())) / 1000
}

// busySince reports whether the machine was busy at any time since then.
func (p *pulse) busySince(then time.Time) bool {
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
