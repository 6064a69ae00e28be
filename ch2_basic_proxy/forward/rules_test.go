package forward

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// What can become no message is refused when the first byte shows it, not after
// a timeout: here the client stays, and says nothing more.
func TestNonsenseIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	const line = "GET / HTTP/1.1\r\n"
	for _, c := range []struct{ name, sent, status, reason string }{
		{"a TLS hello", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", bad, "this looks like " +
			"TLS: use http://"},
		{"the first byte of one", "\x16", bad, "this looks like TLS: use http://"},
		{"binary", "\x00\x01\x02", bad, "a bare CR or a NUL in the header"},
		{"SOCKS", "\x05\x01", bad, "the method is not a token"},
		{"a bare LF", "\n", bad, "a line ends in a bare LF; HTTP wants CRLF (try nc -C)"},
		{"a line of nc", "GET / HTTP/1.1\n", bad, "a line ends in a bare LF; HTTP wants CRLF " +
			"(try nc -C)"},
		{"HTTP/0.9", "GET /\r\n", bad, "the request line is not: method, target, version"},
		{"a byte above ASCII", "GET /\x80", bad, "the target holds a byte that no URI may hold"},
		{"another protocol", "GET / FTP", bad, "the version is not HTTP/1.0 or HTTP/1.1"},
		{"HTTP/2", "PRI * HTTP/2.0\r\n", "505 HTTP Version Not Supported", "only HTTP/1.0 and " +
			"HTTP/1.1 are spoken here"},
		{"CONNECT", "CONNECT a:443 HTTP/1.1\r\n", "501 Not Implemented", "CONNECT is for forward " +
			"proxies"},
		{"no field", line + "Host: a\r\nhello\r\n", bad, "a field's name is malformed"},
		{"a control byte", line + "Host: \x1b\r\n", bad, "a control byte in a field's value"},
		{"binary behind the request line", line + "\x00", bad, "a bare CR or a NUL in the header"},
		{"a control byte in a line that is not whole", line + "Host: a\x1b", bad,
			"a control byte in a field's value"},
		{"9,000 bytes without a line", strings.Repeat("x", 9000), "414 URI Too Long",
			"the request line is longer than 8 KiB"},
		{"a target of 9,000 bytes", "GET /" + strings.Repeat("x", 9000), "414 URI Too Long",
			"the request line is longer than 8 KiB"},
		{"a header of 64 KiB", line + "X: " + strings.Repeat("x", 65<<10), "431 Request Header " +
			"Fields Too Large", "the header is larger than 64 KiB"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, generous())
			client := r.send(c.sent)
			client.end(page(c.status, c.reason))
			client.Close()
			r.wantClientsFault()
			r.untouched()
		})
	}
	for _, c := range []struct{ name, sent, reason string }{
		{"foo", "foo\r\n", "the backend's response is malformed"},
		{"a TLS alert", "\x15\x03\x01", "the backend's response is malformed"},
		{"the banner of another server", "220 ready", "the backend's response is malformed"},
		{"HTTP/2", "HTTP/2", "the backend's response is malformed"},
		{"status 2x", "HTTP/1.1 2x", "the backend's response is malformed"},
		{"status 2000", "HTTP/1.1 2000", "the backend's response is malformed"},
		{"no field", "HTTP/1.1 200 OK\r\nfoo bar\r\n", "the backend's response is malformed"},
		{"no field, behind a bare LF", "HTTP/1.1 200 OK\nX: y\n z\nfoo\n", "the backend's " +
			"response is malformed"},
		{"a control byte", "HTTP/1.1 200 OK\r\nX: \x00\r\n", "the backend's response is malformed"},
		{"a control byte in a line that is not whole", "HTTP/1.1 200 OK\r\nX: \x00",
			"the backend's response is malformed"},
		{"a status line of 9,000 bytes", "HTTP/1.1 200 " + strings.Repeat("x", 9000),
			"the backend's response is malformed"},
		{"a header of 64 KiB", status + "X: " + strings.Repeat("x", 65<<10), "the backend's " +
			"header is larger than 64 KiB"},
	} {
		t.Run("from the backend: "+c.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, generous())
			client := r.send(get)
			backend := r.accept()
			backend.expect(getOut)
			backend.Write([]byte(c.sent))
			client.end(page("502 Bad Gateway", c.reason))
			r.wantBackendsFault(502)
		})
	}
	for _, body := range []string{"x", "-", " ", "5 x", "5\r\nhellox", "5\r\nhello\n",
		"0\r\nT : 1\r\n"} {
		t.Run(fmt.Sprintf("a body of %q", body), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, generous())
			client := r.send(chunkedPost + body)
			if got := client.untilEnd(); !strings.HasPrefix(got, "HTTP/1.1 400 Bad Request\r\n") {
				t.Errorf("the client read %q", got)
			}
			client.Close()
			r.wantClientsFault()
		})
	}
}

