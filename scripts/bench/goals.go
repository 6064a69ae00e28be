//go:build linux

package main

import (
	"fmt"
	"math"

	"reverseproxy/scripts/bench/stat"
)

// goal is one figure that the chapters are held against.
type goal struct {
	What    string  `json:"what"`
	Against string  `json:"against"`
	Goal    string  `json:"goal"`
	Figure  string  `json:"figure"`
	Value   float64 `json:"value"`   // the ratio, or megabytes; 0 when not measured
	Verdict string  `json:"verdict"` // reached, not reached, not measured
}

const (
	reached     = "reached"
	notReached  = "not reached"
	notMeasured = "not measured"
)

// goals lists all of them, measured or not.
func goals(r *results) []goal {
	var g []goal
	for _, ch := range []string{"ch4", "ch5"} {
		for _, cell := range []string{"a64", "a256"} {
			g = append(g, threadedGoals(r, ch, cell)...)
		}
	}
	g = append(g, atLeast("ch3 -prefork: requests/s, 64 clients", "fork_proxy.c", 2,
		rps(r.find("a64", "ch3-prefork")), rps(r.find("a64", "C-fork")), "/s"))
	g = append(g, atLeast("ch3, a child for each connection: requests/s, 64 clients",
		"starting /bin/true the same way", 0.5, rps(r.find("a64", "ch3")), r.BinTrue, "/s"))
	g = append(g, atMost("ch4: memory with 10,000 silent clients", "threaded_proxy.c", 0.5,
		held(r.find("d10000", "ch4")), held(r.find("d10000", "C-threaded")), " MB"))
	for _, c := range r.Contestants {
		if c.Family == "chapter" {
			g = append(g, bodyGoals(r, c.ID)...)
		}
	}
	for n := 6; n <= 9; n++ {
		if id := fmt.Sprintf("ch%d", n); r.has(id) {
			g = append(g, atMost(id+": CPU a request, keep-alive", "httputil.ReverseProxy", 0.5,
				cpu(r.find("b64", id)), cpu(r.find("b64", "httputil")), " µs"))
		}
	}
	if r.has("ch10") {
		g = append(g, eventLoopGoals(r)...)
	}
	return g
}

// threadedGoals: as many requests as the C program with threads, at a fifth
// of its p99, and none failed.
func threadedGoals(r *results, ch, cell string) []goal {
	clients := cell[1:] + " clients"
	mine, c := r.find(cell, ch), r.find(cell, "C-threaded")
	g := []goal{
		atLeast(ch+": requests/s, "+clients, "threaded_proxy.c", 1, rps(mine), rps(c), "/s"),
		atMost(ch+": corrected p99, "+clients, "threaded_proxy.c", 0.2, p99(mine), p99(c), " ms"),
	}
	failed := goal{What: ch + ": failed requests, " + clients, Against: "-", Goal: "0", Verdict: notMeasured}
	if mine != nil && mine.RPS.N > 0 {
		failed.Value, failed.Figure = float64(mine.Failed), fmt.Sprint(mine.Failed)
		failed.Verdict = verdict(mine.Failed == 0)
	}
	return append(g, failed)
}

func bodyGoals(r *results, id string) []goal {
	w := "a body of 1 GiB"
	for _, c := range r.Cells {
		if c.ID == "e" && c.Bytes != gib {
			w = "a body of 128 MiB"
		}
	}
	x := r.find("e", id)
	g := []goal{atLeast(id+": speed, "+w, "straight to the backend", 0.5,
		mbps(x), mbps(r.find("e", "straight")), " MB/s")}
	mem := goal{What: id + ": peak memory, " + w, Against: "-", Goal: "≤ 32 MB", Verdict: notMeasured}
	if x != nil && x.Peak.N > 0 && x.Failed == 0 {
		mem.Value = x.Peak.Median / 1e6
		mem.Figure, mem.Verdict = fmt.Sprintf("%.1f MB", mem.Value), verdict(mem.Value <= 32)
	}
	return append(g, mem)
}

func eventLoopGoals(r *results) []goal {
	g := []goal{atMost("ch10: memory with 10,000 silent clients", "threaded_proxy.c", 0.1,
		held(r.find("d10000", "ch10")), held(r.find("d10000", "C-threaded")), " MB")}
	for _, ref := range []string{"nginx", "HAProxy"} {
		for _, cell := range []string{"a64", "b64"} {
			mine, other := r.find(cell, "ch10"), r.find(cell, ref)
			g = append(g, atMost("ch10: CPU a request, "+cell, ref, 1, cpu(mine), cpu(other), " µs"),
				atLeast("ch10: requests/s, "+cell, ref, 1, rps(mine), rps(other), "/s"))
		}
	}
	return g
}

func (r *results) has(id string) bool {
	for _, c := range r.Contestants {
		if c.ID == id {
			return true
		}
	}
	return false
}

func rps(r *row) stat.Spread  { return part(r, func() stat.Spread { return r.RPS }, 1) }
func p99(r *row) stat.Spread  { return part(r, func() stat.Spread { return r.P99All }, 1e-3) }
func cpu(r *row) stat.Spread  { return part(r, func() stat.Spread { return r.CPU }, 1) }
func held(r *row) stat.Spread { return part(r, func() stat.Spread { return r.Held }, 1e-6) }
func mbps(r *row) stat.Spread { return part(r, func() stat.Spread { return r.MBps }, 1) }

func part(r *row, get func() stat.Spread, unit float64) stat.Spread {
	if r == nil || r.Requests == 0 {
		return stat.Spread{}
	}
	s := get()
	return stat.Spread{Median: s.Median * unit, Min: s.Min * unit, Max: s.Max * unit, N: s.N}
}

func atLeast(what, against string, times float64, mine, other stat.Spread, unit string) goal {
	return compare(what, against, fmt.Sprintf("≥ %g ×", times), mine, other, unit,
		func(x float64) bool { return x >= times })
}

func atMost(what, against string, times float64, mine, other stat.Spread, unit string) goal {
	return compare(what, against, fmt.Sprintf("≤ %g ×", times), mine, other, unit,
		func(x float64) bool { return x <= times })
}

func compare(what, against, text string, mine, other stat.Spread, unit string, ok func(float64) bool) goal {
	g := goal{What: what, Against: against, Goal: text, Verdict: notMeasured}
	x := mine.Ratio(other)
	if math.IsNaN(x) {
		return g
	}
	g.Value = x
	g.Figure = fmt.Sprintf("%.2f × (%s against %s%s)", x, number(mine.Median), number(other.Median), unit)
	g.Verdict = verdict(ok(x))
	return g
}

func verdict(ok bool) string {
	if ok {
		return reached
	}
	return notReached
}
