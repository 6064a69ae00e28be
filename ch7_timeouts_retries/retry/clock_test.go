package retry

import (
	"testing"
	"testing/synctest"
	"time"

	"reverseproxy/ch2_basic_proxy/forward"
)

// transfer is a client that moves bytes at a pace of its own, from now on.
type transfer struct {
	began   time.Time
	perSec  float64
	burst   int64         // bytes that it moved at once, at the start
	until   time.Duration // when it stops
	waiting bool
}

func (f *transfer) moved() (bytes int64, waiting bool) {
	return f.burst + int64(f.perSec*min(time.Since(f.began), f.until).Seconds()), f.waiting
}

// A client's pace is judged by what it moves while it is waited for, over the time
// that it is.
func TestPace(t *testing.T) {
	const never = 2 * time.Hour
	for _, test := range []struct {
		name string
		transfer
		min, max time.Duration // when the request is given up
	}{
		{"1 B/s", transfer{perSec: 1}, 5 * time.Second, 7 * time.Second},
		{"nothing", transfer{}, 5 * time.Second, 7 * time.Second},
		{"239 B/s", transfer{perSec: 239}, time.Minute, never},
		{"240 B/s", transfer{perSec: 240}, never, never},
		{"1 kB/s", transfer{perSec: 1000}, never, never},
		{"a megabyte, then nothing", transfer{burst: 1e6}, 30 * time.Second, 40 * time.Second},
		{"a megabyte, then 1 B/s", transfer{burst: 1e6, perSec: 1}, 30 * time.Second,
			40 * time.Second},
		{"1 kB/s for a minute", transfer{perSec: 1000, until: time.Minute}, 90 * time.Second,
			100 * time.Second},
	} {
		if test.until == 0 {
			test.until = never
		}
		for _, down := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				test := test
				test.began, test.waiting = time.Now(), true
				idle := &transfer{began: time.Now()} // the other direction, nobody waits for it
				var took time.Duration
				var why *forward.Error
				c := &clock{uploading: test.moved, taking: idle.moved, rate: 240,
					abandon: func(e *forward.Error) { took, why = time.Since(test.began), e }}
				if down {
					c.uploading, c.taking = idle.moved, test.moved
				}
				c.run(0)
				time.Sleep(never)
				c.stop()
				synctest.Wait()
				status := map[bool]int{false: 408}[down]
				if why == nil {
					took = never
				} else if why.By != forward.ByClient || why.Status != status {
					t.Errorf("%s: %#v", test.name, why)
				}
				if took < test.min || took > test.max {
					t.Errorf("%s, down: %v: given up after %v", test.name, down, took)
				}
			})
		}
	}
}

// A client that is not waited for may be as slow as it likes: an answer that comes
// an event a second takes an hour.
func TestPaceOfTheBackend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &transfer{began: time.Now(), perSec: 20, until: time.Hour}
		c := &clock{uploading: f.moved, taking: f.moved, rate: 240,
			abandon: func(e *forward.Error) { t.Errorf("given up: %v", e) }}
		c.run(0)
		time.Sleep(time.Hour)
		c.stop()
	})
}

// The time for all tries ends the request, to the moment, unless it is stopped.
func TestTotal(t *testing.T) {
	for _, stop := range []time.Duration{time.Second, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			var took time.Duration
			c := &clock{abandon: func(e *forward.Error) { took = time.Since(began) }}
			c.run(3 * time.Second)
			time.AfterFunc(stop, c.stop)
			time.Sleep(2 * time.Hour)
			synctest.Wait()
			want := time.Duration(0)
			if stop > 3*time.Second {
				want = 3 * time.Second
			}
			if took != want {
				t.Errorf("stopped after %v: it ended after %v, want %v", stop, took, want)
			}
		})
	}
}

// The bucket: a failure takes one, a success gives half a one, more than half of
// them must be there after the failure.
func TestBudget(t *testing.T) {
	var told []float64
	b := &Budget{full: 10, level: 10, began: true,
		told: func(level, full float64) { told = append(told, level) }}
	for i := 1; i <= 12; i++ {
		if got, want := b.Failure(), i <= 4; got != want {
			t.Errorf("failure %d: another try: %v", i, got)
		}
	}
	for i := 1; i <= 14; i++ {
		b.Success() // after 14 there are 7, the next failure leaves 6
	}
	if !b.Failure() || b.Failure() {
		t.Errorf("there are %v tokens", b.level)
	}
	for range 20 {
		b.Success()
	}
	if b.level != 10 || len(told) != 10+14+2+10 {
		t.Errorf("%v tokens, told %d times: %v", b.level, len(told), told)
	}
	off := &Budget{}
	for range 1000 {
		if !off.Failure() {
			t.Fatal("a budget that is off is used up")
		}
	}
}