// What is strange, but may still become a request, is waited for.
func TestBeginningsAreNotRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t, generous())
	client := r.dial()
	for _, b := range []byte("\r\n" + get) {
		client.send(string(b))
		time.Sleep(time.Millisecond) // so that they come one by one
	}
	backend := r.accept()
	backend.expect(getOut)
	for _, b := range []byte(ok) {
		backend.send(string(b))
		time.Sleep(time.Millisecond)
	}
	client.end(okOut)
	r.wantSuccess()
}

// A chunked body may have any number of chunks, and some overhead for each; what
// is refused is a body of little else.
func TestChunkOverheadIsARate(t *testing.T) {
	t.Parallel()
	const chunk = 4 << 10
	for name, size := range map[string]string{
		"padded sizes": fmt.Sprintf("%012x", chunk),
		"20 digits":    fmt.Sprintf("%020x", chunk),
		"extensions":   fmt.Sprintf("%x;%s", chunk, strings.Repeat("x", 80)),
		"both":         fmt.Sprintf("%012x ; a=\"b c\" ; d", chunk),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const chunks = 6 << 10 // 24 MiB
			r := newRig(t, generous())
			client := r.send(chunkedPost)
			go func() { // ends with the body
				for range chunks {
					io.WriteString(client, size+"\r\n")
					io.CopyN(client, zeros{}, chunk)
					io.WriteString(client, "\r\n")
				}
				io.WriteString(client, "0\r\n\r\n")
			}()
			backend := r.accept()
			body, _ := readBody(backend, readHeader(backend))
			if n, err := io.Copy(io.Discard, body); n != chunks*chunk || err != nil {
				t.Errorf("%d bytes and %v, want %d", n, err, chunks*chunk)
			}
			backend.send(ok)
			client.end(okOut)
			r.wantSuccess()
		})
	}
	t.Run("small chunks, as they are", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, generous())
		client := r.send(chunkedPost + strings.Repeat("1\r\nx\r\n", 100_000) + "0\r\n\r\n")
		backend := r.accept()
		body, _ := readBody(backend, readHeader(backend))
		if n, err := io.Copy(io.Discard, body); n != 100_000 || err != nil {
			t.Errorf("%d bytes and %v", n, err)
		}
		backend.send(ok)
		client.end(okOut)
		r.wantSuccess()
	})
}

// Interim responses are bounded by their rate, not by their number.
func TestManyInterimResponses(t *testing.T) {
	t.Parallel()
	r := newRig(t, generous())
	client := r.send(get)
	backend := r.accept()
	backend.expect(getOut)
	for range 2 * 100 {
		backend.send("HTTP/1.1 104 Upload Resumption Supported\r\nX: y\r\n\r\n")
	}
	backend.send("HTTP/1.1 201 Created\r\nDate: x\r\nContent-Length: 0\r\n\r\n")
	got := client.untilEnd()
	if n := strings.Count(got, "HTTP/1.1 104 "); n != 200 ||
		!strings.Contains(got, "HTTP/1.1 201 Created\r\n") {
		t.Errorf("%d interim responses, then %q", n, got[max(0, len(got)-200):])
	}
	r.wantSuccess()
}

