package forward

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http/httputil"
	"runtime"
	"strings"
	"testing"
	"time"
)

const postTen = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n"

var postTenOut = "POST / HTTP/1.1\r\nHost: a\r\n" + forwarded("a") +
	"Content-Length: 10\r\nConnection: close\r\n\r\n"

// RFC 9110, section 10.1.1: the client waits with its body for the 100.
func TestExpectContinue(t *testing.T) {
	t.Parallel()
	const expect = "Expect: 100-continue\r\n"
	post := strings.Replace(postTen, "Host: a\r\n", "Host: a\r\n"+expect, 1)
	out := strings.Replace(postTenOut, "Host: a\r\n", "Host: a\r\n"+expect, 1)
	t.Run("continued", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, generous())
		client := r.send(post)
		backend := r.accept()
		backend.expect(out)
		backend.send("HTTP/1.1 100 Continue\r\n\r\n")
		client.expect("HTTP/1.1 100 Continue\r\nVia: 1.1 test\r\n\r\n")
		client.send("0123456789")
		backend.expect("0123456789")
		backend.send(ok)
		client.end(okOut)
		r.wantSuccess()
	})
	t.Run("refused", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, generous())
		client := r.send(post)
		backend := r.accept()
		backend.expect(out)
		backend.send("HTTP/1.1 417 No\r\nDate: x\r\nContent-Length: 0\r\n\r\n")
		client.end("HTTP/1.1 417 No\r\nDate: x\r\nVia: 1.1 test\r\nContent-Length: 0\r\n" +
			"Connection: close\r\n\r\n")
		client.Close()
		backend.end("")
		r.wantSuccess()
	})
	t.Run("not waited for", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, generous())
		client := r.send(post + "0123456789")
		backend := r.accept()
		backend.expect(out + "0123456789")
		backend.send("HTTP/1.1 100 Continue\r\n\r\n" + ok)
		client.end("HTTP/1.1 100 Continue\r\nVia: 1.1 test\r\n\r\n" + okOut)
		r.wantSuccess()
	})
}

// An interim response passes when it comes, not when the final one does.
func TestInterimAtOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t, generous())
	client := r.send(get)
	backend := r.accept()
	backend.expect(getOut)
	for i := range 3 {
		backend.send(fmt.Sprintf("HTTP/1.1 103 Early Hints\r\nLink: </%d>\r\n\r\n", i))
		client.expect(
			fmt.Sprintf("HTTP/1.1 103 Early Hints\r\nLink: </%d>\r\nVia: 1.1 test\r\n\r\n", i))
	}
	backend.send(ok)
	client.end(okOut)
	r.wantSuccess()
}

// Every part of a response passes when it comes, whatever frames it.
func TestResponseStreams(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, request, head, headOut, part, partOut, end, endOut string }{
		{"length", get, status + "Content-Length: 15\r\n\r\n",
			status + viaOut + "Content-Length: 15\r\n" + closing,
			"hello", "hello", "", ""},
		{"chunked", get, status + chunks + "\r\n", status + viaOut + chunks + closing,
			"5\r\nhello\r\n", "5\r\nhello\r\n", "0\r\nT: v\r\n\r\n", "0\r\nT: v\r\n\r\n"},
		{"until close", get, status + "\r\n", status + viaOut + chunks + closing, "hello",
			"5\r\nhello\r\n", "", "0\r\n\r\n"},
		{"chunked to HTTP/1.0", head10, status + chunks + "\r\n", status + viaOut + closing,
			"5\r\nhello\r\n", "hello", "0\r\n\r\n", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, generous())
			client := r.send(c.request)
			backend := r.accept()
			backend.until("\r\n\r\n")
			backend.send(c.head)
			client.expect(c.headOut) // before there is any body
			for range 3 {
				backend.send(c.part)
				client.expect(c.partOut)
			}
			backend.send(c.end)
			backend.CloseWrite()
			client.end(c.endOut)
			r.wantSuccess()
		})
	}
}

// Part of a chunk passes as well: the sender may pause within it.
func TestHalfAChunk(t *testing.T) {
	t.Parallel()
	r := newRig(t, generous())
	client := r.send(chunkedPost + "a\r\nhello")
	backend := r.accept()
	backend.expect(chunkedOut + "5\r\nhello\r\n")
	client.send("world\r\n0\r\n\r\n")
	backend.expect("5\r\nworld\r\n0\r\n\r\n")
	backend.send(status + chunks + "\r\na\r\nhello")
	client.expect(status + viaOut + chunks + closing + "5\r\nhello\r\n")
	backend.send("world\r\n0\r\n\r\n")
	client.end("5\r\nworld\r\n0\r\n\r\n")
	r.wantSuccess()
}

