//go:build linux

package main

import (
	"fmt"
	"os"
	"path/filepath"
)

// report prints the tables and writes results.json, report.html and the plots.
func (b *bench) report(interrupted bool) error {
	b.progress("writing the report")
	fmt.Println()
	r := b.collect(interrupted)
	r.print(os.Stdout)
	if err := os.MkdirAll(b.o.out, 0o755); err != nil {
		return err
	}
	if err := r.writeJSON(b.o.out); err != nil {
		return err
	}
	fmt.Printf("\nWritten: %s\n", filepath.Join(b.o.out, "results.json"))
	return nil
}