// Fields that a status, a version or another field makes mandatory or
// meaningless.
func TestWhatBelongsTogether(t *testing.T) {
	t.Parallel()
	const via = "Via: 1.1 test\r\n"
	runAll(t, []exchange{
		{"426 says to what", get, getOut, "HTTP/1.1 426 Upgrade Required\r\nDate: x\r\n" +
			"Connection: upgrade\r\nUpgrade: TLS/1.2, HTTP/1.1\r\nContent-Length: 0\r\n\r\n", false,
			"HTTP/1.1 426 Upgrade Required\r\nDate: x\r\n" + via + "Content-Length: 0\r\n" +
				"Upgrade: TLS/1.2, HTTP/1.1\r\nConnection: close, Upgrade\r\n\r\n"},
		{"200 offers nothing", get, getOut, status + "Connection: upgrade\r\nUpgrade: h2c\r\n" +
			"Content-Length: 0\r\n\r\n", false,
			status + via + "Content-Length: 0\r\n" + closing},
		{"407 says how", get, getOut, "HTTP/1.1 407 Proxy Authentication Required\r\nDate: x\r\n" +
			"Proxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n", false,
			"HTTP/1.1 407 Proxy Authentication Required\r\n" +
				"Date: x\r\nProxy-Authenticate: Basic\r\n" +
				"" + via + "Content-Length: 0\r\n" + closing},
		{"what a status demands is not for one connection only", get, getOut, "HTTP/1.1 401 " +
			"Unauthorized\r\nDate: x\r\nConnection: WWW-Authenticate, Date, X\r\n" +
			"WWW-Authenticate: Basic\r\nX: y\r\nContent-Length: 0\r\n\r\n", false,
			"HTTP/1.1 401 Unauthorized\r\nDate: x\r\nWWW-Authenticate: Basic\r\n" + via +
				"Content-Length: 0\r\n" + closing},
		{"407 says how, whatever Connection says", get, getOut, "HTTP/1.1 407 Proxy " +
			"Authentication Required\r\nDate: x\r\nProxy-Authenticate: Basic\r\n" +
			"Connection: X, Proxy-Authenticate\r\nContent-Length: 0\r\n\r\n", false,
			"HTTP/1.1 407 Proxy Authentication Required\r\n" +
				"Date: x\r\nProxy-Authenticate: Basic\r\n" +
				"" + via + "Content-Length: 0\r\n" + closing},
		{"Trailer for a client that gets none", head10, out10,
			status + "Trailer: T\r\n" + chunks + "\r\n0\r\nT: 1\r\n\r\n", false,
			status + via + closing},
		{"Trailer of a request that has none", "GET / HTTP/1.1\r\nHost: a\r\nTrailer: T\r\n\r\n",
			getOut, ok, false, okOut},
		{"Expect without a body", "GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n",
			getOut, ok, false, okOut},
		{"Upgrade that is no list of protocols", "GET / HTTP/1.1\r\nHost: a\r\n" +
			"Connection: Upgrade\r\nUpgrade: foo h2c\r\n\r\n", getOut, ok, false, okOut},
		{"Upgrade with a version that is none", "GET / HTTP/1.1\r\nHost: a\r\n" +
			"Connection: Upgrade\r\nUpgrade: foo/\r\n\r\n", getOut, ok, false, okOut},
		{"Upgrade with a version", "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n" +
			"Upgrade: foo/2\r\n\r\n",
			"GET / HTTP/1.1\r\nHost: a\r\n" + forwarded("a") + "Upgrade: foo/2\r\n" +
				"Connection: Upgrade\r\n\r\n", ok, false, okOut},
		{"Max-Forwards beyond what can be counted", "OPTIONS / HTTP/1.1\r\nHost: a\r\n" +
			"Max-Forwards: 99999999999999999999\r\n\r\n",
			"OPTIONS / HTTP/1.1\r\nHost: a\r\n" + forwarded("a") + "Max-Forwards: " +
				"9223372036854775806\r\nConnection: close\r\n\r\n", ok, false, okOut},
	})
	for name, fields := range map[string]string{
		"two": "Max-Forwards: 5\r\nMax-Forwards: 5\r\n", "a list": "Max-Forwards: 5, 5\r\n",
		"no number": "Max-Forwards: x\r\n", "empty": "Max-Forwards:\r\n",
	} {
		t.Run("Max-Forwards, "+name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, generous())
			client := r.send("OPTIONS / HTTP/1.1\r\nHost: a\r\n" + fields + "\r\n")
			client.end(page(bad, "the Max-Forwards is not one number"))
			client.Close()
			r.wantClientsFault()
			r.untouched()
		})
	}
	for name, request := range map[string]string{
		"no Host":       "HEAD / HTTP/1.1\r\n\r\n",
		"a bad version": "HEAD / HTTP/3\r\n\r\n",
		"too long":      "HEAD /" + strings.Repeat("x", 9000),
		"a bad field":   "HEAD / HTTP/1.1\r\nHost: a\r\nx\r\n",
	} {
		t.Run("a malformed HEAD gets no content: "+name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, generous())
			client := r.send(request)
			if got := client.untilEnd(); !strings.HasPrefix(got, "HTTP/1.1 4") ||
				!strings.HasSuffix(got, "\r\n\r\n") {
				t.Errorf("the client read %q", got)
			}
			client.Close()
			r.wantClientsFault()
		})
	}
}

