package choose

import "math"

// tau is how long it takes what is known of a backend to lose its weight, in
// seconds: after it 1/e, 37 %, is left.
const tau = 10.0

// decaying is what is known of a backend's last while. All of it loses weight by
// the same factor all the time, so nothing is multiplied as time passes: what is
// new counts for more instead, e^(now/τ), and backends compare as they are (G.
// Cormode et al., Forward Decay, ICDE 2009). A look at all backends, each of them
// decayed up to now, costs no call of exp.
type decaying struct {
	picks    float64 // how many requests it got
	estimate float64 // how long its answers take; only if known
	known    bool
	seen     float64 // the scale when it last answered
}

// observe takes the time that an answer took: Finagle's peak EWMA. A peak replaces
// the estimate at once, other answers change it by as much as the time that they
// stand for. Scale is the group's, now.
func (d *decaying) observe(took, scale float64) {
	took *= scale
	if !d.known || took > d.estimate {
		d.estimate = took
	} else {
		d.estimate += took * (1 - d.seen/scale) // 1 - e^(-t/τ), t seconds after the last
	}
	d.known, d.seen = true, scale
}

// scale returns what something that happens now counts for.
func (g *Group) scale(now float64) float64 {
	age := (now - g.since) / tau
	if age > 100 { // e^700 is too much for a float64
		shrink := math.Exp(-age)
		for _, b := range g.Backends {
			b.picks *= shrink
			b.estimate *= shrink
			b.seen *= shrink
		}
		g.since, age = now, 0
	}
	return math.Exp(age)
}
