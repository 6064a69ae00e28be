//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"reverseproxy/internal/proc"
	"reverseproxy/scripts/bench/load"
	"reverseproxy/scripts/bench/origin"
	"reverseproxy/scripts/bench/stat"
)

// The bench starts itself again for the parts that must not share a process,
// and its CPU time, with it. The first argument names the part.
const (
	roleLoad    = "__load"    // the clients: one job on stdin, one result on stdout
	roleBackend = "__backend" // the backends, until stdin ends
	roleTrue    = "__true"    // starts /bin/true again and again
)

// selfPath is the program that plays the parts, when it is not this one.
var selfPath string

// role plays the part that args name; false means they name none.
func role(args []string) bool {
	if len(args) == 0 {
		return false
	}
	var err error
	switch args[0] {
	case roleLoad:
		err = playLoad()
	case roleBackend:
		err = playBackend()
	case roleTrue:
		err = playTrue(args[1:])
	default:
		return false
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, args[0], err)
		os.Exit(1)
	}
	return true
}

// message is a line from the load process.
type message struct {
	// the silent connections stand; go on at a line on stdin
	Idle   *int         `json:"idle,omitempty"`
	Result *load.Result `json:"result,omitempty"`
}

func playLoad() error {
	in := bufio.NewReader(os.Stdin)
	var job load.Job
	line, err := in.ReadBytes('\n')
	if err != nil {
		return err
	}
	if err := json.Unmarshal(line, &job); err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	res, err := load.Run(job, func(n int) {
		_ = out.Encode(message{Idle: &n})
		_, _ = in.ReadBytes('\n')
	})
	if err != nil {
		return err
	}
	return out.Encode(message{Result: res})
}

func playBackend() error {
	lns, addrs, err := origin.Listen(3)
	if err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(addrs); err != nil {
		return err
	}
	// Ends with the process, which ends when the bench closes our stdin or dies.
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	return origin.Run(lns)
}

// self prepares this program in the given part. The kernel kills it when the
// bench dies, however that happens.
func self(args ...string) (*proc.Process, error) {
	exe := selfPath
	if exe == "" {
		var err error
		if exe, err = os.Executable(); err != nil {
			return nil, err
		}
	}
	run := proc.New(append([]string{exe}, args...)...)
	run.Cmd.Stderr = os.Stderr
	run.Cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return run, nil
}

// generate runs a job in a load process. onIdle is called while the silent
// connections stand and nothing else goes on.
func generate(ctx context.Context, job load.Job, onIdle func(standing int)) (*load.Result, error) {
	limit := time.Duration(job.WarmupMS+job.RunMS+3*job.TimeoutMS)*time.Millisecond + 20*time.Second
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	run, err := self(roleLoad)
	if err != nil {
		return nil, err
	}
	in, err := run.Cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	said := make(chan message, 2) // all that it says
	run.Stdout.Line = func(line string) {
		var m message
		if json.Unmarshal([]byte(line), &m) == nil {
			said <- m
		}
	}
	if err := run.Start(); err != nil {
		return nil, err
	}
	defer run.Kill()
	if err := json.NewEncoder(in).Encode(job); err != nil {
		return nil, err
	}
	for ended := run.Done(); ; {
		select {
		case m := <-said:
			if m.Result != nil {
				return m.Result, nil
			}
			onIdle(*m.Idle)
			if _, err := io.WriteString(in, "\n"); err != nil {
				return nil, err
			}
		case <-ended:
			if ended = nil; len(said) == 0 {
				return nil, fmt.Errorf("load process: %w", errors.Join(ctx.Err(), run.Err()))
			}
		case <-ctx.Done():
			return nil, fmt.Errorf("load process: %w", ctx.Err())
		}
	}
}

// backends starts the backend process and returns its three addresses.
func backends() (run *proc.Process, addrs []string, err error) {
	if run, err = self(roleBackend); err != nil {
		return nil, nil, err
	}
	if _, err := run.Cmd.StdinPipe(); err != nil { // held open until the end
		return nil, nil, err
	}
	if err := run.Start(); err != nil {
		return nil, nil, err
	}
	if !run.Await(startTime, func() bool { return strings.Contains(run.Stdout.String(), "\n") }) {
		run.Kill()
		return nil, nil, fmt.Errorf("backend process: %v", run.Err())
	}
	err = json.Unmarshal([]byte(run.Stdout.String()), &addrs)
	return run, addrs, err
}

// playTrue starts /bin/true, or another program, as ch3 starts its children: one after the other,
// each handed one descriptor, waited for by a goroutine, at most 128 at once.
// It prints how many it started and its own CPU time with theirs.
func playTrue(args []string) error {
	d := time.Second
	if len(args) > 0 {
		var err error
		if d, err = time.ParseDuration(args[0]); err != nil {
			return err
		}
	}
	name := "true"
	if len(args) > 1 {
		name = args[1]
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return err
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	slots := make(chan struct{}, 128)
	start, n := time.Now(), 0
	for ; time.Since(start) < d; n++ {
		slots <- struct{}{}
		cmd := exec.Command(path)
		cmd.ExtraFiles = []*os.File{null}
		if err := cmd.Start(); err != nil {
			return err
		}
		go func() { // ends with its child
			_ = cmd.Wait()
			<-slots
		}()
	}
	for range cap(slots) { // the last ones
		slots <- struct{}{}
	}
	var self, kids syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &self)
	_ = syscall.Getrusage(syscall.RUSAGE_CHILDREN, &kids)
	cpu := self.Utime.Nano() + self.Stime.Nano() + kids.Utime.Nano() + kids.Stime.Nano()
	return json.NewEncoder(os.Stdout).Encode(trueResult{n, time.Since(start).Nanoseconds(), cpu})
}

// trueResult is what the /bin/true process prints.
type trueResult struct {
	Started int   `json:"started"`
	NS      int64 `json:"ns"`
	CPUNS   int64 `json:"cpu_ns"`
}

func startTrue(ctx context.Context, d time.Duration, program string) (trueResult, error) {
	var r trueResult
	run, err := self(roleTrue, d.String(), program)
	if err != nil {
		return r, err
	}
	if err := run.Start(); err != nil {
		return r, err
	}
	stop := context.AfterFunc(ctx, run.Kill)
	defer stop()
	if err := run.Err(); err != nil {
		return r, err
	}
	err = json.Unmarshal([]byte(run.Stdout.String()), &r)
	return r, err
}

// starts compares what it costs to start programs: in turns, three rounds.
func starts(ctx context.Context, programs []string) error {
	rate, cpu := map[string][]float64{}, map[string][]float64{}
	for range 3 {
		for _, p := range programs {
			r, err := startTrue(ctx, time.Second, p)
			if err != nil {
				return fmt.Errorf("%s: %w", p, err)
			}
			rate[p] = append(rate[p], float64(r.Started)/float64(r.NS)*1e9)
			cpu[p] = append(cpu[p], float64(r.CPUNS)/float64(r.Started)/1e3)
		}
	}
	lines := [][]string{{"", "starts/s", "CPU µs/start", "ratio", ""}}
	base := stat.Of(cpu[programs[0]]...)
	for _, p := range programs {
		c := stat.Of(cpu[p]...)
		x := c.Ratio(base)
		lines = append(lines,
			[]string{p, spreadText(stat.Of(rate[p]...), 1), spreadText(c, 1), times(&x), ""})
	}
	printTable(os.Stdout, lines)
	return nil
}
