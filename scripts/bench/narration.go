//go:build linux

package main

import (
	"fmt"
	"os"

	"reverseproxy/internal/book"
	"reverseproxy/scripts/bench/stat"
)

// What -narration compares: chapters that say nothing, and the same with narration and
// live page, each on one core.
const (
	narrationRate = 1000 // requests/s
	narrated      = " narrated"
)

var (
	narrators = []int{4, 6, 10} // chapters
	narration = []string{"-log", "text", "-watch", "127.0.0.1:0"}
	oneCore   = []string{"env", "GOMAXPROCS=1"}
)

// narrations are the contestants of -narration.
func (b *bench) narrations() (cs []*contestant) {
	b.under = oneCore
	for _, n := range narrators {
		ch := book.Of(n)
		cs = append(cs, b.chapter(ch, ch.Short(), "without a word"),
			b.chapter(ch, ch.Short()+narrated, "with narration and live page", narration...))
	}
	return cs
}

// printNarration prints what narration and live page cost, in ratio to none.
func (b *bench) printNarration(r *results) error {
	lines := [][]string{{"", "p50", "p99", "CPU a request", "p99, ms", "without", ""}}
	for _, n := range narrators {
		id := book.Of(n).Short()
		on, off := r.find("r", id+narrated), r.find("r", id)
		if on == nil || off == nil {
			continue
		}
		line := []string{id}
		for _, of := range []func(*row) stat.Spread{
			func(x *row) stat.Spread { return x.P50 },
			func(x *row) stat.Spread { return x.P99 },
			func(x *row) stat.Spread { return x.CPU },
		} {
			line = append(line, fmt.Sprintf("%.2f ×", of(on).Ratio(of(off))))
		}
		lines = append(lines, append(line, number(on.P99.Median/1000),
			number(off.P99.Median/1000), ""))
	}
	fmt.Printf("\nWhat narration and live page cost at %s requests/s, GOMAXPROCS=1: "+
		"medians of %d rounds\n", number(b.o.rate), r.Rounds)
	printTable(os.Stdout, lines)
	for _, x := range r.Rows {
		if x.Failed > 0 {
			return fmt.Errorf("%s: %d requests failed", x.Contestant, x.Failed)
		}
	}
	if r.busy() {
		return errBusy
	}
	return b.fillBlock(narrationBlock, lines)
}
