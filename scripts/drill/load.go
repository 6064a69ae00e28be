package main

import (
	"context"
	"net/http"
	"sync"
	"time"

	"reverseproxy/scripts/bench/plots"
)

// load sends requests at a constant rate, whatever becomes of those before: real
// clients do not wait until a proxy is well again.
type load struct {
	addr     string
	rate     int           // requests a second
	last     time.Duration // how long
	patience time.Duration // of a client
	query    func(id int) *query
}

// sample is what became of one request.
type sample struct {
	ID     int     `json:"-"`
	At     float64 `json:"at"`      // seconds from the beginning, when it was sent
	Took   float64 `json:"seconds"` // until the answer was whole, or the client gave up
	Method string  `json:"method"`
	Status int     `json:"status"` // 0: no answer came, or not the whole
}

func (s sample) ok() bool { return s.Status == http.StatusOK }

// run sends all requests and waits for their ends. Clients whose connections are
// kept send the next ones over them.
func (l *load) run(ctx context.Context) []sample {
	all := make([]sample, int(l.last.Seconds()*float64(l.rate)))
	var mu sync.Mutex
	var idle []*client
	var sent sync.WaitGroup
	began := time.Now()
	for i := range all {
		due := time.Duration(i) * time.Second / time.Duration(l.rate)
		select {
		case <-time.After(due - time.Since(began)):
		case <-ctx.Done():
			return nil
		}
		c := &client{addr: l.addr, patience: l.patience}
		mu.Lock()
		if n := len(idle); n > 0 {
			c, idle = idle[n-1], idle[:n-1]
		}
		mu.Unlock()
		sent.Go(func() { // ends with its client's patience
			q := l.query(i + 1)
			at := time.Since(began)
			o := c.ask(q)
			s := sample{ID: q.id, At: at.Seconds(), Took: (time.Since(began) - at).Seconds(),
				Method: q.method, Status: o.status}
			if o.err != nil || o.foreign != "" {
				s.Status = 0
			}
			all[i] = s
			mu.Lock()
			defer mu.Unlock()
			if c.conn != nil {
				idle = append(idle, c)
			}
		})
	}
	sent.Wait()
	for _, c := range idle {
		c.close()
	}
	return all
}

const bin = 0.1 // seconds, of a point in a picture

// bins counts times, in seconds, in each bin of a line.
func bins(name string, style plots.Style, last time.Duration, at []float64) plots.Series {
	n := int(last.Seconds()/bin + 0.5)
	s := plots.Series{Name: name, Style: style, X: make([]float64, n), Y: make([]float64, n)}
	for i := range s.X {
		s.X[i] = float64(i) * bin
	}
	for _, t := range at {
		if i := int(t / bin); i < n {
			s.Y[i]++
		}
	}
	return s
}

// times are those of the samples that which picks.
func times(all []sample, which func(sample) bool) (at []float64) {
	for _, s := range all {
		if which(s) {
			at = append(at, s.At)
		}
	}
	return at
}

// answers are two lines: requests answered and lost, by the time they were sent.
func answers(last time.Duration, all []sample) []plots.Series {
	return []plots.Series{
		bins("answered", plots.Style{Color: plots.Green}, last, times(all, sample.ok)),
		bins("lost", plots.Style{Color: plots.Vermilion, Dash: plots.Dashed}, last,
			times(all, func(s sample) bool { return !s.ok() })),
	}
}

// ofBackends tells the backends' lines apart.
var ofBackends = []plots.Style{{Color: plots.Black}, {Color: plots.Blue, Dash: plots.Dashed},
	{Color: plots.Orange, Dash: plots.Dotted}}
