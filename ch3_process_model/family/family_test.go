//go:build unix

package family

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"testing"

	"github.com/google/go-cmp/cmp"

	"reverseproxy/internal/cli"
	"reverseproxy/internal/narrate"
)

// TestRelay: a child's lines arrive one by one; one that its death cut off, or
// that is no event, is dropped.
func TestRelay(t *testing.T) {
	ours, theirs, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	go func() { // ends when it has written
		io.WriteString(theirs, "\n"+`{"event":"step","step":5,"text":"first"}`+"\nnot JSON\n"+
			`{"event":"step","step":10,"text":"second"}`+"\n"+`{"event":"step","st`)
		theirs.Close()
	}()
	var got []string
	c := &Child{pipe: ours, family: &Family{app: cli.New()}}
	c.relay(func(e narrate.Event) { got = append(got, e.Step.String()+" "+e.Text) })
	if diff := cmp.Diff([]string{"read request first", "close second"}, got); diff != "" {
		t.Errorf("want (-), got (+):\n%s", diff)
	}
	if _, err := ours.Stat(); err == nil {
		t.Error("the pipe is still open")
	}
}

// TestHowAChildEnded tells a child whose client got no answer (1) from one that
// crashed: a Go program's panic ends it with status 2, a signal with none.
func TestHowAChildEnded(t *testing.T) {
	for _, test := range []struct {
		command, status string
		crashed         bool
	}{
		{"exit 0", "exit status 0", false},
		{"exit 1", "exit status 1", false},
		{"exit 2", "exit status 2", true},
		{"kill -9 $$", "signal: killed", true},
	} {
		c := &Child{Cmd: exec.Command("sh", "-c", test.command)}
		c.Run()
		if c.status() != test.status || c.crashed() != test.crashed {
			t.Errorf("%s: status %q, crashed %t", test.command, c.status(), c.crashed())
		}
	}
}

// TestKilledAtEveryMoment ends a standing child after each thing that it counts
// and tells while it serves a client. What the parent makes of it must fit:
// every connection that was counted is closed, and what failed was told so.
func TestKilledAtEveryMoment(t *testing.T) {
	killed := exec.Command("sh", "-c", "kill -9 $$")
	killed.Run()
	for name, serve := range map[string]func(*narrate.Conn){
		"answered": func(c *narrate.Conn) {
			c.Begin()
			c.Step(narrate.ReadRequest, narrate.Event{})
			c.End(narrate.Event{Status: 200})
			c.Close(nil, false, 200)
		},
		"failed": func(c *narrate.Conn) {
			c.Begin()
			c.Close(errors.New("no answer"), true, 502)
		},
		"silent":   func(c *narrate.Conn) { c.Close(errors.New("silent"), false, 0) },
		"too slow": func(c *narrate.Conn) { c.Close(errors.New("too slow"), true, 408) },
		"two requests": func(c *narrate.Conn) {
			c.Begin()
			c.End(narrate.Event{Status: 200})
			c.Begin()
			c.Close(nil, false, 200)
		},
	} {
		// The life of a child: one client before, and this one.
		var life []any
		child := narrate.New(narrate.All, func(e narrate.Event) { life = append(life, e) })
		child.Counted(func(t narrate.Totals) { life = append(life, t) })
		before := child.AcceptFrom("client")
		before.Begin()
		before.Close(nil, true, 500)
		serve(child.AcceptFrom("client"))

		for moments := range len(life) + 1 {
			var all told               // as the parent passes it on
			closed := map[uint64]int{} // how often
			f := &Family{app: cli.New()}
			f.app.Log = narrate.New(narrate.All, func(e narrate.Event) {
				all.add(e)
				closed[e.Conn] += int(one(e.Step == narrate.Close))
			})
			f.lastConn.Store(7)
			c, s, conn := &Child{Cmd: killed}, &slot{}, uint64(0)
			earlier := narrate.Totals{Connections: 10, Requests: 9, Failed: 3}
			s.store(earlier)
			for _, moment := range life[:moments] {
				switch moment := moment.(type) {
				case narrate.Totals:
					moment.Add(earlier)
					s.store(moment)
				case narrate.Event:
					c.told.add(moment)
					if moment.Step == narrate.Accept {
						conn = f.lastConn.Add(1)
					}
					moment.Conn = conn
					f.app.Log.Emit(moment)
				}
			}
			f.settle(c, s, earlier, conn)
			got := s.load()
			want := narrate.Totals{Connections: 10 + int64(len(closed)),
				Requests: 9 + all.Requests, Failed: 3 + all.Failed}
			if got != want {
				t.Errorf("%s, after %d moments: counted %+v, told %+v", name, moments, got, want)
			}
			for conn, closed := range closed {
				if closed != 1 {
					t.Errorf("%s, after %d: %d is closed %d times", name, moments, conn, closed)
				}
			}
		}
	}
}
