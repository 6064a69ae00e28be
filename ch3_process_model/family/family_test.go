//go:build unix

package family

import (
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
