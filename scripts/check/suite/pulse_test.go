package suite

import (
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// beats has the pulse measure for d, as startPulse does: each time what a request takes
// without a proxy.
func beats(p *pulse, d, hop time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		time.Sleep(pulseEvery)
		p.note(hop)
	}
}

// TestClock: an idle machine's second is a second; a machine that is three times slower
// takes three for it, and one that stands still four.
func TestClock(t *testing.T) {
	for name, c := range map[string]struct {
		run  func(p *pulse)
		want time.Duration
	}{
		"idle":   {func(p *pulse) { beats(p, 6*time.Second, 0) }, 6 * time.Second},
		"busy":   {func(p *pulse) { beats(p, 6*time.Second, 3*BusyHop) }, 2 * time.Second},
		"stands": {func(*pulse) { time.Sleep(6 * time.Second) }, 1500 * time.Millisecond},
		"very busy": {func(p *pulse) { beats(p, 6*time.Second, time.Hour) },
			1500 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPulse(time.Minute)
				c.run(p)
				// What was busy is known a beat later.
				if d := p.now() - c.want; d < 0 || d > pulseEvery {
					t.Errorf("the clock shows %v instead of %v", p.now(), c.want)
				}
			})
		})
	}
}

// TestPatienceOnABusyMachine: a machine that gets slow while the checker waits gets its
// time all the same; and who does not answer at all is not waited for without end.
func TestPatienceOnABusyMachine(t *testing.T) {
	for name, comes := range map[string]time.Duration{"late": 3 * time.Second, "never": time.Hour} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := net.Pipe()
				p := newPulse(time.Minute)
				l := &Lab{pulse: p, left: p.left, stalls: &atomic.Int64{}, first: time.Second}
				r := Reader{newStream(near), &T{Lab: l, Done: make(chan struct{})}}
				go beats(p, 5*time.Second, 4*BusyHop) // ends after that
				// Ends with its byte, or with the connection.
				go func() {
					time.Sleep(comes)
					far.Write([]byte("x"))
				}()
				began := time.Now()
				err := r.Await(func(b []byte) bool { return len(b) > 0 })
				d := time.Since(began)
				if (err == nil) != (name == "late") || d > 4500*time.Millisecond {
					t.Errorf("after %v: %v", d, err)
				}
				r.close()
				far.Close()
				time.Sleep(2 * time.Hour) // until all have ended
			})
		})
	}
}

// TestCaseOnABusyMachine: a case that moves all the time ends when its time is over, not
// before; and what it says is not that nothing came.
func TestCaseOnABusyMachine(t *testing.T) {
	for name, hop := range map[string]time.Duration{"idle": 0, "busy": 2 * BusyHop} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPulse(10 * time.Minute)
				l := newLab(&Farm{cases: map[string]*T{}}, p)
				go beats(p, time.Minute, hop) // ends after that
				began, problem := time.Now(), ""
				l.runOnce(&Case{Run: func(c *T) {
					near, far := net.Pipe()
					defer far.Close()
					r := Reader{newStream(near), c}
					defer r.close()
					// Ends with the connection.
					go func() {
						for {
							if _, err := far.Write([]byte("x")); err != nil {
								return
							}
							time.Sleep(100 * time.Millisecond)
						}
					}()
					problem = HowEnded(r.Await(func([]byte) bool { return false }))
				}}, nil)
				want := CaseTime
				if name == "busy" {
					want *= 2
				}
				if d := time.Since(began) - want; d < -pulseEvery || d > pulseEvery {
					t.Errorf("the case took %v instead of %v", time.Since(began), want)
				}
				if problem != "was silent, or too slow, when the time of the case was over" {
					t.Errorf("it says that the connection %s", problem)
				}
				time.Sleep(time.Minute) // until all have ended
			})
		})
	}
}

// TestTimeForTheRun: what a busy machine takes is given back to a proxy that passes most
// cases, and not to one that fails them.
func TestTimeForTheRun(t *testing.T) {
	for _, c := range []struct {
		passed, failed int64
		want           time.Duration
	}{{10, 3, 10 * time.Second}, {3, 10, 0}} {
		synctest.Test(t, func(t *testing.T) {
			p := newPulse(20 * time.Second)
			p.passed.Store(c.passed)
			p.failed.Store(c.failed)
			beats(p, 20*time.Second, 2*BusyHop)
			if d := p.left() - c.want; d < -pulseEvery || d > pulseEvery {
				t.Errorf("%d passed, %d failed: %v are left", c.passed, c.failed, p.left())
			}
		})
	}
}
