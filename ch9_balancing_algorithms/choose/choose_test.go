package choose

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"reverseproxy/internal/harness"
)

// group returns a group of n backends with the weights given, or of weight 1.
func group(seed uint64, n int, weights ...float64) *Group {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("127.0.0.1:%d", 8000+i)
	}
	g := NewGroup(names, rand.New(rand.NewPCG(seed, 1)))
	for i, w := range weights {
		g.Backends[i].Weight = w
	}
	g.shares()
	return g
}

// shares gives each backend its share: 1, or what is given.
func (g *Group) shares(some ...float64) {
	g.SetShares(func(b *Backend) float64 {
		if b.index < len(some) {
			return some[b.index]
		}
		return 1
	})
}

// counts returns how often each backend is picked for the keys 0 … n-1, hashed.
func counts(g *Group, a Algorithm, n int) []int {
	got := make([]int, len(g.Backends))
	for i := range n {
		got[a.Pick(Request{Key: mix(uint64(i))}).index]++
	}
	return got
}

func letters(a Algorithm, n int) string {
	var s strings.Builder
	for range n {
		s.WriteByte(byte('a' + a.Pick(Request{}).index))
	}
	return s.String()
}

func TestNames(t *testing.T) {
	g := group(1, 3)
	for _, k := range Kinds {
		if a, err := New(k.Name, g); err != nil || a.Pick(Request{}) == nil {
			t.Errorf("%s: %v, %v", k.Name, a, err)
		}
	}
	_, err := New("roundrobin", g)
	if err == nil || !strings.Contains(err.Error(), "round-robin, weighted-round-robin, ") {
		t.Errorf("%v", err)
	}
}

func TestRoundRobin(t *testing.T) {
	g := group(1, 3)
	a, _ := New("round-robin", g)
	if got := letters(a, 7); got != "abcabca" {
		t.Error(got)
	}
	g.shares(1, 0, 1) // the neighbour of the dead one gets no more than others
	if got := counts(g, a, 1000); got[0] != 500 || got[2] != 500 {
		t.Error(got)
	}
}

// nginx's example, with its running weights.
func TestWeightedRoundRobin(t *testing.T) {
	g := group(1, 3, 5, 1, 1)
	a := weightedRoundRobin{g}
	var earned [][3]float64
	for _, want := range "aabacaa" {
		if got := letters(a, 1); got != string(want) {
			t.Errorf("%s instead of %c", got, want)
		}
		b := g.Backends
		earned = append(earned, [3]float64{b[0].earned, b[1].earned, b[2].earned})
	}
	if diff := cmp.Diff([][3]float64{{-2, 1, 1}, {-4, 2, 2}, {1, -4, 3}, {-1, -3, 4}, {4, -2, -2},
		{2, -1, -1}, {0, 0, 0}}, earned); diff != "" {
		t.Errorf("want (-), got (+):\n%s", diff)
	}
}

// Wherever it starts, every whole cycle is exact.
func TestWeightedRoundRobinStartsAnywhere(t *testing.T) {
	begins := map[string]bool{}
	for seed := range uint64(100) {
		g := group(seed, 3, 5, 1, 1)
		a, _ := New("weighted-round-robin", g)
		for range 3 {
			s := letters(a, 7)
			if strings.Count(s, "a") != 5 || strings.Count(s, "b") != 1 {
				t.Fatalf("seed %d: %s", seed, s)
			}
			begins[s] = true
		}
	}
	if len(begins) != 7 {
		t.Errorf("%d ways to begin: %v", len(begins), begins)
	}
}

// Many fresh balancers do not all begin with the heavy backend.
func TestFirstPicks(t *testing.T) {
	for seed := range uint64(3) {
		random := rand.New(rand.NewPCG(seed+1, 2))
		first := 0
		const n = 10_000
		for range n {
			g := group(random.Uint64(), 2, 3, 1)
			a, _ := New("weighted-round-robin", g)
			if letters(a, 1) == "a" {
				first++
			}
		}
		if share := 100 * float64(first) / n; math.Abs(share-75) > 2 {
			t.Errorf("%.2f %% of the first picks go to the heavy one", share)
		}
	}
}

func TestLeastConnections(t *testing.T) {
	g := group(1, 3)
	a, _ := New("least-connections", g)
	if got := letters(a, 7); got != "abcabca" {
		t.Errorf("equals, not in turn: %s", got)
	}
	g = group(1, 3, 5, 1, 1)
	a, _ = New("least-connections", g)
	got := make([]int, 3)
	for range 70 {
		b := a.Pick(Request{})
		g.Begin(b, 0)
		got[b.index]++
	}
	if diff := cmp.Diff([]int{50, 10, 10}, got); diff != "" {
		t.Errorf("want (-), got (+):\n%s", diff)
	}
}

