package workers

import (
	"errors"
	"io"
	"net"
	"regexp"
	"runtime"
	"testing"

	"reverseproxy/internal/cli"
)

// newPool returns the Slots that these flags set, and its app.
func newPool(t *testing.T, flags map[string]string) (*Slots, *cli.App) {
	t.Helper()
	app := cli.New("127.0.0.1:8000")
	p := Flags(app)
	for name, value := range flags {
		if err := app.Flags.Set(name, value); err != nil {
			t.Fatal(err)
		}
	}
	return p, app
}

// endless is a listener that always has a client.
type endless struct {
	net.Listener
	fail bool
}

var errAccept = errors.New("accept failed")

func (e *endless) Accept() (net.Conn, error) {
	if e.fail {
		return nil, errAccept
	}
	ours, theirs := net.Pipe()
	theirs.Close()
	return ours, nil
}

func TestAcceptWaitsForASlot(t *testing.T) {
	p, _ := newPool(t, map[string]string{"max-conns": "2"})
	l := p.Limit(&endless{})
	events := make(chan string, 10)
	for range 2 {
		if _, err := l.Accept(); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan struct{})
	// Ends when a slot has been given back.
	go func() {
		defer close(done)
		l.Accept()
		events <- "accepted"
	}()
	runtime.Gosched()
	events <- "ended"
	p.End()
	<-done
	if first := <-events; first != "ended" {
		t.Errorf("the third client is accepted while two are served")
	}
}

func TestFailedAcceptTakesNoSlot(t *testing.T) {
	p, _ := newPool(t, map[string]string{"max-conns": "1"})
	inner := &endless{fail: true}
	l := p.Limit(inner)
	for range 5 {
		if _, err := l.Accept(); !errors.Is(err, errAccept) {
			t.Fatalf("%v", err)
		}
	}
	inner.fail = false
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("%v", err)
	}
}

func TestWorkersName(t *testing.T) {
	for value, pattern := range map[string]string{
		"false": `^(main )?goroutine( \d+)?$`, "true": `^thread( \d+)?$`,
	} {
		_, app := newPool(t, map[string]string{"os-threads": value})
		if got := app.Worker(); !regexp.MustCompile(pattern).MatchString(got) {
			t.Errorf("-os-threads=%s: worker %q", value, got)
		}
	}
}

func TestFlagsAreChecked(t *testing.T) {
	_, app := newPool(t, nil)
	for _, value := range []string{"0", "-5", "ten", ""} {
		if app.Flags.Set("max-conns", value) == nil {
			t.Errorf("-max-conns %q is accepted", value)
		}
	}
}
