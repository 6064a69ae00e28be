package forward

import (
	"errors"
	"strings"
	"testing"
)

const (
	head10 = "GET / HTTP/1.0\r\nHost: a\r\n\r\n"
	out10  = "GET / HTTP/1.1\r\nHost: a\r\nVia: 1.0 test\r\nX-Forwarded-For: 127.0.0.1\r\n" +
		"X-Forwarded-Host: a\r\nX-Forwarded-Proto: http\r\nConnection: close\r\n\r\n"
	status  = "HTTP/1.1 200 OK\r\nDate: x\r\n"
	viaOut  = "Via: 1.1 test\r\n"
	closing = "Connection: close\r\n\r\n"
	chunks  = "Transfer-Encoding: chunked\r\n"
)

// RFC 9112, section 6.3, and RFC 9110, section 7.6: how a response is forwarded.
func TestResponseForwarding(t *testing.T) {
	t.Parallel()
	const sent = status + viaOut // how most answers begin at the client
	headOut := strings.Replace(getOut, "GET", "HEAD", 1)
	head := strings.Replace(get, "GET", "HEAD", 1)
	table := []exchange{
		{"Content-Length", get, getOut, status + "content-length: 05\r\n\r\nhello", false,
			sent + "Content-Length: 5\r\n" + closing + "hello"},
		{"Content-Length 0", get, getOut, status + "Content-Length: 0\r\n\r\n", false,
			sent + "Content-Length: 0\r\n" + closing},
		{"equal lengths become one", get, getOut, status + "Content-Length: 2, 2\r\n" +
			"Content-Length: 2\r\n\r\nhi", false,
			sent + "Content-Length: 2\r\n" + closing + "hi"},
		{"bytes behind the body stay", get, getOut, status + "Content-Length: 2\r\n\r\n" +
			"hiHTTP/1.1 200 OK\r\n\r\n", false,
			sent + "Content-Length: 2\r\n" + closing + "hi"},
		{"chunked", get, getOut, status + chunks + "\r\n5;x\r\nhello\r\n0\r\n\r\n", false,
			sent + chunks + closing + "5\r\nhello\r\n0\r\n\r\n"},
		{"trailers, announced or not", get, getOut,
			status + "Trailer: T\r\n" + chunks + "\r\n0\r\nT: 1\r\nU: 2\r\nDate: y\r\n\r\n", false,
			status + "Trailer: T\r\n" + viaOut + chunks + closing + "0\r\nT: 1\r\nU: 2\r\n" +
				"Date: y\r\n\r\n"},
		{"trailers that come too late", get, getOut, status + chunks + "\r\n0\r\nSet-Cookie: " +
			"x\r\nContent-Length: 1\r\nT: 1\r\n\r\n", false,
			sent + chunks + closing + "0\r\nT: 1\r\n\r\n"},
		{"a trailer that Connection names", get, getOut,
			status + "Connection: U\r\n" + chunks + "\r\n0\r\nT: 1\r\nU: 2\r\n\r\n", false,
			sent + chunks + closing + "0\r\nT: 1\r\n\r\n"},
		{"until close, which becomes chunked", get, getOut, status + "\r\nhello", true,
			sent + chunks + closing + "5\r\nhello\r\n0\r\n\r\n"},
		{"until close, empty", get, getOut, status + "\r\n", true,
			sent + chunks + closing + "0\r\n\r\n"},
		{"until close, from HTTP/1.0", get, getOut, "HTTP/1.0 200 OK\r\nDate: x\r\n" +
			"Connection: keep-alive\r\n\r\nhello", true,
			status + "Via: 1.0 test\r\n" + chunks + closing + "5\r\nhello\r\n0\r\n\r\n"},
		{"no body: HEAD with a length", head, headOut, status + "Content-Length: 5\r\n\r\n", false,
			sent + "Content-Length: 5\r\n" + closing},
		{"no body: HEAD, chunked", head, headOut, status + chunks + "\r\n", false, sent + closing},
		{"no body: HEAD, until close", head, headOut, status + "\r\n", false, sent + closing},
		{"no body: HEAD, a body all the same", head, headOut, status + "Content-Length: 5\r\n\r\n" +
			"hello", false,
			sent + "Content-Length: 5\r\n" + closing},
		{"no body: 204", get, getOut, "HTTP/1.1 204 No Content\r\nDate: x\r\n\r\n", false,
			"HTTP/1.1 204 No Content\r\nDate: x\r\n" + viaOut + closing},
		{"no body: 204 with a length", get, getOut, "HTTP/1.1 204 No Content\r\nDate: x\r\n" +
			"Content-Length: 5\r\n\r\nhello", false,
			"HTTP/1.1 204 No Content\r\nDate: x\r\n" + viaOut + closing},
		{"no body: 304 with a length", get, getOut, "HTTP/1.1 304 Not Modified\r\nDate: x\r\n" +
			"Content-Length: 5\r\nETag: \"e\"\r\n\r\n", false,
			"HTTP/1.1 304 Not Modified\r\nDate: x\r\nETag: \"e\"\r\n" + viaOut +
				"Content-Length: 5\r\n" + closing},
		{"no body: 304, chunked", get, getOut,
			"HTTP/1.1 304 Not Modified\r\nDate: x\r\n" + chunks + "\r\n", false,
			"HTTP/1.1 304 Not Modified\r\nDate: x\r\n" + viaOut + closing},

		// Clients of HTTP/1.0.
		{"HTTP/1.0 client, length", head10, out10, ok, false, okOut},
		{"HTTP/1.0 client, chunked", head10, out10, status + chunks + "\r\n5\r\nhello\r\n2\r\n" +
			", \r\n0\r\nT: 1\r\n\r\n", false,
			sent + closing + "hello, "},
		{"HTTP/1.0 client, until close", head10, out10, status + "\r\nhello", true,
			sent + closing + "hello"},

		// Fields.
		{"fields keep order, spelling and number", get, getOut,
			"HTTP/1.1 200 OK\r\nx-B: 1\r\nDATE: x\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\n" +
				"Content-Length: 0\r\nX-A:\t two words \r\n\r\n", false,
			"HTTP/1.1 200 OK\r\nx-B: 1\r\nDATE: x\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\n" +
				"X-A: two words\r\n" + viaOut + "Content-Length: 0\r\n" + closing},
		{"hop-by-hop fields stay", get, getOut,
			status + "Connection: keep-alive, X-Secret\r\nKeep-Alive: timeout=5\r\n" +
				"Proxy-Authenticate: x\r\nProxy-Connection: x\r\n" +
				"Upgrade: h2c\r\nX-Secret: 1\r\nX-Open: 2\r\nContent-Length: 0\r\n\r\n", false,
			status + "X-Open: 2\r\n" + viaOut + "Content-Length: 0\r\n" + closing},
		{"Connection cannot take away the length", get, getOut,
			status + "Connection: Content-Length\r\nContent-Length: 2\r\n\r\nhi", false, okOut},
		{"Via is continued", get, getOut, status + "Via: 1.0 p\r\nContent-Length: 0\r\n\r\n", false,
			status + "Via: 1.0 p, 1.1 test\r\nContent-Length: 0\r\n" + closing},
		{"Date is added where it is missing", get, getOut, "HTTP/1.1 200 OK\r\n" +
			"Content-Length: 0\r\n\r\n", false,
			"HTTP/1.1 200 OK\r\n" + viaOut + "Date: now\r\nContent-Length: 0\r\n" + closing},

		// What old servers send is forgiven where it has one meaning only.
		{"bare LF", get, getOut, "HTTP/1.1 200 OK\nDate: x\nContent-Length: 2\n\nhi", false, okOut},
		{"bare LF, here and there", get, getOut, "HTTP/1.1 200 OK\r\nDate: x\n" +
			"Content-Length: 2\r\n\nhi", false, okOut},
		{"obs-fold", get, getOut, status + "X: a\r\n b\r\n\tc\r\nContent-Length: 2\r\n\r\nhi",
			false,
			status + "X: a   b   c\r\n" + viaOut + "Content-Length: 2\r\n" + closing + "hi"},
		{"no reason phrase", get, getOut, "HTTP/1.1 299\r\nDate: x\r\nContent-Length: 0\r\n\r\n",
			false,
			"HTTP/1.1 299 \r\nDate: x\r\n" + viaOut + "Content-Length: 0\r\n" + closing},
		{"odd reason phrase", get, getOut, "HTTP/1.1 200 All  r\xeeght:\t!\r\nDate: x\r\n" +
			"Content-Length: 0\r\n\r\n", false,
			"HTTP/1.1 200 All  r\xeeght:\t!\r\nDate: x\r\n" + viaOut + "Content-Length: 0\r\n" +
				closing},
		{"an error of the backend's is its answer", get, getOut, "HTTP/1.1 503 No\r\nDate: x\r\n" +
			"Content-Length: 2\r\n\r\nhi", false,
			"HTTP/1.1 503 No\r\nDate: x\r\n" + viaOut + "Content-Length: 2\r\n" + closing + "hi"},

		// Interim responses (RFC 9110, section 15.2).
		{"103 Early Hints", get, getOut, "HTTP/1.1 103 Early Hints\r\nLink: </s>\r\n" +
			"Connection: x\r\nX: 1\r\n\r\n" + ok, false,
			"HTTP/1.1 103 Early Hints\r\nLink: </s>\r\n" + viaOut + "\r\n" + okOut},
		{"several 1xx", get, getOut, "HTTP/1.1 100 Continue\r\n\r\n" +
			"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 199 \r\n\r\n" + ok, false,
			"HTTP/1.1 100 Continue\r\n" + viaOut + "\r\nHTTP/1.1 102 Processing\r\n" + viaOut +
				"\r\nHTTP/1.1 199 \r\n" + viaOut + "\r\n" + okOut},
		{"1xx with a length that means nothing", get, getOut, "HTTP/1.1 103 Early Hints\r\n" +
			"Content-Length: 5\r\n\r\n" + ok, false,
			"HTTP/1.1 103 Early Hints\r\n" + viaOut + "\r\n" + okOut},
		{"none for HTTP/1.0", head10, out10, "HTTP/1.1 100 Continue\r\n\r\n" +
			"HTTP/1.1 103 Early Hints\r\n\r\n" + ok, false, okOut},
	}
	runAll(t, table)
}

