package scenes

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"

	"reverseproxy/ch9_balancing_algorithms/choose"
	"reverseproxy/ch9_balancing_algorithms/simulate"
	"reverseproxy/scripts/bench/plots"
)

// The looks of some algorithms in all pictures.
var styles = map[string]plots.Style{
	"random":            {Color: plots.Grey, Dash: plots.Dotted, Mark: plots.OpenCircle},
	"round-robin":       {Color: plots.Orange, Dash: plots.Solid, Mark: plots.Square},
	"two-choices":       {Color: plots.Blue, Dash: plots.Solid, Mark: plots.Circle},
	"least-connections": {Color: plots.Green, Dash: plots.Dashed, Mark: plots.Up},
	"least-time":        {Color: plots.Vermilion, Dash: plots.Solid, Mark: plots.Diamond},
	"hot-cold":          {Color: plots.Purple, Dash: plots.Dashed, Mark: plots.OpenDiamond},
}

// series is an algorithm's line in a picture.
func series(name string, x, y []float64) plots.Series {
	return plots.Series{Name: name, Style: styles[name], X: x, Y: y}
}

// supermarket is the theory's own scene.
func supermarket(r *Report) {
	ds := []int{1, 2, 3, 5}
	t := table{title: "Supermarket model: each job draws d of 100 servers; mean time (published, " +
		"for very many)",
		head: []string{"load", "d=1 (random)", "d=2 (two-choices)", "d=3", "d=5"}}
	for _, load := range []float64{.5, .7, .8, .9, .95} {
		row := []cell{text(fmt.Sprint(load))}
		for _, d := range ds {
			run := simulate.Run{New: simulate.Choices(d), Servers: 100, Rate: 100 * load,
				Work: simulate.Exponential}
			row = append(row, seconds(r.plan(run), simulate.Supermarket(d, load)))
		}
		t.rows = append(t.rows, row)
	}
	r.tables = append(r.tables, t)
}

// turns compares what knows nothing, its own turns, and the queues.
func turns(r *Report) {
	published := map[int][]float64{3: {1.243, 2.287, 3.992, 7.345},
		10: {1.024, 1.357, 1.912, 2.961}}
	names := []string{"random", "round-robin", "two-choices", "least-connections"}
	t := table{title: "Mean time (published; one queue: what no choice on arrival can beat)",
		head: append(append([]string{"servers, load"}, names...), "one queue")}
	loads := []float64{.5, .8, .9, .95}
	means := map[string][]*simulate.Result{}
	for _, n := range []int{3, 10} {
		for i, load := range loads {
			row := []cell{text(fmt.Sprintf("%d, %v", n, load))}
			known := map[string]float64{"random": simulate.Supermarket(1, load),
				"round-robin": simulate.RoundRobin(n, load), "least-connections": published[n][i]}
			run := simulate.Run{Servers: n, Rate: float64(n) * load, Work: simulate.Exponential}
			for _, name := range names {
				run.New = simulate.Named(name)
				result := r.plan(run)
				row = append(row, seconds(result, known[name]))
				if n == 10 {
					means[name] = append(means[name], result)
				}
			}
			best := fmt.Sprintf("(%.3f)", simulate.OneQueue(n, load))
			t.rows = append(t.rows, append(row, text(best)))
		}
	}
	r.tables = append(r.tables, t)
	r.figures = append(r.figures, func() (*plots.Figure, error) {
		var lines []plots.Series
		for _, name := range names {
			lines = append(lines, series(name, loads, meansOf(means[name])))
		}
		return plots.Lines("ch9-sim-queues", "Ten servers: mean time by load",
			"Lines that rise with the load: random most, then round-robin, two-choices, "+
				"least-connections",
			plots.Axis{Label: "load"}, plots.Axis{Label: "mean time, in jobs", Log: true}, lines)
	})
}

func meansOf(results []*simulate.Result) (y []float64) {
	for _, result := range results {
		y = append(y, result.Mean)
	}
	return y
}

// split shows what the jobs' sizes do.
func split(r *Report) {
	t := table{title: "Random split over 10 servers, load .9, by the jobs' work: mean time " +
		"(published)",
		head: []string{"work", "one after the other", "p99", "longest queue",
			"all at once (sharing)"}}
	for _, w := range []struct {
		name string
		work func(*rand.Rand) float64
		c2   float64
	}{{"fixed", simulate.Fixed, 0}, {"exponential", simulate.Exponential, 1},
		{"bounded Pareto", simulate.Pareto, simulate.ParetoC2}} {
		run := simulate.Run{New: simulate.Named("random"), Servers: 10, Rate: 9, Work: w.work}
		fifo := r.plan(run)
		run.Sharing = true
		t.rows = append(t.rows, []cell{text(w.name), seconds(fifo, simulate.Split(.9, w.c2)),
			p99(fifo), longest(fifo), seconds(r.plan(run), 10)})
	}
	r.tables = append(r.tables, t)
}

