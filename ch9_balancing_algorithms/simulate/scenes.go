package simulate

import (
	"math/rand/v2"

	"reverseproxy/ch9_balancing_algorithms/choose"
)

// kind returns the algorithm of a name, as a Run wants it.
func kind(name string) func(*choose.Group) choose.Algorithm {
	return func(g *choose.Group) choose.Algorithm {
		a, err := choose.New(name, g)
		if err != nil {
			panic(err)
		}
		return a
	}
}

// choices returns the algorithm that draws n backends.
func choices(n int) func(*choose.Group) choose.Algorithm {
	return func(g *choose.Group) choose.Algorithm { return choose.NewChoices(g, n) }
}

// halfFast is Prequal's scene: of 100 servers that share their time every second one
// is twice as fast. With a load of 1, an equal share just fills a slow one.
func halfFast(algorithm func(*choose.Group) choose.Algorithm, load float64, seed uint64) Run {
	const servers, work, seconds = 100, .1, 400.0
	jobs := seconds * load * servers / work
	return Run{New: algorithm, Servers: servers, Rate: jobs / seconds, Jobs: int(jobs),
		Warm: int(jobs) / 4, Seed: seed, Work: CutNormal(work), Sharing: true, Deadline: 5,
		Speed: func(server int, _ float64) float64 { return 1 + float64(server%2) }}
}

// slowMinute has five servers of 50 ms, of which one is ten times slower from second
// 60 to 120.
func slowMinute(name string, seed uint64) Run {
	return Run{New: kind(name), Servers: 5, Rate: 50, Jobs: 50 * 300, Seed: seed,
		Work: func(r *rand.Rand) float64 { return .05 * (.98 + .04*r.Float64()) },
		Speed: func(server int, at float64) float64 {
			if server == 0 && at >= 60 && at < 120 {
				return .1
			}
			return 1
		}}
}
