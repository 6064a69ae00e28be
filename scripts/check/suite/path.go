package suite

import (
	"slices"
	"sync"
	"time"
)

// Path runs cases on one proxy in a given order, one after another: a way from the
// first line of a program to a whole proxy, which ends at the first thing that is
// missing. What Run does side by side, to be quick, would tell a beginner of many
// things at once.
type Path struct {
	labs   []*Lab
	pulse  *pulse
	runner *runner
	begun  bool          // a case has been run, so that what probeEnd finds out is known
	asked  bool          // what probeEjection finds out is known
	pooled map[*Lab]bool // and what probePool does
}

// pathTime bounds a whole path; each case has its own limit.
const pathTime = 30 * time.Minute

// NewPath starts the proxy. Close ends it.
func NewPath(s *Subject, o Options) (*Path, error) {
	if err := s.Build(); err != nil {
		return nil, err
	}
	pulse, _ := startPulse(pathTime)
	labs, err := s.open(pulse)
	if err != nil {
		pulse.stop()
		return nil, err
	}
	p := &Path{labs: labs, pulse: pulse, runner: &runner{o: o, pulse: pulse},
		pooled: map[*Lab]bool{}}
	for _, l := range labs {
		l.first, l.Uneven = o.Patience, s.Uneven
	}
	return p, nil
}

// Close ends what NewPath has started.
func (p *Path) Close() {
	p.pulse.stop()
	var wg sync.WaitGroup
	for _, l := range p.labs {
		wg.Go(l.Close)
	}
	wg.Wait()
}

// Run runs the cases in their order, up to the first that fails; the results are
// those of the cases that were run. Cases that wait for the proxy's timeouts wait
// side by side. A program that the checker has started is started anew, so that it has
// forgotten which backends failed in the cases of the run before.
func (p *Path) Run(cases []Case) (results []Result) {
	if p.begun {
		p.labs[0].renewed()
	}
	if !p.asked && slices.ContainsFunc(cases, func(c Case) bool { return c.Hurts }) {
		p.asked = true
		p.labs[0].probeEjection()
	}
	waited := map[string]Result{}
	for i := range cases {
		c := &cases[i]
		res, ok := waited[c.ID]
		if !ok && c.Mode == Timed {
			waited = p.together(cases[i:])
			res, ok = waited[c.ID]
		}
		if !ok || res.Outcome == Failed {
			res = p.one(c)
		}
		results = append(results, res)
		if p.runner.o.OnEvent != nil {
			p.runner.o.OnEvent(res)
		}
		if res.Outcome == Failed {
			break
		}
	}
	return results
}

// together runs all cases that wait for timeouts.
func (p *Path) together(cases []Case) map[string]Result {
	results := map[string]Result{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range cases {
		if c := &cases[i]; c.Mode == Timed {
			wg.Go(func() {
				res := p.runner.one(labFor(p.labs, c), c)
				mu.Lock()
				defer mu.Unlock()
				results[c.ID] = res
			})
		}
	}
	wg.Wait()
	return results
}

// lastTime is how long a program may take to end, with its last words, after it has left
// a case unanswered.
const lastTime = 200 * time.Millisecond

// one runs a case. What fails because the proxy has let it wait is run once more; what
// fails on a busy machine may be the machine's fault, and is run twice more. That the
// program ended is the fault of neither.
func (p *Path) one(c *Case) (res Result) {
	l := labFor(p.labs, c)
	p.look(l, c)
	for try := 1; ; try++ {
		res = p.runner.one(l, c)
		busy := p.pulse.busySince(res.started)
		if res.Outcome != Failed || p.runner.o.Once || l.DiedSince(res.started) ||
			!busy && (try == 2 || !res.stalled) || try == 3 {
			break
		}
	}
	if res.Outcome == Failed && res.Died == "" && l.Proc != nil && !l.OneShot &&
		l.Proc.Wait(l.pulse.scale(lastTime)) {
		res.Died = l.Proc.LastWords()
	}
	if !p.begun {
		p.begun = true
		l.probeEnd()
	}
	return res
}

// look finds out about the proxy what the case depends on.
func (p *Path) look(l *Lab, c *Case) {
	if c.Need == NeedsPool && !p.pooled[l] {
		p.pooled[l] = true
		l.probePool()
	}
}
