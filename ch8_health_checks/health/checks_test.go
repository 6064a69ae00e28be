package health

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"reverseproxy/internal/backends"
	"reverseproxy/internal/narrate"
)

// TestDetection: a death is known within fall × inter + timeout, a return within
// rise × inter, whenever they happen.
func TestDetection(t *testing.T) {
	for name, answer := range map[string]func(context.Context) (int, error){
		"refused": dead, "status": status(503), "hangs": hangs, "broken": breaks} {
		for range 20 {
			in(t, 3, nil, func(r *rig) {
				time.Sleep(time.Duration(rand.Int64N(int64(10 * time.Second))))
				r.set("b2", answer)
				if got := r.until("b2", narrate.Down, time.Minute); got > 7*time.Second ||
					got < 4*time.Second {
					t.Errorf("%s: down after %v", name, got)
				}
				time.Sleep(time.Duration(rand.Int64N(int64(10 * time.Second))))
				synctest.Wait()
				r.set("b2", nil)
				got := r.until("b2", narrate.Up, time.Minute)
				if got > 4*time.Second+time.Millisecond {
					t.Errorf("%s: up after %v", name, got)
				}
				var states []string
				for _, e := range r.states("b2") {
					states = append(states, e.State)
				}
				if got := strings.Join(states, ", "); got != "going down, down, going up, up" {
					t.Errorf("%s: %s", name, got)
				}
			})
		}
	}
}

// TestStrictlyConsecutive: two failures and a success, again and again, are no
// reason; nor is a success between failures a return.
func TestStrictlyConsecutive(t *testing.T) {
	in(t, 2, nil, func(r *rig) {
		n := 0
		pattern := func(s string) func(context.Context) (int, error) {
			n = 0
			return func(context.Context) (int, error) {
				n++
				if s[(n-1)%len(s)] == '+' {
					return 200, nil
				}
				return 0, errors.New("EOF")
			}
		}
		time.Sleep(time.Second)
		r.set("b1", pattern("--+"))
		time.Sleep(time.Minute)
		for _, e := range r.states("b1") {
			if e.State == narrate.Down {
				t.Fatalf("down: %s", e.Text)
			}
		}
		r.set("b1", pattern("---+-+"))
		time.Sleep(time.Minute)
		for _, e := range r.states("b1")[1:] {
			if e.State == narrate.Up && e.Time.Sub(r.began) > 65*time.Second {
				t.Fatalf("up: %s", e.Text)
			}
		}
	})
}

// TestSlowStart: a backend that is back has a share that follows the line, within
// 5 points; at the start all have theirs at once.
func TestSlowStart(t *testing.T) {
	for _, n := range []int{2, 3, 10} {
		in(t, n, nil, func(r *rig) {
			if got := r.shares(100 * n); got["b1"] != 100 {
				t.Errorf("at the start: %v", got)
			}
			r.set("b1", dead)
			r.until("b1", narrate.Down, 10*time.Second)
			r.set("b1", nil)
			r.until("b1", narrate.Up, 10*time.Second)
			const slice, pause = 250 * time.Millisecond, 500 * time.Microsecond
			for at := time.Duration(0); at < 6*time.Second; at += slice {
				mine, others := 0, 0
				for range slice / pause {
					if r.try(200, nil) == "b1" {
						mine++
					} else {
						others++
					}
					time.Sleep(pause)
				}
				got := float64(mine) * float64(n-1) / float64(others)
				want := 0.0 // the mean over the slice
				for i := range 100 {
					d := at + slice*time.Duration(i)/100
					want += min(1, max(0.1, d.Seconds()/5)) / 100
				}
				if got < want-.05 || got > want+.05 {
					t.Errorf("%d backends, after %v: a share of %.3f, want %.3f", n, at, got, want)
				}
			}
		})
	}
	in(t, 2, []string{"-slow-start", "0s"}, func(r *rig) {
		r.report("b1", 0, errBroken)
		r.until("b1", narrate.Up, 10*time.Second)
		if got := r.shares(100); got["b1"] < 49 {
			t.Errorf("without a slow start: %v", got)
		}
	})
}

// TestSpread: the checks of 20 backends are spread in time, from the first on.
func TestSpread(t *testing.T) {
	in(t, 20, nil, func(r *rig) {
		time.Sleep(time.Minute + time.Millisecond)
		synctest.Wait()
		all := r.checks
		if first := all[0].Time.Sub(r.began); first > time.Millisecond {
			t.Errorf("the first after %v", first)
		}
		if len(all) != 601 {
			t.Errorf("%d checks in a minute", len(all))
		}
		for i := range all {
			if i >= 3 && all[i].Time.Sub(all[i-3].Time) < 100*time.Millisecond {
				t.Fatalf("four from %v to %v", all[i-3].Time.Sub(r.began), all[i].Time.Sub(r.began))
			}
			if i >= 20 && all[i].Peer != all[i-20].Peer {
				t.Fatalf("after 2 s %s, before %s", all[i].Peer, all[i-20].Peer)
			}
		}
	})
}

