package cases

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"reverseproxy/scripts/check/suite"
)

var streamingCases = group("streaming",
	streamed("stream-events", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: "+
		"text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n", "chunked",
		"The first server-sent event reaches the client at once, not when the stream ends: the "+
			"page waits for it."),
	streamed("stream-length",
		"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 12\r\n\r\n", "length",
		"The first bytes of a body with Content-Length pass before the rest is there."),
	streamed("stream-close", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", "close",
		"The first bytes of a body that ends with the connection pass before it ends."),
	Case{ID: "stream-head-first", Level: Quality, RFC: "RFC 9112 §2.1",
		Why: "The head passes before the first byte of the body is there.",
		Run: func(t *T) {
			c := t.Dial()
			c.Send(t.Get("head"))
			x := t.Expect(c)
			x.Request()
			x.Send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: text/event-stream" +
				"\r\nTransfer-Encoding: chunked\r\n\r\n")
			if err := c.Await(func(b []byte) bool { return suite.HeadEnd(b) >= 0 }); err != nil {
				t.Fatalf("the client waits for the head while the backend waits with the body")
			}
			x.Send(Chunked("late", 4))
			x.Close()
			r := c.Final("GET")
			t.Whole(r, 200)
			t.SameBody("the client", r.Body, []byte("late"))
		}},
	uploadStreamed("stream-upload", false, "The first bytes of an upload reach the backend "+
		"before the last are sent."),
	uploadStreamed("stream-upload-chunked", true, "Chunks of an upload reach the backend as they "+
		"come."),
	Case{ID: "stream-duplex", Level: Quality, RFC: "RFC 9112 §9",
		Why: "A response may start before the request has ended: each line is answered while the " +
			"upload goes on.",
		Run: duplex},
	Case{ID: "stream-echo", Level: Quality, Limit: bigTime, RFC: "RFC 9112 §9",
		Why: "A backend that answers while it reads, 24 MiB each way: a proxy that first writes " +
			"all and then reads waits for ever.",
		Run: bigEcho},
	bigBody("stream-big-down", "32 MiB down arrive byte for byte.", false),
	bigBody("stream-big-up", "32 MiB up arrive byte for byte.", true),
	Case{ID: "backpressure-down", Level: Quality, Limit: bigTime, RFC: "RFC 9112 §9", Mode: Alone,
		Why: "A client that does not read makes the backend wait; a proxy that takes everything " +
			"fills its memory for each slow client.",
		Run: pressureDown},
	Case{ID: "backpressure-up", Level: Quality, Limit: bigTime, RFC: "RFC 9112 §9", Mode: Alone,
		Why: "A backend that does not read makes the client wait, not the proxy's memory grow.",
		Run: pressureUp},
)

var earlyResponsesCases = group("early responses",
	Case{ID: "early-response", Level: Quality, Hurts: true, RFC: "RFC 9112 §9.5",
		Why: "An answer that the backend gives before the upload has ended reaches the client at " +
			"once.",
		Run: func(t *T) {
			for range earlyTries {
				earlyAnswer(t)
			}
		}},
	Case{ID: "early-response-closed", Level: Quality, Hurts: true, RFC: "RFC 9112 §9.6",
		Why: "A backend that answers 413 and closes with unread bytes breaks the proxy's " +
			"writing; the answer must reach the client all the same.",
		Run: earlyClosed},
	Case{ID: "early-response-ends", Level: Must, Hurts: true, RFC: "RFC 9112 §9.3",
		Why: "After an early answer the rest of the upload is no new request: the proxy reads it " +
			"away or closes.",
		Run: earlyEnds},
)

// earlyTries: a proxy that loses the answer now and then is to lose it here.
const earlyTries = 6

func earlyAnswer(t *T) {
	c := t.Dial()
	c.Send("POST " + t.Path("early") + " HTTP/1.1\r\nHost: " + Host + "\r\nContent-Length: " +
		"1000000\r\n\r\nonly the beginning")
	x := t.Accept(c)
	if x == nil {
		t.Fatalf("the request was not forwarded before its body was whole")
	}
	x.RequestHead()
	x.Send(Reply(413, "too much"))
	x.Close()
	r := c.Final("POST")
	t.Whole(r, 413)
	t.SameBody("the client", r.Body, []byte("too much"))
	c.Close()
}

