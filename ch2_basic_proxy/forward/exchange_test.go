package forward

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"reverseproxy/ch2_basic_proxy/http1"
	"reverseproxy/internal/cli"
	"reverseproxy/internal/narrate"
)

// recorder keeps the events of a rig.
type recorder struct {
	mu     sync.Mutex
	events []narrate.Event
}

func (rec *recorder) sink(e narrate.Event) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.events = append(rec.events, e)
}

// lines returns what was told, a line an event; the addresses are replaced.
func (rec *recorder) lines(r *rig) string {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	var b strings.Builder
	for _, e := range rec.events {
		peer := strings.ReplaceAll(e.Peer, r.target, "BACKEND")
		if strings.HasPrefix(peer, "127.0.0.1:") {
			peer = "CLIENT"
		}
		fmt.Fprintf(&b, "%s %d %s|%s|%s|%d|%d|%s|%s|%v\n", e.Kind, e.Step, e.Name, e.Calls, peer,
			e.Bytes, e.Status, e.Text, e.Err, e.Failed)
	}
	return b.String()
}

func recorded(rec *recorder) func(*rig) {
	return func(r *rig) { r.narrator = narrate.New(narrate.All, rec.sink) }
}

// The steps are told in their order, each when it has happened.
func TestNarration(t *testing.T) {
	t.Parallel()
	t.Run("simple", func(t *testing.T) {
		t.Parallel()
		rec := &recorder{}
		r := newRig(t, generous(), recorded(rec))
		client := r.send(get)
		backend := r.accept()
		backend.expect(getOut)
		backend.send(ok)
		client.end(okOut)
		r.wantSuccess()
		want := fmt.Sprintf(`step 4 accept|accept|CLIENT|0|0|||false
step 5 read request|read||%d|0|GET /||false
step 6 connect|socket, connect|BACKEND|0|0|inside net.Dial||false
step 7 forward request|write||%d|0|||false
step 8 read response|read||%d|200|OK||false
step 9 send response|write||%d|200|||false
request 0 request|||%d|200|||false
step 10 close|close||0|200|||false
`, len(get), len(getOut), len(ok)-len("hi"), len(okOut), len(okOut))
		if diff := cmp.Diff(want, rec.lines(r)); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	})
	t.Run("with a body", func(t *testing.T) {
		t.Parallel()
		rec := &recorder{}
		r := newRig(t, generous(), recorded(rec))
		client := r.send(chunkedPost)
		backend := r.accept()
		backend.expect(chunkedOut)
		client.send("5\r\nhello\r\n0\r\n\r\n")
		backend.expect("5\r\nhello\r\n0\r\n\r\n")
		for !strings.Contains(rec.lines(r), "body 0 request body") {
			time.Sleep(time.Millisecond) // the bytes arrive before they are told
		}
		backend.send(ok)
		client.end(okOut)
		r.wantSuccess()
		if got, want := rec.lines(r),
			fmt.Sprintf("body 0 request body|||%d|0|||false\n",
				len(chunkedOut)+15); !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	})
	t.Run("refused request", func(t *testing.T) {
		t.Parallel()
		rec := &recorder{}
		r := newRig(t, generous(), recorded(rec))
		client := r.send("GET / HTTP/1.1\r\n\r\n")
		client.gone()
		client.Close()
		r.wantClientsFault()
		want := fmt.Sprintf(`step 4 accept|accept|CLIENT|0|0|||false
step 5 read request|read||0|0||400 Bad Request: no Host|false
request 0 request|||%d|400||400 Bad Request: no Host|true
step 10 close|close||0|400||400 Bad Request: no Host|true
`, len(page("400 Bad Request", "no Host"))+len(http.TimeFormat)-len("now"))
		if diff := cmp.Diff(want, rec.lines(r)); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		if s := r.narrator.Summary(); s.Failed != 1 || s.Connections != 1 || s.Requests != 1 {
			t.Errorf("%+v", s)
		}
	})
	t.Run("bytes of others are made safe", func(t *testing.T) {
		t.Parallel()
		rec := &recorder{}
		r := newRig(t, generous(), recorded(rec))
		client := r.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		backend := r.accept()
		backend.until("\r\n\r\n")
		backend.send("HTTP/1.1 200 \xff\u009b\r\nContent-Length: 0\r\n\r\n")
		client.gone()
		r.wantSuccess()
		for _, c := range rec.lines(r) {
			if c != '\n' && (c < ' ' || c > '~') {
				t.Errorf("%q in\n%s", c, rec.lines(r))
				break
			}
		}
	})
}