// TestTimeout: one above -inter acts as that.
func TestTimeout(t *testing.T) {
	in(t, 2, []string{"-check-timeout", "1h", "-inter", "500ms"}, func(r *rig) {
		r.set("b1", hangs)
		if got := r.until("b1", narrate.Down, 10*time.Second); got > 2*time.Second {
			t.Errorf("down after %v", got)
		}
		synctest.Wait()
		for _, e := range r.checks {
			if e.Peer == "b1" && e.Err != "" && e.Elapsed != 500_000 {
				t.Errorf("a check took %d µs", e.Elapsed)
			}
		}
	})
}

// TestChecksThatDoNotCount: one that was cancelled at Ctrl+C, and one for which
// there was no descriptor.
func TestChecksThatDoNotCount(t *testing.T) {
	in(t, 1, []string{"-fall", "1"}, func(r *rig) {
		r.set("b1", func(context.Context) (int, error) {
			return 0, &net.OpError{Op: "dial", Err: syscall.EMFILE}
		})
		time.Sleep(11 * time.Second)
		r.set("b1", hangs)
		time.Sleep(1500 * time.Millisecond) // in the middle of a check
		r.stop()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if len(r.checks)+len(r.states("b1")) > 0 {
			t.Errorf("told %v, %v", r.checks, r.states("b1"))
		}
	})
}

// TestNotReached: a check that finds nobody says so, however.
func TestNotReached(t *testing.T) {
	r := newRig(t, 1)
	for _, cause := range []error{syscall.ECONNREFUSED, syscall.EHOSTUNREACH,
		os.ErrDeadlineExceeded} {
		got, why := r.checked(0, &net.OpError{Op: "dial", Err: cause})
		if got != refused || why == nil {
			t.Errorf("%v: %d, %v", cause, got, why)
		}
	}
}

// play starts a backend on a real socket that does as play says with each
// connection.
func play(t *testing.T, with func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() { // ends when the listener is closed
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			with(c)
			c.Close()
		}
	}()
	return l.Addr().String()
}

// TestAsk: a check over a real connection.
func TestAsk(t *testing.T) {
	asked := make(chan string, 1)
	says := func(answer string) func(net.Conn) {
		return func(c net.Conn) {
			buf := make([]byte, 4096)
			n, _ := c.Read(buf)
			select {
			case asked <- string(buf[:n]):
			default:
			}
			io.WriteString(c, answer)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free := l.Addr().String()
	held := backends.Hold(l) // nobody else is to listen there
	defer held.Close()
	forever := make(chan bool)
	defer close(forever)
	tests := []struct {
		name, path, addr string
		want             result
	}{
		{"200", "/health?deep=1", play(t, says("HTTP/1.1 200 OK\r\n\r\n")), passed},
		{"302", "/", play(t, says("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n"+
			"Content-Length: 0\r\n\r\n")), passed},
		{"103, then 204", "/", play(t, says("HTTP/1.1 103 Early Hints\r\n\r\n"+
			"HTTP/1.1 204 No Content\r\n\r\n")), passed},
		{"a header without end", "/", play(t, says("HTTP/1.1 200 OK\r\nA: "+
			strings.Repeat("a", 1<<20))), broken},
		{"404", "/", play(t, says("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")), gone},
		{"503", "/", play(t, says("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")), bad},
		{"closed", "/", play(t, says("")), broken},
		{"nonsense", "/", play(t, says("hello\r\n\r\n")), broken},
		{"silent", "/", play(t, func(net.Conn) { <-forever }), slow},
		{"refused", "/", free, refused},
		{"tcp", "tcp", play(t, func(net.Conn) {}), passed},
		{"tcp, refused", "tcp", free, refused},
	}
	for _, c := range tests {
		r := newRig(t, 1, "-check", c.path)
		limit := 20 * time.Second
		if c.want == slow {
			limit = 5 * time.Second
		}
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		status, err := r.limits.ask(ctx, c.addr)
		cancel()
		if got, why := r.checked(status, err); got != c.want {
			t.Errorf("%s: %d (%d, %v, %v), want %d", c.name, got, status, err, why, c.want)
		}
		if c.name == "200" {
			got := <-asked
			for _, want := range []string{"GET /health?deep=1 HTTP/1.1\r\n", "\r\nHost: " + c.addr,
				"\r\nConnection: close\r\n", "\r\nUser-Agent: health check\r\n"} {
				if !strings.Contains(got, want) {
					t.Errorf("%q lacks %q", got, want)
				}
			}
		}
	}
}