// streamed sends half a body and wants the client to have it before the rest.
func streamed(id, head, kind, why string) Case {
	return Case{ID: id, Level: Quality, RFC: "RFC 9112 §7.1", Why: why, Run: func(t *T) {
		wrap := func(s string) string {
			if kind == "chunked" {
				return fmt.Sprintf("%x\r\n%s\r\n", len(s), s)
			}
			return s
		}
		c := t.Dial()
		c.Send(t.Get("stream"))
		x := t.Expect(c)
		x.Request()
		x.Send(head + wrap("first-"))
		err := c.Await(func(b []byte) bool { return strings.Contains(string(b), "first-") })
		if err != nil {
			t.Fatalf("the first part did not reach the client while the backend held back the "+
				"rest; the connection %s", suite.HowEnded(err))
		}
		x.Send(wrap("second"))
		if kind == "chunked" {
			x.Send("0\r\n\r\n")
		}
		x.Close()
		r := c.Final("GET")
		t.Whole(r, 200)
		t.SameBody("the client", r.Body, []byte("first-second"))
	}}
}

// uploadStreamed sends half an upload and wants the backend to have it.
func uploadStreamed(id string, chunked bool, why string) Case {
	return Case{ID: id, Level: Quality, RFC: "RFC 9112 §7.1", Why: why, Run: func(t *T) {
		parts := []string{"first-", "second"}
		lines := "Content-Length: 12\r\n"
		if chunked {
			parts = []string{"6\r\nfirst-\r\n", "6\r\nsecond\r\n0\r\n\r\n"}
			lines = "Transfer-Encoding: chunked\r\n"
		}
		c := t.Dial()
		c.Send(post(t, closeLine(lines), parts[0]))
		x := t.Accept(c)
		if x == nil {
			t.Fatalf("the request did not reach the backend before its body was whole")
		}
		err := x.Await(func(b []byte) bool { return strings.Contains(string(b), "first-") })
		if err != nil {
			t.Fatalf("the first part of the body did not reach the backend while the client held " +
				"back the rest")
		}
		c.Send(parts[1])
		q := x.Request()
		x.Send(Reply(200, "ok"))
		x.Close()
		wellFormed(t, q)
		t.SameBody("the backend", q.Body, []byte("first-second"))
		t.Whole(c.Final("POST"), 200)
	}}
}

// duplex answers each chunk of the upload by a chunk.
func duplex(t *T) {
	c := t.Dial()
	c.Send(post(t, closeLine("Transfer-Encoding: chunked\r\n"), ""))
	x := t.Accept(c)
	if x == nil {
		t.Fatalf("the request did not reach the backend before its body was whole")
	}
	q := x.RequestHead()
	x.Send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n")
	for _, line := range []string{"line-one", "line-two", "line-three"} {
		c.Send(fmt.Sprintf("%x\r\n%s\r\n", len(line), line))
		if x.Await(func(b []byte) bool { return strings.Contains(string(b), line) }) != nil {
			t.Fatalf("%s did not reach the backend", line)
		}
		x.Send(fmt.Sprintf("%x\r\n%s\r\n", len(line)+3, "re:"+line))
		if err := c.Await(func(b []byte) bool {
			return strings.Contains(string(b),
				"re:"+line)
		}); err != nil {
			t.Fatalf("the answer to %s did not reach the client while its upload was open; the "+
				"connection %s", line, suite.HowEnded(err))
		}
	}
	c.Send("0\r\n\r\n")
	x.RequestBody(q)
	x.Send("0\r\n\r\n")
	x.Close()
	t.Whole(c.Final("POST"), 200)
}

// bigEcho has the backend send back what it reads, piece by piece.
func bigEcho(t *T) {
	const size = 24 << 20 // more than all buffers on the way hold
	t.Serve(func(x *Exchange) {
		q := x.RequestHead()
		f := q.Frame()
		x.Send(fmt.Sprintf("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n",
			size))
		if f.Chunked { // chunks are not worth following here: any bytes will do
			go x.ReadChunked(&Message{Discard: true})
			sendPattern(t, x.Reader, 17, size)
			return
		}
		for left := int64(size); left > 0; {
			p, err := x.ReadSome(left)
			if err != nil || x.SendBytes(p) != nil {
				return
			}
			left -= int64(len(p))
		}
	})
	c := t.Dial()
	// Ends when all is written or the proxy breaks off.
	go func() {
		c.Send(post(t, fmt.Sprintf("Connection: close\r\nContent-Length: %d\r\n", size), ""))
		sendPattern(t, c.Reader, 17, size)
	}()
	r := &Response{}
	readBig(t, c.Reader, &r.Message, size)
	want := uint64(0)
	for off := int64(0); off < size; off += 1 << 20 {
		p := make([]byte, 1<<20)
		fillPattern(p, 17, off)
		want = suite.PatternSum(want, p)
	}
	sameSum(t, "the client", &r.Message, want)
}

