//go:build linux

package main

import (
	"fmt"
	"slices"
	"strings"

	"reverseproxy/scripts/bench/load"
	"reverseproxy/scripts/bench/origin"
)

const allWorkloads = "abcdefr"

const workloadHelp = `  a  one request a connection, closed loop, 1, 8, 64, 256 clients
  b  keep-alive, closed loop, 64 and 256 clients
  c  eight clients at once, the backend takes 200 ms: the timeline
  d  1,000 and 10,000 silent clients: memory, and a request's latency meanwhile
  e  a body of 1 GiB (-quick: 128 MiB)
  f  a burst: 1,000 connections at the same moment
  r  constant rate (-rate), latency from the scheduled time: no coordinated omission
`

// cell is one workload with its number of clients: a block of the result
// table in which all contestants can be compared.
type cell struct {
	ID       string  `json:"id"`
	Workload string  `json:"workload"` // letter
	Title    string  `json:"title"`
	Clients  int     `json:"clients"`
	Rate     float64 `json:"rate,omitempty"` // requests/s
	Idle     int     `json:"idle,omitempty"` // silent clients
	Bytes    int64   `json:"bytes,omitempty"`

	job load.Job
	// share of the time that the budget leaves over; 0: the length is given.
	share int
	fixed int // milliseconds it takes about, start and end included
	// overflow is what a proxy with a tiny backlog takes longer, milliseconds.
	overflow int
}

// closedLoop reports whether each client sends its next request when it has
// its answer, and therefore none while it waits.
func (c *cell) closedLoop() bool { return c.Workload == "a" || c.Workload == "b" }

const (
	small      = int64(len(origin.Body))
	requestMS  = 2500 // a request without an answer by then has failed
	gib        = int64(1) << 30
	burstMS    = 4000   // the same in a burst: time for the retries after 1 and 3 s
	calmMS     = 30_000 // the same where a machine that stands still is no failure
	blockingMS = 1000   // the same where blocked clients are the point
)

var quickMS = 1500 // the same with -quick

// cells lists what the options ask for, in order.
func (o *options) cells() []*cell {
	limit, burst := requestMS, burstMS
	if o.quick {
		limit, burst = quickMS, 2*quickMS
	}
	all := o.closedLoops(limit)
	all = append(all, &cell{ID: "c8", Workload: "c", Clients: 8, fixed: 400,
		Title: "Eight clients at once, the backend takes 200 ms",
		job:   load.Job{Once: true, Path: "/slow?ms=200", Body: small, TimeoutMS: 5000}})
	all = append(all, o.idleCells()...)
	size, title := gib, "A body of 1 GiB"
	if o.quick {
		size, title = gib/8, "A body of 128 MiB"
	}
	all = append(all, &cell{ID: "e", Workload: "e", Title: title, Clients: 1, Bytes: size,
		fixed: 900,
		job:   load.Job{Once: true, Path: "/bytes?n=" + itoa(size), Body: size, TimeoutMS: 20_000}},
		&cell{ID: "f1000", Workload: "f", Title: "A burst of 1,000 connections", Clients: 1000,
			fixed: 500, overflow: burst, job: load.Job{Once: true, TimeoutMS: burst}})
	if !o.quick || o.workloads != allWorkloads { // too long for a minute, unless asked for
		all = append(all, &cell{ID: "r", Workload: "r", Clients: 4000, Rate: o.rate, share: 1,
			fixed: 50,
			Title: "Constant rate, " + number(o.rate) + " requests/s"})
	}
	all = slices.DeleteFunc(all,
		func(c *cell) bool { return !strings.Contains(o.workloads, c.Workload) })
	for _, c := range all {
		c.fill(limit)
	}
	return all
}

// fill completes a cell's job.
func (c *cell) fill(limit int) {
	c.job.Clients, c.job.Rate, c.job.Idle = c.Clients, c.Rate, c.Idle
	if c.job.Path == "" {
		c.job.Path, c.job.Body = "/", small
	}
	if c.job.TimeoutMS == 0 {
		c.job.TimeoutMS = limit
	}
}

// closedLoops are workloads a and b.
func (o *options) closedLoops(limit int) []*cell {
	var all []*cell
	for _, n := range []int{1, 8, 64, 256} {
		if o.quick && (n == 8 || n == 256) || o.loop && n < 64 {
			continue
		}
		c := &cell{ID: "a" + itoa(int64(n)), Workload: "a", Clients: n, share: 1, fixed: 50,
			Title: fmt.Sprintf("One request a connection, %d clients", n)}
		if n == 1 {
			c.Title = "One request a connection, 1 client"
		}
		if n > 10 {
			// Where a backlog overflows, clients come back after a second: what
			// is shorter than that does not see how often it happens.
			c.share = 3
			c.overflow = limit * 2 / 3
		}
		all = append(all, c)
	}
	for _, n := range []int{64, 256} {
		if !o.quick || n == 64 {
			all = append(all, &cell{ID: "b" + itoa(int64(n)), Workload: "b", Clients: n, share: 1,
				Title: fmt.Sprintf("Keep-alive, %d clients", n), fixed: 50,
				job: load.Job{KeepAlive: true}})
		}
	}
	return all
}

// idleCells are workload d.
func (o *options) idleCells() []*cell {
	one := load.Job{IdleMS: 3000, WarmupMS: 50, RunMS: 300, TimeoutMS: blockingMS}
	few := &cell{ID: "d1000", Workload: "d", Title: "1,000 silent clients", Clients: 1, Idle: 1000,
		fixed: 700, job: one}
	if o.quick {
		few.job.IdleMS, few.job.RunMS = quickMS, 1000
		return []*cell{few}
	}
	one.IdleMS, one.TimeoutMS = 12_000, 2*blockingMS
	silent := mostSilent()
	return []*cell{few, {ID: "d10000", Workload: "d", Clients: 1,
		Title: number(float64(silent)) + " silent clients",
		Idle:  silent, fixed: 1900, overflow: 1000, job: one}}
}

// takesPart says why a contestant is not measured in a cell, "" if it is.
func (c *contestant) takesPart(w *cell) string {
	switch {
	case c.only != "" && !strings.Contains(c.only, w.Workload):
		return "-"
	case w.Workload == "b" && !c.KeepAlive:
		return "closes after each request"
	case c.Family == "baseline" && !strings.Contains("abe", w.Workload):
		return "-"
	}
	return ""
}