// Two choices of two never pick the busier one (caddy#7873).
func TestTwoChoicesOfTwo(t *testing.T) {
	g := group(1, 2)
	a, _ := New("two-choices", g)
	for i := range 100_000 {
		b := a.Pick(Request{})
		if other := g.Backends[1-b.index]; b.InFlight > other.InFlight {
			t.Fatalf("pick %d: %d in flight, the other has %d", i, b.InFlight, other.InFlight)
		}
		if g.Begin(b, 0); i%3 > 0 {
			if c := g.Backends[g.Random.IntN(2)]; c.InFlight > 0 {
				g.End(c, 0, 1, false)
			}
		}
	}
}

// An idle farm of 1,600, 5 requests a second at each, 10⁶ in all. Without the rule
// for ties it is left to chance.
func TestTwoChoicesOnAnIdleFarm(t *testing.T) {
	const n, requests = 1600, 1_000_000
	seeds := uint64(3)
	if harness.Race { // which makes it take long; there is only one goroutine here
		seeds = 1
	}
	for seed := range seeds {
		for _, rule := range []bool{true, false} {
			g := group(seed+1, n)
			a, _ := New("two-choices", g)
			got := make([]int, n)
			now := 0.0
			for range requests {
				now += g.Random.ExpFloat64() / (5 * n)
				b := a.Pick(Request{Now: now})
				got[b.index]++
				g.Begin(b, now)
				g.End(b, now, 0, false)
				if !rule {
					b.picks = 0
				}
			}
			least, most := got[0], got[0]
			for _, k := range got {
				least, most = min(least, k), max(most, k)
			}
			t.Logf("seed %d, rule %v: %d … %d", seed+1, rule, least, most)
			if rule && (least < 600 || most > 650) || !rule && most-least <= 130 {
				t.Errorf("seed %d, rule %v: %d to %d requests", seed+1, rule, least, most)
			}
		}
	}
}

// A fast failure counts as the timeout; a backend that never answered is asked, but
// not by everybody at once; and one that was slow is asked again after a while.
func TestLeastTime(t *testing.T) {
	g := group(1, 3)
	g.Timeout = 15
	a, _ := New("least-time", g)
	var seen strings.Builder
	for range 6 {
		b := a.Pick(Request{})
		g.Begin(b, 0)
		seen.WriteByte(byte('a' + b.index))
	}
	if seen.String() != "abcabc" {
		t.Errorf("nothing known: %s", seen.String())
	}
	for i, took := range []float64{.1, .001, .2} {
		g.End(g.Backends[i], 1, took, i == 1)
		g.End(g.Backends[i], 1, took, i == 1)
	}
	if got := letters(a, 3); got != "aaa" {
		t.Errorf("b fails at once, c takes longer: %s", got)
	}
	// e^(−t/τ) of 15 s is less than .1 s, which stays, after 50.1 s.
	back := 0.0
	for now := 1.0; back == 0; now += .1 {
		b := a.Pick(Request{Now: now})
		if b.index == 1 {
			back = now - 1
		}
		g.Begin(b, now)
		g.End(b, now, .1, false)
	}
	if math.Abs(back-50.1) > .5 {
		t.Errorf("b is asked again after %.1f s", back)
	}
}

// A backend of which nothing is known gets one request, and no more while that lasts.
func TestLeastTimeOfOneUnknown(t *testing.T) {
	g := group(1, 2)
	a, _ := New("least-time", g)
	g.Begin(g.Backends[0], 0)
	g.End(g.Backends[0], 0, 1, false)
	if b := a.Pick(Request{}); b.index != 1 {
		t.Error("it gets none")
	}
	g.Begin(g.Backends[1], 0)
	if got := letters(a, 5); got != "aaaaa" {
		t.Errorf("it gets more: %s", got)
	}
}

// A peak counts at once; other answers change the estimate slowly.
func TestPeak(t *testing.T) {
	g := group(1, 1)
	b := g.Backends[0]
	estimate := func(now float64) float64 { return b.estimate / g.scale(now) }
	for i := range 100 {
		g.Observe(b, float64(i)/1000, 1, false)
	}
	if g.Observe(b, .1, 5, false); estimate(.1) != 5 {
		t.Errorf("after a peak of 5 it is %v", estimate(.1))
	}
	old := math.Exp(-.01) // what is left after .1 s
	g.Observe(b, .2, 1, false)
	if got := estimate(.2); math.Abs(got-5*old-(1-old)) > 1e-9 {
		t.Errorf("after one of 1 it is %v", got)
	}
}

