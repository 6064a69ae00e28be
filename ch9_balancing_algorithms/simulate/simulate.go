// Package simulate runs the algorithms of choose, the very same code as the proxy,
// against servers that exist on paper only. Jobs come at random moments and wait for
// their server; what an hour of a farm would show is there in a second, and the
// theory has the exact answer for some of it.
//
// It is a discrete-event simulation: time jumps from one arrival or departure to the
// next. Times are in seconds; a job is one second of work on average, unless said.
//
// A Run that is simulated to its end gives a Result. One that is started can be looked
// at on its way, and get another algorithm. That goes in a browser, too: neither this
// package nor choose needs an operating system.
package simulate

import (
	"math"
	"math/rand/v2"
	"strconv"

	"reverseproxy/ch9_balancing_algorithms/choose"
)

// Run is what is simulated.
type Run struct {
	New     Algorithm
	Servers int
	Proxies int     // that know nothing of each other; 0: one
	Rate    float64 // jobs a second that arrive, at all servers together
	Jobs    int     // that arrive before it ends
	Warm    int     // of these, the first ones, which do not count; 0: a tenth
	Seed    uint64

	Work    func(*rand.Rand) float64             // of a job, in seconds at speed 1
	Speed   func(server int, at float64) float64 // nil: 1
	Sharing bool                                 // servers work on all jobs at once

	Deadline float64 // seconds after which a job fails, its work is dropped; 0: never
	Board    float64 // seconds between two looks at the jobs in flight; 0: they are known
	OwnPicks bool    // on the board, jobs sent since the last look count

	Key      func() uint64                         // of a job, for hashes; nil: any
	Done     func(server int, began, took float64) // told of each job; may be nil
	Progress func(jobs int)                        // told from time to time; may be nil
}

// Algorithm makes an algorithm for a proxy.
type Algorithm = func(*choose.Group) choose.Algorithm

// Named returns the algorithm of a name in choose.Kinds. It panics if there is none.
func Named(name string) Algorithm {
	kind, err := choose.Find(name)
	if err != nil {
		panic(err)
	}
	return kind.New
}

// Choices returns the algorithm that draws n backends.
func Choices(n int) Algorithm {
	return func(g *choose.Group) choose.Algorithm { return choose.NewChoices(g, n) }
}

// Result is what came of it.
type Result struct {
	Mean, P50, P99 float64 // seconds from a job's arrival to its end
	Longest        int     // most jobs at one server at a time
	Failed         float64 // part of the jobs
	Utilisation    float64 // part of the time that servers were at work
}

// perLook is how many jobs there are between two calls of Progress.
const perLook = 1 << 16

// Simulate simulates a run. It panics if its own books do not balance.
func (r Run) Simulate() Result { return r.Start().simulate() }

// Simulation is a run that goes on. Its Rate, Work and Key may be set to others between
// two steps; the rest of the Run is as it was at the start.
type Simulation struct {
	Run
	proxies  []proxy
	picks    bool       // they note which servers they pick
	took     bool       // and how long jobs take
	which    *rand.Rand // of the proxies a job comes to
	arrivals *rand.Rand
	works    *rand.Rand
	servers  []server
	agenda   *agenda // when each server ends a job

	now     float64
	arrival float64 // of the next job
	arrived int     // jobs
	warm    float64 // when the jobs began to come that count
	look    float64 // when the board is written anew

	inFlight, busy  int     // jobs, servers at work
	jobTime, atWork float64 // the same two, summed over time
	spent, work     float64 // all jobs' times, and their work: what these sums must be
	counted, failed int     // jobs after the warm-up
	sum             float64 // of their times
	times           histogram
	longest         int
}

// proxy is what chooses a server.
type proxy struct {
	*choose.Group
	choose.Algorithm
}

// Start begins a run, for a caller that makes the steps itself: one that shows the
// queues as they are, for instance.
func (r Run) Start() *Simulation {
	names := make([]string, r.Servers)
	for i := range names {
		names[i] = "server " + strconv.Itoa(i)
	}
	if r.Warm == 0 {
		r.Warm = r.Jobs / 10
	}
	// Each its own chance: another algorithm gets the same jobs.
	chance := func(of uint64) *rand.Rand { return rand.New(rand.NewPCG(r.Seed, of)) }
	s := &Simulation{Run: r, picks: true, took: true, warm: math.Inf(1), which: chance(3),
		arrivals: chance(1), works: chance(2), agenda: newAgenda(r.Servers)}
	if r.Key == nil {
		s.Key = chance(4).Uint64
	}
	for i := range max(1, r.Proxies) {
		s.proxies = append(s.proxies, proxy{Group: choose.NewGroup(names, chance(uint64(5+i)))})
	}
	s.Use(r.New)
	for i := range r.Servers {
		speed := func(float64) float64 { return 1 }
		if r.Speed != nil {
			speed = func(at float64) float64 { return r.Speed(i, at) }
		}
		if r.Sharing {
			s.servers = append(s.servers, &sharing{deadline: r.Deadline, speed: speed(0)})
		} else {
			s.servers = append(s.servers, newFIFO(speed))
		}
	}
	s.arrival = s.arrivals.ExpFloat64() / r.Rate
	return s
}

// Use goes on with another algorithm, from the next job on. What the proxies know of
// the servers is kept.
func (s *Simulation) Use(algorithm Algorithm) {
	for i := range s.proxies {
		p := &s.proxies[i]
		p.Algorithm = algorithm(p.Group)
	}
}

