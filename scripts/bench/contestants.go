//go:build linux

package main

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"reverseproxy/internal/book"
	"reverseproxy/scripts/bench/load"
	"reverseproxy/scripts/bench/proctree"
	"reverseproxy/scripts/bench/rawsock"
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

	args   func(s *setup) []string // command line; nil for the baseline
	only   string                  // letters of the workloads it takes part in; "" is all
	binary string
}

// setup is what a contestant is started with for one sample.
type setup struct {
	backends  []string // three addresses
	port      int      // to listen on, for those that cannot choose one
	keepAlive bool     // the workload keeps connections open
	dir       string   // for generated files of this sample
	err       error    // what went wrong while making the command line
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
		args: func(s *setup) []string {
			args := []string{"-listen", "127.0.0.1:0", "-log", "off", "-request-timeout", "60s",
				ch.BackendFlag(), strings.Join(s.backends[:len(ch.Backends)], ",")}
			if ch.Bound == "-max-conns" { // its default leaves no room beside 10,000 silent clients
				args = append(args, ch.Bound, "12000")
			}
			return append(args, extra...)
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
		c.Family, c.Version = "c", firstLine("cc", "--version")
		c.args = func(s *setup) []string { return b.compileC(src, s) }
		cs = append(cs, &c)
	}
	return cs
}

// compileC builds a copy of the program that has other port numbers: the
// original's are fixed, and without SO_REUSEADDR each stays taken for a
// minute after traffic. The copy goes into the sample's own directory.
func (b *bench) compileC(src string, s *setup) []string {
	text, err := os.ReadFile(src)
	if err != nil {
		s.err = err
		return nil
	}
	code := string(text)
	ports := map[string]string{"8080": strconv.Itoa(s.port)}
	for i, addr := range s.backends {
		_, p, _ := net.SplitHostPort(addr)
		ports[strconv.Itoa(8000+i)] = p
	}
	code = regexp.MustCompile(`\b(8080|800[012])\b`).ReplaceAllStringFunc(code,
		func(p string) string { return ports[p] })
	file, bin := filepath.Join(s.dir, "proxy.c"), filepath.Join(s.dir, "proxy")
	if s.err = os.WriteFile(file, []byte(code), 0o600); s.err != nil {
		return nil
	}
	if out, err := exec.Command("cc", "-O2", "-w", "-pthread", "-o", bin, file).CombinedOutput(); err != nil {
		s.err = fmt.Errorf("cc %s: %w: %s", filepath.Base(src), err, out)
	}
	return []string{bin}
}

// references are the proxies that others wrote.
func (b *bench) references() []*contestant {
	util := filepath.Join(b.tmp, "httputil")
	args := func(extra ...string) func(*setup) []string {
		return func(s *setup) []string {
			return append([]string{"-listen", "127.0.0.1:0", "-backend", s.backends[0]}, extra...)
		}
	}
	cs := []*contestant{
		{ID: "httputil", Model: "httputil.ReverseProxy, 15 lines", Version: runtime.Version(),
			binary: util, args: args()},
		{ID: "httputil-pool", Model: "the same with 256 idle backend connections", Version: runtime.Version(),
			binary: util, args: args("-pool", "256"), only: "b"},
	}
	if v := firstLine("nginx", "-v"); v != "" {
		cs = append(cs, &contestant{ID: "nginx", Model: "event loop, 1 worker", Version: v, args: nginxArgs})
	}
	if v := firstLine("haproxy", "-v"); v != "" {
		cs = append(cs, &contestant{ID: "HAProxy", Model: "event loop, 1 thread", Version: v, args: haproxyArgs})
	}
	for _, c := range cs {
		c.Family, c.KeepAlive = "reference", true
	}
	return cs
}

// firstLine is the first line a command prints, "" when it is not installed.
func firstLine(name string, args ...string) string {
	path := lookPath(name)
	if path == "" {
		return ""
	}
	out, _ := exec.Command(path, args...).CombinedOutput()
	line, _, _ := strings.Cut(string(out), "\n")
	line = strings.TrimPrefix(strings.TrimSpace(line), "nginx version: ")
	line, _, _ = strings.Cut(line, " - http")
	return line
}

// lookPath finds a program, in sbin too, where servers live and the PATH of a
// plain user does not look.
func lookPath(name string) string {
	if p, err := exec.LookPath(name); err == nil {
		return p
	}
	for _, dir := range []string{"/usr/sbin", "/usr/local/sbin"} {
		if p, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return p
		}
	}
	return ""
}

// nginxArgs writes a configuration for one worker. One request a connection
// is nginx's own default towards the backend; keeping connections needs the
// upstream block's keepalive.
func nginxArgs(s *setup) []string {
	keep := ""
	if s.keepAlive {
		keep = "keepalive 256; keepalive_requests 1000000;"
	}
	conf := nginxConf(s.dir, fmt.Sprintf("upstream backend { server %s; %s }", s.backends[0], keep), fmt.Sprintf(
		"server { listen 127.0.0.1:%d backlog=4096; location / { proxy_pass http://backend; %s } }",
		s.port, nginxVersion11(s.keepAlive)))
	file := filepath.Join(s.dir, "nginx.conf")
	s.err = os.WriteFile(file, []byte(conf), 0o600)
	return []string{lookPath("nginx"), "-p", s.dir, "-c", file}
}

