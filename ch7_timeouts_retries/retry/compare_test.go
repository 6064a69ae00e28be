package retry

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"testing"
)

// A policy says whether a failed try may be repeated. Times are in seconds.
type policy interface {
	arrived(now float64)
	failed(now float64) (again bool)
	ended(now float64, retry bool) // a try that succeeded
}

// tokens is this package's Budget.
type tokens struct{ Budget }

func newTokens(n int) *tokens { return &tokens{Budget{full: n, level: float64(n)}} }

func (b *tokens) arrived(float64)     {}
func (b *tokens) failed(float64) bool { return b.Failure() }
func (b *tokens) ended(float64, bool) { b.Success() }

// share allows retries for a fifth of the requests of the last ten seconds.
type share struct{ requests, retries []float64 }

func last(times []float64, now float64) []float64 {
	for len(times) > 0 && times[0] < now-10 {
		times = times[1:]
	}
	return times
}

func (s *share) arrived(now float64) { s.requests = append(last(s.requests, now), now) }
func (s *share) failed(now float64) bool {
	s.retries = last(s.retries, now)
	if 5*(len(s.retries)+1) > len(s.requests) {
		return false
	}
	s.retries = append(s.retries, now)
	return true
}
func (s *share) ended(float64, bool) {}

// inFlight allows as many retries at a time as a fifth of the requests in flight,
// and three.
type inFlight struct{ requests, retries int }

func (f *inFlight) arrived(float64) { f.requests++ }
func (f *inFlight) failed(float64) bool {
	if f.retries >= max(3, f.requests/5) {
		f.requests--
		return false
	}
	f.retries++
	return true
}
func (f *inFlight) ended(_ float64, retry bool) {
	if f.requests--; retry {
		f.retries--
	}
}

// An end is a try that will succeed, and when.
type end struct {
	at    float64
	retry bool
}

type ends []end

func (e ends) Len() int           { return len(e) }
func (e ends) Less(i, j int) bool { return e[i].at < e[j].at }
func (e ends) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *ends) Push(x any)        { *e = append(*e, x.(end)) }
func (e *ends) Pop() any {
	one := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return one
}

// simulate sends n requests, as many a second as rate, at random moments, to three
// backends of which some are dead: they break each connection at once. The others
// take 50 ms on average. It returns which share of the requests was lost, and how
// many tries there were for each.
func simulate(p policy, n int, rate float64, dead int, seed uint64) (lost, tries float64) {
	random := rand.New(rand.NewPCG(seed, 1))
	var running ends
	now := 0.0
	for range n {
		now += random.ExpFloat64() / rate
		for len(running) > 0 && running[0].at <= now {
			one := heap.Pop(&running).(end)
			p.ended(one.at, one.retry)
		}
		p.arrived(now)
		first := random.IntN(3)
		tries++
		retry := first < dead
		if retry {
			if !p.failed(now) {
				lost++
				continue
			}
			tries++
			if second := (first + 1 + random.IntN(2)) % 3; second < dead {
				if _, ok := p.(*inFlight); ok {
					p.ended(now, true)
				} else {
					p.failed(now) // it counts, but there is no third try
				}
				lost++
				continue
			}
		}
		heap.Push(&running, end{now + random.ExpFloat64()*0.05, retry})
	}
	return lost / float64(n), tries / float64(n)
}

// TestBudgetsCompared shows why the budget is a bucket of 100 tokens.
func TestBudgetsCompared(t *testing.T) {
	const n = 300_000
	fmt.Println("                          one of three dead: GETs lost      all dead: tries")
	fmt.Println("budget                    at 10/s   at 100/s   at 1,000/s   a request, 1,000/s")
	for _, row := range []struct {
		name string
		new  func() policy
		fits func(lost, load float64) bool // at 1,000/s
	}{
		{"20 % of the requests", func() policy { return &share{} },
			func(lost, load float64) bool { return lost > .1 && load < 1.25 }},
		{"20 % of those in flight", func() policy { return &inFlight{} },
			func(lost, load float64) bool { return load > 1.9 }},
		{"10 tokens", func() policy { return newTokens(10) },
			func(lost, load float64) bool { return lost > .001 && load < 1.05 }},
		{"100 tokens", func() policy { return newTokens(100) },
			func(lost, load float64) bool { return lost == 0 && load < 1.05 }},
		{"none", func() policy { return newTokens(0) },
			func(lost, load float64) bool { return lost == 0 && load == 2 }},
	} {
		line, lost := fmt.Sprintf("%-24s", row.name), 0.0
		for _, rate := range []float64{10, 100, 1000} {
			lost, _ = simulate(row.new(), n, rate, 1, 1)
			line += fmt.Sprintf("%8.2f %%", 100*lost)
		}
		_, load := simulate(row.new(), n, 1000, 3, 1)
		fmt.Printf("%s %14.2f\n", line, load)
		if !row.fits(lost, load) {
			t.Errorf("%s: not what the page says", row.name)
		}
	}
}
