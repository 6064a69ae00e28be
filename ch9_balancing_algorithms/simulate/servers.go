package simulate

import (
	"math"
	"slices"
)

// A server has jobs, and works on them.
type server interface {
	// arrive takes a job, of some work in seconds at speed 1, from one of the proxies.
	arrive(now, work float64, sender int)
	// next returns when it ends a job, if no other arrives before; or never, +Inf.
	next() float64
	// depart ends that job: when it arrived, for how long the server was at work for
	// it, which proxy sent it, and whether it failed.
	depart(now float64) (began, worked float64, sender int, failed bool)
	// jobs returns how many it has.
	jobs() int
}

type job struct {
	began, worked, end float64
	sender             int
}

// fifo works on one job after the other, in the order in which they came.
type fifo struct {
	speed func(at float64) float64 // when it begins with a job
	free  float64                  // when it is done with all that it has
	queue []job                    // a ring of a power of two
	first int
	n     int
}

func newFIFO(speed func(float64) float64) *fifo {
	return &fifo{speed: speed, queue: make([]job, 16)}
}

func (f *fifo) arrive(now, work float64, sender int) {
	if f.n == len(f.queue) {
		longer := make([]job, 2*f.n)
		for i := range f.n {
			longer[i] = f.queue[(f.first+i)&(f.n-1)]
		}
		f.queue, f.first = longer, 0
	}
	begin := max(now, f.free)
	worked := work / f.speed(begin)
	f.free = begin + worked
	f.queue[(f.first+f.n)&(len(f.queue)-1)] = job{now, worked, f.free, sender}
	f.n++
}

func (f *fifo) next() float64 {
	if f.n == 0 {
		return math.Inf(1)
	}
	return f.queue[f.first].end
}

func (f *fifo) depart(float64) (began, worked float64, sender int, failed bool) {
	j := &f.queue[f.first]
	f.first = (f.first + 1) & (len(f.queue) - 1)
	f.n--
	return j.began, j.worked, j.sender, false
}

func (f *fifo) jobs() int { return f.n }

// sharing works on all its jobs at once, on each as much slower (processor sharing).
// So it does with a clock of its own, which shows how much work each job has got: it
// goes the slower, the more jobs there are.
type sharing struct {
	speed    float64
	deadline float64 // seconds after which a job is given up; 0: never

	clock  float64  // seconds of work
	at     float64  // when that was so
	all    []shared // in the order in which they came
	ending int      // index of the job that ends next
}

// shared is a job that shares its server.
type shared struct {
	began     float64
	from, end float64 // on the server's clock
	sender    int
}

// advance lets the server's clock go on.
func (s *sharing) advance(now float64) {
	if n := len(s.all); n > 0 {
		s.clock += (now - s.at) * s.speed / float64(n)
	}
	s.at = now
}

func (s *sharing) arrive(now, work float64, sender int) {
	s.advance(now)
	s.all = append(s.all, shared{now, s.clock, s.clock + work, sender})
}

func (s *sharing) next() float64 {
	if len(s.all) == 0 {
		return math.Inf(1)
	}
	s.ending = 0
	for i := range s.all {
		if s.all[i].end < s.all[s.ending].end {
			s.ending = i
		}
	}
	end := s.at + (s.all[s.ending].end-s.clock)*float64(len(s.all))/s.speed
	if given := s.all[0].began + s.deadline; s.deadline > 0 && given < end {
		s.ending, end = 0, given
	}
	return max(end, s.at)
}

func (s *sharing) depart(now float64) (began, worked float64, sender int, failed bool) {
	s.advance(now)
	j := s.all[s.ending]
	s.all = slices.Delete(s.all, s.ending, s.ending+1)
	failed = s.deadline > 0 && now >= j.began+s.deadline
	return j.began, (min(s.clock, j.end) - j.from) / s.speed, j.sender, failed
}

func (s *sharing) jobs() int { return len(s.all) }
