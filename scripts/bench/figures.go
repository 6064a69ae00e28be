//go:build linux

package main

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"gonum.org/v1/plot"

	"reverseproxy/scripts/bench/load"
	"reverseproxy/scripts/bench/plots"
	"reverseproxy/scripts/bench/stat"
)

// styles gives each contestant its looks: the colour says the model, the dash
// says whose it is: chapters solid, C dashed, others dotted.
var styles = map[string]plots.Style{
	"straight":       {Color: plots.Grey, Dash: plots.Dotted, Mark: plots.DiagonalPlus},
	"ch2":            {Color: plots.Black, Mark: plots.Circle},
	"ch3":            {Color: plots.Vermilion, Mark: plots.Up},
	"ch3-prefork":    {Color: plots.Orange, Mark: plots.Square},
	"ch4":            {Color: plots.Blue, Mark: plots.Circle},
	"ch4-os-threads": {Color: plots.SkyBlue, Mark: plots.Square},
	"ch5":            {Color: plots.Green, Mark: plots.Diamond},
	"C-balancer":     {Color: plots.Black, Dash: plots.Dashed, Mark: plots.OpenCircle},
	"C-fork":         {Color: plots.Vermilion, Dash: plots.Dashed, Mark: plots.OpenDown},
	"C-threaded":     {Color: plots.SkyBlue, Dash: plots.Dashed, Mark: plots.OpenSquare},
	"httputil":       {Color: plots.Purple, Dash: plots.Dotted, Mark: plots.OpenDiamond},
	"httputil-pool":  {Color: plots.Purple, Dash: plots.Dashed, Mark: plots.Diamond},
	"nginx":          {Color: plots.Vermilion, Dash: plots.Dotted, Mark: plots.DiagonalPlus},
	nullRelay:        {Color: plots.Grey, Dash: plots.Dashed, Mark: plots.OpenCircle},
	"HAProxy":        {Color: plots.Orange, Dash: plots.Dotted, Mark: plots.Plus},
}

// spare are the looks of the chapters that have none of their own.
var spare = []plots.Style{
	{Color: plots.Purple, Mark: plots.Circle},
	{Color: plots.Black, Mark: plots.Square},
	{Color: plots.Orange, Mark: plots.Up},
	{Color: plots.Vermilion, Mark: plots.Square},
	{Color: plots.Green, Mark: plots.Circle},
}

func (r *results) style(id string) plots.Style {
	if s, ok := styles[id]; ok {
		return s
	}
	n := 0
	for _, c := range r.Contestants {
		if c.ID == id {
			break
		}
		if _, ok := styles[c.ID]; !ok {
			n++
		}
	}
	return spare[n%len(spare)]
}

// group is one of the two sets that a picture shows; all at once would be a
// thicket.
type group struct {
	key, title string
	has        func(c *contestant) bool
}

var groups = []group{
	{"models", "the models, Go and C", func(c *contestant) bool {
		return c.Family == "c" || c.Family == "chapter" && !c.KeepAlive
	}},
	{"others", "beside other proxies", func(c *contestant) bool {
		return c.Family == "reference" || c.Family == "chapter" && c.KeepAlive ||
			slices.Contains([]string{"ch4", "ch5", "C-threaded"}, c.ID)
	}},
}

func (r *results) in(g group) []*contestant {
	var cs []*contestant
	for _, c := range r.Contestants {
		if g.has(c) {
			cs = append(cs, c)
		}
	}
	return cs
}

