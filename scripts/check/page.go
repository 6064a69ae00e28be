package main

import (
	"fmt"
	"strings"
)

func page(list []*contestant, missing []string) string {
	var b strings.Builder
	for _, c := range list {
		if c.report == nil {
			continue
		}
		fmt.Fprintf(&b, "## %s\n", c.name)
		for _, n := range c.report.Notes {
			fmt.Fprintf(&b, "note %s\n", n)
		}
		for _, r := range c.report.Results {
			if r.Millis > 1500 {
				fmt.Fprintf(&b, "SLOW %d %s\n", r.Millis, r.ID)
			}
			if r.Outcome != "pass" {
				fmt.Fprintf(&b, "%-5s %-8s %-28s %5d %.170s\n", r.Outcome, r.Level, r.ID, r.Millis, strings.Join(r.Problems, " ## "))
			}
		}
	}
	return b.String()
}
