//go:build unix

package proc

import (
	"fmt"
	"net"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

const patience = 20 * time.Second

// holderEnv makes this test binary a program that holds a port and much memory.
const holderEnv = "PROC_TEST_HOLDER"

func TestMain(m *testing.M) {
	if os.Getenv(holderEnv) == "" {
		os.Exit(m.Run())
	}
	// Not by make: the race detector would note who has each byte, in much more memory.
	held, err := syscall.Mmap(-1, 0, 256<<20, syscall.PROT_READ|syscall.PROT_WRITE,
		syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		panic(err)
	}
	for i := 0; i < len(held); i += 4096 { // each page
		held[i] = 1
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println("Ready on", l.Addr())
	time.Sleep(time.Minute)
	fmt.Println(held[0])
}

func run(t *testing.T, script string) *Process {
	t.Helper()
	p, err := Run("sh", "-c", script)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p
}

func TestReady(t *testing.T) {
	p := run(t, `echo first; echo "Ready on 1.2.3.4:5 (and more)"; printf 'Ready on 6'; sleep 60`)
	addrs, err := p.Ready(patience, ReadyLine, 1)
	if err != nil || len(addrs) != 1 || addrs[0] != "1.2.3.4:5" {
		t.Errorf("%v, %v", addrs, err)
	}
	if _, err := p.Ready(10*time.Millisecond, ReadyLine, 2); err == nil {
		t.Error("a line that is not whole counts")
	}
	p = run(t, `echo '{"event":"ready","conn":0,"listen":"[::1]:8","backends":[]}'; exit 3`)
	if addrs, err := p.Ready(patience, ReadyLine, 1); err != nil || addrs[0] != "[::1]:8" {
		t.Errorf("in JSON: %v, %v", addrs, err)
	}
	p = run(t, `echo sorry >&2; exit 3`)
	_, err = p.Ready(patience, ReadyLine, 1)
	if err == nil || !strings.Contains(err.Error(), "exit status 3") ||
		!strings.Contains(err.Error(), "sorry") {
		t.Errorf("a program that ends: %v", err)
	}
	if p.Code() != 3 || !p.Ended() {
		t.Errorf("exit status %d", p.Code())
	}
}

func TestOutputIsBounded(t *testing.T) {
	p := New("sh", "-c",
		`i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done; printf end`)
	lines := 0
	p.Stdout.Keep, p.Stdout.Line = 100, func(line string) {
		if line != fmt.Sprintf("line %d", lines) {
			t.Errorf("%q instead of line %d", line, lines)
		}
		lines++
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	if !p.Wait(patience) || lines != 2000 {
		t.Errorf("%d lines", lines)
	}
	text := p.Stdout.String()
	if len(text) > 64<<10 || !strings.HasSuffix(text, "line 1999\nend") ||
		p.Stdout.From(len("line 0\n")*2000*2) != "" {
		t.Errorf("kept: %d bytes, %q", len(text), p.Stdout.Tail())
	}
}

// What a program has started ends with it, also what has left its group and its parent.
func TestKillEndsTheFamily(t *testing.T) {
	if !CanLook {
		t.Skip("no /proc")
	}
	p := run(t,
		`sleep 61 & setsid sh -c 'sleep 62 & sleep 63' >/dev/null 2>&1 & echo started; wait`)
	grown := func() bool { return len(p.Family()) >= 5 }
	for end := time.Now().Add(patience); !grown() && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	if n := len(Children(p.PID())); n != 2 {
		t.Errorf("%d children, want 2", n)
	}
	p.Kill()
	if left := p.Family(); len(left) > 0 || !p.Ended() {
		t.Errorf("left: %v", left)
	}
	p.Kill() // does no harm
}

// What a killed program has had open is closed when Kill returns, also a descendant's port
// that lives as long as the kernel is busy with taking its memory back.
func TestKillWaitsForTheEnd(t *testing.T) {
	if !CanLook {
		t.Skip("no /proc")
	}
	for range 3 {
		p := New("sh", "-c", `setsid "$0" & wait`, os.Args[0])
		p.Cmd.Env = append(os.Environ(), holderEnv+"=1")
		p.Cmd.WaitDelay = time.Millisecond // its output alone is not waited for
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Kill)
		addrs, err := p.Ready(patience, ReadyLine, 1)
		if err != nil {
			t.Fatal(err)
		}
		p.Kill()
		if Listening(addrs[0]) {
			t.Error("its port is still held")
		}
	}
}

func TestStop(t *testing.T) {
	p := run(t, `trap 'echo stopped; exit 0' INT; echo on; while :; do sleep 0.01; done`)
	p.Await(patience, func() bool { return p.Stdout.String() != "" })
	if err := p.Stop(patience); err != nil || p.Code() != 0 ||
		!strings.Contains(p.Stdout.String(), "stopped") {
		t.Errorf("%v, %d, %q", err, p.Code(), p.Stdout.String())
	}
	p = run(t, `trap '' INT; echo on; while :; do sleep 0.01; done`)
	p.Await(patience, func() bool { return p.Stdout.String() != "" })
	if err := p.Stop(50 * time.Millisecond); err == nil || p.Code() != -1 {
		t.Errorf("one that does not obey: %v, %d", err, p.Code())
	}
}

// A tool that a script has started in the background ignores Ctrl+C (sh: "tool &"). What it
// starts is to be ended by it all the same.
func TestInterruptBehindOneWhoIgnoresIt(t *testing.T) {
	signal.Ignore(os.Interrupt)
	// Not Reset, which would have it ignored again.
	defer signal.Notify(make(chan os.Signal, 1), os.Interrupt)
	p := New("sleep", "60")
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	defer p.Kill()
	p.Interrupt()
	if !p.Wait(20 * time.Second) {
		t.Error("it is still running")
	}
}

func TestAwaitListening(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := run(t, "sleep 60")
	if err := p.AwaitListening(patience, l.Addr().String()); err != nil {
		t.Error(err)
	}
	l.Close()
	if err := p.AwaitListening(20*time.Millisecond, l.Addr().String()); err == nil {
		t.Error("nobody listens")
	}
	p = run(t, "exit 1")
	if err := p.AwaitListening(patience, l.Addr().String()); err == nil ||
		!strings.Contains(err.Error(), "it ended") {
		t.Errorf("%v", err)
	}
}

func TestLimited(t *testing.T) {
	p, err := Run(Limited(40, "sh", "-c", `echo "$0 $1"; ulimit -n`, "a b", "c")...)
	if err != nil {
		t.Fatal(err)
	}
	if p.Code() != 0 || p.Stdout.String() != "a b c\n40\n" {
		t.Errorf("%d, %q", p.Code(), p.Stdout.String())
	}
}

// CPU time and memory of a process with children are those of all of them.
func TestFigures(t *testing.T) {
	if !CanLook {
		t.Skip("no /proc")
	}
	p := run(t, "sh -c 'i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done' & wait; echo done; "+
		"sleep 60")
	p.Await(patience, func() bool { return p.Stdout.String() != "" })
	if cpu := CPU(p.PID()); cpu < 20*time.Millisecond {
		t.Errorf("CPU %v: the child that was waited for is missing", cpu)
	}
	if m := Mem(os.Getpid()); m.Processes < 2 || m.RSS < 1<<20 || m.Bytes > m.RSS {
		t.Errorf("%+v", m)
	}
	if s, ok := Look(p.PID()); !ok || s.Parent != os.Getpid() || s.Name != "sh" {
		t.Errorf("%+v", s)
	}
	if files := strings.Join(Files(p.PID()),
		" "); !regexp.MustCompile(`pipe:\[\d+\]`).MatchString(files) {
		t.Errorf("its files: %s", files)
	}
}

// A program is asleep when all of its family wait; one that computes wants a core, though
// it may not have one.
func TestActivity(t *testing.T) {
	if !CanLook {
		t.Skip("no /proc")
	}
	idle := run(t, "sh -c 'echo ready; sleep 60; :' & wait")
	busy := run(t, "sh -c 'echo ready; while :; do :; done' & wait")
	for _, p := range []*Process{idle, busy} {
		p.Await(patience, func() bool { return p.Stdout.String() != "" })
	}
	did, asleep := "", false
	for end, last := time.Now().Add(patience), "none"; did != last || !asleep; {
		if last = did; time.Now().After(end) {
			t.Fatalf("all wait: %v, %q", asleep, did)
		}
		did, asleep = Activity(idle.PID())
	}
	if strings.Count(did, "/task/") < 2 {
		t.Errorf("two that wait: %q", did)
	}
	for range 20 {
		if did, asleep := Activity(busy.PID()); asleep {
			t.Fatalf("one computes: %q", did)
		}
	}
}
