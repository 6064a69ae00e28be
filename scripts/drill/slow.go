package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"reverseproxy/ch9_balancing_algorithms/choose"
	"reverseproxy/internal/book"
	"reverseproxy/scripts/bench/plots"
)

// What the drill -slow does.
const (
	slowRate = 60 // requests a second; a third of that is twice what the slow one can do
	slowLast = 8 * time.Second
)

// slowWork is how long each backend works for an answer, on one request at a time.
var slowWork = [3]time.Duration{10 * time.Millisecond, 10 * time.Millisecond,
	100 * time.Millisecond}

// slow is one run of the drill -slow. It is what its backends do.
type slow struct {
	backends map[*server]*worker
}

// worker is a backend that works on one request at a time.
type worker struct {
	mu   sync.Mutex
	work time.Duration
	got  atomic.Int64 // requests
}

// slowResult is what a run has shown.
type slowResult struct {
	Name   string     `json:"name"`
	Lost   int        `json:"lost"`
	Shares [3]float64 `json:"shares"` // of the requests, on each backend
	P50    float64    `json:"p50_seconds"`
	P99    float64    `json:"p99_seconds"`
}

func (*slow) await(*session) error { return nil } // for as long as it takes

func (*slow) garbage(*session, error) {}

func (d *slow) answer(c *session, r *http.Request) error {
	b := d.backends[c.server]
	b.got.Add(1)
	b.mu.Lock()
	time.Sleep(b.work)
	b.mu.Unlock()
	_, err := io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	return err
}

// run drills one proxy. Each request has a URI of its own, for the hashes; all come from
// one address, and bring no cookie.
func (d *slow) run(ctx context.Context, s *subject) (*slowResult, error) {
	servers, err := farm(s.addrs(3), d)
	if err != nil {
		return nil, err
	}
	defer killAll(servers)
	d.backends = map[*server]*worker{}
	for i, server := range servers {
		d.backends[server] = &worker{work: slowWork[i]}
	}
	p, err := s.start(ctx, addrsOf(servers), "-log", "off", "-check", "off")
	if err != nil {
		return nil, err
	}
	defer p.stop()
	l := &load{addr: p.addr, rate: slowRate, last: slowLast, patience: tooLong,
		query: func(id int) *query {
			return &query{id: id, method: "GET", path: fmt.Sprintf("/%d", id)}
		}}
	samples := l.run(ctx)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	r := &slowResult{Name: s.Name}
	var times []float64
	for _, sample := range samples {
		times = append(times, sample.Took)
		if !sample.ok() {
			r.Lost++
		}
	}
	slices.Sort(times)
	quantile := func(part float64) float64 {
		return times[int(math.Ceil(part*float64(len(times))))-1]
	}
	r.P50, r.P99 = quantile(.5), quantile(.99)
	all := 0.0
	for i, server := range servers {
		r.Shares[i] = float64(d.backends[server].got.Load())
		all += r.Shares[i]
	}
	for i := range r.Shares {
		r.Shares[i] /= max(all, 1)
	}
	return r, nil
}

// algorithm is what comes before an algorithm's name in the names of the drill's own
// subjects.
func algorithm() string { return "./" + book.Of(9).Dir + " -algorithm " }

// slowSubjects are chapter 9 with each of its algorithms, one after the other.
func slowSubjects() (all []string) {
	for _, k := range choose.Kinds {
		s := algorithm() + k.Name
		if k.Name == "weighted-round-robin" {
			s += " -weights 10,10,1" // what is so
		}
		all = append(all, s)
	}
	return all
}

// drillSlow is the drill -slow.
func (o *options) drillSlow(ctx context.Context, subjects []*subject, say progress) (*report,
	error) {
	r := &report{Drill: "slow", table: [][]string{{"", "lost", "backend 1", "2", "3, slow",
		"p50, ms", "p99, ms", "p99, of the first's"}}}
	var rows []plots.Parts
	first := 0.0
	for _, s := range subjects {
		say("%s: %v at %d requests a second", s.Name, slowLast, slowRate)
		one, err := new(slow).run(ctx, s)
		if err != nil {
			return nil, err
		}
		r.Results = append(r.Results, one)
		if first == 0 {
			first = one.P99
		}
		name := strings.ReplaceAll(strings.TrimPrefix("./"+s.Name, algorithm()), " -weights", "")
		row := []string{name, fmt.Sprint(one.Lost)}
		for _, share := range one.Shares {
			row = append(row, fmt.Sprintf("%.0f %%", 100*share))
		}
		ms := func(seconds float64) string { return plots.Short(math.Round(1000 * seconds)) }
		r.table = append(r.table, append(row, ms(one.P50), ms(one.P99),
			fmt.Sprintf("%.2f", one.P99/first)))
		rows = append(rows, plots.Parts{Name: name, Parts: one.Shares[:], Value: 1000 * one.P99})
	}
	var err error
	r.figure, err = plots.Shares("drill-slow", "One of three backends is ten times slower",
		"For each algorithm: the share of each of the three backends, and the 99th percentile of "+
			"the answers' times.",
		plots.Axis{Label: "p99, ms"}, []string{"backend 1, 10 ms", "2, 10 ms", "3, 100 ms"}, rows)
	return r, err
}