// figures draws every picture there are data for.
func (r *results) figures() []*plots.Figure {
	var all []*plots.Figure
	add := func(f *plots.Figure, err error) {
		if err == nil && f != nil {
			all = append(all, f)
		}
	}
	for _, g := range groups {
		add(r.throughput(g))
	}
	for _, g := range groups {
		add(r.latency(g, "a64", "bench-latency-"+g.key,
			"Latency, 64 clients, one request a connection: "+g.title))
	}
	for _, g := range groups {
		add(r.latency(g, "r", "bench-rate-"+g.key, "Latency at "+r.title("r")+": "+g.title))
	}
	add(r.dots("a64", "bench-cpu", "CPU time of the proxy a request, one request a connection, "+
		"64 clients",
		plots.Axis{Label: "µs of CPU a request (log scale)", Log: true}, " µs", 1,
		func(x *row) stat.Spread { return x.CPU }))
	add(r.dots("b64", "bench-cpu-keepalive", "CPU time of the proxy a request, keep-alive, 64 "+
		"clients",
		plots.Axis{Label: "µs of CPU a request"}, " µs", 1,
		func(x *row) stat.Spread { return x.CPU }))
	for _, cell := range []string{"d10000", "d1000"} {
		add(r.dots(cell, "bench-memory-"+cell[1:], "Memory a connection, "+r.title(cell),
			plots.Axis{Label: "kB a silent client, or a child process (log scale)", Log: true},
			" kB", 1e-3, func(x *row) stat.Spread {
				if x.Requests == 0 && !r.manyProcesses(x.Contestant) {
					return stat.Spread{} // it has not accepted them: nothing to compare
				}
				return x.PerClient
			}))
	}
	add(r.timelines())
	for _, g := range groups {
		add(r.burst(g))
	}
	add(r.dots("e", "bench-body", r.title("e")+": speed", plots.Axis{Label: "MB/s"}, " MB/s", 1,
		func(x *row) stat.Spread { return x.MBps }))
	return all
}

// manyProcesses reports a contestant with a process for each connection.
func (r *results) manyProcesses(id string) bool {
	return slices.ContainsFunc(r.Contestants,
		func(c *contestant) bool { return c.ID == id && c.Processes })
}

func (r *results) title(cell string) string {
	for _, c := range r.Cells {
		if c.ID == cell {
			t := c.Title
			return strings.ToLower(t[:1]) + t[1:]
		}
	}
	return cell
}

func (r *results) throughput(g group) (*plots.Figure, error) {
	var series []plots.Series
	top := 0.0
	var ticks []plot.Tick
	for _, c := range r.in(g) {
		s := plots.Series{Name: c.ID, Style: r.style(c.ID)}
		for _, w := range r.Cells {
			x := r.find(w.ID, c.ID)
			if w.Workload != "a" || x == nil || x.RPS.Median <= 0 {
				continue
			}
			s.X, s.Y = append(s.X, float64(w.Clients)), append(s.Y, x.RPS.Median)
			s.Lo, s.Hi = append(s.Lo, max(x.RPS.Min, 1)), append(s.Hi, x.RPS.Max)
			top = max(top, x.RPS.Max)
		}
		series = append(series, s)
	}
	for _, w := range r.Cells {
		if w.Workload == "a" {
			ticks = append(ticks,
				plot.Tick{Value: float64(w.Clients), Label: fmt.Sprint(w.Clients)})
		}
	}
	if top == 0 {
		return nil, nil
	}
	return plots.Lines("bench-throughput-"+g.key, "Throughput by clients: "+g.title,
		"Requests per second against the number of clients, one line a proxy",
		plots.Axis{Label: "clients at once, one request a connection", Log: true, Ticks: ticks},
		plots.Axis{Label: "requests/s", Log: true}, series)
}

// nines are the percentiles drawn, and where on the axis: each nine more is
// one unit further.
func nines(total int64) (percentiles, x []float64) {
	for v := 0.0; v <= 4; v += 0.1 {
		p := 100 * (1 - math.Pow(10, -v))
		if float64(total)*(1-p/100) < 3 {
			break
		}
		percentiles, x = append(percentiles, p), append(x, v)
	}
	return percentiles, x
}

