package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"reverseproxy/internal/backends"
	"reverseproxy/scripts/bench/plots"
)

// What happens in the drill -storm, and when.
const (
	stormCapacity = 100 // requests a second, of each of three backends
	stormRate     = 210 // requests a second: 70 % of that
	freezeAt      = 5 * time.Second
	thawAt        = 7 * time.Second
	stormLast     = 22 * time.Second
	stormLimit    = 1 * time.Second // -server-timeout
	stormPatience = 4 * time.Second
	calm          = 3 * time.Second // after the thaw, until all should be well
)

// stormResult is what a run has shown.
type stormResult struct {
	Name    string    `json:"name"`
	Goodput []float64 `json:"goodput"` // of each second: see goodput
	Best    float64   `json:"best_second_of_10_after_the_thaw"`
	Worst   float64   `json:"worst_3_seconds_from_3_after_the_thaw"`
	Before  float64   `json:"before_the_freeze"`
	answers
	Tries []float64 `json:"tries_per_100ms"` // on all backends
	Load  float64   `json:"tries_a_request_3_to_13_s_after_the_thaw"`
}

// storm drills one proxy.
func storm(ctx context.Context, s *subject, motion slowMotion) (*stormResult, error) {
	group, err := backends.StartLimited(s.addrs(3), stormCapacity/max(int(motion), 1))
	if err != nil {
		return nil, err
	}
	defer group.Close()
	p, err := s.start(ctx, group.Addrs(), "-log", "off", "-server-timeout",
		motion.of(stormLimit).String(), "-retry-on", "connect,broken,timeout")
	if err != nil {
		return nil, err
	}
	defer p.stop()

	l := &load{addr: p.addr, rate: stormRate, last: stormLast, patience: stormPatience,
		motion: motion, query: func(id int) *query {
			return &query{id: id, method: "GET", path: "/bytes?n=1000"}
		}}
	r := &stormResult{Name: s.Name}
	done := make(chan struct{})
	began := time.Now()
	go func() { // ends at the end of the picture
		defer close(done)
		frozen, before := false, int64(0)
		for at := time.Duration(0); at < stormLast; at += 100 * time.Millisecond {
			if now := at >= freezeAt && at < thawAt; now != frozen {
				if frozen = now; frozen {
					group.Freeze()
				} else {
					group.Thaw()
				}
			}
			time.Sleep(motion.of(at+100*time.Millisecond) - time.Since(began))
			sum := group.Requests(0) + group.Requests(1) + group.Requests(2)
			r.Tries = append(r.Tries, float64(sum-before))
			before = sum
		}
	}()
	samples := l.run(ctx)
	<-done
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	for at := 0.0; at < stormLast.Seconds(); at++ {
		r.Goodput = append(r.Goodput, goodput(samples, at, at+1))
	}
	r.answers, r.Worst = answersOf(stormLast, samples), 1
	r.Before = goodput(samples, 0, freezeAt.Seconds()-1)
	for at := thawAt.Seconds(); at < thawAt.Seconds()+10; at++ {
		r.Best = max(r.Best, goodput(samples, at, at+1))
	}
	for at := (thawAt + calm).Seconds(); at+3 <= stormLast.Seconds(); at += bin {
		r.Worst = min(r.Worst, goodput(samples, at, at+3))
	}
	from := int((thawAt + calm).Seconds() / bin)
	for _, n := range r.Tries[from : from+100] {
		r.Load += n / (10 * stormRate)
	}
	return r, nil
}

// goodput is the share of the requests sent between two times, in seconds, that
// got whole answers within the clients' patience.
func goodput(all []sample, from, to float64) float64 {
	sent, good := 0, 0
	for _, s := range all {
		if s.At >= from && s.At < to {
			if sent++; s.ok() {
				good++
			}
		}
	}
	return float64(good) / float64(max(sent, 1))
}

// drillStorm is the drill -storm.
func (o *options) drillStorm(ctx context.Context, subjects []*subject, say progress) (*report,
	error) {
	r := &report{Drill: "storm", table: [][]string{{"goodput, %"}, {"before the freeze"},
		{"best of the 10 s after the thaw"}, {"worst 3 s, from 3 s after the thaw"},
		{"tries a request, 3 to 13 s after the thaw"}}}
	var strips []plots.Strip
	for _, s := range subjects {
		say("%s: %v at %d requests a second", s.Name, stormLast, stormRate)
		one, err := storm(ctx, s, 1)
		if err != nil {
			return nil, err
		}
		r.Results = append(r.Results, one)
		r.column(s.Name, percent(one.Before), percent(one.Best), percent(one.Worst),
			fmt.Sprintf("%.2f", one.Load))
		bears := slices.Repeat([]float64{3 * stormCapacity * bin}, len(one.Tries))
		strips = append(strips, one.strip(s.Name), plots.Strip{
			Title: "requests that reach the backends, per 100 ms", Series: []plots.Series{
				line("tries", ofBackends[1], one.Tries),
				line("capacity", plots.Style{Color: plots.Grey}, bears)}})
	}
	var err error
	r.figure, err = plots.Stack("drill-storm", "Three backends at 70 % load stand still for 2 s",
		"For each proxy, over 22 seconds: requests answered and lost, and requests that reach the "+
			"three backends.", stormLast.Seconds(),
		[]plots.Band{{From: freezeAt.Seconds(), To: thawAt.Seconds(), Label: "frozen"}}, strips)
	return r, err
}

func percent(share float64) string { return fmt.Sprintf("%.1f", 100*share) }
