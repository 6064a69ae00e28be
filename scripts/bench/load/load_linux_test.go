package load

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"reverseproxy/internal/backends"
	"reverseproxy/scripts/bench/origin"
)

// The generator takes its goroutine's thread and switches the garbage
// collector off, so each job runs in a process of its own: this test binary.
const childEnv = "BENCH_LOAD_TEST_JOB"

func TestMain(m *testing.M) {
	if text := os.Getenv(childEnv); text != "" {
		var job Job
		if err := json.Unmarshal([]byte(text), &job); err != nil {
			panic(err)
		}
		res, err := Run(job, func(int) {})
		if err != nil {
			panic(err)
		}
		_ = json.NewEncoder(os.Stdout).Encode(res)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func do(t *testing.T, job Job) *Result {
	t.Helper()
	text, err := json.Marshal(job)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+string(text))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	res := &Result{}
	if err := json.Unmarshal(out, res); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return res
}

// startOrigin runs the bench's backend; its thread ends with the test binary.
func startOrigin(t *testing.T) string {
	t.Helper()
	lns, addrs, err := origin.Listen(1)
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = origin.Run(lns) }()
	return addrs[0]
}

const small = int64(len(origin.Body))

// patienceMS is how long a job waits for what must come, in milliseconds.
const patienceMS = 30_000

func TestClosedLoop(t *testing.T) {
	addr := startOrigin(t)
	for _, keep := range []bool{false, true} {
		t.Run(fmt.Sprintf("keepalive=%v", keep), func(t *testing.T) {
			r := do(t, Job{Target: addr, Path: "/", Clients: 8, KeepAlive: keep, WarmupMS: 50,
				RunMS: 3000, TimeoutMS: patienceMS, Body: small})
			if r.Failed() > 0 || r.Requests < 50 {
				t.Fatalf("%d requests, failures %v", r.Requests, r.Failures)
			}
			if keep && r.Connects != 8 || !keep && r.Connects < r.AllAnswers {
				t.Errorf("%d connections for %d answers", r.Connects, r.AllAnswers)
			}
			if r.Latency.TotalCount() < r.Requests ||
				r.Latency.Percentile(99) < r.Latency.Percentile(50) {
				t.Errorf("histogram of %d for %d requests", r.Latency.TotalCount(), r.Requests)
			}
			if r.Bytes != r.AllAnswers*small {
				t.Errorf("%d bytes in %d answers", r.Bytes, r.AllAnswers)
			}
		})
	}
}

// stall is a server that answers one client at a time and stands still once,
// for a while, after some requests.
func stall(t *testing.T, after int, pause time.Duration) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() { // ends with the listener
		for n := 0; ; n++ {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			if n == after {
				time.Sleep(pause)
			}
			if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"+
					"Connection: close\r\n\r\nok")
			}
			c.Close()
		}
	}()
	return ln.Addr().String()
}

// A server that stands still for 400 ms of a run of 1 s at 200 requests/s
// holds up about 80 requests, by 200 ms on average. A closed loop of one
// client sees one slow request only; the constant rate must show them all.
func TestConstantRateHasNoCoordinatedOmission(t *testing.T) {
	r := do(t, Job{Target: stall(t, 40, 400*time.Millisecond), Path: "/", Clients: 1, Rate: 200,
		RunMS: 1000, TimeoutMS: patienceMS, Body: 2})
	// Of a server that is slow besides, the last answers may come too late to be counted.
	if r.Failed() > 0 || r.Requests < 150 || r.Requests > 201 {
		t.Fatalf("%d requests, failures %v; want 200", r.Requests, r.Failures)
	}
	if p := r.Latency.Percentile(85); p < 100_000 {
		t.Errorf("p85 is %.0f µs: those who waited for the stalled server are missing", p)
	}
	closed := do(t, Job{Target: stall(t, 40, 400*time.Millisecond), Path: "/", Clients: 1,
		RunMS: 1000, TimeoutMS: patienceMS, Body: 2})
	if p := closed.Latency.Percentile(85); p > 100_000 {
		t.Errorf("a closed loop's p85 is %.0f µs: then this test shows nothing", p)
	}
}

func TestOnceGivesATimeline(t *testing.T) {
	r := do(t, Job{Target: startOrigin(t), Path: "/slow?ms=100", Clients: 4, Once: true,
		TimeoutMS: patienceMS, Body: small})
	if r.Requests != 4 || len(r.Timeline) != 4 {
		t.Fatalf("%d answers, %d bars", r.Requests, len(r.Timeline))
	}
	for _, b := range r.Timeline {
		ordered := 0 <= b.Start && b.Start <= b.Connected && b.Connected <= b.Arrived &&
			b.Arrived <= b.First && b.First <= b.Done
		if !ordered || b.First-b.Arrived < 99_000 {
			t.Errorf("%+v: not in order, or the backend's 100 ms are missing", b)
		}
	}
}

