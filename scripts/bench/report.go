//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// report prints the tables and writes results.json, report.html and the
// plots, of whatever has been measured.
func (b *bench) report(interrupted bool) error {
	b.progress("writing the report")
	fmt.Println()
	r := b.collect(interrupted)
	if b.o.tricks {
		return b.printTechniques(r)
	} else if b.o.narration {
		return b.printNarration(r)
	}
	r.print(os.Stdout)
	if err := r.write(b.o.out); err != nil {
		return err
	}
	fmt.Printf("\nWritten: %s, results.json and the plots beside it\n",
		filepath.Join(b.o.out, "report.html"))
	if r.busy() { // pages get nothing of this
		return errBusy
	}
	if b.o.docs != "" {
		if err := r.writeDocs(b.o.docs, b.o.page()); err != nil {
			return err
		}
	}
	return nil
}

// withPNG also writes each picture as PNG, which takes its time.
var withPNG = true

// write writes all files of the report into dir.
func (r *results) write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := r.writeJSON(dir); err != nil {
		return err
	}
	figs := r.figures()
	for _, f := range figs {
		if err := f.Write(dir, withPNG); err != nil {
			return err
		}
	}
	return r.writeHTML(dir, figs)
}

// again makes the report of an earlier results.json anew.
func again(o *options) error {
	b, err := os.ReadFile(o.from)
	if err != nil {
		return err
	}
	r := &results{}
	if err := json.Unmarshal(b, r); err != nil {
		return fmt.Errorf("%s: %w", o.from, err)
	}
	if o.docs != "" && r.busy() {
		return errBusy
	}
	if o.docs != "" {
		if err := r.writeDocs(o.docs, o.page()); err != nil {
			return err
		}
	}
	return r.write(o.out)
}
