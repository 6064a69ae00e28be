//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"reverseproxy/internal/peers"
	"reverseproxy/scripts/bench/load"
)

// What -syscalls counts: so many requests at least, by so many clients.
const (
	tracedRequests = 10_000
	tracedClients  = 64
	tracedMS       = 1000             // milliseconds of the first run
	mostTracedMS   = 60_000           // and of the second, at most
	endTime        = 10 * time.Second // for a contestant to end, and strace with it
)

// calls are system calls by name.
type calls map[string]call

// call is how often one was made, and how often in vain: EAGAIN, mostly.
type call struct{ count, failed float64 }

// callGroups are the columns of the table.
var callGroups = []struct {
	name  string
	calls []string
}{
	{"read", []string{"read", "readv", "recvfrom", "recvmsg"}},
	{"write", []string{"write", "writev", "sendto", "sendmsg", "sendfile", "splice"}},
	{"epoll_wait", []string{"epoll_wait", "epoll_pwait", "epoll_pwait2"}},
	{"epoll_ctl", []string{"epoll_ctl"}},
}

// syscalls counts each contestant's system calls a request, and prints them.
func (b *bench) syscalls(ctx context.Context) error {
	if peers.Find("strace") == "" {
		return errors.New("-syscalls needs strace; on Debian: apt-get install strace")
	}
	lines := [][]string{{"proxy", "requests"}}
	for _, g := range callGroups {
		lines[0] = append(lines[0], g.name)
	}
	lines[0] = append(lines[0], "reads in vain", "others", "of these")
	for _, c := range b.contestants {
		if c.args == nil || !c.KeepAlive {
			continue
		}
		b.progress("counting the system calls of %s", c.ID)
		all, requests, err := b.perRequest(ctx, c)
		if err != nil {
			return fmt.Errorf("%s: %w", c.ID, err)
		}
		lines = append(lines, append([]string{c.ID, number(requests)}, all.line()...))
	}
	fmt.Printf("\n\nSystem calls a request, keep-alive, %d clients\n", tracedClients)
	printTable(os.Stdout, lines)
	return b.fillBlock(syscallsBlock, lines)
}

// perRequest counts a contestant's calls a request. It takes the difference of a long
// run and a short one: what starting, connecting and ending need is in both.
func (b *bench) perRequest(ctx context.Context, c *contestant) (calls, float64, error) {
	short, few, err := b.traced(ctx, c, tracedMS)
	if err != nil {
		return nil, 0, err
	}
	var long calls
	n := 0.0
	ms := min(tracedMS*(2+int(tracedRequests/max(few, 1))), mostTracedMS)
	for ; n < tracedRequests; ms *= 2 {
		if ms > mostTracedMS {
			return nil, 0, fmt.Errorf("%.0f requests only, in %d ms", n, ms/2)
		}
		all, many, err := b.traced(ctx, c, ms)
		if err != nil {
			return nil, 0, err
		}
		long, n = all, many-few
	}
	for name := range short {
		long[name] = call{long[name].count - short[name].count,
			long[name].failed - short[name].failed}
	}
	for name, c := range long {
		long[name] = call{c.count / n, c.failed / n}
	}
	return long, n, nil
}

// traced runs a contestant under strace, and clients for so many milliseconds. It
// returns the calls and the number of requests that were answered.
func (b *bench) traced(ctx context.Context, c *contestant, ms int) (calls, float64, error) {
	file := filepath.Join(b.tmp, "strace")
	b.under = []string{peers.Find("strace"), "-f", "-c", "-o", file}
	defer func() { b.under = nil }()
	job := load.Job{Path: "/", Body: small, Clients: tracedClients, KeepAlive: true, RunMS: ms,
		TimeoutMS: calmMS}
	inst, err := b.start(ctx, c, job)
	if err != nil {
		return nil, 0, err
	}
	defer inst.stop()
	job.Target = inst.addr
	res, err := generate(ctx, job, nil)
	if err != nil {
		return nil, 0, err
	}
	if n := res.Failed(); n > 0 {
		return nil, 0, fmt.Errorf("%d requests failed: %v", n, res.Failures)
	}
	inst.run.Interrupt() // strace waits for the program's end, and writes its table
	if !inst.run.Wait(endTime) {
		return nil, 0, fmt.Errorf("it does not end: %s", inst.run.LastWords())
	}
	text, err := os.ReadFile(file)
	return parseCalls(string(text)), float64(res.AllAnswers), err
}

// parseCalls reads the table that strace -c writes: % time, seconds, usecs/call, calls,
// errors if there were any, and the name.
func parseCalls(text string) calls {
	all := calls{}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 5 || f[len(f)-1] == "total" {
			continue
		}
		count, err := strconv.Atoi(f[3])
		if err != nil {
			continue
		}
		c := call{count: float64(count)}
		if len(f) == 6 {
			c.failed, _ = strconv.ParseFloat(f[4], 64)
		}
		all[f[len(f)-1]] = c
	}
	return all
}

// line is a contestant's row of the table, without its name.
func (c calls) line() []string {
	var line []string
	rest := maps.Clone(c)
	inVain := 0.0
	for i, g := range callGroups {
		sum := 0.0
		for _, name := range g.calls {
			sum += c[name].count
			delete(rest, name)
			if i == 0 {
				inVain += c[name].failed
			}
		}
		line = append(line, perRequest(sum))
	}
	others := 0.0
	for _, other := range rest {
		others += max(other.count, 0)
	}
	names := slices.SortedFunc(maps.Keys(rest), func(a, b string) int {
		return int(1e6 * (rest[b].count - rest[a].count))
	})
	var most []string
	for _, name := range names[:min(3, len(names))] {
		if rest[name].count >= 0.005 {
			most = append(most, name+" "+perRequest(rest[name].count))
		}
	}
	return append(line, perRequest(inVain), perRequest(others), strings.Join(most, ", "))
}

// perRequest prints a number of calls a request. A little less than none is the two
// runs' difference.
func perRequest(x float64) string { return fmt.Sprintf("%.3f", max(x, 0)) }