func (r *results) latency(g group, cell, name, title string) (*plots.Figure, error) {
	var series []plots.Series
	end := 0.0
	for _, c := range r.in(g) {
		x := r.find(cell, c.ID)
		if x == nil || x.Latency.TotalCount() < 10 {
			continue
		}
		s := plots.Series{Name: c.ID, Style: r.style(c.ID)}
		ps, xs := nines(x.Latency.TotalCount())
		for i, p := range ps {
			s.X, s.Y = append(s.X, xs[i]), append(s.Y, x.Latency.Percentile(p)/1e3)
			end = max(end, xs[i])
		}
		series = append(series, s)
	}
	if len(series) == 0 {
		return nil, nil
	}
	var ticks []plot.Tick
	for _, t := range []struct {
		p float64
		s string
	}{{0, "0"}, {50, "50"}, {90, "90"}, {99, "99"}, {99.9, "99.9"}, {99.99, "99.99"}} {
		if v := -math.Log10(1 - t.p/100); v <= end+0.01 {
			ticks = append(ticks, plot.Tick{Value: v, Label: t.s})
		}
	}
	return plots.Lines(name, title,
		"Latency in milliseconds against the percentile, one line a proxy",
		plots.Axis{Label: "per cent of the requests that took no longer", Max: end, Ticks: ticks},
		plots.Axis{Label: "milliseconds", Log: true}, series)
}

func (r *results) dots(cell, name, title string, x plots.Axis, unit string, scale float64,
	get func(*row) stat.Spread) (*plots.Figure, error) {
	var dots []plots.Dot
	for _, c := range r.Contestants {
		if w := r.find(cell, c.ID); w != nil {
			s := get(w)
			if s.N == 0 || s.Median*scale < 0.01 {
				continue
			}
			dots = append(dots, plots.Dot{Name: c.ID, Style: r.style(c.ID), Value: s.Median * scale,
				Lo: max(s.Min*scale, 0.01), Hi: s.Max * scale,
				Label: plots.Short(s.Median*scale) + unit})
		}
	}
	if len(dots) == 0 {
		return nil, nil
	}
	return plots.Dots(name, title, title+", one line a proxy", x, dots)
}

func (r *results) timelines() (*plots.Figure, error) {
	var panels []plots.Panel
	for _, c := range r.Contestants {
		x := r.find("c8", c.ID)
		if x == nil || len(x.Timeline) == 0 {
			continue
		}
		p := plots.Panel{Name: c.ID}
		for _, t := range x.Timeline {
			p.Bars = append(p.Bars, bar(t, x.Max.Max/1e6))
		}
		panels = append(panels, p)
	}
	if len(panels) == 0 {
		return nil, nil
	}
	return plots.Timelines("bench-timelines",
		"Eight clients at once, the backend takes 200 ms: one bar a client",
		"For each proxy, eight bars that show how long each client waited for what", panels)
}

// bar converts a client's record; -1 there is NaN here.
func bar(t load.Timeline, end float64) plots.Bar {
	sec := func(us int64) float64 {
		if us < 0 {
			return math.NaN()
		}
		return float64(us) / 1e6
	}
	return plots.Bar{Connected: sec(t.Connected), Arrived: sec(t.Arrived), First: sec(t.First),
		Done: sec(t.Done), GaveUp: end}
}

// burst shows which share of the thousand connections was answered when.
func (r *results) burst(g group) (*plots.Figure, error) {
	var series []plots.Series
	for _, c := range r.in(g) {
		x := r.find("f1000", c.ID)
		if x == nil || x.Requests == 0 {
			continue
		}
		s := plots.Series{Name: c.ID, Style: r.style(c.ID)}
		total := x.Requests + x.Failed
		for i := 1; i <= 60; i++ {
			share := float64(i) / 60 * float64(x.Requests) / float64(total)
			v := x.Latency.Percentile(share * 100 * float64(total) / float64(max(1,
				x.Latency.TotalCount())))
			s.X, s.Y = append(s.X, v/1e3), append(s.Y, share*100)
		}
		series = append(series, s)
	}
	if len(series) == 0 {
		return nil, nil
	}
	var ticks []plot.Tick
	for v := 0.0; v <= 100; v += 20 {
		ticks = append(ticks, plot.Tick{Value: v, Label: fmt.Sprint(v)})
	}
	return plots.Lines("bench-burst-"+g.key, "A burst of 1,000 connections: "+g.title,
		"Share of the connections answered against the time since the burst, one line a proxy",
		plots.Axis{Label: "milliseconds since the burst (log scale)", Log: true},
		plots.Axis{Label: "% answered", Min: 0, Max: 100, Ticks: ticks}, series)
}
