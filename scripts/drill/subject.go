package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"reverseproxy/internal/proc"
)

// How long a proxy may take to listen, to list its flags, and to end.
const (
	startTime = 30 * time.Second
	helpTime  = 30 * time.Second
	stopTime  = 2 * time.Second
)

// subject is a proxy that is drilled: a chapter, or a program with its command
// line and addresses.
type subject struct {
	Name string // as it was named on the command line

	chapter  string   // the folder of a main package of this module
	flags    []string // more flags for that
	build    []string // more flags for go build
	cmd      string   // a command line
	proxy    string   // where that listens
	backends []string // where that looks for its backends
}

// addrs are the addresses that n backends of the proxy must listen on.
func (s *subject) addrs(n int) []string {
	if s.chapter == "" {
		return s.backends
	}
	return strings.Split(strings.Repeat(" 127.0.0.1:0", n)[1:], " ")
}

// proxy is a subject that runs.
type proxy struct {
	addr string
	run  *proc.Process // nil: the drill has not started it
	own  bool          // it is a chapter
	dir  string        // of what was built; "" if nothing was
}

// start builds a chapter, or takes a program as it is, starts it before the
// backends, and waits until it listens. Of the flags, name and value, a chapter
// gets those that it has. It ends with the context, whatever happens.
func (s *subject) start(ctx context.Context, backends []string, flags ...string) (*proxy, error) {
	p := &proxy{addr: s.proxy}
	var err error
	switch {
	case s.chapter != "":
		p.own = true
		err = p.startChapter(ctx, s, backends, flags)
	case s.cmd != "" && proc.Listening(s.proxy):
		err = fmt.Errorf("something already listens on %s: stop it, or leave out -cmd", s.proxy)
	case s.cmd != "":
		if err = p.begin(ctx, proc.Shell(s.cmd)); err == nil {
			err = p.run.AwaitListening(startTime, s.proxy)
		}
	case proc.CanLook && !proc.Listening(s.proxy):
		err = fmt.Errorf("nothing listens on %s", s.proxy)
	}
	if err != nil {
		p.stop()
		return nil, fmt.Errorf("%s: %w", s.Name, err)
	}
	return p, nil
}

func (p *proxy) startChapter(ctx context.Context, s *subject, backends, flags []string) error {
	var err error
	if p.dir, err = os.MkdirTemp("", "drill-"); err != nil {
		return err
	}
	program := filepath.Join(p.dir, filepath.Base(s.chapter)+".exe")
	if err := proc.Build(s.chapter, program, append(s.build, ".")...); err != nil {
		return err
	}
	help, err := proc.Run(program, "-h")
	if err != nil {
		return err
	}
	help.Wait(helpTime)
	help.Kill()
	has := func(flag string) bool {
		return regexp.MustCompile(`(?m)^\s*` + flag + `\b`).MatchString(
			help.Stdout.String() + "\n" + help.Stderr.String())
	}
	if !has("-backends") {
		return fmt.Errorf("it has no flag -backends: a drill needs several")
	}
	args := []string{program, "-listen", "127.0.0.1:0", "-backends", strings.Join(backends, ",")}
	for i := 0; i < len(flags); i += 2 {
		if has(flags[i]) {
			args = append(args, flags[i:i+2]...)
		}
	}
	if err := p.begin(ctx, append(args, s.flags...)); err != nil {
		return err
	}
	addrs, err := p.run.Ready(startTime, proc.ReadyLine, 1)
	if err == nil {
		p.addr = addrs[0]
	}
	return err
}

func (p *proxy) begin(ctx context.Context, args []string) error {
	p.run = proc.New(args...)
	p.run.Stdout.Keep = 4 << 10 // bytes; stderr is kept whole, for dump
	if err := p.run.Start(); err != nil {
		return err
	}
	context.AfterFunc(ctx, p.run.Kill)
	return nil
}

// sockets counts the sockets that the proxy has open.
func (p *proxy) sockets() (n int) {
	if p.run != nil {
		for _, file := range proc.Files(p.run.PID()) {
			if strings.HasPrefix(file, "socket:") {
				n++
			}
		}
	}
	return n
}

// stop ends the proxy, if the drill has started it.
func (p *proxy) stop() {
	if p.run != nil {
		_ = p.run.Stop(stopTime)
	}
	if p.dir != "" {
		os.RemoveAll(p.dir)
	}
}
