//go:build linux

package main

import (
	"fmt"
	"os"
	"slices"

	"reverseproxy/internal/book"
	"reverseproxy/scripts/bench/stat"
)

// variants are the ways to run ch10 that -techniques compares: as it is, without one
// of its techniques, and with a larger buffer.
var variants = []struct {
	id    string
	flags []string
}{
	{"ch10", nil},
	{"without short-read", []string{"-without", "short-read"}},
	{"without join", []string{"-without", "join"}},
	{"without splice", []string{"-without", "splice"}},
	{"without recv", []string{"-without", "recv"}},
	{"without piggyback", []string{"-without", "piggyback"}},
	{"without yield", []string{"-without", "yield"}},
	{"read-buffer 16 KiB", []string{"-read-buffer", "16384"}},
}

// techniqueCells are where they are compared.
var techniqueCells = []string{"b64", "a64", "e"}

// techniques are the contestants of -techniques.
func (b *bench) techniques() (cs []*contestant) {
	for _, v := range variants {
		cs = append(cs, b.chapter(book.Of(10), v.id, "a way to run ch10", v.flags...))
	}
	return cs
}

// onlyTechniqueCells leaves out the other cells.
func onlyTechniqueCells(cells []*cell) []*cell {
	return slices.DeleteFunc(cells, func(c *cell) bool {
		return !slices.Contains(techniqueCells, c.ID)
	})
}

// printTechniques prints what each costs, in ratio to ch10 as it is.
func (b *bench) printTechniques(r *results) error {
	lines := [][]string{{"", "CPU a request, keep-alive", "requests/s, keep-alive",
		"CPU a request, one a connection", "requests/s, one a connection", "CPU, 1 GiB", ""}}
	for _, v := range variants {
		line := []string{v.id}
		for _, column := range []struct {
			cell string
			of   func(*row) stat.Spread
		}{
			{"b64", func(x *row) stat.Spread { return x.CPU }},
			{"b64", func(x *row) stat.Spread { return x.RPS }},
			{"a64", func(x *row) stat.Spread { return x.CPU }},
			{"a64", func(x *row) stat.Spread { return x.RPS }},
			{"e", func(x *row) stat.Spread { return x.CPUSeconds }},
		} {
			x, base := r.find(column.cell, v.id), r.find(column.cell, variants[0].id)
			text := "-"
			if x != nil && base != nil && column.of(x).N > 0 && column.of(base).N > 0 {
				text = fmt.Sprintf("%.2f ×", column.of(x).Ratio(column.of(base)))
			}
			line = append(line, text)
		}
		lines = append(lines, append(line, ""))
	}
	fmt.Printf("\nWhat each technique of ch10 brings: medians of %d rounds\n", r.Rounds)
	printTable(os.Stdout, lines)
	if r.busy() {
		return errBusy
	}
	return b.fillBlock(techniquesBlock, lines)
}
