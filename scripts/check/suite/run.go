package suite

import (
	"crypto/rand"
	"fmt"
	"regexp"
	"runtime/debug"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
	"time"
)

// Outcome of a case.
type Outcome string

// What a case can come to.
const (
	Passed  Outcome = "pass"
	Failed  Outcome = "fail"
	Skipped Outcome = "n/a"
)

// Wire is what went over one connection of a failed case.
type Wire struct {
	Peer          string `json:"peer"`
	Sent          string `json:"sent"`     // by the checker, escaped
	Received      string `json:"received"` // by the checker, escaped
	SentBytes     int64  `json:"sent_bytes"`
	ReceivedBytes int64  `json:"received_bytes"`
}

// Result is one case with what came of it.
type Result struct {
	ID       string   `json:"id"`
	Group    string   `json:"group"`
	Level    Level    `json:"level"`
	RFC      string   `json:"rfc"`
	Why      string   `json:"why"`
	Outcome  Outcome  `json:"outcome"`
	Problems []string `json:"problems,omitempty"`
	Reason   string   `json:"reason,omitempty"` // why it is not applicable or was not run
	Died     string   `json:"died,omitempty"`   // how the proxy ended meanwhile, if it did
	Millis   int64    `json:"ms"`
	Wires    []Wire   `json:"wires,omitempty"`

	stalled bool
	starved bool // answered without any backend having been asked
	started time.Time
	ended   time.Time
}

// Report is a whole run.
type Report struct {
	Proxy    string   `json:"proxy"`
	Serial   bool     `json:"one_client_at_a_time"`
	Notes    []string `json:"notes,omitempty"`
	Results  []Result `json:"results"`
	Millis   int64    `json:"ms"`
	Complete bool     `json:"complete"` // false when the run was cut short
	Busy     float64  `json:"-"`        // how much slower than usual the machine was, at most 4
}

// Options of a run.
type Options struct {
	Only    *regexp.Regexp // cases to run, nil for all
	Budget  time.Duration  // for the whole run
	Keep    bool           // keep the wires of passed cases too
	OnEvent func(Result)   // called for each case, in the order they end
	Workers int            // cases side by side
	// OnStart is called once, with what calibration has found.
	OnStart func(Calibration)

	// For tests of proxies that are known to be broken:
	Patience time.Duration // at first; 0 is the usual
	Once     bool          // no second look at a failure
}

// The longest that a case may take; timed ones wait for the proxy's timeouts.
const (
	CaseTime  = 14 * time.Second
	TimedTime = 21 * time.Second
	gateTime  = 6 * time.Second
	afterCut  = 2 * time.Second // from the end of a case's time to its verdict
)

var (
	runID    = func() string { b := make([]byte, 3); rand.Read(b); return fmt.Sprintf("%x", b) }()
	caseSeq  atomic.Int64
	wireSize = 420 // bytes of each direction shown in a report
)

// runOnce runs a case now.
func (l *Lab) runOnce(c *Case, o *Options) Result {
	t := &T{Lab: l, c: c, Done: make(chan struct{}), incoming: make(chan *Exchange, 512)}
	t.Token = fmt.Sprintf("zq%sn%dk", runID, caseSeq.Add(1))
	res := Result{ID: c.ID, Group: c.Group, Level: c.Level, RFC: c.RFC, Why: c.Why,
		started: time.Now()}
	l.Farm.register(t)
	var once sync.Once
	over := func() { once.Do(func() { close(t.Done) }) }
	limit := CaseTime
	if c.Mode == Timed || c.Mode == TimedAlone {
		limit = TimedTime
	}
	if c.ID == Gate {
		limit = gateTime
	}
	limit = max(100*time.Millisecond, min(max(limit, c.Limit), l.left()))
	stopTimer := after(t.Span(limit), func() { over(); t.cut() })
	late, stopLate := t.Late(limit + afterCut)
	defer stopLate()
	ran := make(chan struct{})
	// Ends with the case; what waits for something else than a connection may
	// be some seconds later than its verdict.
	go func() {
		defer close(ran)
		defer func() {
			if r := recover(); r != nil {
				if _, ok := r.(stop); !ok {
					t.Errorf("the checker itself failed: %v\n%s", r, debug.Stack())
				}
			}
		}()
		c.Run(t)
	}()
	select {
	case <-ran:
	case <-late:
		t.Errorf("the case was not over %v after its time", afterCut)
		t.NoteStall()
	}
	stopTimer()
	keep := o != nil && o.Keep
	if keep || t.Failed() {
		res.Wires = t.seen() // before what finish sends
	}
	over()
	t.finish()
	res.fill(t, keep)
	return res
}

