//go:build linux

package main

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"reverseproxy/scripts/bench/stat"
)

// goal is one figure that the chapters are held against.
type goal struct {
	What    string  `json:"what"`
	Against string  `json:"against"`
	Goal    string  `json:"goal"`
	Figure  string  `json:"figure"`
	Value   float64 `json:"value"`   // the ratio, or megabytes; 0 when not measured
	Verdict string  `json:"verdict"` // one of the below
}

const (
	reached     = "reached"
	notReached  = "not reached"
	notMeasured = "not measured"
	machineBusy = "machine busy" // all the time: no verdict
)

// figure is what a goal compares: the median of a row, in a unit.
type figure struct {
	name, unit string
	scale      float64
	of         func(*row) stat.Spread
}

var (
	user = figure{"user-mode CPU a request", " µs", 1, func(r *row) stat.Spread {
		return r.CPUUser
	}}
	cpu    = figure{"CPU a request", " µs", 1, func(r *row) stat.Spread { return r.CPU }}
	rps    = figure{"requests/s", "/s", 1, func(r *row) stat.Spread { return r.RPS }}
	p99    = figure{"corrected p99", " ms", 1e-3, func(r *row) stat.Spread { return r.P99All }}
	held   = figure{"memory", " MB", 1e-6, func(r *row) stat.Spread { return r.Held }}
	client = figure{"memory a client", " kB", 1e-3, func(r *row) stat.Spread {
		return r.PerClient
	}}
	speed  = figure{"speed", " MB/s", 1, func(r *row) stat.Spread { return r.MBps }}
	peak   = figure{"peak memory", " MB", 1e-6, func(r *row) stat.Spread { return r.Peak }}
	failed = figure{"failed requests", "", 1, func(r *row) stat.Spread {
		return stat.Of(float64(r.Failed))
	}}
)

// aim is a goal before it is measured: a figure of some contestants in some
// cells, in ratio to that of others (the best of those that were measured), or,
// with none, as it is.
type aim struct {
	ids, cells []string
	figure     figure
	atLeast    bool // else at most
	limit      float64
	against    []string
}

var (
	threaded = []string{"C-threaded"}
	others   = []string{"nginx", "HAProxy"}
	each     = []string{"a64", "a256"}
	kept     = []string{"b64", "b256"}
	loops    = []string{"b64", "b256", "a64", "a256"}
	body     = []string{"e"}
	proxies  = []string{"ch2", "ch3", "ch4", "ch5", "ch6", "ch7", "ch8", "ch9"}
)

var aims = []aim{
	{[]string{"ch4", "ch5"}, each, cpu, false, 0.9, threaded},
	{[]string{"ch4", "ch5"}, each, rps, true, 1.05, threaded},
	{[]string{"ch4", "ch5"}, each, p99, false, 0.2, threaded},
	{[]string{"ch4", "ch5"}, each, failed, false, 0, nil},
	{[]string{"ch4", "ch5"}, []string{"d10000"}, held, false, 0.45, threaded},
	{[]string{"ch2"}, []string{"a64"}, cpu, false, 2.5, []string{"C-balancer"}},
	{[]string{"ch3-prefork"}, []string{"a64"}, rps, true, 1.7, []string{"C-fork"}},
	{[]string{"ch3"}, []string{"a64"}, rps, true, 0.5, []string{startsTrue}},
	{[]string{"ch6", "ch7", "ch8"}, []string{"b64"}, cpu, false, 0.35, []string{"httputil-pool"}},
	{[]string{"ch9"}, []string{"b64"}, cpu, false, 0.4, []string{"httputil-pool"}},
	{[]string{"ch10"}, loops, cpu, false, 1, others},
	{[]string{"ch10"}, loops, rps, true, 1, others},
	{[]string{"ch10"}, loops, p99, false, 1, others},
	{[]string{"ch10"}, kept, cpu, false, 1.25, []string{nullRelay}},
	{[]string{"ch10"}, kept, user, false, 1, []string{"nginx"}},
	{[]string{"ch10"}, []string{"d10000"}, held, false, 0.1, threaded},
	{[]string{"ch10"}, []string{"d10000"}, client, false, 1.3, nil},
	{proxies, body, speed, true, 1.3, others},
	{[]string{"ch10"}, body, speed, true, 1, others},
	{append([]string{"ch10"}, proxies...), body, peak, false, 32, nil},
}

// startsTrue stands for how many programs that do nothing can be started a
// second, as ch3 starts its children.
const startsTrue = "starting /bin/true the same way"

// goals lists all of them, measured or not, for the contestants that take part.
func goals(r *results) []goal {
	var all []goal
	for _, a := range aims {
		for _, id := range a.ids {
			for _, cell := range a.cells {
				if r.has(id) {
					all = append(all, r.goal(a, id, cell))
				}
			}
		}
	}
	return all
}

func (r *results) has(id string) bool {
	return slices.ContainsFunc(r.Contestants, func(c *contestant) bool { return c.ID == id })
}

func (r *results) goal(a aim, id, cell string) goal {
	sign := "≤"
	if a.atLeast {
		sign = "≥"
	}
	g := goal{What: fmt.Sprintf("%s: %s, %s", id, a.figure.name, r.title(cell)), Against: "-",
		Goal: fmt.Sprintf("%s %g%s", sign, a.limit, a.figure.unit), Verdict: notMeasured}
	mine := r.measured(a.figure, cell, id)
	if a.against != nil {
		g.Against, g.Goal = a.against[0], fmt.Sprintf("%s %g ×", sign, a.limit)
		g.Value = math.NaN()
		for _, id := range a.against {
			other := r.measured(a.figure, cell, id)
			ratio := mine.Ratio(other)
			harder := math.IsNaN(g.Value) || ratio < g.Value == a.atLeast
			if math.IsNaN(ratio) || !harder {
				continue
			}
			g.Against, g.Value = id, ratio
			g.Figure = fmt.Sprintf("%.2f × (%s against %s%s)", g.Value,
				number(mine.Median*a.figure.scale), number(other.Median*a.figure.scale),
				a.figure.unit)
		}
	} else {
		g.Value = mine.Median * a.figure.scale
		g.Figure = strings.TrimSuffix(number(g.Value), ".00") + a.figure.unit
	}
	switch {
	case r.anyBusy(cell, append([]string{id}, a.against...)):
		g.Value, g.Figure, g.Verdict = 0, "", machineBusy
		if a.against != nil {
			g.Against = strings.Join(a.against, " or ")
		}
	case mine.N == 0, math.IsNaN(g.Value):
		g.Value, g.Figure = 0, ""
	case a.atLeast && g.Value >= a.limit, !a.atLeast && g.Value <= a.limit:
		g.Verdict = reached
	default:
		g.Verdict = notReached
	}
	return g
}

// anyBusy reports whether one of them was measured in a cell only while the machine
// was busy.
func (r *results) anyBusy(cell string, ids []string) bool {
	return slices.ContainsFunc(ids, func(id string) bool {
		x := r.find(cell, id)
		return x != nil && x.busy()
	})
}

// measured is a figure of a contestant in a cell; N is 0 if there is none.
func (r *results) measured(f figure, cell, id string) stat.Spread {
	if id == startsTrue {
		return r.BinTrue
	}
	x := r.find(cell, id)
	if x == nil || x.Requests == 0 {
		return stat.Spread{}
	}
	return f.of(x)
}
