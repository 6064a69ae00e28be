//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"reverseproxy/internal/book"
	"reverseproxy/internal/peers"
	"reverseproxy/internal/proc"
	"reverseproxy/scripts/bench/load"
)

// contestant is one way to run one proxy.
type contestant struct {
	ID        string `json:"id"`
	Family    string `json:"family"` // chapter, c, reference, baseline
	Model     string `json:"model"`  // how it serves many clients
	Version   string `json:"version,omitempty"`
	KeepAlive bool   `json:"keep_alive"` // keeps client connections open
	Blocking  bool   `json:"blocking"`   // serves one client at a time
	Processes bool   `json:"processes"`  // its processes come and go

	args   func(s *setup) ([]string, error) // command line; nil for the baseline
	only   string                           // letters of the workloads it takes part in; "" is all
	binary string
}

// setup is what a contestant is started with for one sample.
type setup struct {
	peers.Place      // with three backends
	keepAlive   bool // the workload keeps connections open
}

// chapters are the chapters that are proxies, in each of their modes.
func (b *bench) chapters() []*contestant {
	var cs []*contestant
	for _, ch := range book.Proxies() {
		c := b.chapter(ch, ch.Short(), ch.Worker)
		c.Blocking, c.Processes = ch.Serial, ch.Forks
		cs = append(cs, c)
		for _, m := range ch.Modes {
			cs = append(cs, b.chapter(ch, ch.Short()+"-"+m.Name, m.Worker, m.Flags...))
		}
	}
	return cs
}

func (b *bench) chapter(ch book.Chapter, id, model string, extra ...string) *contestant {
	return &contestant{ID: id, Family: "chapter", Model: model, Version: b.version,
		KeepAlive: !ch.Has(book.OneRequest), binary: filepath.Join(b.tmp, ch.Dir),
		args: func(s *setup) ([]string, error) {
			args := []string{"-listen", "127.0.0.1:0", "-log", "off", "-request-timeout", "60s",
				ch.BackendFlag(), strings.Join(s.Backends[:len(ch.Backends)], ",")}
			if ch.Bound == "-max-conns" { // its default leaves no room beside 10,000 silent clients
				args = append(args, ch.Bound, "12000")
			}
			if !ch.Has(book.OneRequest) && !s.keepAlive { // as nginx and HAProxy are set up
				args = append(args, "-keepalive", "0")
			}
			return append(args, extra...), nil
		}}
}

// originals are the C programs that serve more than one client.
func (b *bench) originals() []*contestant {
	if b.o.cdir == "" {
		return nil
	}
	var cs []*contestant
	for _, c := range []contestant{
		{ID: "C-balancer", binary: "proxy_load_balancer.c", Blocking: true,
			Model: "one client at a time, three backends"},
		{ID: "C-fork", binary: "fork_proxy.c", Processes: true,
			Model: "a child process for each connection"},
		{ID: "C-threaded", binary: "threaded_proxy.c", Model: "a thread for each connection"},
	} {
		src := filepath.Join(b.o.cdir, c.binary)
		if _, err := os.Stat(src); err != nil {
			b.say("%s is left out: %v", c.ID, err)
			continue
		}
		c.Family, c.Version = "c", peers.Version("cc", "--version")
		c.args = func(s *setup) ([]string, error) { return s.C(src) }
		cs = append(cs, &c)
	}
	return cs
}

// nullRelay is the floor: what an event loop needs that does nothing but forward.
const nullRelay = "null-relay"

// references are the proxies that others wrote, and the floor.
func (b *bench) references() []*contestant {
	util, relay := filepath.Join(b.tmp, "httputil"), filepath.Join(b.tmp, "nullrelay")
	args := func(extra ...string) func(*setup) ([]string, error) {
		return func(s *setup) ([]string, error) {
			return append([]string{"-listen", "127.0.0.1:0", "-backend", s.Backends[0]}, extra...),
				nil
		}
	}
	nginx := func(s *setup) ([]string, error) { return s.one().NginxFast(s.keepAlive) }
	haproxy := func(s *setup) ([]string, error) { return s.one().HAProxyFast(s.keepAlive) }
	cs := []*contestant{
		{ID: "httputil", Model: "httputil.ReverseProxy, 15 lines", Version: runtime.Version(),
			binary: util, args: args()},
		{ID: "httputil-pool", Model: "the same with 256 idle backend connections",
			Version: runtime.Version(),
			binary:  util, args: args("-pool", "256"), only: "b"},
		{ID: nullRelay, Model: "event loop, 1 thread, moves bytes and knows no HTTP",
			Version: runtime.Version(), binary: relay, args: args(), only: "abr"},
	}
	if v := peers.Version("nginx", "-v"); v != "" {
		cs = append(cs, &contestant{ID: "nginx", Model: "event loop, 1 worker", Version: v,
			args: nginx})
	}
	if v := peers.Version("haproxy", "-v"); v != "" {
		cs = append(cs, &contestant{ID: "HAProxy", Model: "event loop, 1 thread", Version: v,
			args: haproxy})
	}
	for _, c := range cs {
		c.Family, c.KeepAlive = "reference", true
	}
	return cs
}

