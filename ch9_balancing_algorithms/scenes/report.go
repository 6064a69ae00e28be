// Package scenes has what is simulated for the chapter's page: the theory's scenes and
// others' experiments, with what is published of each beside it.
package scenes

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"reverseproxy/ch9_balancing_algorithms/simulate"
	"reverseproxy/scripts/bench/plots"
)

// Report is all that is simulated for the page: tables of what the theory and others'
// measurements say beside what the algorithms do, and pictures.
type Report struct {
	Jobs     int       // of a run; 10⁶ stray by 3 % and more from a load of .9 on
	Seed     uint64    // of all chance
	Out      io.Writer // for the tables
	Progress io.Writer // for how far it is
	Plots    string    // folder for the pictures, as SVG; "": none

	runs    []planned
	tables  []table
	figures []func() (*plots.Figure, error)
}

// Print simulates everything, on all processors, and prints and draws it.
func (r *Report) Print() error {
	for _, scene := range []func(*Report){supermarket, turns, split, board, side, uneven,
		hedging, minute, hashes} {
		scene(r)
	}
	began := time.Now()
	r.simulate()
	for _, t := range r.tables {
		t.print(r.Out)
	}
	fmt.Fprintf(r.Out, "%d runs, %s jobs each, seed %d; Little's law and utilisation hold\n",
		len(r.runs), plots.Short(float64(r.Jobs)), r.Seed)
	fmt.Fprintf(r.Progress, "it took %.1f s\n", time.Since(began).Seconds())
	return r.draw()
}

// planned is a run, and what comes of it.
type planned struct {
	simulate func(told func(jobs int))
	jobs     int
}

// plan has a run simulated later. Its result is there when the tables are printed.
func (r *Report) plan(run simulate.Run) *simulate.Result {
	if run.Jobs == 0 {
		run.Jobs = r.Jobs
	}
	run.Seed = r.Seed
	result := new(simulate.Result)
	r.runs = append(r.runs, planned{func(told func(int)) {
		run.Progress = told
		*result = run.Simulate()
	}, run.Jobs})
	return result
}

// simulate simulates all that is planned.
func (r *Report) simulate() {
	all := 0
	for _, run := range r.runs {
		all += run.jobs
	}
	var mu sync.Mutex
	done, said := 0, time.Now()
	told := func(jobs int) {
		mu.Lock()
		defer mu.Unlock()
		done += jobs
		if time.Since(said) > time.Second/2 {
			said = time.Now()
			fmt.Fprintf(r.Progress, "\r%3d %% ", 100*done/all)
		}
	}
	next := make(chan planned)
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() { // ends when next is closed
			for run := range next {
				run.simulate(told)
			}
		})
	}
	for _, run := range r.runs {
		next <- run
	}
	close(next)
	workers.Wait()
	fmt.Fprint(r.Progress, "\r100 % ")
}

// draw writes the pictures.
func (r *Report) draw() error {
	if r.Plots == "" {
		return nil
	}
	if err := os.MkdirAll(r.Plots, 0o755); err != nil {
		return err
	}
	for _, figure := range r.figures {
		f, err := figure()
		if err == nil {
			err = f.Write(r.Plots, false)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// table is a table whose cells are known when all has been simulated.
type table struct {
	title string
	head  []string
	rows  [][]cell
}

type cell func() string

func text(s string) cell { return func() string { return s } }

// seconds is a mean time, beside what it is to be; 0: nothing is known of that.
func seconds(got *simulate.Result, published float64) cell {
	return func() string {
		if published == 0 {
			return fmt.Sprintf("%.3f", got.Mean)
		}
		return fmt.Sprintf("%.3f (%.3f)", got.Mean, published)
	}
}

func (t table) print(w io.Writer) {
	cells := [][]string{t.head}
	for _, row := range t.rows {
		var line []string
		for _, c := range row {
			line = append(line, c())
		}
		cells = append(cells, line)
	}
	widths := make([]int, len(t.head))
	for _, row := range cells {
		for i, s := range row {
			widths[i] = max(widths[i], len([]rune(s)))
		}
	}
	fmt.Fprintln(w, t.title)
	for _, row := range cells {
		line := fmt.Sprintf("  %-*s", widths[0], row[0])
		for i, s := range row[1:] {
			line += fmt.Sprintf("  %*s", widths[i+1], s)
		}
		fmt.Fprintln(w, strings.TrimRight(line, " "))
	}
	fmt.Fprintln(w)
}
