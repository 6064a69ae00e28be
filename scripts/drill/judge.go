package main

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"time"

	"reverseproxy/internal/proc"
)

// lookForLeaks looks at what a chapter holds when all clients have left and idle
// connections have had their time.
func (p *pool) lookForLeaks(proxy *proxy, before int) {
	if !proc.CanLook || !proxy.own {
		return
	}
	now := proxy.sockets()
	for end := time.Now().Add(2 * p.idle); now > before && time.Now().Before(end); {
		time.Sleep(20 * time.Millisecond)
		now = proxy.sockets()
	}
	if now > before {
		p.complain(leaked, "%d sockets are open, %d were at the beginning", now, before)
	}
	// Go's runtime ends with the stacks of all goroutines.
	_ = proxy.run.Cmd.Process.Signal(syscall.SIGQUIT)
	if !proxy.run.Wait(tooLong) {
		p.complain(leaked, "it does not end at SIGQUIT")
	}
	if n := strings.Count(proxy.run.Stderr.String(), ".handleClient("); n > 0 {
		p.complain(leaked, "%d goroutines serve clients that have left", n)
	}
}

// judge holds what has failed against what may fail.
func (p *pool) judge(r *poolResult, servers []*server) {
	for _, f := range p.failed {
		if kind := p.excused(f); kind != "" {
			r.Excused[kind]++
			continue
		}
		fault := none
		if f.q.fault != nil {
			fault = f.q.fault.name
		}
		kind := lostGet
		switch {
		case f.o.foreign != "":
			kind = foreign
		case f.q.method == "POST":
			kind = lost
		}
		late := ""
		for _, e := range p.excuses[f.q.id] {
			late = fmt.Sprintf(", %v after %s", f.from.Sub(e.at), e.kind)
		}
		p.complain(kind, "request %d (%s, fault %s, leaves %q) got status %d, %v%s; %s",
			f.q.id, f.q.method, fault, f.q.leave, f.o.status, f.o.err, late, f.o.foreign)
	}
	for id := 1; id <= p.requests; id++ {
		if n := p.seen[id].Load(); n > 1 && p.query(id).method == "POST" {
			p.complain(twice, "POST %d came to the backends %d times", id, n)
		}
	}
	for _, s := range servers {
		r.Connections += s.accepted.Load()
	}
	r.PerConn = float64(p.requests) / float64(max(r.Connections, 1))
	r.Faults, r.Left = p.sent, p.left
	for _, kind := range kinds {
		all := p.problems[kind]
		r.Problems[kind] = len(all)
		for _, text := range all[:min(len(all), 3)] {
			r.Examples = append(r.Examples, kind+": "+text)
		}
	}
}

// excused returns what a failure follows from, if it may: no proxy can know what
// its backend does at the same moment, and a POST must not be sent again.
func (p *pool) excused(f failure) (kind string) {
	post := f.q.method == "POST" && f.o.foreign == "" && f.o.err == nil
	for _, e := range p.excuses[f.q.id] {
		switch {
		case !e.at.IsZero() && f.from.After(e.at.Add(onTheWay)): // the proxy could know
		case e.kind == "stray" && f.o.foreign != "",
			e.kind == "408" && post && f.o.status == http.StatusRequestTimeout,
			post && f.o.status == http.StatusBadGateway:
			return e.kind
		}
	}
	if !post || f.o.status != http.StatusBadGateway {
		return ""
	}
	for i, r := range p.resets { // the backend did not see what it has reset: one for each
		if f.from.Before(r.to.Add(onTheWay)) && r.from.Before(f.to) {
			p.resets = slices.Delete(p.resets, i, i+1)
			return "rst"
		}
	}
	return ""
}

// drillPool is the drill -pool.
func (o *options) drillPool(ctx context.Context, subjects []*subject, say progress) (*report,
	error) {
	r := &report{Drill: "pool", table: [][]string{{"what"}, {"requests"}, {"seconds"},
		{"faults sent"}, {"clients that left"}, {"requests a backend connection"},
		{"excused by what went wrong"}}}
	for _, kind := range kinds {
		r.table = append(r.table, []string{kind})
	}
	for _, s := range subjects {
		p := &pool{requests: o.requests, clients: o.clients, share: 0.01, breathEvery: 4000,
			idle: idleTime}
		result, err := p.run(ctx, s, say)
		if err != nil {
			return nil, err
		}
		r.Results = append(r.Results, result)
		sum := func(m map[string]int) (n int) {
			for _, k := range m {
				n += k
			}
			return n
		}
		cells := []any{result.Requests, fmt.Sprintf("%.1f", result.Seconds), sum(result.Faults),
			result.Left, fmt.Sprintf("%.1f", result.PerConn), sum(result.Excused)}
		for _, kind := range kinds {
			cells = append(cells, result.Problems[kind])
		}
		r.column(s.Name, cells...)
		for _, kind := range slices.Sorted(maps.Keys(result.Excused)) {
			r.notes = append(r.notes, fmt.Sprintf("excused by %s: %d", kind, result.Excused[kind]))
		}
		r.notes = append(r.notes, result.Examples...)
		if result.PerConn < leastReuse {
			r.notes = append(r.notes, s.Name+": too few requests a backend connection")
		}
		r.failed = r.failed || result.PerConn < leastReuse || sum(result.Problems) > 0
	}
	return r, nil
}