// The response may start, and go on, before the request has ended.
func TestFullDuplex(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, post, out string }{
		{"chunked", chunkedPost, chunkedOut},
		{"length", postTen, postTenOut},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			chunk := func(s string) string { return s }
			end := ""
			if c.name == "chunked" {
				chunk = func(s string) string { return "1\r\n" + s + "\r\n" }
				end = "0\r\n\r\n"
			}
			r := newRig(t, generous())
			client := r.send(c.post)
			backend := r.accept()
			backend.expect(c.out)
			backend.send(status + chunks + "\r\n")
			client.expect(status + viaOut + chunks + closing)
			for i := range 10 { // an echo, byte by byte
				b := string(rune('0' + i))
				client.send(chunk(b))
				backend.expect(chunk(b))
				backend.send("1\r\n" + b + "\r\n")
				client.expect("1\r\n" + b + "\r\n")
			}
			client.send(end)
			backend.expect(end)
			backend.send("0\r\n\r\n")
			client.end("0\r\n\r\n")
			r.wantSuccess()
		})
	}
}

// Whatever the body's length and the cut of its packets, it arrives, both ways.
func TestBodySizes(t *testing.T) {
	t.Parallel()
	sizes := []int{0, 1, 511, 512, 513, 4095, 4096, 4097, 32767, 32768, 32769, 65535, 65536, 65537,
		262143, 262144, 262145, 1<<20 + 1}
	for _, framing := range []string{"length", "chunked", "until close"} {
		t.Run(framing, func(t *testing.T) {
			t.Parallel()
			for _, n := range sizes {
				echoBody(t, framing, n)
			}
		})
	}
}

// TestLargeBodies moves bodies in which every way of copying gets going.
func TestLargeBodies(t *testing.T) {
	t.Parallel()
	n := 12 << 20
	if testing.Short() {
		n = 4 << 20
	}
	for _, framing := range []string{"length", "chunked", "until close"} {
		t.Run(framing, func(t *testing.T) {
			t.Parallel()
			echoBody(t, framing, n+7)
		})
	}
}

// echoBody sends a body of n random bytes to the backend and back, both at the
// same time, and compares checksums.
func echoBody(t *testing.T, framing string, n int) {
	t.Helper()
	r := newRig(t, generous())
	requestFraming, responseFraming := framing, framing
	if framing == "until close" {
		requestFraming = "chunked"
	}
	up, down := sha256.New(), sha256.New()
	client := r.dial()
	go func() { // ends with the body, or when the connection breaks
		body := io.TeeReader(io.LimitReader(rand.NewChaCha8([32]byte{byte(n)}), int64(n)), up)
		writeBody(client, "POST / HTTP/1.1\r\nHost: a\r\n", requestFraming, n, body)
	}()
	go func() { // the same
		backend := r.accept()
		head := readHeader(backend)
		defer backend.CloseWrite()
		io.WriteString(backend, "HTTP/1.1 200 OK\r\n")
		body, _ := readBody(backend, head)
		writeBody(backend, "", responseFraming, n, body)
	}()
	head := readHeader(client)
	body, rest := readBody(client, head)
	got, err := io.Copy(down, body)
	if err != nil || got != int64(n) || !bytes.Equal(up.Sum(nil), down.Sum(nil)) {
		t.Fatalf("%s: %d of %d bytes came back, %v; equal: %v", framing, got, n, err,
			bytes.Equal(up.Sum(nil), down.Sum(nil)))
	}
	want := ""
	if strings.Contains(head, "chunked") {
		want = "\r\n" // the end of the trailers, of which there are none
	}
	if end, err := io.ReadAll(rest); err != nil || string(end) != want {
		t.Fatalf("%q and %v behind the body, want %q", end, err, want)
	}
	r.wantSuccess()
}

// writeBody writes the end of a header and a body.
func writeBody(w io.Writer, head, framing string, n int, body io.Reader) {
	switch framing {
	case "length":
		fmt.Fprintf(w, "%sContent-Length: %d\r\n\r\n", head, n)
		io.Copy(w, body)
	case "chunked":
		io.WriteString(w, head+chunks+"\r\n")
		cw := httputil.NewChunkedWriter(w)
		io.Copy(cw, body)
		cw.Close()
		io.WriteString(w, "\r\n")
	default:
		io.WriteString(w, head+"\r\n")
		io.Copy(w, body)
	}
}

// readHeader reads a header byte by byte, so that nothing behind it is read.
func readHeader(w *wire) string { return w.until("\r\n\r\n") }

