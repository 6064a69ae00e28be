// Package simulate runs the algorithms of choose, the very same code as the proxy,
// against servers that exist on paper only. Jobs come at random moments and wait for
// their server; what an hour of a farm would show is there in a second, and the
// theory has the exact answer for some of it.
//
// It is a discrete-event simulation: time jumps from one arrival or departure to the
// next. Times are in seconds; a job is one second of work on average, unless said.
package simulate

import (
	"fmt"
	"math"
	"math/rand/v2"

	"reverseproxy/ch9_balancing_algorithms/choose"
)

// Run is what is simulated.
type Run struct {
	New     func(*choose.Group) choose.Algorithm
	Servers int
	Proxies int     // that know nothing of each other; 0: one
	Rate    float64 // jobs a second that arrive, at all servers together
	Jobs    int
	Warm    int // of these, the first ones, which do not count; 0: a tenth
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

// Result is what came of it.
type Result struct {
	Mean, P99   float64 // seconds from a job's arrival to its end
	Longest     int     // most jobs at one server at a time
	Failed      float64 // part of the jobs
	Utilisation float64 // part of the time that servers were at work
}

// perLook is how many jobs there are between two calls of Progress.
const perLook = 1 << 16

// Simulate simulates a run. It panics if its own books do not balance.
func (r Run) Simulate() Result { return newSimulation(r).run() }

func (s *simulation) run() Result {
	for {
		server, done := s.agenda.first()
		switch {
		case s.arrived < s.Jobs && s.arrival <= done:
			s.advance(s.arrival)
			s.arrive()
		case done < math.Inf(1):
			s.advance(done)
			s.depart(server)
		default:
			return s.result()
		}
	}
}

// proxy is what chooses a server.
type proxy struct {
	*choose.Group
	choose.Algorithm
}

// simulation is a run that goes on.
type simulation struct {
	Run
	proxies  []proxy
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

func newSimulation(r Run) *simulation {
	names := make([]string, r.Servers)
	for i := range names {
		names[i] = fmt.Sprintf("server %d", i)
	}
	if r.Warm == 0 {
		r.Warm = r.Jobs / 10
	}
	if r.Speed == nil {
		r.Speed = func(int, float64) float64 { return 1 }
	}
	// Each its own chance: another algorithm gets the same jobs.
	chance := func(of uint64) *rand.Rand { return rand.New(rand.NewPCG(r.Seed, of)) }
	s := &simulation{Run: r, warm: math.Inf(1), arrivals: chance(1), works: chance(2),
		which: chance(3), agenda: newAgenda(r.Servers)}
	if r.Key == nil {
		s.Key = chance(4).Uint64
	}
	for i := range max(1, r.Proxies) {
		group := choose.NewGroup(names, chance(uint64(5+i)))
		s.proxies = append(s.proxies, proxy{group, r.New(group)})
	}
	for i := range r.Servers {
		if r.Sharing {
			s.servers = append(s.servers, &sharing{deadline: r.Deadline, speed: r.Speed(i, 0)})
		} else {
			speed := func(at float64) float64 { return r.Speed(i, at) }
			s.servers = append(s.servers, newFIFO(speed))
		}
	}
	s.arrival = s.arrivals.ExpFloat64() / r.Rate
	return s
}

// advance lets time go on.
func (s *simulation) advance(to float64) {
	s.jobTime += float64(s.inFlight) * (to - s.now)
	s.atWork += float64(s.busy) * (to - s.now)
	s.now = to
}

// arrive has a job arrive, and sends it where the algorithm says.
func (s *simulation) arrive() {
	sender := 0
	if len(s.proxies) > 1 {
		sender = s.which.IntN(len(s.proxies))
	}
	p := s.proxies[sender]
	if s.Board > 0 && s.now >= s.look {
		for i, b := range p.Backends {
			p.SetInFlight(b, s.servers[i].jobs())
		}
		s.look = s.now + s.Board
	}
	b := p.Pick(choose.Request{Now: s.now, Key: s.Key()})
	switch {
	case s.Board == 0:
		p.Begin(b, s.now)
	case s.OwnPicks:
		p.SetInFlight(b, b.InFlight+1)
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
func (s *simulation) depart(server int) {
	from := s.servers[server]
	began, worked, sender, failed := from.depart(s.now)
	took := s.now - began
	s.inFlight--
	if from.jobs() == 0 {
		s.busy--
	}
	s.agenda.set(server, from.next())
	if s.Board == 0 {
		p := s.proxies[sender]
		p.End(p.Backends[server], s.now, took, failed)
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

// result checks the books: the number of jobs in flight, summed over time, is the
// time that all jobs took together (Little's law), and the time that servers were at
// work is the work that was done. All began, and ended, with nothing in flight.
func (s *simulation) result() Result {
	if off := s.jobTime/s.spent - 1; math.Abs(off) > 1e-6 {
		panic(fmt.Sprintf("Little's law is off by %.2g", off))
	}
	if off := s.atWork/s.work - 1; math.Abs(off) > 1e-6 {
		panic(fmt.Sprintf("the utilisation is off by %.2g", off))
	}
	return Result{Mean: s.sum / float64(s.counted), P99: s.times.quantile(.99), Longest: s.longest,
		Failed:      float64(s.failed) / float64(s.counted),
		Utilisation: s.atWork / (s.now * float64(s.Servers))}
}