// A response that nobody can be sure about becomes a 502.
func TestMalformedResponses(t *testing.T) {
	t.Parallel()
	const (
		malformed = "the backend's response is malformed"
		closed    = "the backend closed the connection without an answer"
		large     = "the backend's header is larger than 64 KiB"
		unasked   = "the backend changed the protocol unasked"
		endless   = "the backend sends interim responses without end"
	)
	table := []struct{ name, response, reason string }{
		{"nothing", "", closed},
		{"empty lines", "\r\n\r\n", closed},
		{"part of a status line", "HTTP/1.1 20", closed},
		{"part of a header", status + "Content-Le", closed},
		{"garbage", "\x15\x03\x01\x00\x02\x02P\r\n\r\n", malformed},
		{"HTTP/0.9", "<html>hello</html>\n\n", malformed},
		{"HTTP/2.0", "HTTP/2.0 200 OK\r\n\r\n", malformed},
		{"no version", "200 OK\r\n\r\n", malformed},
		{"ICY", "ICY 200 OK\r\n\r\n", malformed},
		{"status 20", "HTTP/1.1 20 OK\r\n\r\n", malformed},
		{"status 2000", "HTTP/1.1 2000 OK\r\n\r\n", malformed},
		{"status 099", "HTTP/1.1 099 OK\r\n\r\n", malformed},
		{"status 2x0", "HTTP/1.1 2x0 OK\r\n\r\n", malformed},
		{"status -20", "HTTP/1.1 -20 OK\r\n\r\n", malformed},
		{"two spaces", "HTTP/1.1  200 OK\r\n\r\n", malformed},
		{"no status", "HTTP/1.1\r\n\r\n", malformed},
		{"ESC in the reason", "HTTP/1.1 200 \x1b[2J\r\n\r\n", malformed},
		{"bare CR in the status line", "HTTP/1.1 200 OK\rX: y\r\n\r\n", malformed},
		{"bare CR in a value", status + "X: y\rZ: z\r\n\r\n", malformed},
		{"a fold behind the status line", "HTTP/1.1 200 OK\r\n Transfer-Encoding: chunked\r\n\r\n",
			malformed},
		{"NUL in a value", status + "X: \x00\r\n\r\n", malformed},
		{"ESC in a value", status + "X: \x1b\r\n\r\n", malformed},
		{"space before the colon", status + "X : y\r\n\r\n", malformed},
		{"bad name", status + "X(: y\r\n\r\n", malformed},
		{"empty name", status + ": y\r\n\r\n", malformed},
		{"no colon", status + "X\r\n\r\n", malformed},
		{"both lengths", status + chunks + "Content-Length: 5\r\n\r\n0\r\n\r\n", malformed},
		{"differing lengths", status + "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
			malformed},
		{"differing lengths in a list", status + "Content-Length: 5, 6\r\n\r\nhello!", malformed},
		{"length -1", status + "Content-Length: -1\r\n\r\n", malformed},
		{"length +5", status + "Content-Length: +5\r\n\r\nhello", malformed},
		{"length 0x5", status + "Content-Length: 0x5\r\n\r\nhello", malformed},
		{"length 2^63", status + "Content-Length: 9223372036854775808\r\n\r\n", malformed},
		{"empty length", status + "Content-Length:\r\n\r\n", malformed},
		{"coding gzip, chunked", status + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
			malformed},
		{"coding chunked twice", status + chunks + chunks + "\r\n0\r\n\r\n", malformed},
		{"coding identity", status + "Transfer-Encoding: identity\r\n\r\nhello", malformed},
		{"coding xchunked", status + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", malformed},
		{"coding with a Kelvin sign", status + "Transfer-Encoding: chun\u212aed\r\n\r\n0\r\n\r\n",
			malformed},
		{"coding in HTTP/1.0", "HTTP/1.0 200 OK\r\n" + chunks + "\r\n0\r\n\r\n", malformed},
		{"header too large", status + "X: " + strings.Repeat("x", 64<<10) + "\r\n\r\n", large},
		{"201 fields", "HTTP/1.1 200 OK\r\n" + strings.Repeat("X:\r\n", 201) + "\r\n", malformed},
		{"status line too large", "HTTP/1.1 200 " + strings.Repeat("x", 8<<10) + "\r\n\r\n",
			malformed},
		{"empty lines without end", strings.Repeat("\r\n", 40<<10), large},
		{"unasked 101", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n" +
			"Upgrade: websocket\r\n\r\n", unasked},
		{"a body behind 103", "HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\nhello" + ok,
			malformed},
		{"1xx without end", strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 2*interimBurst) + ok,
			endless},
		{"a closed connection after 1xx", "HTTP/1.1 102 Processing\r\n\r\n", closed},
	}
	for _, c := range table {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, generous())
			client := r.send(get)
			backend := r.accept()
			backend.expect(getOut)
			backend.Write([]byte(c.response)) // an error: the proxy had enough
			backend.CloseWrite()
			got := client.gone()
			want := page("502 Bad Gateway", c.reason)
			got = strings.ReplaceAll(got, "HTTP/1.1 102 Processing\r\n"+viaOut+"\r\n", "")
			got = strings.ReplaceAll(got, "HTTP/1.1 103 Early Hints\r\n"+viaOut+"\r\n", "")
			if got != want {
				t.Errorf("got  %q\nwant %q", got, want)
			}
			if strings.Contains(got, r.target) || strings.Contains(got, "127.0.0.1") {
				t.Error("the page reveals an address")
			}
			r.wantBackendsFault(502)
		})
	}
}