// What has decayed stays comparable when the scale is begun anew.
func TestScale(t *testing.T) {
	g := group(1, 2)
	for now := 0.0; now < 5000; now += 10 {
		for i, b := range g.Backends {
			g.Begin(b, now)
			g.End(b, now, float64(i+1), false)
		}
	}
	b := g.Backends
	now := g.scale(4990)
	if p, q := b[0].estimate/now, b[1].estimate/now; math.Abs(p-1) > 1e-9 || math.Abs(q-2) > 1e-9 {
		t.Errorf("estimates of %v, %v", p, q)
	}
	if want := 1 / (1 - math.Exp(-1)); math.Abs(b[0].picks/now-want) > 1e-9 {
		t.Errorf("%v picks lately, want %v", b[0].picks/now, want)
	}
}

func TestQuantile(t *testing.T) {
	g := group(1, 10)
	for i, b := range g.Backends {
		for range i {
			g.Begin(b, 0)
		}
	}
	if got := g.quantile(hotQuantile); got != 8 { // of 0 … 9
		t.Error(got)
	}
	if got := group(1, 10).quantile(hotQuantile); got != 1 {
		t.Errorf("nothing in flight: %d", got)
	}
}

func TestRing(t *testing.T) {
	for _, test := range []struct {
		n          int
		mean, most float64
	}{{3, 1.068, 1.26}, {10, 1.127, 1.30}} {
		sum, greatest := 0.0, 0.0
		const rings = 200
		for seed := range uint64(rings) {
			g := group(1, test.n)
			for _, b := range g.Backends {
				b.hash = mix(b.hash + seed) // as if they had other addresses
			}
			worst := worstPart(newRing(g).(*ring))
			if sum += worst; worst > greatest {
				greatest = worst
			}
		}
		t.Logf("%d backends: max/mean %.3f on average, %.3f at most", test.n, sum/rings, greatest)
		if greatest > test.most || math.Abs(sum/rings-test.mean) > .015 {
			t.Errorf("%d backends: max/mean %.3f on average, want %.3f; %.3f at most",
				test.n, sum/rings, test.mean, greatest)
		}
	}
}

// worstPart returns the greatest part of the ring that a backend has, of the average.
func worstPart(a *ring) float64 {
	parts := make([]float64, len(a.Backends))
	before := a.points[len(a.points)-1].at
	for _, p := range a.points {
		parts[p.backend.index] += float64(p.at - before) // it may go round
		before = p.at
	}
	worst := 0.0
	for _, p := range parts {
		worst = max(worst, p/(1<<64)*float64(len(parts)))
	}
	return worst
}

// Keys that everybody asks for bring no backend above its bound.
func TestBoundedLoad(t *testing.T) {
	for seed := range uint64(3) {
		for _, n := range []int{3, 10, 100} {
			g := group(seed+1, n)
			a, _ := New("ring-hash", g)
			keys := rand.NewZipf(g.Random, 1.1, 1, 1e6)
			var inFlight []*Backend
			for range 100_000 {
				m := len(inFlight)
				b := a.Pick(Request{Key: mix(keys.Uint64())})
				if most := int(math.Ceil(1.25 * float64(m+1) / float64(n))); b.InFlight+1 > most {
					t.Fatalf("%d of %d at one of %d backends", b.InFlight+1, m+1, n)
				}
				g.Begin(b, 0)
				inFlight = append(inFlight, b)
				for len(inFlight) > 0 && g.Random.IntN(100*n) < m {
					i := g.Random.IntN(len(inFlight))
					last := len(inFlight) - 1
					g.End(inFlight[i], 0, 1, false)
					inFlight[i] = inFlight[last]
					inFlight = inFlight[:last]
					m = last
				}
			}
		}
	}
}

func maglevCounts(a *maglev) []int {
	got := make([]int, len(a.Backends))
	for _, b := range a.table {
		got[b.index]++
	}
	return got
}

func TestMaglev(t *testing.T) {
	for i, n := range maglevCounts(newMaglevOf(group(1, 1000))) {
		if n != 65 && n != 66 {
			t.Errorf("backend %d has %d entries", i, n)
		}
	}
	double := newMaglevOf(group(1, 2, 1, 2))
	if diff := cmp.Diff([]int{21_846, 43_691}, maglevCounts(double)); diff != "" {
		t.Errorf("want (-), got (+):\n%s", diff)
	}
}

// Which part of the table changes when a backend goes.
func TestMaglevDisruption(t *testing.T) {
	for _, test := range []struct {
		n         int
		want, fit float64 // percent
	}{{10, 10.5, .5}, {1000, .68, .1}} {
		sum, times := 0.0, 0.0
		before := newMaglevOf(group(1, test.n))
		for gone := 0; gone < test.n; gone += test.n / 10 {
			g := group(1, test.n)
			g.Backends = append(g.Backends[:gone:gone], g.Backends[gone+1:]...)
			after := newMaglevOf(g)
			changed := 0
			for i, b := range after.table {
				if b.Name != before.table[i].Name {
					changed++
				}
			}
			sum += 100 * float64(changed) / maglevSize
			times++
		}
		t.Logf("one of %d: %.2f %%", test.n, sum/times)
		if math.Abs(sum/times-test.want) > test.fit {
			t.Errorf("one of %d: %.2f %% of the entries change", test.n, sum/times)
		}
	}
}