// A panic costs one exchange; its client is told, without the details.
func TestPanic(t *testing.T) {
	t.Parallel()
	t.Run("before the response", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, generous(),
			func(r *rig) { r.before = func(*Request) error { panic("secret 127.0.0.1") } })
		client := r.send(get)
		client.end(page("500 Internal Server Error", "the proxy failed"))
		client.Close()
		e := r.wantError(ByProxy, 500)
		if !strings.Contains(e.Error(), "secret") ||
			!strings.Contains(e.Error(), "exchange_test.go") {
			t.Errorf("the operator reads %q, which does not tell where", e)
		}
		r.untouched()
	})
	t.Run("in the goroutine of the request's side", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, generous(), func(r *rig) {
			r.before = func(x *Request) error {
				x.Client.log = narrate.New(narrate.All, func(e narrate.Event) {
					if e.Kind == narrate.KindBody {
						panic("in a sink")
					}
				}).AcceptFrom("")
				return nil
			}
		})
		client := r.send(chunkedPost + "0\r\n\r\n")
		backend := r.accept()
		client.expect("HTTP/1.1 500 Internal Server Error\r\n")
		client.Close()
		backend.gone()
		r.wantError(ByProxy, 500)
	})
}

// The proxy in front of itself: the circle ends by itself, with 508.
func TestLoop(t *testing.T) {
	t.Parallel()
	limits := generous() // for many exchanges, of which each waits for the next
	limits.Server = maxHops * patience
	r := newRig(t, limits, func(r *rig) { r.target = r.proxy.Addr().String() })
	client := r.send(get)
	client.SetReadDeadline(time.Now().Add(limits.Server))
	b, _ := io.ReadAll(client.TCPConn)
	got := string(b)
	if !strings.HasPrefix(got, "HTTP/1.1 508 Loop Detected\r\n") {
		t.Errorf("%q", got)
	}
	for range maxHops + 1 {
		r.result()
	}
}

// Max-Forwards: 0 goes no further (RFC 9110, section 7.6.2).
func TestMaxForwards(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"OPTIONS", "TRACE"} {
		r := newRig(t, generous())
		client := r.send(method + " / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n")
		if got := client.untilEnd(); !strings.HasPrefix(got, "HTTP/1.1 ") {
			t.Errorf("%q", got)
		}
		client.Close()
		r.result()
		r.untouched()
	}
}

// Exchanges of every kind leave no goroutine and no descriptor behind.
func TestNothingIsLeft(t *testing.T) {
	round := func() {
		var backends sync.WaitGroup
		defer backends.Wait()
		t.Run("", func(t *testing.T) { // a test of its own, so that its clean-up has run
			limits := generous()
			limits.Idle = short
			r := newRig(t, limits)
			var all sync.WaitGroup
			for i := range 40 {
				all.Add(1)
				go func() { // ends with what the client does
					defer all.Done()
					one(r, i)
				}()
			}
			backends.Go(func() { // ends when the listener is closed, by the clean-up
				for {
					conn, err := r.backend.Accept()
					if err != nil {
						return
					}
					backends.Go(func() { answer(conn) }) // ends with what the backend does
				}
			})
			all.Wait()
			for range 40 {
				r.result()
			}
		})
	}
	round() // pools and pollers come into being
	before, files := runtime.NumGoroutine(), descriptors()
	for range 3 {
		round()
	}
	var after int
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if after = runtime.NumGoroutine(); after <= before && descriptors() <= files {
			return
		}
	}
	t.Errorf("%d goroutines and %d descriptors, before %d and %d\n%s", after, descriptors(), before,
		files, goroutines())
}