// one is the place with one backend.
func (s *setup) one() peers.Place {
	p := s.Place
	p.Backends = p.Backends[:1]
	return p
}

// build compiles the chapters, httputil and the floor as a student would.
func (b *bench) build(cs []*contestant) []*contestant {
	failed := map[string]bool{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	seen := map[string]bool{}
	for _, c := range cs {
		if c.binary == "" || seen[c.binary] || filepath.Dir(c.binary) != b.tmp {
			continue
		}
		seen[c.binary] = true
		pkg := "./" + filepath.Base(c.binary)
		if c.Family == "reference" {
			pkg = "./scripts/bench/" + filepath.Base(c.binary)
		}
		wg.Go(func() { // ends with its build
			if err := proc.Build(b.root, c.binary, pkg); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed[c.binary] = true
				b.say("%s is left out: %v", pkg, err)
			}
		})
	}
	wg.Wait()
	var ok []*contestant
	for _, c := range cs {
		if !failed[c.binary] {
			ok = append(ok, c)
		}
	}
	return ok
}

// instance is a contestant that runs.
type instance struct {
	run  *proc.Process // nil for the baseline
	addr string
	dir  string
}

const startTime = 10 * time.Second // for a contestant to listen

// start starts a contestant for one sample and waits until it listens.
func (b *bench) start(ctx context.Context, c *contestant, job load.Job) (*instance, error) {
	backends := b.backendsFor(job.Path)
	if c.args == nil {
		return &instance{addr: backends[0]}, nil
	}
	dir, err := os.MkdirTemp(b.tmp, "sample-")
	if err != nil {
		return nil, err
	}
	at := peers.Place{Dir: dir, Listen: fmt.Sprintf("127.0.0.1:%d", b.freePort()),
		Backends: backends}
	args, err := c.args(&setup{at, job.KeepAlive})
	if err != nil {
		return nil, err
	}
	own := filepath.Dir(c.binary) == b.tmp // it says where it listens
	if own {
		args = append([]string{c.binary}, args...)
	}
	i := &instance{run: proc.New(append(slices.Clone(b.under), args...)...), dir: dir,
		addr: at.Listen}
	if err = i.begin(ctx); err == nil && own {
		var addrs []string
		if addrs, err = i.run.Ready(startTime, proc.ReadyLine, 1); err == nil {
			i.addr = addrs[0]
		}
	} else if err == nil {
		err = i.run.AwaitListening(startTime, i.addr)
	}
	if err != nil {
		i.stop()
		return nil, fmt.Errorf("%s did not start: %w", c.ID, errors.Join(ctx.Err(), err))
	}
	return i, nil
}

// begin starts the program. It ends with the bench, however that ends.
func (i *instance) begin(ctx context.Context) error {
	i.run.Cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	i.run.Stdout.Keep, i.run.Stderr.Keep = 2000, 2000
	if err := i.run.Start(); err != nil {
		return err
	}
	context.AfterFunc(ctx, i.run.Kill)
	return nil
}

// stop ends the contestant with everything it started.
func (i *instance) stop() {
	if i.run != nil {
		i.run.Kill()
		_ = os.RemoveAll(i.dir)
	}
}

// freePort finds a port that nothing uses, below the range the kernel takes
// client ports from, and different each time: a C original cannot listen
// where connections of an earlier sample are still in TIME_WAIT.
func (b *bench) freePort() int {
	for range 1000 {
		if b.port < 20000 || b.port > 32000 {
			b.port = 20000 + rand.IntN(8000)
		}
		b.port++
		ln, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", b.port))
		if err == nil {
			ln.Close()
			return b.port
		}
	}
	return 0
}