// finish closes what the case has left open.
func (t *T) finish() {
	t.Lab.Farm.unregister(t)
	t.mu.Lock()
	t.ended = true
	clients, served := t.clients, t.served
	t.mu.Unlock()
	var open []*Exchange
	for _, x := range served {
		if x.finish() {
			open = append(open, x)
		}
	}
	t.mu.Lock()
	lent := t.lent // complete, as each exchange is over
	t.mu.Unlock()
	var others []*stream
	for _, x := range open {
		others = append(others, x.stream)
	}
	t.part(lent, others)
	for _, x := range open {
		x.back <- false
	}
	for _, c := range clients {
		c.Close()
	}
}

// fill takes the outcome from t.
func (r *Result) fill(t *T, keep bool) {
	if t.Lab.DiedSince(r.started) {
		r.Died = t.Lab.deathNote()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	r.ended = time.Now()
	r.Millis = r.ended.Sub(r.started).Milliseconds()
	r.stalled = t.stalls > 0
	r.starved = len(t.served) == 0
	r.Outcome = Passed
	switch {
	case len(t.problems) > 0:
		r.Outcome = Failed
		r.Problems = append([]string(nil), t.problems...)
	case t.skipped != "":
		r.Outcome = Skipped
		r.Reason = t.skipped
	}
	switch {
	case r.Outcome != Failed && !keep:
		r.Wires = nil
	case r.Wires == nil: // it has failed in the last moment
		r.Wires = t.wiresNow()
	}
}

// seen returns what has gone over the connections of the case.
func (t *T) seen() []Wire {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.wiresNow()
}

// wiresNow is seen for who holds the lock.
func (t *T) wiresNow() (all []Wire) {
	for _, w := range t.wires {
		all = append(all, Wire{w.peer, escape(w.out.text(), wireSize, true),
			escape(w.in.text(), wireSize, true), w.out.size(), w.in.size()})
	}
	return all
}

// notRun is the result of a case that was not run.
func notRun(c *Case, reason string) Result {
	return Result{ID: c.ID, Group: c.Group, Level: c.Level, RFC: c.RFC, Why: c.Why,
		Outcome: Failed, Reason: reason, Problems: []string{"not run: " + reason}}
}

func notApplicable(c *Case, reason string) Result {
	return Result{ID: c.ID, Group: c.Group, Level: c.Level, RFC: c.RFC, Why: c.Why,
		Outcome: Skipped, Reason: reason}
}

// runner runs the cases of one report.
type runner struct {
	cases   []Case
	o       Options
	pulse   *pulse
	mu      sync.Mutex
	results map[string]Result
}

func (r *runner) put(res Result) {
	r.mu.Lock()
	r.results[res.ID] = res
	r.mu.Unlock()
	if r.o.OnEvent != nil {
		r.o.OnEvent(res)
	}
}

// Gate is the case that every other one presupposes.
const Gate = "basic-get"

// Run runs the cases on a proxy and returns the report, in the order of cases.
func Run(s *Subject, cases []Case, o Options) (*Report, error) {
	start := time.Now()
	if o.Budget == 0 {
		o.Budget = 50 * time.Second
	}
	if o.Workers == 0 {
		o.Workers = 8
	}
	if err := s.Build(); err != nil {
		return nil, err
	}
	pulse, hop := startPulse(o.Budget)
	defer pulse.stop()
	r := &runner{cases: cases, o: o, pulse: pulse, results: map[string]Result{}}
	labs, err := s.open(pulse)
	if err != nil {
		return nil, err
	}
	defer func() {
		var wg sync.WaitGroup
		for _, l := range labs {
			wg.Add(1)
			// Ends when the proxy has ended, or was killed a second later.
			go func() {
				defer wg.Done()
				l.Close()
			}()
		}
		wg.Wait()
	}()
	main := labs[0]
	for _, l := range labs {
		l.first, l.Uneven = o.Patience, s.Uneven
	}
	if o.OnStart != nil {
		o.OnStart(Calibration{Hop: hop, Patience: main.patience(), Factor: pulse.stretched()})
	}
	rep := &Report{Proxy: s.Name}
	if reason := r.openGate(main); reason != "" {
		for _, c := range r.wanted() {
			if c.ID != Gate {
				r.put(notRun(c, reason))
			}
		}
	} else {
		r.runLabs(labs)
		rep.Complete = true
	}
	rep.Serial = main.Serial
	rep.Notes = notes(labs)
	if rep.Busy = pulse.stretched(); rep.Busy > 1.5 {
		rep.Notes = append(rep.Notes, fmt.Sprintf("the machine was busy: patience was up to %.1f "+
			"times the usual", rep.Busy))
	}
	rep.Results = r.ordered()
	rep.Millis = time.Since(start).Milliseconds()
	return rep, nil
}

// openGate runs the first case; it returns why the others make no sense.
func (r *runner) openGate(l *Lab) string {
	i := slices.IndexFunc(r.cases, func(c Case) bool { return c.ID == Gate })
	if i < 0 {
		return "there is no case " + Gate
	}
	c := &r.cases[i]
	res := l.runOnce(c, &r.o)
	if res.Outcome == Failed {
		res = l.runOnce(c, &r.o) // a second chance: the program may just have started
	}
	if r.selected(c) || res.Outcome == Failed {
		r.put(res)
	}
	if res.Outcome == Failed {
		return "the proxy does not even forward a plain GET (" + Gate + "): " + res.Problems[0]
	}
	return ""
}

// selected reports whether a case was asked for, by its id or its group.
func (r *runner) selected(c *Case) bool {
	return r.o.Only == nil || r.o.Only.MatchString(c.ID) || r.o.Only.MatchString(c.Group)
}

// wanted returns the cases that were asked for.
func (r *runner) wanted() []*Case {
	var out []*Case
	for i := range r.cases {
		if r.selected(&r.cases[i]) {
			out = append(out, &r.cases[i])
		}
	}
	return out
}

// labFor is the lab for a case, of those that a subject opens: the main one; if there are
// more, one with short timeouts; for a chapter a plain one as well, and perhaps one that
// checks its backends.
func labFor(labs []*Lab, c *Case) *Lab {
	switch {
	case c.Mode == Checked:
		return labs[len(labs)-1]
	case c.Mode == Plain && len(labs) > 2:
		return labs[2]
	case len(labs) > 1 && (c.Mode == Timed || c.Mode == TimedAlone):
		return labs[1]
	}
	return labs[0]
}

// runLabs shares the cases out to the labs, which work all at once.
func (r *runner) runLabs(labs []*Lab) {
	sets := map[*Lab][]*Case{}
	for _, c := range r.wanted() {
		if c.ID != Gate {
			l := labFor(labs, c)
			sets[l] = append(sets[l], c)
		}
	}
	var wg sync.WaitGroup
	for l, cases := range sets {
		wg.Add(1)
		// Ends when the lab's cases are done.
		go func() {
			defer wg.Done()
			r.runLab(l, cases)
		}()
	}
	wg.Wait()
}

// runLab runs cases on one lab: first side by side, then one at a time.
func (r *runner) runLab(l *Lab, cases []*Case) {
	if err := l.probe(); err != nil {
		for _, c := range cases {
			r.put(notRun(c, err.Error()))
		}
		return
	}
	l.probeEjection()
	l.probePool()
	phases := map[Mode][]*Case{}
	for _, c := range cases {
		phases[c.Mode] = append(phases[c.Mode], c)
	}
	solo := l.Serial || l.Ejects
	alone := slices.Concat(phases[Alone], phases[TimedAlone], phases[Plain],
		phases[Checked])
	switch {
	case solo && l.spawn != nil:
		r.share(l, append(append(phases[Together], phases[Timed]...), alone...), 5).Wait()
	case solo:
		r.rounds(l, append(phases[Together], phases[Alone]...))
		r.phase(l, slices.Concat(phases[Timed], phases[TimedAlone], phases[Plain],
			phases[Checked]), 1)
	default:
		queue := fill(alone)
		var others sync.WaitGroup
		if l.spawn != nil && len(alone) > 3 {
			r.help(l, queue, 2, &others)
		}
		var timed sync.WaitGroup
		timed.Add(1)
		// Ends with the timed cases; they mostly wait.
		go func() {
			defer timed.Done()
			r.phase(l, phases[Timed], len(phases[Timed]))
		}()
		r.phase(l, phases[Together], r.o.Workers)
		timed.Wait()
		r.drain(l, queue)
		others.Wait()
	}
	r.settle(l)
	r.phase(l, phases[Last], 1)
	r.settle(l)
}

// rounds runs cases one after another on the only lab there can be. Whatever
// hangs costs time: so the first round has little patience, and only what
// stalled in it is run again, with more, for as long as there is time.
func (r *runner) rounds(l *Lab, cases []*Case) {
	l.hurried.Store(true)
	var again []*Case
	first := map[string]Result{}
	for _, c := range cases {
		res := r.one(l, c)
		if res.Outcome == Failed && res.stalled {
			again = append(again, c)
			first[c.ID] = res
			continue
		}
		r.put(res)
	}
	l.hurried.Store(false)
	for _, c := range again {
		res := first[c.ID]
		if l.left() > 15*time.Second {
			res = r.one(l, c)
		}
		r.put(res)
	}
}

// fill makes a closed queue of the cases.
func fill(cases []*Case) chan *Case {
	queue := make(chan *Case, len(cases))
	for _, c := range cases {
		queue <- c
	}
	close(queue)
	return queue
}

// drain runs the cases of a queue on one lab, one after another.
func (r *runner) drain(l *Lab, queue chan *Case) {
	for c := range queue {
		r.phase(l, []*Case{c}, 1)
	}
}

// share works off cases that must not run side by side on l and on helpers.
func (r *runner) share(l *Lab, cases []*Case, helpers int) *sync.WaitGroup {
	var wg sync.WaitGroup
	queue := fill(cases)
	r.help(l, queue, helpers, &wg)
	r.drain(l, queue)
	return &wg
}

// help opens more labs like l, which take cases from the queue: so cases that
// need a proxy to themselves run side by side.
func (r *runner) help(l *Lab, queue chan *Case, n int, wg *sync.WaitGroup) {
	for i := 0; i < n; i++ {
		wg.Add(1)
		// Ends when the queue is empty.
		go func() {
			defer wg.Done()
			other, err := l.spawn()
			if err != nil {
				return // then the others do it
			}
			defer other.Close()
			other.Serial, other.OneShot, other.Ejects = l.Serial, l.OneShot, l.Ejects
			other.Pools, other.Uneven = l.Pools, l.Uneven
			other.stalls, other.first, other.beside = l.stalls, l.first, l.beside
			other.doubts, other.lazy = l.doubts, l.lazy
			r.drain(other, queue)
			l.adopt(other)
		}()
	}
}

// adopt takes over what another lab of the same proxy has seen.
func (l *Lab) adopt(other *Lab) {
	other.mu.Lock()
	defer other.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.restarts = append(l.restarts, other.restarts...)
	if l.OneShot {
		l.runs += other.runs
	}
}

// phase runs cases with so many workers. What failed beside others for lack
// of time, or because the proxy died meanwhile, is run once more alone.
func (r *runner) phase(l *Lab, cases []*Case, workers int) {
	var again []*Case
	var mu sync.Mutex
	queue := make(chan *Case)
	var wg sync.WaitGroup
	for i := 0; i < workers; i++ {
		wg.Add(1)
		// Ends when the queue is closed.
		go func() {
			defer wg.Done()
			for c := range queue {
				res := r.one(l, c)
				switch r.suspect(l, res, workers) {
				case atOnce:
					mu.Lock()
					again = append(again, c)
					mu.Unlock()
				case atTheEnd:
					l.doubt(c, res)
				default:
					r.put(res)
				}
			}
		}()
	}
	for _, c := range cases {
		queue <- c
	}
	close(queue)
	wg.Wait()
	sort.Slice(again, func(i, j int) bool { return again[i].ID < again[j].ID })
	for _, c := range again {
		if res := r.one(l, c); r.suspect(l, res, 1) == atTheEnd {
			l.doubt(c, res)
		} else {
			r.put(res)
		}
	}
}

// look says when a case is looked at again.
type look int

const (
	never look = iota
	atOnce
	atTheEnd
)

// suspect reports whether a failure may be the fault of what ran beside it,
// or of a machine that was busy.
func (r *runner) suspect(l *Lab, res Result, workers int) look {
	switch {
	case res.Outcome != Failed || res.Reason != "" || r.o.Once:
		return never
	case workers > 1 && l.DiedSince(res.started):
		return atOnce
	case res.starved && workers > 1 && !l.Serial && l.Healthy(time.Second) != nil:
		return atOnce // others have made the proxy give up its backends
	case l.pulse.busySince(res.started):
		return atTheEnd
	case res.stalled && l.stalls.Load() <= stallsForgiven:
		return atOnce
	}
	return never
}

// doubtful is a failure on a busy machine.
type doubtful struct {
	c     *Case
	first Result
}

func (l *Lab) doubt(c *Case, res Result) {
	l.doubts.mu.Lock()
	defer l.doubts.mu.Unlock()
	l.doubts.list = append(l.doubts.list, doubtful{c, res})
}

// doubtTime is what must be left of the run for a second look, in which a case
// has the proxy to itself.
const doubtTime = 12 * time.Second

// settle looks again at what failed while the machine was busy, for as long as
// there is time: the quickest first.
func (r *runner) settle(l *Lab) {
	l.doubts.mu.Lock()
	list := l.doubts.list
	l.doubts.list = nil
	l.doubts.mu.Unlock()
	slices.SortFunc(list, func(a, b doubtful) int { return int(a.first.Millis - b.first.Millis) })
	for _, d := range list {
		res := d.first
		for busy, looks := true, 0; busy && looks < 2 && res.Outcome == Failed &&
			l.left() > doubtTime && l.gone() == ""; looks++ {
			res = r.one(l, d.c)
			busy = l.pulse.busySince(res.started)
		}
		r.put(res)
	}
}

// Calibration is what the checker has found out about the machine before the
// first case.
type Calibration struct {
	Hop      time.Duration // what a request and its answer take without a proxy
	Patience time.Duration // how long a case waits for the next byte
	Factor   float64       // 1 on a machine with nothing else to do, at most 4
}

// one runs a case, unless it is not applicable or the proxy is gone.
func (r *runner) one(l *Lab, c *Case) Result {
	switch {
	case c.Need == NeedsSeveral && len(l.Farm.Backends) < 2:
		return notApplicable(c, "the proxy has one backend")
	case c.Need == NeedsProcess && l.Proc == nil:
		return notApplicable(c, "the checker did not start the proxy")
	case c.Need == NeedsPool && !l.Pools:
		return notApplicable(c, "the proxy uses each backend connection once")
	case c.Turns && l.Uneven:
		return notApplicable(c, "the backends do not have their turns (-uneven)")
	case l.gone() != "":
		return notRun(c, l.gone())
	case l.left() < time.Second:
		return notRun(c, "the time for the whole run was used up by cases that hung")
	}
	res := l.runOnce(c, &r.o)
	switch res.Outcome {
	case Passed:
		r.pulse.passed.Add(1)
	case Failed:
		r.pulse.failed.Add(1)
	}
	if res.stalled && res.Outcome == Failed {
		l.stalls.Add(1)
	}
	if l.Ejects && (c.Hurts || res.Outcome == Failed) {
		l.Refresh()
	} else if res.Outcome == Failed {
		l.checkHealth(res, l.Serial || l.OneShot)
	}
	return res
}

// gone says why there is nothing left to test, or "".
func (l *Lab) gone() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken != nil {
		return "the proxy could not be started again: " + l.broken.Error()
	}
	if l.dropped {
		return l.why
	}
	return ""
}