const (
	bigSize = 32 << 20         // bytes of the big bodies
	bigTime = 30 * time.Second // for a case that does or moves much, on a busy machine
)

// sendPattern writes n pattern bytes and returns their sum.
func sendPattern(t *T, s suite.Reader, seed uint64, n int64) (sum uint64, err error) {
	buf := make([]byte, 256<<10)
	for off := int64(0); off < n; {
		p := buf[:min(int64(len(buf)), n-off)]
		fillPattern(p, seed, off)
		sum = suite.PatternSum(sum, p)
		if err := s.SendBytes(p); err != nil {
			return sum, err
		}
		off += int64(len(p))
	}
	return sum, nil
}

// bigBody carries bigSize bytes in one direction and compares a sum.
func bigBody(id, why string, up bool) Case {
	return Case{ID: id, Level: Should, Limit: bigTime, RFC: "RFC 9112 §6.2", Why: why,
		Run: func(t *T) {
			head := fmt.Sprintf("Connection: close\r\nContent-Length: %d\r\n", int64(bigSize))
			c := t.Dial()
			sums := make(chan uint64, 1)
			if !up {
				c.Send(t.Get("big"))
				x := t.Expect(c)
				x.Request()
				// Ends when all is written or the proxy breaks off.
				go func() {
					x.Send("HTTP/1.1 200 OK\r\n" + head + "\r\n")
					sum, _ := sendPattern(t, x.Reader, 11, bigSize)
					x.Close()
					sums <- sum
				}()
				r := &Response{}
				readBig(t, c.Reader, &r.Message, bigSize)
				sameSum(t, "the client", &r.Message, <-sums)
				return
			}
			c.Send(post(t, head, ""))
			// Ends when all is written or the proxy breaks off.
			go func() {
				sum, _ := sendPattern(t, c.Reader, 12, bigSize)
				sums <- sum
			}()
			x := t.Expect(c)
			q := &Request{}
			readBig(t, x.Reader, &q.Message, bigSize)
			x.Send(Reply(200, "ok"))
			x.Close()
			sameSum(t, "the backend", &q.Message, <-sums)
			t.Whole(c.Final("POST"), 200)
		}}
}

// readBig reads a head and a body that is summed, not kept.
func readBig(t *T, r suite.Reader, m *Message, n int64) {
	h, err := r.ReadHead()
	m.Head, m.Discard = h, true
	if err != nil {
		t.Fatalf("no head: the connection %s", suite.HowEnded(err))
	}
	f := m.Frame()
	switch {
	case f.Chunked:
		r.ReadChunked(m)
	case f.Length >= 0:
		r.ReadLength(m, f.Length)
	default:
		m.Ended = "close"
		r.ReadClose(m)
	}
	if m.Problem != "" {
		t.Fatalf("%s", m.Problem)
	}
	if m.BodyLen != n {
		t.Fatalf("%d bytes arrived instead of %d (%s)", m.BodyLen, n, Visible(m.Start, 60))
	}
}

func sameSum(t *T, who string, m *Message, want uint64) {
	if m.Sum != want {
		t.Fatalf("the %d bytes that %s got are not those that were sent", m.BodyLen, who)
	}
}

// kernelRoom is how much the kernel may buffer on the way, in bytes, with
// some megabytes for the proxy itself.
func kernelRoom() int64 {
	room := int64(8 << 20)
	for _, f := range []string{"/proc/sys/net/ipv4/tcp_rmem", "/proc/sys/net/ipv4/tcp_wmem"} {
		data, err := os.ReadFile(f)
		fields := strings.Fields(string(data))
		if err != nil || len(fields) != 3 {
			room += 8 << 20
			continue
		}
		n, _ := strconv.ParseInt(fields[2], 10, 64)
		room += 2 * n // both connections
	}
	return max(room, 32<<20)
}

