//go:build linux

package loop

import (
	"fmt"
	"slices"
	"strings"
)

// Techniques are what makes the loop fast beside being one. Each can be left out, to
// see what it brings; docs/ch10_event_loop.md has a table.
type Techniques struct {
	ShortRead bool // a read that brings less than it could is the last until more is told of
	Join      bool // a header and what is there of its body are one write
	Splice    bool // a long body stays in the kernel
	Recv      bool // sockets are read and written as sockets, not as files
	Piggyback bool // an acknowledgement travels with what is sent next, FIN with the last answer
	Yield     bool // the Go runtime is given the thread back before it asks for it

	all []technique
}

type technique struct {
	name string
	on   *bool
}

// newTechniques returns all techniques, switched on.
func newTechniques() *Techniques {
	t := &Techniques{}
	t.all = []technique{{"short-read", &t.ShortRead}, {"join", &t.Join}, {"splice", &t.Splice},
		{"recv", &t.Recv}, {"piggyback", &t.Piggyback}, {"yield", &t.Yield}}
	for _, one := range t.all {
		*one.on = true
	}
	return t
}

// names returns the names, in order.
func (t *Techniques) names() (names []string) {
	for _, one := range t.all {
		names = append(names, one.name)
	}
	return names
}

// without switches some off, named in a list.
func (t *Techniques) without(list string) error {
	for name := range strings.SplitSeq(list, ",") {
		i := slices.Index(t.names(), name)
		if i < 0 {
			return fmt.Errorf("%q is none of %s", name, strings.Join(t.names(), ", "))
		}
		*t.all[i].on = false
	}
	return nil
}
