package live

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"reverseproxy/internal/narrate"
)

// hasty gives clients little time; patient gives them more than a test takes.
var (
	hasty = limits{header: 200 * time.Millisecond, request: 200 * time.Millisecond,
		idle: 200 * time.Millisecond, write: 200 * time.Millisecond, saving: time.Minute}
	patient = limits{header: time.Hour, request: time.Hour, idle: time.Hour, write: time.Hour,
		saving: time.Hour}
)

// startLimited starts a page that gives clients so much time.
func startLimited(t *testing.T, c Config, lim limits) *Server {
	t.Helper()
	s, err := startWith("127.0.0.1:0", c, lim)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// request opens a connection with a small receive buffer and sends a request.
func request(t *testing.T, s *Server, method, path, fields, body string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.(*net.TCPConn).SetReadBuffer(4 << 10)
	c.SetDeadline(time.Now().Add(patience))
	fields = strings.ReplaceAll(strings.ReplaceAll(fields, "OWN", s.Addr()), "TOKEN", s.token)
	fmt.Fprintf(c, "%s %s HTTP/1.1\r\n%s\r\n%s", method, path, fields, body)
	return c
}

// TestClientsCannotKeepTheirPlaces takes all places of the page, with clients
// that then do nothing, and checks that the page is there again.
func TestClientsCannotKeepTheirPlaces(t *testing.T) {
	for _, c := range []struct {
		name, method, path, fields, body string
		limits                           limits
	}{
		{"wrong Host", "GET", "/", "Host: x\r\n", "", patient},
		{"wrong Origin", "GET", "/", "Host: OWN\r\nOrigin: http://x\r\n", "", patient},
		{"no token", "POST", "/slow", "Host: OWN\r\nContent-Length: 0\r\n", "", patient},
		{"idle", "GET", "/favicon.svg", "Host: OWN\r\n", "", hasty},
		{"half a header", "GET", "/", "Host: OWN", "", hasty},
		{"half a body", "POST", "/slow",
			"Host: OWN\r\nX-Live-Token: TOKEN\r\nContent-Length: 10\r\n", "{", hasty},
		{"half a body, wrong Host", "POST", "/slow", "Host: x\r\nContent-Length: 10\r\n", "{",
			hasty},
		{"half a body, GET", "GET", "/", "Host: OWN\r\nContent-Length: 10\r\n", "{", hasty},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := startLimited(t, Config{Narrator: narrate.New(narrate.Off)}, c.limits)
			var held []net.Conn
			for range maxConns {
				held = append(held, request(t, s, c.method, c.path, c.fields, c.body))
			}
			for i, conn := range held {
				_, err := io.Copy(io.Discard, conn)
				if errors.Is(err, os.ErrDeadlineExceeded) {
					t.Fatalf("client %d of %d still has its place", i+1, len(held))
				}
			}
			waitForPlaces(t, s)
			// A machine that stands still for as long as the page waits makes it give up.
			eventually(t, "afterwards the page answers", func() bool {
				r, err := http.Get("http://" + s.Addr())
				if err == nil {
					r.Body.Close()
				}
				return err == nil && r.StatusCode == http.StatusOK
			})
		})
	}
}

// waitForPlaces waits until no connection has a place.
func waitForPlaces(t *testing.T, s *Server) {
	t.Helper()
	slots := s.listener.(*limitListener).slots
	for limit := time.Now().Add(patience); len(slots) > 0; {
		if time.Now().After(limit) {
			t.Fatalf("%d connections have a place", len(slots))
		}
		time.Sleep(time.Millisecond)
	}
}

// TestUnreadAnswersEnd checks a client that sends requests and reads nothing.
func TestUnreadAnswersEnd(t *testing.T) {
	s := startLimited(t, Config{}, hasty)
	c := request(t, s, "GET", "/main.js", "Host: OWN\r\n", "")
	for {
		_, err := fmt.Fprintf(c, "GET /main.js HTTP/1.1\r\nHost: %s\r\n\r\n", s.Addr())
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("the client still has its place")
		}
		if err != nil {
			return // the page has closed the connection
		}
	}
}

// TestStreamsOutliveTheLimits checks that no limit ends a viewer that reads.
func TestStreamsOutliveTheLimits(t *testing.T) {
	const limit = 2 * time.Second // this thread may not get a core for a while
	s := startLimited(t, Config{}, limits{header: limit, request: limit, idle: limit, write: limit,
		saving: time.Minute})
	next := readStream(t, openStream(t, s))
	for began := time.Now(); time.Since(began) < 2*limit; {
		if e := next(); e.name == "end" {
			t.Fatal("the stream ended")
		}
	}
}

// startBusy starts a page whose last minute is larger than the kernel's buffers.
func startBusy(t *testing.T, lim limits) *Server {
	t.Helper()
	narrator := narrate.New(narrate.Off)
	s := startLimited(t, Config{Chapter: "ch4_threaded", Narrator: narrator}, lim)
	narrator.Attach(s.Sink)
	for i := range 5000 {
		s.col.mu.Lock()
		s.col.draws.tokens = 300 // keep everything
		s.col.mu.Unlock()
		serve(narrator, 1024+i, testBackend)
	}
	return s
}

// waitForRecordings waits until so many recordings are being sent.
func waitForRecordings(t *testing.T, s *Server, n int) {
	t.Helper()
	for limit := time.Now().Add(patience); len(s.saving) != n; {
		if time.Now().After(limit) {
			t.Fatalf("%d recordings are being sent, want %d", len(s.saving), n)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestRecordingsAreLimited(t *testing.T) {
	s := startBusy(t, patient)
	var unread []net.Conn
	for range maxRecordings {
		unread = append(unread, request(t, s, "GET", "/recording.html", "Host: OWN\r\n", ""))
	}
	waitForRecordings(t, s, maxRecordings)
	c := request(t, s, "GET", "/recording.html", "Host: OWN\r\n", "")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" ||
		!strings.Contains(string(body), "try again") {
		t.Errorf("one too many: status %d, Retry-After %q, %q", resp.StatusCode,
			resp.Header.Get("Retry-After"), body)
	}
	for _, c := range unread {
		c.Close()
	}
	waitForRecordings(t, s, 0)
	status, page := send(t, s, "GET", "/recording.html", "", nil)
	if status != 200 || !strings.HasSuffix(page, "</html>\n") {
		t.Errorf("a place that is free again: status %d, %d bytes", status, len(page))
	}
}

// TestUnreadRecordingIsCutOff checks the limit of a piece and that of the whole.
func TestUnreadRecordingIsCutOff(t *testing.T) {
	short := patient
	short.saving = 200 * time.Millisecond
	for name, lim := range map[string]limits{"write": hasty, "whole": short} {
		t.Run(name, func(t *testing.T) {
			s := startBusy(t, lim)
			c := request(t, s, "GET", "/recording.html", "Host: OWN\r\n", "")
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatal(err)
			} else if err != nil {
				return // cut off before it began: the machine has stood still for so long
			}
			waitForRecordings(t, s, 0)
			c.SetDeadline(time.Now().Add(patience)) // small buffers drain slowly
			if n, err := io.Copy(io.Discard, resp.Body); err == nil {
				t.Errorf("a recording of %d bytes seems to be whole", n)
			} else if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("the connection is still open")
			}
		})
	}
}
