package health

import (
	"context"
	"slices"
	"sync"
	"time"

	"reverseproxy/ch2_basic_proxy/forward"
	"reverseproxy/internal/cli"
)

// Backend is one backend, and what is known of it.
type Backend struct {
	Addr string // host:port

	state          // guarded by the farm's mutex, as all that follows
	weight float64 // how often -backends names it
	turns  uint64  // how often it had its turn
	busy   int     // requests that it has in hand
	earned float64 // by its share, and not used (see inTurn)
	told   string  // the state that was narrated last
	timer  *time.Timer
}

// Share returns the backend's share of the requests, compared to others'. Only
// Turns may call it.
func (b *Backend) Share() float64 { return b.weight * b.share(time.Now()) }

// Farm is all backends, and the rules that look at all of them.
type Farm struct {
	*limits
	app      *cli.App
	settings *forward.Settings
	probe    func(ctx context.Context, addr string) (status int, err error)

	// Turns says whose turn it is, of at least one backend.
	Turns func(r *forward.Request, usable []*Backend) *Backend
	// Idle closes the idle connections of a backend, which is draining.
	Idle func(addr string)

	mu       sync.Mutex
	backends []*Backend
	usable   []*Backend // those that may get requests
	spare    []*Backend // those that get them if the usable ones have failed
	mode     string     // how usable was made
	queue    []*waiter
	stopping context.CancelFunc

	signalled int // index of the backend that -drain names
}

// How the usable backends are chosen, as events name it.
const (
	usual    = ""
	panicked = "panic"
	reserve  = "only draining"
	allDown  = "all down"
)

var modeText = map[string]string{
	usual:    "enough backends are well again",
	panicked: "fewer than half of the backends are well: those only suspected get requests, too",
	reserve:  "only backends that are draining are left: they get requests all the same",
	allDown:  "all backends refuse connections: the one whose turn it is is tried all the same",
}

// Watch begins to watch the backends, when the proxy is ready. They count as up
// until something else is known of them.
func (f *Farm) Watch() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, addr := range f.app.Backends {
		i := slices.IndexFunc(f.backends, func(b *Backend) bool { return b.Addr == addr })
		if i < 0 {
			i = len(f.backends)
			f.backends = append(f.backends, &Backend{Addr: addr, state: state{limits: f.limits}})
		}
		f.backends[i].weight++
	}
	for _, b := range f.backends {
		b.told = b.name()
	}
	f.update()
	ctx, cancel := context.WithCancel(context.Background())
	f.stopping = cancel
	if f.path != checkOff {
		go f.checkAll(ctx) // ends with ctx
	}
	f.onSignal(ctx)
	f.app.Drains(f.Drain)
}

// stop ends the checks: at Ctrl+C no news are wanted any more.
func (f *Farm) stop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stopping != nil {
		f.stopping()
	}
	for _, b := range f.backends {
		if b.timer != nil {
			b.timer.Stop()
		}
	}
}

// update narrates what has changed, and finds out who is usable now.
func (f *Farm) update() {
	var well, soft, hard, draining []*Backend
	sound, all := 0, 0
	for _, b := range f.backends {
		f.tell(b)
		switch {
		case b.out() && b.refuses:
			hard = append(hard, b)
		case b.draining():
			draining = append(draining, b)
			continue
		case b.out():
			soft = append(soft, b)
		default:
			well = append(well, b)
			if !b.refuses {
				sound++
			}
		}
		all++
	}
	f.usable, f.spare = well, draining
	mode := usual
	if 2*sound < all && len(soft) > 0 {
		mode, f.usable = panicked, append(well, soft...)
	}
	if len(f.usable) == 0 {
		mode, f.usable, f.spare = reserve, draining, nil
	}
	if len(f.usable) == 0 {
		mode, f.usable = allDown, hard
	}
	if mode != f.mode {
		f.mode = mode
		f.app.Log.Health("", mode, modeText[mode])
	}
	f.admit()
}

// tell narrates a backend's state, if it is another than before.
func (f *Farm) tell(b *Backend) {
	name := b.name()
	if name == b.told {
		return
	}
	b.told = name
	f.app.Log.Health(b.Addr, name, b.cause)
	f.closeIdle(b)
}

// Choose returns the backend of a request's next try: of those that are usable
// and have not been tried, the one whose turn it is. If these have as many requests
// in hand as they may, it waits. Release must follow.
func (f *Farm) Choose(r *forward.Request, tried []string) (addr string, err error) {
	f.mu.Lock()
	free, left := f.free(tried)
	if left && len(free) == 0 {
		w := &waiter{request: r, tried: tried, got: make(chan string, 1)}
		f.queue = append(f.queue, w)
		f.tellQueue()
		f.mu.Unlock()
		return f.wait(w)
	}
	defer f.mu.Unlock()
	if !left {
		return "", errNone
	}
	return f.take(r, free), nil
}

// free returns which backends may have a request now that has been tried at some
// already, and whether any are left for it.
func (f *Farm) free(tried []string) (free []*Backend, left bool) {
	if f.mode == allDown && len(tried) > 0 {
		return nil, false // one of them was enough
	}
	if f.maxConns == 0 && len(tried) == 0 {
		return f.usable, true
	}
	for _, all := range [][]*Backend{f.usable, f.spare} {
		for _, b := range all {
			if slices.Contains(tried, b.Addr) {
				continue
			}
			left = true
			if f.maxConns == 0 || b.busy < f.maxConns {
				free = append(free, b)
			}
		}
		if left {
			break
		}
	}
	return free, left
}

func (f *Farm) take(r *forward.Request, free []*Backend) (addr string) {
	b := f.Turns(r, free)
	b.busy++
	b.turns++
	return b.Addr
}

// Release ends what Choose began.
func (f *Farm) Release(addr string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	b := f.find(addr)
	b.busy--
	f.closeIdle(b)
	f.admit()
}

func (f *Farm) find(addr string) *Backend {
	for _, b := range f.backends {
		if b.Addr == addr {
			return b
		}
	}
	return nil
}