func TestLargeBody(t *testing.T) {
	const size = 64 << 20
	r := do(t, Job{Target: startOrigin(t), Path: fmt.Sprintf("/bytes?n=%d", size), Clients: 1,
		Once:      true,
		TimeoutMS: patienceMS, Body: size})
	if r.Bytes != size || r.Failed() > 0 {
		t.Errorf("%d bytes, failures %v", r.Bytes, r.Failures)
	}
}

func TestIdleConnectionsStand(t *testing.T) {
	r := do(t, Job{Target: startOrigin(t), Path: "/", Clients: 1, Idle: 300, IdleMS: patienceMS,
		RunMS: 1000, TimeoutMS: patienceMS, Body: small})
	if r.Idle != 300 || r.Failed() > 0 || r.Requests == 0 {
		t.Errorf("%d idle, %d requests, failures %v", r.Idle, r.Requests, r.Failures)
	}
}

// Each way an answer can be wrong must count as a failure of its kind.
func TestFailures(t *testing.T) {
	for _, c := range []struct{ name, answer, want string }{
		{"status", "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n", "status 502"},
		{"short", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no", "answer cut short"},
		{"length", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nokk", "wrong length"},
		{"too much", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokk", "bytes after the answer"},
		{"no HTTP", "220 mail.example ESMTP ready, go\r\n\r\n", "no HTTP answer"},
		{"nothing", "", "closed without an answer"},
		{"endless", strings.Repeat("x", 40_000), "head too long"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			go func() { // ends with the listener
				for {
					conn, err := ln.Accept()
					if err != nil {
						return
					}
					_, _ = http.ReadRequest(bufio.NewReader(conn))
					_, _ = io.WriteString(conn, c.answer)
					conn.Close()
				}
			}()
			r := do(t, Job{Target: ln.Addr().String(), Path: "/", Clients: 1, Once: true,
				TimeoutMS: patienceMS, Body: 2})
			if d := cmp.Diff(map[string]int64{c.want: 1}, r.Failures); d != "" {
				t.Errorf("-want +got\n%s", d)
			}
			if r.Requests != 0 {
				t.Errorf("%d requests counted as answered", r.Requests)
			}
		})
	}
	t.Run("silence", func(t *testing.T) {
		ln, err := net.Listen("tcp", "127.0.0.1:0") // the backlog takes the client
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		r := do(t, Job{Target: ln.Addr().String(), Path: "/", Clients: 1, Once: true,
			TimeoutMS: 200, Body: 2})
		if d := cmp.Diff(map[string]int64{"timeout": 1}, r.Failures); d != "" {
			t.Errorf("-want +got\n%s", d)
		}
		if r.Latency.Percentile(100) < 190_000 {
			t.Error("a timeout's full length must be among the latencies")
		}
	})
	t.Run("refused", func(t *testing.T) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := ln.Addr().String()
		held := backends.Hold(ln) // nobody else is to listen there
		defer held.Close()
		r := do(t, Job{Target: addr, Path: "/", Clients: 1, Once: true, TimeoutMS: patienceMS,
			Body: 2})
		if d := cmp.Diff(map[string]int64{"connect: connection refused": 1}, r.Failures); d != "" {
			t.Errorf("-want +got\n%s", d)
		}
	})
}

// An answer that comes in pieces, even within its head, is one answer.
func TestPieces(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() { // ends with the listener
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			_ = conn.(*net.TCPConn).SetNoDelay(true)
			_, _ = http.ReadRequest(bufio.NewReader(conn))
			for _, b := range "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello" {
				_, _ = conn.Write([]byte(string(b)))
			}
			conn.Close()
		}
	}()
	r := do(t, Job{Target: ln.Addr().String(), Path: "/", Clients: 3, Once: true,
		TimeoutMS: patienceMS, Body: 5})
	if r.Requests != 3 || r.Failed() > 0 || r.Bytes != 15 {
		t.Errorf("%d answers, %d bytes, failures %v", r.Requests, r.Bytes, r.Failures)
	}
}

func TestHistogramTravelsAsJSON(t *testing.T) {
	h := NewHistogram()
	for i := range int64(1000) {
		h.Record(i * 1_000_000)
	}
	b, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	var got Histogram
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	for _, p := range []float64{0, 50, 99, 100} {
		if h.Percentile(p) != got.Percentile(p) {
			t.Errorf("p%v: %v, want %v", p, got.Percentile(p), h.Percentile(p))
		}
	}
	if err := json.Unmarshal([]byte(`"!"`), &got); err == nil {
		t.Error("garbage was taken for a histogram")
	}
	if b, _ := json.Marshal(NewHistogram()); string(b) != `""` {
		t.Errorf("an empty histogram is %s", b)
	}
}