// Step has the next thing happen: a job arrives, or one ends. It returns false, and
// does nothing, if all jobs have come and ended.
func (s *Simulation) Step() bool {
	server, done := s.agenda.first()
	switch {
	case s.arrived < s.Jobs && s.arrival <= done:
		s.advance(s.arrival)
		s.arrive()
	case done < math.Inf(1):
		s.advance(done)
		s.depart(server)
	default:
		return false
	}
	return true
}

// Until has all happen that happens up to a time, which is later than all that has
// happened so far. It returns false if nothing is left to happen after it.
func (s *Simulation) Until(time float64) bool {
	for {
		next := s.next()
		if next > time {
			s.advance(time)
			return next < math.Inf(1)
		}
		s.Step()
	}
}

// next returns when the next thing happens; +Inf is never.
func (s *Simulation) next() float64 {
	_, next := s.agenda.first()
	if s.arrived < s.Jobs {
		next = min(next, s.arrival)
	}
	return next
}

// Now returns the time, in seconds since the start.
func (s *Simulation) Now() float64 { return s.now }

// Queue returns how many jobs a server has, those that it works on and those that wait.
func (s *Simulation) Queue(server int) int { return s.servers[server].jobs() }

// Arrived returns how many jobs have arrived.
func (s *Simulation) Arrived() int { return s.arrived }

// Ended returns how many jobs have ended.
func (s *Simulation) Ended() int { return s.arrived - s.inFlight }

// advance lets time go on.
func (s *Simulation) advance(to float64) {
	s.jobTime += float64(s.inFlight) * (to - s.now)
	s.atWork += float64(s.busy) * (to - s.now)
	s.now = to
}

// arrive has a job arrive, and sends it where the algorithm says.
func (s *Simulation) arrive() {
	sender := 0
	if len(s.proxies) > 1 {
		sender = s.which.IntN(len(s.proxies))
	}
	p := &s.proxies[sender]
	if s.Board > 0 && s.now >= s.look {
		for i, b := range p.Backends {
			p.SetInFlight(b, s.servers[i].jobs())
		}
		s.look = s.now + s.Board
	}
	b := p.Pick(choose.Request{Now: s.now, Key: s.Key()})
	switch {
	case s.Board > 0 && !s.OwnPicks: // the board is all they know
	case s.Board > 0, !s.picks:
		p.SetInFlight(b, b.InFlight+1)
	default:
		p.Begin(b, s.now)
	}
	i := b.Index()
	to := s.servers[i]
	to.arrive(s.now, s.Work(s.works), sender)
	if to.jobs() == 1 {
		s.busy++
	}
	s.longest = max(s.longest, to.jobs())
	s.inFlight++
	if s.arrived == s.Warm {
		s.warm = s.now
	}
	s.agenda.set(i, to.next())
	s.arrived++
	s.arrival = s.now + s.arrivals.ExpFloat64()/s.Rate
	if s.Progress != nil && s.arrived%perLook == 0 {
		s.Progress(perLook)
	}
}

// depart has a server end a job.
func (s *Simulation) depart(server int) {
	from := s.servers[server]
	began, worked, sender, failed := from.depart(s.now)
	took := s.now - began
	s.inFlight--
	if from.jobs() == 0 {
		s.busy--
	}
	s.agenda.set(server, from.next())
	if s.Board == 0 {
		p := &s.proxies[sender]
		b := p.Backends[server]
		p.Group.Done(b)
		if s.took {
			p.Observe(b, s.now, took, failed)
		}
	}
	s.spent += took
	s.work += worked
	if s.Done != nil {
		s.Done(server, began, took)
	}
	if began < s.warm {
		return
	}
	s.counted++
	s.sum += took
	s.times.add(took)
	if failed {
		s.failed++
	}
}

// Result returns what has come of it so far; utilisation is since the start, the rest is
// of the jobs that count.
func (s *Simulation) Result() Result {
	jobs := float64(max(1, s.counted))
	return Result{Mean: s.sum / jobs, P50: s.times.quantile(.5), P99: s.times.quantile(.99),
		Longest: s.longest, Failed: float64(s.failed) / jobs,
		Utilisation: s.atWork / (s.now * float64(s.Servers))}
}

// Forget has only the jobs count that arrive from now on.
func (s *Simulation) Forget() {
	s.warm, s.counted, s.failed, s.sum, s.times = s.now, 0, 0, 0, histogram{}
	s.longest = 0
	for _, server := range s.servers {
		s.longest = max(s.longest, server.jobs())
	}
}

// simulate goes on until all jobs have ended, and checks the books: the number of jobs
// in flight, summed over time, is the time that all jobs took together (Little's law),
// and the time that servers were at work is the work that was done.
func (s *Simulation) simulate() Result {
	// No other algorithm will be used that might look at what this one does not.
	s.picks, s.took = choose.Needs(s.proxies[0].Algorithm)
	for s.Step() {
	}
	if off := s.jobTime/s.spent - 1; math.Abs(off) > 1e-6 {
		panic("Little's law is off by " + strconv.FormatFloat(off, 'g', 2, 64))
	}
	if off := s.atWork/s.work - 1; math.Abs(off) > 1e-6 {
		panic("the utilisation is off by " + strconv.FormatFloat(off, 'g', 2, 64))
	}
	return s.Result()
}