// The page for a HEAD request has no body.
func TestErrorPageToHead(t *testing.T) {
	t.Parallel()
	r := newRig(t, generous())
	client := r.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
	backend := r.accept()
	backend.until("\r\n\r\n")
	backend.CloseWrite()
	p := page("502 Bad Gateway", "the backend closed the connection without an answer")
	head, _, _ := strings.Cut(p, "\r\n\r\n")
	client.end(head + "\r\n\r\n")
	r.wantBackendsFault(502)
}

// Many ways of a backend that cannot be used; each page says which one it was,
// none says where the backend is.
func TestUnusableBackends(t *testing.T) {
	t.Parallel()
	t.Run("refused", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, generous(), func(r *rig) { r.target = refused(t) })
		client := r.send(get)
		client.end(page("502 Bad Gateway", "the backend refused the connection"))
		e := r.wantBackendsFault(502)
		if want := "nothing listens on " + r.target + "; start backends with: go run " +
			"./scripts/backends -ports "; !strings.Contains(e.Error(), want) {
			t.Errorf("the operator reads %q, want %q in it", e, want)
		}
	})
	t.Run("reset", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, generous())
		client := r.send(get)
		backend := r.accept()
		backend.expect(getOut)
		backend.reset()
		client.end(page("502 Bad Gateway", "the backend broke the connection"))
		r.wantBackendsFault(502)
	})
	t.Run("no such host", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, generous(), func(r *rig) { r.target = "127.0.0.1:99999" })
		client := r.send(get)
		client.end(page("502 Bad Gateway", "the backend cannot be reached"))
		r.wantBackendsFault(502)
	})
	t.Run("none", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, generous(), func(r *rig) {
			r.before = func(*Request) error {
				return Unavailable("no backend is up",
					errors.New(r.target+" is down"))
			}
		})
		client := r.send(get)
		client.end(page("503 Service Unavailable", "no backend is up"))
		r.wantError(ByProxy, 503)
		r.untouched()
	})
}