// checkHealth looks after a failed case whether the proxy still serves. One
// that the checker started is restarted; another one is given up.
func (l *Lab) checkHealth(res Result, serial bool) {
	if l.OneShot || !res.stalled && l.Proc != nil {
		return // started afresh, or ensured, before the next client
	}
	wait := 3 * time.Second
	if serial {
		wait = 1500 * time.Millisecond
	}
	err := l.alive(wait)
	if err == nil {
		return
	}
	if l.Proc != nil {
		l.restart("it no longer answered after case " + res.ID)
		return
	}
	if err = l.alive(wait + 2*time.Second); err != nil {
		l.mu.Lock()
		l.dropped = true
		l.why = "since case " + res.ID + " the proxy does not answer any more: " + err.Error()
		l.mu.Unlock()
	}
}

// ordered returns the results in the order of the cases.
func (r *runner) ordered() []Result {
	var out []Result
	for _, c := range r.cases {
		if res, ok := r.results[c.ID]; ok {
			out = append(out, res)
		}
	}
	return out
}

// notes puts into words what the score alone does not say.
func notes(labs []*Lab) []string {
	var out []string
	for _, l := range labs {
		l.mu.Lock()
		if l.OneShot {
			out = append(out, fmt.Sprintf("the program serves one client and exits: the checker "+
				"started it %d times", l.runs))
		} else if l.Serial && !l.beside {
			out = append(out, "the proxy serves one client at a time: the cases were run one "+
				"after another")
		}
		if n := len(l.restarts); n > 0 {
			out = append(out, fmt.Sprintf("the proxy died or hung %d times and was started "+
				"again; first: %s", n, l.restarts[0]))
		}
		l.mu.Unlock()
	}
	return out
}
