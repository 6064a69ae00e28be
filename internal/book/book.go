// Package book is the one table of chapters: what each program is, which C file
// it mirrors, and where each of the ten steps stands there. Every tool that
// needs a list of chapters reads it here; a new chapter is one entry.
package book

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// What the programs take when their flags say nothing, as the pages write it.
const (
	Listen = "127.0.0.1:8080" // -listen of a chapter
	Watch  = "127.0.0.1:9090" // -watch, the live page
	Reader = "127.0.0.1:9091" // -listen of scripts/reader
)

var backends = []string{"127.0.0.1:8000", "127.0.0.1:8001", "127.0.0.1:8002"}

// Chapter is a chapter of the book and its program.
type Chapter struct {
	Number   int
	Dir      string    // the folder, "ch4_threaded"
	About    string    // what its program is, in a line, for -h
	Worker   string    // who serves a connection, in a few words
	Backends []string  // the default addresses of its backends; none: it forwards nothing
	Serial   bool      // serves one client at a time
	Forks    bool      // starts a process for each client
	Raw      bool      // makes the system calls itself, without package net
	Bound    string    // the flag that bounds how many it serves at once; "" if there is none
	Modes    []Mode    // other ways to run it
	After    int       // the chapter that it differs least from, if that is not the one before
	Gaps     []*Gap    // what it leaves open on purpose
	C        *Original // nil from ch6 on
	Beside   int       // the chapter that the reader sets beside it, if there is no C; 0: none
}

// Mode is a way to run a chapter's program that its flags choose.
type Mode struct {
	Name   string // "prefork"
	Flags  []string
	Worker string // who serves a connection then
}

// Gap is something that a chapter leaves open by name, and a later one closes.
type Gap struct {
	Name     string
	ClosedBy string   // "ch3, ch4"
	Cases    []string // of scripts/check: they fail because of it
}

// The named gaps.
var (
	OneRequest = &Gap{"one request a connection, on both sides", "ch6",
		[]string{"keep-alive-client", "keep-alive-post", "keep-alive-head", "pipelining-served",
			"backend-reuse"}}
	OneClient = &Gap{"one slow client blocks all", "ch3, ch4",
		[]string{"free-silent-client", "free-slow-header", "free-slow-upload", "free-slow-backend",
			"free-slow-reader", "free-100-idle", "free-parallel"}}
	FailedTry = &Gap{"a try that fails is the client's failure", "ch7",
		[]string{"retry-broken"}}
	DeadBackend = &Gap{"a dead backend still gets its turn", "ch7, ch8",
		[]string{"balance-refused-hidden", "retry-refused"}}
	DeadTry  = &Gap{"a dead backend costs a failed try each time", "ch8", nil}
	AllAlike = &Gap{"all backends count the same", "ch9", nil}
	Stacks   = &Gap{"a goroutine and its stack for each client", "ch10", nil}
)