// readBody returns the body behind head, by its framing, and what is behind
// the body.
func readBody(w *wire, head string) (body io.Reader, rest *bufio.Reader) {
	rest = bufio.NewReader(w)
	if _, after, ok := strings.Cut(head, "Content-Length: "); ok {
		var n int64
		fmt.Sscan(after, &n)
		return io.LimitReader(rest, n), rest
	}
	if strings.Contains(head, "Transfer-Encoding: chunked") {
		return httputil.NewChunkedReader(rest), rest
	}
	return rest, rest
}

// A client that does not read makes the backend wait, and the proxy keeps
// nothing meanwhile; the other way round for an upload.
func TestBackpressure(t *testing.T) {
	for _, c := range []struct{ name, head string }{
		{"length", "Content-Length: 1000000000\r\n\r\n"},
		{"until close", "\r\n"},
	} {
		t.Run("download, "+c.name, func(t *testing.T) {
			r := newRig(t, generous())
			client := r.send(get)
			backend := r.accept()
			backend.expect(getOut)
			backend.send(status + c.head)
			client.until("\r\n\r\n")
			fillUp(t, backend)
			client.Close()
			backend.gone()
			r.wantClientsFault()
		})
	}
	t.Run("upload", func(t *testing.T) {
		r := newRig(t, generous())
		client := r.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n")
		backend := r.accept()
		backend.until("\r\n\r\n")
		fillUp(t, client)
		backend.send(ok) // the answer comes through all the same
		client.expect(okOut)
		client.Close()
		backend.gone()
		r.wantSuccess()
	})
}