// Where the pages say strict, it is strict.
func TestStrict(t *testing.T) {
	t.Parallel()
	const post = "POST / HTTP/1.1\r\nHost: a\r\n"
	for _, c := range []struct{ name, request, status, reason string }{
		{"a target above ASCII", "GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n", bad,
			"the target holds a byte that no URI may hold"},
		{"one in absolute-form", "GET http://a/\x80 HTTP/1.1\r\nHost: a\r\n\r\n", bad,
			"the target holds a byte that no URI may hold"},
		{"a leading bare LF", "\n" + get, bad, "a line ends in a bare LF; HTTP wants CRLF (try " +
			"nc -C)"},
		{"foo, chunked", post + "Transfer-Encoding: foo, chunked\r\n\r\n0\r\n\r\n",
			"501 Not Implemented", "no Transfer-Encoding but chunked is known here"},
		{"foo;q=1, chunked", post + "Transfer-Encoding: foo;q=1, chunked\r\n\r\n0\r\n\r\n",
			"501 Not Implemented", "no Transfer-Encoding but chunked is known here"},
		{"foo bar, chunked", post + "Transfer-Encoding: foo bar, chunked\r\n\r\n0\r\n\r\n", bad,
			"the Transfer-Encoding does not end in one chunked"},
		{"chunked, foo", post + "Transfer-Encoding: chunked, foo\r\n\r\n0\r\n\r\n", bad,
			"the Transfer-Encoding does not end in one chunked"},
		{"chunked, foo, chunked",
			post + "Transfer-Encoding: chunked, foo, chunked\r\n\r\n0\r\n\r\n", bad,
			"the Transfer-Encoding does not end in one chunked"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, generous())
			client := r.send(c.request)
			client.end(page(c.status, c.reason))
			client.Close()
			r.wantClientsFault()
			r.untouched()
		})
	}
	for _, size := range []string{"5;", "5;;a", "5; =b", "5;a=", "5;a=\"b", "5;a b", "5;a=\"b\"c",
		"5 5"} {
		t.Run("a chunk of size "+size, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, generous())
			client := r.send(chunkedPost + size + "\r\nhello\r\n0\r\n\r\n")
			if got := client.untilEnd(); !strings.HasPrefix(got, "HTTP/1.1 400 Bad Request\r\n") {
				t.Errorf("the client read %q", got)
			}
			client.Close()
			r.wantClientsFault()
		})
	}
	runAll(t, []exchange{
		{"bytes that browsers send", "GET /\"<>\\^`{|} HTTP/1.1\r\nHost: a\r\n\r\n",
			strings.Replace(getOut, "/ ", "/\"<>\\^`{|} ", 1), ok, false, okOut},
		{"chunk extensions of every kind", chunkedPost + "5 ; a ;b = c; d=\"e;\\\"\" \r\n" +
			"hello\r\n0;x\r\n\r\n",
			chunkedOut + "5\r\nhello\r\n0\r\n\r\n", ok, false, okOut},
	})
}

// A client's address is told without what means something on this host only.
func TestAddressWithoutZone(t *testing.T) {
	c := NewClient(addressed{addr: &net.TCPAddr{IP: net.ParseIP("fe80::1"), Port: 4711,
		Zone: "eth0"}}, generous(), nil)
	if got := c.Address(); got != "fe80::1" {
		t.Errorf("%q", got)
	}
	c = NewClient(addressed{}, generous(), nil)
	if got := c.Address(); got != "" {
		t.Errorf("%q for a client that is gone", got)
	}
	// A request without a Host gets the backend's.
	b := &Backend{Addr: "[fe80::1%eth0]:8000", settings: generous()}
	if got := b.hop(&Request{Client: c}).Host; got != "[fe80::1]:8000" {
		t.Errorf("Host: %s", got)
	}
}

// addressed is a connection that has only an address.
type addressed struct {
	net.Conn
	addr net.Addr
}

func (a addressed) RemoteAddr() net.Addr { return a.addr }
