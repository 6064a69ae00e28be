package main

import (
	"log"
	"os"
	"runtime/pprof"
	"time"
)

// profiled is how long the profile runs; the bench kills what it measured, so
// that there is no orderly end to write it at.
const profiled = 1500 * time.Millisecond

// With BENCH_CPUPROFILE=FILE in the environment, the program writes a CPU
// profile of its first 1.5 s into FILE, for "go tool pprof".
func init() {
	name := os.Getenv("BENCH_CPUPROFILE")
	if name == "" {
		return
	}
	f, err := os.Create(name)
	if err != nil {
		log.Fatal(err)
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		log.Fatal(err)
	}
	time.AfterFunc(profiled, func() {
		pprof.StopCPUProfile()
		f.Close()
	})
}
