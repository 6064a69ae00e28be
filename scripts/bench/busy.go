//go:build linux

package main

import (
	"errors"
	"os"
	"runtime"
	"time"

	"reverseproxy/internal/proc"
)

// mostOthers is the share of all cores that others may use while something is
// measured. What was measured beside more is discarded: it tells of them.
var mostOthers = 0.5

// exitBusy is the exit status when nothing undisturbed is left of something that was
// to be measured.
const exitBusy = 3

var errBusy = errors.New("other programs took more than half of the machine: no verdict; " +
	"try again when it is quiet")

const busyHelp = `
What is measured while other programs take more than half of the machine is discarded.
Exit status: 0 done, 1 it failed, 2 a wrong flag, 3 the machine was too busy for a verdict.
`

// busy reports whether the sample is to be discarded.
func (s *sample) busy() bool { return s.Error == "" && s.OtherCPU > mostOthers }

// busy reports whether a row has no undisturbed round.
func (r *row) busy() bool { return r.Discarded > 0 && r.RPS.N == 0 }

// neighbours measure which share of all cores goes to processes that are not this one or
// below it.
type neighbours struct {
	at        time.Time
	busy, own time.Duration
}

func watchNeighbours() neighbours {
	return neighbours{time.Now(), proc.Busy(), proc.CPU(os.Getpid())}
}

// tooBusy reports whether they have had more than mostOthers since then.
func (n neighbours) tooBusy() bool {
	now := watchNeighbours()
	used := (now.busy - n.busy) - (now.own - n.own)
	return used.Seconds()/now.at.Sub(n.at).Seconds()/float64(runtime.NumCPU()) > mostOthers
}
