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
	motion   slowMotion
}

// slowMotion is how many times slower a drill is run than it says, with fewer requests a second
// for longer: the same requests, which need less of the machine at a time. 0 is 1.
type slowMotion int

// of is how long something takes.
func (m slowMotion) of(d time.Duration) time.Duration { return d * time.Duration(max(m, 1)) }

// seconds are those of the drill since it began.
func (m slowMotion) seconds(began time.Time) float64 {
	return (time.Since(began) / time.Duration(max(m, 1))).Seconds()
}

// sample is what became of one request.
type sample struct {
	ID     int
	Method string
	At     float64 // seconds from the beginning, when it was due
	Took   float64 // seconds from then until the answer was whole, or the client gave up
	Status int     // 0: no answer came, or not the whole
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
		case <-time.After(l.motion.of(due) - time.Since(began)):
		case <-ctx.Done():
			return nil
		}
		c := &client{addr: l.addr, patience: l.motion.of(l.patience), idle: idleTime}
		mu.Lock()
		if n := len(idle); n > 0 {
			c, idle = idle[n-1], idle[:n-1]
		}
		mu.Unlock()
		sent.Go(func() { // ends with its client's patience
			q := l.query(i + 1)
			o := c.ask(q)
			s := sample{ID: q.id, At: due.Seconds(), Method: q.method, Status: o.status,
				Took: l.motion.seconds(began) - due.Seconds()}
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

// counts counts times, in seconds, in each bin.
func counts(last time.Duration, at []float64) []float64 {
	n := make([]float64, int(last.Seconds()/bin+0.5))
	for _, t := range at {
		if i := int(t / bin); i < len(n) {
			n[i]++
		}
	}
	return n
}

// answers are the counts of requests that were answered, and lost, by the time
// they were due.
type answers struct {
	Answered []float64 `json:"answered_per_100ms"`
	Lost     []float64 `json:"lost_per_100ms"`
}

func answersOf(last time.Duration, all []sample) answers {
	var ok, lost []float64
	for _, s := range all {
		if s.ok() {
			ok = append(ok, s.At)
		} else {
			lost = append(lost, s.At)
		}
	}
	return answers{counts(last, ok), counts(last, lost)}
}

// line is one of a picture, with a point for each bin.
func line(name string, style plots.Style, y []float64) plots.Series {
	s := plots.Series{Name: name, Style: style, Y: y}
	for i := range y {
		s.X = append(s.X, float64(i)*bin)
	}
	return s
}

// strip is the upper graph of a proxy.
func (a answers) strip(proxy string) plots.Strip {
	return plots.Strip{Title: proxy + ": requests sent, per 100 ms", Series: []plots.Series{
		line("answered", plots.Style{Color: plots.Green}, a.Answered),
		line("lost", plots.Style{Color: plots.Vermilion, Dash: plots.Dashed}, a.Lost)}}
}

// ofBackends tells the backends' lines apart.
var ofBackends = []plots.Style{{Color: plots.Black}, {Color: plots.Blue, Dash: plots.Dashed},
	{Color: plots.Orange, Dash: plots.Dotted}}
