//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"

	"reverseproxy/internal/peers"
	"reverseproxy/scripts/bench/load"
	"reverseproxy/scripts/bench/stat"
)

// checkSize says how much the comparison with wrk takes.
type checkSize struct {
	pairs   int     // runs of wrk and of the generator, taking turns
	most    int     // pairs, when the first do not agree
	seconds int     // length of a run; wrk knows whole seconds only
	within  float64 // relative difference of the medians
}

// fullCheck is what -selfcheck does.
var fullCheck = checkSize{pairs: 7, most: 14, seconds: 2, within: 0.15}

// check is one comparison of the load generator with wrk. The runs stand in
// pairs that follow each other directly, so that what slows the machine for a
// while slows both; what counts is the median of the pairs' ratios.
type check struct {
	target    *contestant
	path      string
	clients   int
	keepAlive bool
	size      checkSize
	ours, wrk [2][]float64 // requests/s and p99 in µs
}

// ratio is ours over wrk's: of requests/s (0) or p99 (1).
func (k *check) ratio(i int) stat.Spread {
	var r []float64
	for j := range k.ours[i] {
		r = append(r, k.ours[i][j]/k.wrk[i][j])
	}
	return stat.Of(r...)
}

// selfcheck runs the generator and wrk in turns on the same targets and
// compares requests/s and p99.
func (b *bench) selfcheck(ctx context.Context) error {
	wrk := peers.Find("wrk")
	if wrk == "" {
		return errors.New("-selfcheck needs wrk; on Debian: apt-get install wrk")
	}
	var err error
	if b.origin, b.backends, err = backends(); err != nil {
		return err
	}
	var checks []*check
	straight := &contestant{ID: "straight", Family: "baseline", KeepAlive: true}
	targets := b.build(append([]*contestant{straight}, b.references()...))
	for _, c := range targets {
		if c.only == "" && b.o.only.MatchString(c.ID) {
			kept := &check{target: c, path: "/", clients: 64, keepAlive: true, size: fullCheck}
			if c == straight {
				// On a kept connection the backend alone answers faster than one
				// thread can ask: the CPU time of the two generators would be
				// compared. An answer after 2 ms has a latency that is known.
				kept.path = "/slow?ms=2"
			}
			checks = append(checks, &check{target: c, path: "/", clients: 64, size: fullCheck},
				kept)
		}
	}
	bad := 0
	fmt.Printf("%-10s %-22s %10s %10s %7s   %9s %9s %7s\n", "target", "", "requests/s", "wrk", "",
		"p99 ms", "wrk", "")
	for _, k := range checks {
		if err := b.compareWithWrk(ctx, wrk, k); err != nil {
			return err
		}
		if !k.print() {
			bad++
		}
	}
	if bad > 0 {
		return fmt.Errorf("%d of %d comparisons differ by more than %.0f %%; other work on the "+
			"machine disturbs both",
			bad, len(checks), fullCheck.within*100)
	}
	fmt.Printf("All %d comparisons agree within %.0f %% (medians of %d pairs of runs or more).\n",
		len(checks), fullCheck.within*100, fullCheck.pairs)
	return nil
}

func (b *bench) compareWithWrk(ctx context.Context, wrk string, k *check) error {
	inst, err := b.start(ctx, k.target, load.Job{Path: k.path, KeepAlive: k.keepAlive})
	if err != nil {
		return err
	}
	defer inst.stop()
	for i := 0; i < k.size.pairs || i < k.size.most && !k.agrees(); i++ {
		beside := watchNeighbours()
		first, second := k.runOurs, k.runWrk(wrk)
		if i%2 == 1 {
			first, second = second, first
		}
		if err := first(ctx, inst.addr); err != nil {
			return err
		}
		if err := second(ctx, inst.addr); err != nil {
			return err
		}
		if beside.tooBusy() {
			k.forget()
		}
	}
	if len(k.wrk[0]) == 0 {
		return errBusy
	}
	return nil
}

// forget discards the last pair.
func (k *check) forget() {
	for _, all := range []*[]float64{&k.ours[0], &k.ours[1], &k.wrk[0], &k.wrk[1]} {
		*all = (*all)[:len(*all)-1]
	}
}

// runOurs measures as wrk does: from the request's writing, one source
// address, no warm-up.
func (k *check) runOurs(ctx context.Context, addr string) error {
	res, err := generate(ctx,
		load.Job{Target: addr, Path: k.path, Clients: k.clients, KeepAlive: k.keepAlive,
			RunMS: k.size.seconds * 1000, TimeoutMS: calmMS, Body: small, OneSource: true}, nil)
	if err != nil {
		return err
	}
	if n := res.Failed(); n > 0 {
		return fmt.Errorf("%d requests failed: %v", n, res.Failures)
	}
	k.ours[0] = append(k.ours[0], float64(res.Requests)/float64(res.ElapsedNS)*1e9)
	// wrk corrects what it prints in the same way (stats_correct in its stats.c).
	h := correct(res.Sent, res.ElapsedNS/1000/max(1, res.Requests/int64(k.clients)))
	k.ours[1] = append(k.ours[1], h.Percentile(99))
	return nil
}

var (
	wrkRate = regexp.MustCompile(`Requests/sec:\s+([0-9.]+)`)
	wrkP99  = regexp.MustCompile(`99%\s+([0-9.]+)(us|ms|s)`)
)

func (k *check) runWrk(wrk string) func(context.Context, string) error {
	args := []string{"-t1", "-c" + strconv.Itoa(k.clients),
		"-d" + strconv.Itoa(k.size.seconds) + "s", "--latency"}
	if !k.keepAlive {
		args = append(args, "-H", "Connection: close")
	}
	return func(ctx context.Context, addr string) error {
		out, err := exec.CommandContext(ctx, wrk,
			append(args, "http://"+addr+k.path)...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("wrk: %w: %s", err, out)
		}
		rate, p99 := wrkRate.FindSubmatch(out), wrkP99.FindSubmatch(out)
		if rate == nil || p99 == nil {
			return fmt.Errorf("wrk printed no figures: %s", out)
		}
		x, _ := strconv.ParseFloat(string(rate[1]), 64)
		y, _ := strconv.ParseFloat(string(p99[1]), 64)
		k.wrk[0] = append(k.wrk[0], x)
		k.wrk[1] = append(k.wrk[1],
			y*map[string]float64{"us": 1, "ms": 1e3, "s": 1e6}[string(p99[2])])
		return nil
	}
}

func (k *check) agrees() bool {
	for i := range k.ours {
		x := k.ratio(i).Median
		if !(x > 1-k.size.within && x < 1+k.size.within) {
			return false
		}
	}
	return true
}

func (k *check) print() bool {
	kind := "one request/connection"
	if k.keepAlive {
		kind = "keep-alive"
		if k.path != "/" {
			kind += ", after 2 ms"
		}
	}
	a, b := stat.Of(k.ours[0]...), stat.Of(k.wrk[0]...)
	c, d := stat.Of(k.ours[1]...), stat.Of(k.wrk[1]...)
	word := "agree"
	if !k.agrees() {
		word = "DIFFER"
	}
	fmt.Printf("%-10s %-22s %10s %10s %+6.1f%%   %9.2f %9.2f %+6.1f%%  %s (%d pairs)\n",
		k.target.ID, kind,
		number(a.Median), number(b.Median), (k.ratio(0).Median-1)*100, c.Median/1e3, d.Median/1e3,
		(k.ratio(1).Median-1)*100, word, a.N)
	return k.agrees()
}
