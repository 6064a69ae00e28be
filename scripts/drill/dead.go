package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"reverseproxy/scripts/bench/plots"
)

// What happens in the drill -dead, and when.
const (
	killAt    = 5 * time.Second // backend 2 is killed,
	backAt    = 10 * time.Second
	hangAt    = 12 * time.Second // backend 3 accepts and never answers
	unhangAt  = 16 * time.Second
	deadLast  = 20 * time.Second
	deadWork  = 5 * time.Millisecond // of a backend, for an answer
	deadLimit = 1 * time.Second      // -server-timeout
)

// dead is one run of the drill -dead. It is what its backends do.
type dead struct {
	motion slowMotion

	began time.Time
	seen  []atomic.Int32 // by number: how often a backend got the request
	hangs atomic.Pointer[server]

	mu    sync.Mutex
	tries map[*server][]float64 // when requests came, in seconds from the beginning
}

// deadResult is what a run has shown.
type deadResult struct {
	Name      string  `json:"name"`
	Rate      int     `json:"requests_per_second"`
	GETs      int     `json:"gets"`
	POSTs     int     `json:"posts"`
	LostGETs  int     `json:"gets_lost"`
	LostPOSTs int     `json:"posts_lost"`
	Twice     int     `json:"posts_processed_twice"`
	Slowest   float64 `json:"slowest_answer_seconds"`
	Tries     []int   `json:"tries"` // on each backend
	answers
	TriesOver [][]float64 `json:"tries_per_100ms"` // on each backend
}

func (d *dead) await(*session) error { return nil } // for as long as it takes

func (d *dead) garbage(*session, error) {}

func (d *dead) answer(c *session, r *http.Request) error {
	if r.URL.Path == "/" { // a health check, which is no try
		if d.hangs.Load() == c.server {
			return d.hang(c)
		}
		_, err := io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		return err
	}
	q, err := parse(r)
	if err != nil {
		return err
	}
	d.mu.Lock()
	d.tries[c.server] = append(d.tries[c.server], d.motion.seconds(d.began))
	d.mu.Unlock()
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return err
	}
	d.seen[q.id].Add(1) // it counts as processed, answered or not
	if d.hangs.Load() == c.server {
		return d.hang(c)
	}
	time.Sleep(d.motion.of(deadWork))
	return usual(c, q, r)
}

// hang returns when the proxy closes the connection.
func (d *dead) hang(c *session) error {
	io.Copy(io.Discard, c)
	return io.EOF
}

// run drills one proxy.
func (d *dead) run(ctx context.Context, s *subject, rate int) (*deadResult, error) {
	d.seen, d.tries = make([]atomic.Int32, int(deadLast.Seconds())*rate+1), map[*server][]float64{}
	servers, err := farm(s.addrs(3), d)
	if err != nil {
		return nil, err
	}
	defer killAll(servers)
	p, err := s.start(ctx, addrsOf(servers), "-log", "off", "-server-timeout",
		d.motion.of(deadLimit).String(), "-retry-on", "connect,broken,timeout")
	if err != nil {
		return nil, err
	}
	defer p.stop()

	d.began = time.Now()
	failed := make(chan error, 1)
	go func() { failed <- d.fail(servers) }() // ends at unhangAt
	l := &load{addr: p.addr, rate: rate, last: deadLast, patience: tooLong,
		motion: d.motion, query: func(id int) *query {
			q := &query{id: id, method: "GET", shape: "length", size: 100}
			if id%2 == 0 {
				q.method, q.body = "POST", 100
			}
			return q
		}}
	samples := l.run(ctx)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err := <-failed; err != nil {
		return nil, err
	}
	r := &deadResult{Name: s.Name, Rate: rate, answers: answersOf(deadLast, samples)}
	for _, s := range samples {
		all, lost := &r.GETs, &r.LostGETs
		if s.Method == "POST" {
			all, lost = &r.POSTs, &r.LostPOSTs
			if d.seen[s.ID].Load() > 1 {
				r.Twice++
			}
		}
		*all++
		if !s.ok() {
			*lost++
		} else {
			r.Slowest = max(r.Slowest, s.Took)
		}
	}
	for _, s := range servers {
		r.Tries = append(r.Tries, len(d.tries[s]))
		r.TriesOver = append(r.TriesOver, counts(deadLast, d.tries[s]))
	}
	return r, nil
}

// fail makes the backends fail.
func (d *dead) fail(servers []*server) error {
	wait := func(at time.Duration) { time.Sleep(d.motion.of(at) - time.Since(d.began)) }
	wait(killAt)
	servers[1].kill()
	wait(backAt)
	if err := servers[1].listen(); err != nil {
		return fmt.Errorf("the killed backend does not come back: %w", err)
	}
	wait(hangAt)
	d.hangs.Store(servers[2])
	wait(unhangAt)
	d.hangs.Store(nil)
	return nil
}

// drillDead is the drill -dead.
func (o *options) drillDead(ctx context.Context, subjects []*subject, say progress) (*report,
	error) {
	r := &report{Drill: "dead", table: [][]string{{"what"}, {"GETs lost"}, {"POSTs lost"},
		{"POSTs processed twice"}, {"slowest answer, s"}, {"tries on backend 1"},
		{"tries on backend 2, killed"}, {"tries on backend 3, hangs"}}}
	var strips []plots.Strip
	for _, s := range subjects {
		say("%s: %v at %d requests a second", s.Name, deadLast, o.rate)
		d, err := new(dead).run(ctx, s, o.rate)
		if err != nil {
			return nil, err
		}
		r.Results = append(r.Results, d)
		r.failed = r.failed || d.Twice > 0
		r.column(s.Name, fmt.Sprintf("%d of %d", d.LostGETs, d.GETs),
			fmt.Sprintf("%d of %d", d.LostPOSTs, d.POSTs), d.Twice, fmt.Sprintf("%.2f", d.Slowest),
			d.Tries[0], d.Tries[1], d.Tries[2])
		tries := plots.Strip{Title: "requests that reach each backend, per 100 ms"}
		for i, n := range d.TriesOver {
			tries.Series = append(tries.Series,
				line(fmt.Sprintf("backend %d", i+1), ofBackends[i], n))
		}
		strips = append(strips, d.strip(s.Name), tries)
	}
	bands := []plots.Band{{From: killAt.Seconds(), To: backAt.Seconds(), Label: "2 is dead"},
		{From: hangAt.Seconds(), To: unhangAt.Seconds(), Label: "3 hangs"}}
	var err error
	r.figure, err = plots.Stack("drill-dead", "One of three backends dies, then another hangs",
		"For each proxy, over 20 seconds: requests answered and lost, and requests that reach "+
			"each of the three backends.", deadLast.Seconds(), bands, strips)
	return r, err
}