func p99(result *simulate.Result) cell {
	return func() string { return strconv.FormatFloat(result.P99, 'g', 3, 64) }
}

func longest(result *simulate.Result) cell {
	return func() string { return strconv.Itoa(result.Longest) }
}

// board shows herds: all go where it was empty a while ago.
func board(r *Report) {
	names := []string{"random", "two-choices", "least-connections"}
	ages := []float64{1, 2, 5, 10, 20}
	t := table{title: "100 servers, load .9, known from a board that is written anew from time " +
		"to time: mean time",
		head: append(append([]string{"every"}, names...), "least-connections, own picks counted")}
	means := map[string][]*simulate.Result{}
	run := simulate.Run{Servers: 100, Rate: 90, Work: simulate.Exponential}
	run.New = simulate.Named("random")
	blind := r.plan(run) // it does not look at the board
	for _, age := range ages {
		row := []cell{text(fmt.Sprintf("%v s", age))}
		run.Board, run.OwnPicks = age, false
		for _, name := range names {
			result := blind
			if run.New = simulate.Named(name); name != "random" {
				result = r.plan(run)
			}
			means[name] = append(means[name], result)
			row = append(row, seconds(result, 0))
		}
		run.OwnPicks = true
		t.rows = append(t.rows, append(row, seconds(r.plan(run), 0)))
	}
	r.tables = append(r.tables, t)
	r.figures = append(r.figures, func() (*plots.Figure, error) {
		var lines []plots.Series
		for _, name := range names {
			lines = append(lines, series(name, ages, meansOf(means[name])))
		}
		return plots.Lines("ch9-sim-stale", "Old data: mean time by the age of the board",
			"least-connections begins below random and rises above it; two-choices stays below",
			plots.Axis{Label: "the board is written anew every … job times"},
			plots.Axis{Label: "mean time, in jobs", Log: true}, lines)
	})
}

// side sets all algorithms side by side.
func side(r *Report) {
	t := table{title: "Ten servers, load .8; then with keys of which few are most (Zipf, s=1.1)",
		head: []string{"algorithm", "mean", "p99", "longest queue", "mean, Zipf", "longest, Zipf"}}
	for _, k := range choose.Kinds {
		run := simulate.Run{New: k.New, Servers: 10, Rate: 8, Work: simulate.Exponential}
		even := r.plan(run)
		skewed := even
		if slices.Contains(byKey, k.Name) {
			run.Key = zipfKeys(r.Seed)
			skewed = r.plan(run)
		}
		t.rows = append(t.rows, []cell{text(k.Name), seconds(even, 0), p99(even), longest(even),
			seconds(skewed, 0), longest(skewed)})
	}
	r.tables = append(r.tables, t)
}

// zipfKeys returns keys of which every seventh or so is the same.
func zipfKeys(seed uint64) func() uint64 {
	keys := rand.NewZipf(rand.New(rand.NewPCG(seed, 9)), 1.1, 1, 1e5)
	return func() uint64 { return choose.HashNumber(keys.Uint64()) }
}

// halfFast is Prequal's scene: of 100 servers that share their time every second one
// is twice as fast. With a load of 1, an equal share just fills a slow one. It takes
// 400 s if jobs is 10⁶, of which the first quarter does not count.
func halfFast(a simulate.Algorithm, load float64, jobs int) simulate.Run {
	const servers, work, per = 100, .1, 400.0 / 1e6
	rate := load * servers / work
	n := int(float64(jobs) * per * rate)
	return simulate.Run{New: a, Servers: servers, Rate: rate, Jobs: n, Warm: n / 4,
		Work: simulate.CutNormal(work), Sharing: true, Deadline: 5,
		Speed: func(server int, _ float64) float64 { return 1 + float64(server%2) }}
}

func hotColdOverAll(g *choose.Group) choose.Algorithm {
	return choose.NewHotCold(g, len(g.Backends))
}