func TestJump(t *testing.T) {
	moved := 0
	for key := range uint64(1_000_000) {
		before, after := jumpTo(key, 10), jumpTo(key, 11)
		if before != after {
			moved++
			if after != 10 {
				t.Fatalf("key %d moves from %d to %d", key, before, after)
			}
		}
	}
	if moved != 90_877 {
		t.Errorf("%d of 1,000,000 keys move from 10 to 11, want 90,877", moved)
	}
}

// Rendezvous, as the Maglev paper measures it: 65,537 keys, 1,000 backends.
func TestRendezvous(t *testing.T) {
	g := group(1, 1000)
	a, _ := New("rendezvous", g)
	most := 0
	for _, n := range counts(g, a, maglevSize) {
		most = max(most, n)
	}
	over := 100 * (float64(most)*1000/maglevSize - 1)
	t.Logf("%+.1f %%", over)
	if math.Abs(over-48) > 12 {
		t.Errorf("the greatest is %+.1f %% above the average", over)
	}
}

func TestSticky(t *testing.T) {
	g := group(1, 3)
	a, _ := New("sticky-cookie", g)
	r := Request{Cookie: Hash("127.0.0.1:8001")}
	for range 100 {
		if b := a.Pick(r); b.index != 1 {
			t.Fatal(b.Name)
		}
	}
	g.shares(1, 0, 1)
	if b := a.Pick(r); b.index == 1 {
		t.Error("it stays at a backend that must not be picked")
	}
}

// Every algorithm respects shares and weights that change: nothing goes to a backend
// without a share, only a part to one in its slow start, and no key moves that need
// not.
func TestShares(t *testing.T) {
	n := 100_000
	if harness.Race {
		n /= 5
	}
	hashing := map[string]bool{"ring-hash": true, "rendezvous": true, "maglev": true,
		"jump-hash": true}
	for _, k := range Kinds {
		t.Run(k.Name, func(t *testing.T) {
			g := group(1, 5)
			a := k.New(g)
			now := 0.0
			run := func() (got []int, by []*Backend) {
				got = make([]int, 5)
				for i := range n {
					now += .001
					r := Request{Now: now, Key: mix(uint64(i))}
					b := a.Pick(r)
					got[b.index]++
					by = append(by, b)
					g.Begin(b, r.Now)
					g.End(b, r.Now, 1, false)
				}
				return got, by
			}
			_, before := run()
			g.shares(1, 0, 1, 1, 0)
			got, after := run()
			if got[1] > 0 || got[4] > 0 {
				t.Errorf("without shares: %v", got)
			}
			for i, b := range before {
				if hashing[k.Name] && b.weight > 0 && after[i] != b {
					t.Fatalf("key %d moves from %s to %s", i, b.Name, after[i].Name)
				}
			}
			g.shares(1, .1, 1, 1, 1)
			got, _ = run()
			switch k.Name {
			case "least-time", "hot-cold": // by time alone
				return
			}
			if tenth := float64(got[1]); tenth == 0 || tenth > .14*float64(n)/4.1 &&
				tenth > .6*float64(got[0]) {
				t.Errorf("with a tenth of a share: %v", got)
			}
			g.shares(0, 0, .1, 0, 0)
			if got, _ = run(); got[2] != n {
				t.Errorf("one is left: %v", got)
			}
		})
	}
}

// Weights: each algorithm that knows them shares the work out by them.
func TestWeights(t *testing.T) {
	const n = 70_000
	for _, name := range []string{"weighted-round-robin", "least-connections", "random",
		"two-choices", "source-hash", "ring-hash", "rendezvous", "maglev", "jump-hash"} {
		g := group(1, 3, 5, 1, 1)
		a, _ := New(name, g)
		var inFlight []*Backend
		got := make([]int, 3)
		for i := range n {
			b := a.Pick(Request{Now: float64(i) / 1000, Key: mix(uint64(i))})
			got[b.index]++
			g.Begin(b, 0)
			if inFlight = append(inFlight, b); len(inFlight) == 70 {
				g.End(inFlight[0], 0, 1, false)
				inFlight = inFlight[1:]
			}
		}
		if share := float64(got[0]) / n; math.Abs(share-5./7) > .06 {
			t.Errorf("%s: %v", name, got)
		}
	}
}