// Chapters is the table, in the order of the book.
var Chapters = []Chapter{
	{
		Number: 1, Dir: "ch1_base", Serial: true, Raw: true, C: base,
		About:  "the socket calls themselves: accepts one client, prints what it says, closes",
		Worker: "one client, nothing is forwarded",
	},
	{
		Number: 2, Dir: "ch2_basic_proxy", Serial: true, C: basic,
		About:    "a proxy that serves one client at a time",
		Worker:   "one client at a time",
		Backends: backends[:1],
		Gaps:     []*Gap{OneRequest, OneClient},
	},
	{
		Number: 3, Dir: "ch3_process_model", Forks: true, Bound: "-max-children", C: fork,
		About:    "a proxy with a child process for each connection",
		Worker:   "a child process for each connection",
		Backends: backends[:1],
		Modes:    []Mode{{"prefork", []string{"-prefork", "8"}, "8 standing processes"}},
		Gaps:     []*Gap{OneRequest},
	},
	{
		Number: 4, Dir: "ch4_threaded", After: 2, Bound: "-max-conns", C: threaded,
		About:    "a proxy with a goroutine for each connection",
		Worker:   "a goroutine for each connection",
		Backends: backends[:1],
		Modes: []Mode{{"os-threads", []string{"-os-threads"},
			"an OS thread for each connection"}},
		Gaps: []*Gap{OneRequest},
	},
	{
		Number: 5, Dir: "ch5_load_balancer", Bound: "-max-conns", C: balancer,
		About:    "a proxy that gives several backends their turns (round robin)",
		Worker:   "a goroutine for each connection, backends in turn",
		Backends: backends,
		Gaps:     []*Gap{OneRequest, FailedTry, DeadBackend},
	},
	{
		Number: 6, Dir: "ch6_keep_alive", Bound: "-max-conns",
		About:    "a proxy that keeps connections for many requests, on both sides",
		Worker:   "a goroutine for each connection, connections kept",
		Backends: backends,
		Gaps:     []*Gap{FailedTry, DeadBackend},
	},
	{
		Number: 7, Dir: "ch7_timeouts_retries", Bound: "-max-conns",
		About:    "a proxy that tries another backend when one fails, if that is safe",
		Worker:   "a goroutine for each connection, connections kept, further tries",
		Backends: backends,
		Gaps:     []*Gap{DeadTry},
	},
	{
		Number: 8, Dir: "ch8_health_checks", Bound: "-max-conns",
		About:    "a proxy that knows which backends are well, and doubts it",
		Worker:   "a goroutine for each connection, connections kept, backends checked",
		Backends: backends,
		Gaps:     []*Gap{AllAlike},
	},
	{
		Number: 9, Dir: "ch9_balancing_algorithms", Bound: "-max-conns",
		About:    "a proxy that chooses its backends by one of 13 algorithms",
		Worker:   "a goroutine for each connection, connections kept, backends chosen",
		Backends: backends,
		Gaps:     []*Gap{Stacks},
	},
	{
		Number: 10, Dir: "ch10_event_loop", After: 6, Beside: 4, Raw: true, Bound: "-max-conns",
		About:    "a proxy that serves all clients with one thread, by epoll",
		Worker:   "one thread for all connections",
		Backends: backends,
		Gaps:     []*Gap{FailedTry, DeadBackend},
	},
}

// Find returns the chapter in a folder, "ch4_threaded".
func Find(dir string) (Chapter, bool) {
	for _, c := range Chapters {
		if c.Dir == dir {
			return c, true
		}
	}
	return Chapter{}, false
}

// Of returns the chapter with a number. It panics if there is none.
func Of(number int) Chapter { return Chapters[number-1] }

// Proxies returns the chapters that forward what they get.
func Proxies() []Chapter {
	var all []Chapter
	for _, c := range Chapters {
		if c.Forwards() {
			all = append(all, c)
		}
	}
	return all
}

// Originals returns the chapters that mirror a C file.
func Originals() []Chapter {
	var all []Chapter
	for _, c := range Chapters {
		if c.C != nil {
			all = append(all, c)
		}
	}
	return all
}

// Diffs returns the pairs of chapters that are compared: each with the one
// before it, and with the one that it differs least from.
func Diffs() [][2]Chapter {
	var pairs [][2]Chapter
	for i, c := range Chapters[1:] {
		if c.After > 0 {
			pairs = append(pairs, [2]Chapter{Of(c.After), c})
		}
		pairs = append(pairs, [2]Chapter{Chapters[i], c})
	}
	return pairs
}

// Root is the repository's folder: the one that holds go.mod, from the working
// directory upwards.
func Root() (string, error) {
	dir, err := os.Getwd()
	for err == nil {
		if _, missing := os.Stat(filepath.Join(dir, "go.mod")); missing == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			err = errors.New("no go.mod here or above: run it inside the repository")
		}
		dir = filepath.Dir(dir)
	}
	return "", err
}

// Short is "ch4" for "ch4_threaded".
func (c Chapter) Short() string { return fmt.Sprintf("ch%d", c.Number) }

// Forwards reports whether the program is a proxy.
func (c Chapter) Forwards() bool { return len(c.Backends) > 0 }

// BackendFlag is the flag that names its backends: "-backend", "-backends" where
// it takes several, "" where it takes none.
func (c Chapter) BackendFlag() string {
	switch len(c.Backends) {
	case 0:
		return ""
	case 1:
		return "-backend"
	}
	return "-backends"
}

// Demo are the flags that start its backends too, each on a free port.
func (c Chapter) Demo() []string {
	if !c.Forwards() {
		return nil
	}
	ports := strings.Repeat(",127.0.0.1:0", len(c.Backends))
	return []string{"-demo", c.BackendFlag(), ports[1:]}
}

// Has reports whether the chapter leaves a gap open.
func (c Chapter) Has(g *Gap) bool {
	for _, has := range c.Gaps {
		if has == g {
			return true
		}
	}
	return false
}