// flood writes up to limit bytes and returns how much went before the peer
// made it wait for 1.5 seconds, or 2.25 if the machine has other work; the
// timeouts of a proxy under test are longer;
// err is set when the connection broke instead.
func flood(s suite.Reader, limit int64) (sent int64, blocked bool, err error) {
	buf := make([]byte, 256<<10)
	for waits := 0; sent < limit; {
		fillPattern(buf, 21, sent)
		n, err := s.WriteWithin(buf, 750*time.Millisecond)
		sent += int64(n)
		if ne, ok := err.(net.Error); ok && ne.Timeout() {
			if n > 0 {
				waits = 0
			}
			if waits++; waits == 3 || waits >= 2 && suite.Unproxied() < suite.BusyHop {
				return sent, true, nil
			}
			continue
		}
		if err != nil {
			return sent, false, err
		}
		waits = 0
	}
	return sent, false, nil
}

// pressureDown floods a client that reads only the first bytes.
func pressureDown(t *T) {
	limit := kernelRoom() + 24<<20
	c := t.Dial()
	c.ReadBuffer(64 << 10)
	c.Send(t.Get("flood"))
	x := t.Expect(c)
	x.Request()
	x.Send(fmt.Sprintf("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n", limit))
	sent, blocked, err := flood(x.Reader, limit)
	if err != nil {
		t.Fatalf("the proxy broke off the backend's connection after %d bytes, while the client "+
			"paused: %v", sent, err)
	}
	if !blocked {
		t.Fatalf("the backend could send %d MiB while the client read nothing", sent>>20)
	}
	if c.Ended() {
		t.Errorf("the connection of the client, which only paused, broke off")
	}
}

// pressureUp floods a backend that reads only the first bytes.
func pressureUp(t *T) {
	limit := kernelRoom() + 24<<20
	c := t.Dial()
	c.Send(post(t, fmt.Sprintf("Connection: close\r\nContent-Length: %d\r\n", limit), ""))
	sent, blocked, err := flood(c.Reader, limit)
	if err != nil {
		t.Fatalf("the proxy broke off the client's connection after %d bytes, while the backend "+
			"paused: %v", sent, err)
	}
	if !blocked {
		t.Fatalf("the client could send %d MiB while the backend read nothing", sent>>20)
	}
	x := t.Accept(c)
	if x == nil {
		t.Fatalf("%d MiB were taken and the request has not even reached the backend", sent>>20)
	}
	if x.Ended() {
		t.Errorf("the connection of the backend, which only paused, broke off")
	}
}

// earlyClosed has the backend answer and close while the client sends.
func earlyClosed(t *T) {
	t.Serve(func(x *Exchange) {
		x.RequestHead()
		x.Send(Reply(413, "too much"))
		x.CloseWrite()
		time.Sleep(20 * time.Millisecond)
		x.Drop() // with bytes unread: a reset
	})
	c := t.Dial()
	c.Send(post(t, fmt.Sprintf("Connection: close\r\nContent-Length: %d\r\n", 8<<20), ""))
	chunk := string(pattern(13, 256<<10))
	for i := 0; i < 32; i++ {
		if c.Send(chunk) != nil {
			break
		}
		if n, _ := c.State(); n > 0 && i > 8 {
			break // a good client stops when the answer is there
		}
	}
	r := c.Final("POST")
	if r.Status == 0 {
		t.Fatalf("the answer was lost: %s", r.Problem)
	}
	if r.Status != 413 {
		t.Fatalf("the client got %q instead of the backend's 413", r.Start)
	}
	t.Whole(r, 413)
}

// earlyEnds checks that the rest of an upload is not read as a request.
func earlyEnds(t *T) {
	h := hidden(t)
	t.Serve(func(x *Exchange) {
		q := x.RequestHead()
		if strings.HasSuffix(q.Target, "smuggled") {
			t.Errorf("the rest of the upload reached the backend as a request of its own")
		}
		x.Send(Reply(401, "who are you"))
	})
	c := t.Dial()
	c.Send("POST " + t.Path("e") + " HTTP/1.1\r\nHost: " + Host + "\r\nContent-Length: " +
		strconv.Itoa(len(h)+5) + "\r\n\r\nstart")
	// A proxy that waits for the whole body answers only after the rest.
	c.Wait(300*time.Millisecond, t.Done,
		func(b []byte) bool { return suite.HeadEnd(b) >= 0 })
	c.Send(h)
	r := c.Final("POST")
	t.MustBe(r, 401)
	c.AwaitEnd(quietClient)
}