// one is a client that does one of many things.
func one(r *rig, kind int) {
	c := r.dial()
	defer c.Close()
	switch kind % 8 {
	case 0:
		io.WriteString(c, get)
		io.Copy(io.Discard, c)
	case 1:
		io.WriteString(c, strings.Replace(get, "/", "/big", 1))
		io.CopyN(io.Discard, c, 1000)
		c.reset()
	case 2:
		io.WriteString(c, postTen+"01234")
		c.reset()
	case 3:
		io.WriteString(c, chunkedPost+"5\r\nhello\r\n0\r\n\r\n")
		c.CloseWrite()
		io.Copy(io.Discard, c)
	case 4:
		io.WriteString(c, strings.Replace(get, "/", "/reset", 1))
		io.Copy(io.Discard, c)
	case 5:
		io.WriteString(c, "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n"+
			"Upgrade: x\r\n\r\nhello")
		io.Copy(io.Discard, c)
	case 6:
		io.WriteString(c, postTen) // and no more: idle
		io.Copy(io.Discard, c)
	case 7:
		io.WriteString(c, strings.Replace(chunkedPost, "/", "/big", 1)+"x\r\n")
		io.Copy(io.Discard, c)
	}
}

// answer is a backend that does what the path says.
func answer(b net.Conn) {
	defer b.Close()
	var head []byte
	for one := make([]byte, 1); !bytes.HasSuffix(head, []byte("\r\n\r\n")); {
		if _, err := b.Read(one); err != nil {
			return
		}
		head = append(head, one[0])
	}
	switch {
	case bytes.Contains(head, []byte(" /big ")):
		io.WriteString(b, status+"Content-Length: 10000000\r\n\r\n")
		io.CopyN(b, zeros{}, 10000000)
	case bytes.Contains(head, []byte(" /reset ")):
		io.WriteString(b, status+chunks+"\r\n5\r\nhello\r\n")
		b.(*net.TCPConn).SetLinger(0)
	case bytes.Contains(head, []byte(" /ws ")):
		io.WriteString(b, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\nhi")
		io.CopyN(io.Discard, b, 5)
	default:
		io.WriteString(b, ok)
		io.Copy(io.Discard, b)
	}
}

// descriptors returns how many files the process has open, or 0 where the
// system does not tell.
func descriptors() int {
	entries, _ := os.ReadDir("/proc/self/fd")
	return len(entries)
}

// The flags and their checks.
func TestFlags(t *testing.T) {
	t.Parallel()
	got := Flags(cli.New("127.0.0.1:8000"))
	want := &Settings{Name: got.Name, Connect: 5 * time.Second, Request: 10 * time.Second,
		Server: 15 * time.Second, Idle: time.Minute}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(Settings{})); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if err := got.Check(); err != nil {
		t.Error(err)
	}
	for name, spoil := range map[string]func(*Settings){
		"connect-timeout": func(s *Settings) { s.Connect = 0 },
		"request-timeout": func(s *Settings) { s.Request = -1 },
		"server-timeout":  func(s *Settings) { s.Server = 0 },
		"idle-timeout":    func(s *Settings) { s.Idle = 0 },
		"max-body":        func(s *Settings) { s.MaxBody = -1 },
	} {
		s := generous()
		spoil(s)
		if err := s.Check(); err == nil || !strings.Contains(err.Error(), "-"+name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Error's text is for the operator; it names the cause.
func TestError(t *testing.T) {
	t.Parallel()
	cause := errors.New("cause")
	e := &Error{Status: 502, Reason: "reason", Err: cause}
	if e.Error() != "502 Bad Gateway: reason: cause" || !errors.Is(e, cause) {
		t.Error(e)
	}
	if bytes.Contains(http1.AppendPage(nil, e.Status, e.Reason, false, http1.Hop{}),
		[]byte("cause")) {
		t.Error("the client is told the cause")
	}
}