// nginxConf is what all our nginx configurations have in common.
func nginxConf(dir, upstream, server string) string {
	return fmt.Sprintf(`daemon off; worker_processes 1; worker_rlimit_nofile %d;
pid %[2]s/pid; error_log %[2]s/error.log crit;
%[3]sevents { worker_connections 16000; }
http {
  access_log off; keepalive_requests 1000000; client_header_timeout 60s;
  client_body_temp_path %[2]s/t1; proxy_temp_path %[2]s/t2; fastcgi_temp_path %[2]s/t3;
  uwsgi_temp_path %[2]s/t4; scgi_temp_path %[2]s/t5; proxy_max_temp_file_size 0;
  %[4]s
  %[5]s
}
`, fileLimit(), dir, rootUser(), upstream, server)
}

func nginxVersion11(keepAlive bool) string {
	if !keepAlive {
		return ""
	}
	return `proxy_http_version 1.1; proxy_set_header Connection "";`
}

// rootUser lets nginx's worker write into a directory of root's.
func rootUser() string {
	if os.Getuid() == 0 {
		return "user root;\n"
	}
	return ""
}

func fileLimit() uint64 {
	var l syscall.Rlimit
	_ = syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l)
	return l.Cur
}

func haproxyArgs(s *setup) []string {
	mode := "option httpclose"
	if s.keepAlive {
		mode = "option http-keep-alive\n  http-reuse always"
	}
	conf := fmt.Sprintf(`global
  nbthread 1
  maxconn 12000
  no strict-limits
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  %s
frontend in
  bind 127.0.0.1:%d backlog 4096
  default_backend out
backend out
  server one %s
`, mode, s.port, s.backends[0])
	file := filepath.Join(s.dir, "haproxy.cfg")
	s.err = os.WriteFile(file, []byte(conf), 0o600)
	return []string{lookPath("haproxy"), "-q", "-db", "-f", file}
}

// build compiles the chapters and the httputil program as a student would.
func (b *bench) build(ctx context.Context, cs []*contestant) []*contestant {
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
			pkg = "./scripts/bench/httputil"
		}
		wg.Go(func() { // ends with its build
			cmd := exec.CommandContext(ctx, "go", "build", "-o", c.binary, pkg)
			cmd.Dir = b.root
			if out, err := cmd.CombinedOutput(); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed[c.binary] = true
				b.say("%s does not build and is left out: %s", pkg, out)
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
	cmd  *exec.Cmd // nil for the baseline
	addr string
	dir  string
}

func (i *instance) pid() int { return i.cmd.Process.Pid }

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
	s := &setup{backends: backends, port: b.freePort(), keepAlive: job.KeepAlive, dir: dir}
	args := c.args(s)
	if s.err != nil {
		return nil, s.err
	}
	if filepath.Dir(c.binary) == b.tmp {
		args = append([]string{c.binary}, args...)
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = 2 * time.Second // for what holds its stderr open
	i := &instance{cmd: cmd, dir: dir, addr: fmt.Sprintf("127.0.0.1:%d", s.port)}
	var ready chan string
	if strings.Contains(strings.Join(args, " "), "127.0.0.1:0") {
		out, err := cmd.StdoutPipe()
		if err != nil {
			return nil, err
		}
		ready = readiness(bufio.NewReader(out))
	}
	errs := &tail{}
	cmd.Stderr = errs
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	if err := b.awaitReady(ctx, i, ready); err != nil {
		i.stop()
		return nil, fmt.Errorf("%s did not start: %w: %s", c.ID, err, errs.String())
	}
	return i, nil
}

var readyLine = regexp.MustCompile(`^Ready on (\S+)`)

// readiness reads a program's output to its end, so that it never blocks on a
// full pipe, and sends the address of its "Ready on ADDR" line.
func readiness(r *bufio.Reader) chan string {
	ready := make(chan string, 1)
	go func() { // ends with the program's output
		for {
			line, err := r.ReadString('\n')
			if m := readyLine.FindStringSubmatch(line); m != nil {
				select {
				case ready <- m[1]:
				default:
				}
			}
			if err != nil {
				close(ready)
				return
			}
		}
	}()
	return ready
}

// awaitReady waits for the readiness line or, where there is none, looks for
// the listening socket. It does not connect: for some of the contestants a
// visitor who says nothing is a client.
func (b *bench) awaitReady(ctx context.Context, i *instance, ready chan string) error {
	limit := time.After(10 * time.Second)
	listener := listenerAt(i.addr)
	poll := time.NewTicker(3 * time.Millisecond)
	defer poll.Stop()
	for {
		select {
		case addr, ok := <-ready:
			if !ok {
				return fmt.Errorf("it ended")
			}
			i.addr = addr
			return nil
		case <-poll.C:
			if ready != nil {
				continue
			}
			if _, _, err := rawsock.Listener(&listener); err == nil {
				return nil
			}
			if proctree.Ended(i.pid()) {
				return fmt.Errorf("it ended")
			}
		case <-ctx.Done():
			return ctx.Err()
		case <-limit:
			return fmt.Errorf("it does not listen after 10 s")
		}
	}
}

// listenerAt is the address to ask the kernel for a listener's state with.
func listenerAt(addr string) rawsock.Addr {
	_, p, _ := net.SplitHostPort(addr)
	port, _ := strconv.Atoi(p)
	return rawsock.NewAddr([4]byte{127, 0, 0, 1}, port)
}

// stop ends the contestant with everything it started.
func (i *instance) stop() {
	if i.cmd == nil {
		return
	}
	if i.cmd.Process != nil {
		proctree.Kill(i.pid())
		_ = syscall.Kill(-i.pid(), syscall.SIGKILL) // its process group, orphans included
		_ = i.cmd.Wait()
	}
	_ = os.RemoveAll(i.dir)
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

// tail keeps the last 2,000 bytes written to it.
type tail struct {
	mu sync.Mutex
	b  []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	t.b = t.b[max(0, len(t.b)-2000):]
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.b))
}