// fillUp writes until nothing more is taken, which must come soon, and checks
// what the process holds then.
func fillUp(t *testing.T, w *wire) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	buf := make([]byte, 64<<10)
	total := 0
	for {
		w.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
		n, err := w.TCPConn.Write(buf)
		if total += n; err != nil {
			if !isTimeout(err) {
				t.Fatal(err)
			}
			break
		}
		if total > 200<<20 {
			t.Fatal("200 MiB were taken for a side that does not read")
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 1<<20 {
		t.Errorf("%d bytes are kept of the %d that were taken", grown, total)
	}
}

// RFC 9110, section 7.8: after 101 the two connections are one.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	const (
		ask = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\n" +
			"Upgrade: WebSocket\r\nSec-WebSocket-Key: k\r\n\r\n"
		answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n" +
			"Upgrade: websocket\r\nSec-WebSocket-Accept: z\r\n\r\n"
		toOther = "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: z\r\n" +
			"Via: 1.1 test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
	)
	asked := "GET /ws HTTP/1.1\r\nHost: a\r\nSec-WebSocket-Key: k\r\n" + forwarded("a") +
		"Upgrade: WebSocket\r\nConnection: Upgrade\r\n\r\n"
	open := func(t *testing.T, limits *Settings) (r *rig, client, backend *wire) {
		r = newRig(t, limits)
		client = r.send(ask)
		backend = r.accept()
		backend.expect(asked)
		backend.send(answer)
		client.expect(toOther)
		return r, client, backend
	}
	t.Run("both ways, any bytes", func(t *testing.T) {
		t.Parallel()
		r, client, backend := open(t, generous())
		for _, s := range []string{"\x81\x05hello", "\x00\r\n\r\nGET / HTTP/1.1\r\n\r\n",
			strings.Repeat("\xff", 100_000)} {
			client.send(s)
			backend.expect(s)
			backend.send(s)
			client.expect(s)
		}
		client.Close()
		backend.end("")
		backend.Close()
		r.wantSuccess()
	})
	t.Run("with data behind the handshake", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, generous())
		client := r.send(ask + "from the client")
		backend := r.accept()
		backend.expect(asked)
		backend.send(answer + "from the backend")
		client.expect(toOther + "from the backend")
		backend.expect("from the client")
		backend.CloseWrite()
		client.end("")
		client.Close()
		r.wantSuccess()
	})
	// With a body the request's side ends later, or just as the answer comes.
	for _, body := range []struct{ name, field, first, later string }{
		{"an empty body", "Content-Length: 0\r\n", "", ""},
		{"a body", "Content-Length: 5\r\n", "hello", ""},
		{"a late body", "Content-Length: 5\r\n", "he", "llo"},
		{"a chunked body", "Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n", ""},
	} {
		t.Run("after "+body.name+" the backend speaks first", func(t *testing.T) {
			t.Parallel()
			r := newRig(t, generous())
			client := r.send(strings.Replace(ask, "Sec-WebSocket-Key: k\r\n", body.field, 1) +
				body.first)
			backend := r.accept()
			backend.until("\r\n\r\n")
			client.send(body.later)
			if body.field != "Content-Length: 0\r\n" {
				backend.until(body.first + body.later)
			}
			backend.send(answer + "first")
			client.expect(toOther + "first")
			client.send("second")
			backend.expect("second")
			backend.CloseWrite()
			client.end("")
			client.Close()
			r.wantSuccess()
		})
	}
	t.Run("the client leaves after its body", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, generous())
		client := r.send(strings.Replace(ask, "Sec-WebSocket-Key: k\r\n", "Content-Length: 5\r\n",
			1) + "he")
		backend := r.accept()
		backend.until("\r\n\r\n")
		client.send("llo")
		backend.until("hello")
		client.reset()
		backend.gone() // at once, not after the server timeout
	})
	t.Run("half-close by the client", func(t *testing.T) {
		t.Parallel()
		r, client, backend := open(t, generous())
		client.send("last words")
		client.CloseWrite()
		backend.end("last words")
		backend.send("the answer")
		client.expect("the answer")
		backend.Close()
		client.end("")
		r.wantSuccess()
	})
	t.Run("half-close before the answer", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, generous())
		client := r.send(ask)
		backend := r.accept()
		backend.expect(asked)
		client.CloseWrite()
		backend.send(answer + "hello")
		client.expect(toOther + "hello")
		backend.end("")
		backend.send("world")
		backend.Close()
		client.end("world")
		r.wantSuccess()
	})
	t.Run("client leaves before the answer", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, generous())
		client := r.send(ask)
		backend := r.accept()
		backend.expect(asked)
		client.reset()
		backend.gone()
		r.wantClientsFault()
	})
	t.Run("half-close by the backend", func(t *testing.T) {
		t.Parallel()
		r, client, backend := open(t, generous())
		backend.send("last words")
		backend.CloseWrite()
		client.end("last words")
		client.send("the answer")
		backend.expect("the answer")
		client.Close()
		backend.end("")
		r.wantSuccess()
	})
	t.Run("a reset ends the other side", func(t *testing.T) {
		t.Parallel()
		r, client, backend := open(t, generous())
		client.reset()
		backend.endsInReset()
		r.wantClientsFault()
	})
	t.Run("a reset by the backend, too", func(t *testing.T) {
		t.Parallel()
		r, client, backend := open(t, generous())
		backend.reset()
		client.endsInReset()
		r.wantError(ByBackend, 0)
	})
	t.Run("declined", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, generous())
		client := r.send(ask)
		backend := r.accept()
		backend.expect(asked)
		backend.send(ok)
		client.end(okOut)
		client.Close()
		backend.end("")
		r.wantSuccess()
	})
	t.Run("with a body before it", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, generous())
		client := r.send(strings.Replace(ask, "\r\n\r\n", "\r\nContent-Length: 4\r\n\r\nbody", 1))
		backend := r.accept()
		backend.expect(strings.Replace(asked, "Upgrade: W", "Content-Length: 4\r\nUpgrade: W", 1) +
			"body")
		backend.send(answer)
		client.expect(toOther)
		client.send("x")
		backend.expect("x")
		backend.CloseWrite()
		client.end("")
		client.Close()
		r.wantSuccess()
	})
	t.Run("with TE", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, generous())
		client := r.send(strings.Replace(ask, "\r\n\r\n", "\r\nTE: trailers\r\n\r\n", 1))
		backend := r.accept()
		backend.expect(strings.Replace(asked, "Upgrade: WebSocket\r\nConnection: Upgrade\r\n",
			"TE: trailers\r\nUpgrade: WebSocket\r\nConnection: Upgrade, TE\r\n", 1))
		backend.send(ok)
		client.end(okOut)
		r.wantSuccess()
	})
	t.Run("101 without Upgrade", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, generous())
		client := r.send(ask)
		backend := r.accept()
		backend.expect(asked)
		backend.send("HTTP/1.1 101 Switching Protocols\r\n\r\n")
		client.end(page("502 Bad Gateway", "the backend changed the protocol unasked"))
		r.wantBackendsFault(502)
	})
	t.Run("101 to another protocol", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, generous())
		client := r.send(ask)
		backend := r.accept()
		backend.expect(asked)
		backend.send(strings.Replace(answer, "websocket", "h2c", 1))
		client.end(page("502 Bad Gateway", "the backend changed the protocol unasked"))
		client.Close()
		backend.Close()
		r.wantBackendsFault(502)
	})
}

// small gives the proxy's side of a client's connection a small send buffer, so
// that a client that reads slowly is felt soon.
func small(r *rig) {
	r.prepare = func(c net.Conn) { c.(*net.TCPConn).SetWriteBuffer(8 << 10) }
}
