//go:build linux

package main

import "fmt"

func (b *bench) progress(format string, args ...any) { fmt.Printf(format+"\n", args...) }
func (b *bench) list()                               {}
func (b *bench) report(interrupted bool) error {
	for _, s := range b.samples {
		fmt.Printf("%-6s %-14s %8.0f/s p50 %.0f p99 %.0f p999 %.0f cpu %.1f peak %.1fMB held %.1f failed %d %v ovf %d gen %.2f back %.2f MB/s %.0f z %d thr %d proc %d %s\n", s.Cell, s.Contestant, s.RPS, s.P50, s.P99, s.P999, s.CPU, float64(s.Peak)/1e6, float64(s.Held)/1e6, s.Failed, s.Failures, s.Overflows, s.GeneratorCPU, s.BackendCPU, s.MBps, s.Zombies, s.Threads, s.Processes, s.Error)
	}
	return nil
}
func (b *bench) selfcheck(ctx any) error { return nil }