func uneven(r *Report) {
	names := []string{"round-robin", "two-choices", "least-time", "hot-cold"}
	loads := []float64{.8, .93, 1.03, 1.14, 1.27, 1.4}
	for _, proxies := range []int{1, 100} {
		t := table{title: fmt.Sprintf("100 servers that share their time, half of them twice as "+
			"fast, deadline 5 s, proxies: %d; errors, p99", proxies),
			head: append(append([]string{"load"}, names...), "hot-cold over all")}
		failed := map[string][]*simulate.Result{}
		for _, load := range loads {
			row := []cell{text(fmt.Sprintf("%.2f", load))}
			add := func(a simulate.Algorithm) *simulate.Result {
				run := halfFast(a, load, r.Jobs)
				run.Proxies = proxies
				result := r.plan(run)
				row = append(row, func() string {
					return fmt.Sprintf("%.2f %%, %.2f s", 100*result.Failed, result.P99)
				})
				return result
			}
			for _, name := range names {
				failed[name] = append(failed[name], add(simulate.Named(name)))
			}
			add(hotColdOverAll)
			t.rows = append(t.rows, row)
		}
		r.tables = append(r.tables, t)
		if proxies > 1 {
			r.figures = append(r.figures, func() (*plots.Figure, error) {
				var lines []plots.Series
				for _, name := range names {
					var y []float64
					for _, result := range failed[name] {
						y = append(y, 100*result.Failed)
					}
					lines = append(lines, series(name, loads, y))
				}
				return plots.Lines("ch9-sim-half-fast",
					"Half of 100 servers twice as fast: errors by load",
					"round-robin fails from a load of 1 on, two-choices soon after",
					plots.Axis{Label: "load; 1: an equal share fills a slow server"},
					plots.Axis{Label: "errors, %", Min: 0, Max: 25}, lines)
			})
		}
	}
}

func hedging(r *Report) {
	var plain, hedged, load float64
	r.runs = append(r.runs, planned{func(func(int)) {
		plain, hedged, load = simulate.Hedging{Requests: r.Jobs, Rate: 100, Seed: r.Seed,
			Answer: simulate.TailAtScale}.Simulate()
	}, 0})
	r.tables = append(r.tables, table{
		title: "Hedging: answers of 10 ms, three in a hundred of 1 s",
		head:  []string{"", "p99", "tries a request"}, rows: [][]cell{
			{text("one try"), func() string { return fmt.Sprintf("%.0f ms", 1000*plain) },
				text("1.00")},
			{text("a second one after the p95 of the last 1,000"),
				func() string { return fmt.Sprintf("%.0f ms", 1000*hedged) },
				func() string { return fmt.Sprintf("%.2f", load) }}}})
}

// slowMinute has five servers of 50 ms, of which one is ten times slower from second
// 60 to 120.
func slowMinute(name string, seed uint64) simulate.Run {
	return simulate.Run{New: simulate.Named(name), Servers: 5, Rate: 50, Jobs: 50 * 300, Seed: seed,
		Work: func(r *rand.Rand) float64 { return .05 * (.98 + .04*r.Float64()) },
		Speed: func(server int, at float64) float64 {
			if server == 0 && at >= 60 && at < 120 {
				return .1
			}
			return 1
		}}
}

// minute shows how a server that was slow comes back.
func minute(r *Report) {
	names := []string{"round-robin", "two-choices", "least-connections", "least-time"}
	const window, windows = 10, 30 // seconds
	t := table{title: "Five servers of 50 ms, one of them ten times slower for a minute",
		head: []string{"algorithm", "p99", "its share in the minute",
			"and from 30 to 60 s after it"}}
	shares := map[string]*[windows]float64{}
	for _, name := range names {
		var got, all [windows]float64
		share := new([windows]float64)
		shares[name] = share
		run := slowMinute(name, r.Seed)
		run.Warm = 1
		run.Done = func(server int, began, _ float64) {
			if i := int(began / window); i < windows {
				if all[i]++; server == 0 {
					got[i]++
				}
				share[i] = 100 * got[i] / all[i]
			}
		}
		result := r.plan(run)
		average := func(from, to int) cell {
			return func() string {
				sum := 0.0
				for _, x := range share[from/window : to/window] {
					sum += x
				}
				return fmt.Sprintf("%.1f %%", sum/float64((to-from)/window))
			}
		}
		t.rows = append(t.rows, []cell{text(name), p99(result), average(60, 120),
			average(150, 180)})
	}
	r.tables = append(r.tables, t)
	r.figures = append(r.figures, func() (*plots.Figure, error) {
		var lines []plots.Series
		for _, name := range names {
			var x, y []float64
			for i, share := range shares[name] {
				x, y = append(x, float64(i*window+window/2)), append(y, share)
			}
			lines = append(lines, series(name, x, y))
		}
		return plots.Lines("ch9-sim-slow-minute",
			"One of five is ten times slower from 60 to 120 s",
			"Its share of the jobs falls under all but round-robin, and comes back",
			plots.Axis{Label: "seconds"},
			plots.Axis{Label: "its share of the jobs, %", Min: 0, Max: 30}, lines)
	})
}
