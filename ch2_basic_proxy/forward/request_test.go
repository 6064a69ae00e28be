package forward

import (
	"strconv"
	"strings"
	"testing"
)

// RFC 9112, section 6, and RFC 9110, section 7.6: how a request is forwarded.
func TestRequestForwarding(t *testing.T) {
	t.Parallel()
	via := forwarded("a")
	table := []exchange{
		{"simple", get, getOut, ok, false, okOut},
		{"empty lines before it", "\r\n\r\n" + get, getOut, ok, false, okOut},
		{"fields keep order, spelling and number",
			"GET /p?q=%20&r HTTP/1.1\r\nhOST: a\r\nX-b: 1\r\nx-A:  two words \t\r\nX-b: 2\r\n" +
				"Cookie: c=d; e=f\r\nEmpty:\r\n\r\n",
			"GET /p?q=%20&r HTTP/1.1\r\nHost: a\r\nX-b: 1\r\nx-A: two words\r\nX-b: 2\r\n" +
				"Cookie: c=d; e=f\r\nEmpty: \r\n" +
				via + "Connection: close\r\n\r\n", ok, false, okOut},
		{"200 fields", "GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("X: y\r\n", 199) + "\r\n",
			"GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("X: y\r\n", 199) + via +
				"Connection: close\r\n\r\n", ok, false, okOut},
		{"any method", "FROB-x! /y HTTP/1.1\r\nHost: a\r\n\r\n",
			"FROB-x! /y HTTP/1.1\r\nHost: a\r\n" + via + "Connection: close\r\n\r\n", ok, false,
			okOut},
		{"OPTIONS *", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
			"OPTIONS * HTTP/1.1\r\nHost: a\r\n" + via + "Connection: close\r\n\r\n", ok, false,
			okOut},
		{"a later minor version", "GET / HTTP/1.7\r\nHost: a\r\n\r\n", getOut, ok, false, okOut},
		{"bytes above ASCII in a value", "GET / HTTP/1.1\r\nHost: a\r\nX: \x85\xff\r\n\r\n",
			"GET / HTTP/1.1\r\nHost: a\r\nX: \x85\xff\r\n" + via + "Connection: close\r\n\r\n", ok,
			false, okOut},

		// Bodies.
		{"Content-Length", "POST / HTTP/1.1\r\nHost: a\r\ncontent-length: 005\r\n\r\nhello",
			"POST / HTTP/1.1\r\nHost: a\r\n" + via + "Content-Length: 5\r\n" +
				"Connection: close\r\n\r\nhello", ok, false, okOut},
		{"Content-Length 0", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
			"POST / HTTP/1.1\r\nHost: a\r\n" + via + "Content-Length: 0\r\n" +
				"Connection: close\r\n\r\n", ok, false, okOut},
		{"GET with a body", "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nxy",
			"GET / HTTP/1.1\r\nHost: a\r\n" + via + "Content-Length: 2\r\n" +
				"Connection: close\r\n\r\nxy", ok, false, okOut},
		{"chunked", chunkedPost + "5\r\nhello\r\n0\r\n\r\n", chunkedOut + "5\r\nhello\r\n0\r\n\r\n",
			ok, false, okOut},
		{"chunked, spelled otherwise", "POST / HTTP/1.1\r\nHost: a\r\n" +
			"transfer-encoding: \tChunked \r\n\r\n0\r\n\r\n",
			chunkedOut + "0\r\n\r\n", ok, false, okOut},
		{"chunk extensions are dropped", chunkedPost + "5;a=b;c=\"d\"\r\nhello\r\n0;last\r\n\r\n",
			chunkedOut + "5\r\nhello\r\n0\r\n\r\n", ok, false, okOut},
		{"chunk sizes are written anew", chunkedPost + "0000A \t\r\n0123456789\r\n000\r\n\r\n",
			chunkedOut + "a\r\n0123456789\r\n0\r\n\r\n", ok, false, okOut},
		{"trailers, announced or not",
			"POST / HTTP/1.1\r\nHost: a\r\nTrailer: T\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n" +
				"x\r\n0\r\nT: 1\r\nu:2\r\nT: 3\r\n\r\n",
			"POST / HTTP/1.1\r\nHost: a\r\nTrailer: T\r\n" + via + "Transfer-Encoding: " +
				"chunked\r\nConnection: close\r\n\r\n" +
				"1\r\nx\r\n0\r\nT: 1\r\nu: 2\r\nT: 3\r\n\r\n", ok, false, okOut},
		{"trailers that come too late are dropped",
			chunkedPost + "0\r\nHost: b\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n" +
				"Trailer: x\r\nAuthorization: x\r\n" +
				"Cookie: x\r\nX-Forwarded-For: x\r\nX-Forwarded-Host: x\r\n" +
				"X-Forwarded-Proto: x\r\nVia: x\r\nTE: x\r\n" +
				"Connection: x\r\nKeep-Alive: x\r\nUpgrade: x\r\nExpect: x\r\nMax-Forwards: 1\r\n" +
				"Cache-Control: x\r\n" +
				"Content-Type: x\r\nContent-Encoding: x\r\nContent-Range: x\r\n" +
				"Proxy-Authorization: x\r\nFine: 1\r\n\r\n",
			chunkedOut + "0\r\nFine: 1\r\n\r\n", ok, false, okOut},

		{"a trailer that Connection names stays",
			"POST / HTTP/1.1\r\nHost: a\r\nConnection: X-Secret\r\n" +
				"Transfer-Encoding: chunked\r\n\r\n0\r\nx-secret: 1\r\nFine: 1\r\n\r\n",
			chunkedOut + "0\r\nFine: 1\r\n\r\n", ok, false, okOut},

		// HTTP/1.0.
		{"HTTP/1.0 without Host", "GET / HTTP/1.0\r\n\r\n",
			"GET / HTTP/1.1\r\nHost: BACKEND\r\nVia: 1.0 test\r\nX-Forwarded-For: 127.0.0.1\r\n" +
				"X-Forwarded-Proto: http\r\nConnection: close\r\n\r\n",
			ok, false, okOut},
		{"HTTP/1.0 with Host and body", "POST / HTTP/1.0\r\nHost: a\r\nContent-Length: 1\r\n" +
			"Connection: keep-alive\r\n\r\nx",
			"POST / HTTP/1.1\r\nHost: a\r\nVia: 1.0 test\r\nX-Forwarded-For: 127.0.0.1\r\n" +
				"X-Forwarded-Host: a\r\nX-Forwarded-Proto: http\r\n" +
				"Content-Length: 1\r\nConnection: close\r\n\r\nx", ok, false, okOut},
		{"HTTP/1.0 has no Expect and no Upgrade",
			"GET / HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\nConnection: Upgrade\r\n" +
				"Upgrade: websocket\r\n\r\n",
			"GET / HTTP/1.1\r\nHost: a\r\nVia: 1.0 test\r\nX-Forwarded-For: 127.0.0.1\r\n" +
				"X-Forwarded-Host: a\r\nX-Forwarded-Proto: http\r\n" +
				"Connection: close\r\n\r\n", ok, false, okOut},

		// Host and target.
		{"empty Host", "GET / HTTP/1.1\r\nHost:\r\n\r\n",
			"GET / HTTP/1.1\r\nHost: \r\nVia: 1.1 test\r\nX-Forwarded-For: 127.0.0.1\r\n" +
				"X-Forwarded-Proto: http\r\nConnection: close\r\n\r\n",
			ok, false, okOut},
		{"IPv6 Host", "GET / HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n",
			"GET / HTTP/1.1\r\nHost: [::1]:8080\r\n" + forwarded("[::1]:8080") +
				"Connection: close\r\n\r\n", ok, false, okOut},
		{"absolute-form overrides Host", "GET http://b.example:81/x?y HTTP/1.1\r\nHost: a\r\n\r\n",
			"GET /x?y HTTP/1.1\r\nHost: b.example:81\r\n" + forwarded("b.example:81") +
				"Connection: close\r\n\r\n", ok, false, okOut},
		{"absolute-form without path", "GET HTTP://b.example HTTP/1.1\r\nHost: b.example\r\n\r\n",
			"GET / HTTP/1.1\r\nHost: b.example\r\n" + forwarded("b.example") + "Connection: " +
				"close\r\n\r\n", ok, false, okOut},
		{"absolute-form with a query only", "GET http://b.example?q HTTP/1.1\r\nHost: a\r\n\r\n",
			"GET /?q HTTP/1.1\r\nHost: b.example\r\n" + forwarded("b.example") +
				"Connection: close\r\n\r\n", ok, false, okOut},
		{"absolute-form OPTIONS", "OPTIONS http://b.example HTTP/1.1\r\nHost: a\r\n\r\n",
			"OPTIONS * HTTP/1.1\r\nHost: b.example\r\n" + forwarded("b.example") +
				"Connection: close\r\n\r\n", ok, false, okOut},

		// Hop-by-hop fields.
		{"hop-by-hop fields stay",
			"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, X-Secret\r\n" +
				"Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\n" +
				"TE: gzip\r\nProxy-Authorization: Basic eDp5\r\nProxy-Authenticate: x\r\n" +
				"Upgrade: h3\r\nx-secret: 1\r\nX-Open: 2\r\n\r\n",
			"GET / HTTP/1.1\r\nHost: a\r\nX-Open: 2\r\n" + via + "Connection: close\r\n\r\n", ok,
			false, okOut},
		{"several Connection fields",
			"GET / HTTP/1.1\r\nHost: a\r\nA: 1\r\nB: 2\r\nC: 3\r\nConnection: a ,, \tB\r\n" +
				"connection: close\r\n\r\n",
			"GET / HTTP/1.1\r\nHost: a\r\nC: 3\r\n" + via + "Connection: close\r\n\r\n", ok, false,
			okOut},
		{"Connection cannot take away what the proxy vouches for",
			"POST / HTTP/1.1\r\nHost: a\r\nConnection: Host, Via, Content-Length, " +
				"X-Forwarded-Proto\r\nVia: 1.0 p\r\nContent-Length: 1\r\n\r\nx",
			"POST / HTTP/1.1\r\nHost: a\r\nVia: 1.0 p, 1.1 test\r\nX-Forwarded-For: 127.0.0.1\r\n" +
				"X-Forwarded-Host: a\r\n" +
				"X-Forwarded-Proto: http\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx", ok,
			false, okOut},
		{"TE: trailers is asked of the backend in turn",
			"GET / HTTP/1.1\r\nHost: a\r\nTE: gzip, trailers\r\nConnection: TE\r\n\r\n",
			"GET / HTTP/1.1\r\nHost: a\r\n" + via + "TE: trailers\r\nConnection: close, TE\r\n\r\n",
			ok, false, okOut},
		{"forwarding fields are continued, not believed",
			"GET / HTTP/1.1\r\nHost: a\r\nVia: 1.0 one\r\nX-Forwarded-For: 10.0.0.1\r\n" +
				"X-Forwarded-Host: evil\r\n" +
				"X-Forwarded-Proto: https\r\nvia: 1.1 two\r\n" +
				"x-forwarded-for: 10.0.0.2, 10.0.0.3\r\n\r\n",
			"GET / HTTP/1.1\r\nHost: a\r\nVia: 1.0 one, 1.1 two, 1.1 test\r\n" +
				"X-Forwarded-For: 10.0.0.1, 10.0.0.2, 10.0.0.3, 127.0.0.1\r\n" +
				"X-Forwarded-Host: a\r\nX-Forwarded-Proto: http\r\nConnection: close\r\n\r\n", ok,
			false, okOut},
		{"Connection: X-Forwarded-For",
			"GET / HTTP/1.1\r\nHost: a\r\nConnection: X-Forwarded-For\r\n" +
				"X-Forwarded-For: 10.0.0.1\r\n\r\n", getOut, ok, false, okOut},
		{"Max-Forwards is counted down for OPTIONS",
			"OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 5\r\n\r\n",
			"OPTIONS / HTTP/1.1\r\nHost: a\r\n" + via + "Max-Forwards: 4\r\n" +
				"Connection: close\r\n\r\n", ok, false, okOut},
		{"h2c is not passed",
			"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n" +
				"HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
			getOut, ok, false, okOut},
		{"nor HTTP/2.0, nor a list",
			"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n" +
				"Upgrade: websocket, HTTP/2.0\r\n\r\n",
			getOut, ok, false, okOut},
		{"Upgrade that Connection does not name",
			"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n", getOut, ok, false, okOut},
	}
	for _, e := range table {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			if strings.Contains(e.wantSent, "BACKEND") { // its address is not known before
				e.runBackendNamed(t)
				return
			}
			e.run(t)
		})
	}
}

// runBackendNamed is run with the backend's address for "BACKEND" in wantSent.
func (e exchange) runBackendNamed(t *testing.T) {
	r := newRig(t, generous())
	client := r.send(e.request)
	backend := r.accept()
	backend.expect(strings.ReplaceAll(e.wantSent, "BACKEND", r.target))
	backend.send(e.response)
	client.end(e.wantAnswer)
	backend.end("")
	r.wantSuccess()
}

const (
	chunkedPost = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
	chunkedOut  = "POST / HTTP/1.1\r\nHost: a\r\nVia: 1.1 test\r\nX-Forwarded-For: 127.0.0.1\r\n" +
		"X-Forwarded-Host: a\r\n" +
		"X-Forwarded-Proto: http\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
)

// What could be understood in two ways is answered, and nothing of it reaches
// the backend.
func TestRefusals(t *testing.T) {
	t.Parallel()
	const (
		line    = "GET / HTTP/1.1\r\n"
		post    = "POST / HTTP/1.1\r\nHost: a\r\n"
		badName = "a field's name is malformed"
		bareLF  = "a line ends in a bare LF; HTTP wants CRLF (try nc -C)"
		bareCR  = "a bare CR or a NUL in the header"
		control = "a control byte in a field's value"
		twice   = "more than one Content-Length"
		length  = "the Content-Length is not a number"
		coding  = "the Transfer-Encoding does not end in one chunked"
		both    = "both Content-Length and Transfer-Encoding"
		host    = "the Host is malformed"
		three   = "the request line is not: method, target, version"
		version = "the version is not HTTP/1.0 or HTTP/1.1"
		major   = "only HTTP/1.0 and HTTP/1.1 are spoken here"
		noURI   = "the target is neither a path nor a URI"
		badURI  = "the target holds a byte that no URI may hold"
		uriHost = "the target's host is malformed"
	)
	table := []struct{ name, request, status, reason string }{
		// RFC 9112, section 6.1 and 6.3: where the body ends.
		{"both lengths", post + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
			bad, both},
		{"both lengths, the other way round", post + "Transfer-Encoding: chunked\r\n" +
			"Content-Length: 5\r\n\r\n0\r\n\r\n", bad, both},
		{"length and obfuscated coding", post + "Content-Length: 5\r\n" +
			"Transfer-Encoding: xchunked\r\n\r\nhello", bad, both},
		{"length and empty coding", post + "Content-Length: 5\r\nTransfer-Encoding:\r\n\r\nhello",
			bad, both},
		{"coding in HTTP/1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
			bad, "Transfer-Encoding in HTTP/1.0"},
		{"differing lengths", post + "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", bad,
			twice},
		{"equal lengths twice", post + "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", bad,
			twice},
		{"length list", post + "Content-Length: 5, 5\r\n\r\nhello", bad, length},
		{"length +5", post + "Content-Length: +5\r\n\r\nhello", bad, length},
		{"length -5", post + "Content-Length: -5\r\n\r\nhello", bad, length},
		{"length 0x5", post + "Content-Length: 0x5\r\n\r\nhello", bad, length},
		{"length 5a", post + "Content-Length: 5a\r\n\r\nhello", bad, length},
		{"length 5 5", post + "Content-Length: 5 5\r\n\r\nhello", bad, length},
		{"length 1_0", post + "Content-Length: 1_0\r\n\r\nhello56789", bad, length},
		{"length 5.0", post + "Content-Length: 5.0\r\n\r\nhello", bad, length},
		{"length \"5\"", post + "Content-Length: \"5\"\r\n\r\nhello", bad, length},
		{"empty length", post + "Content-Length:\r\n\r\nhello", bad, length},
		{"length 2^63", post + "Content-Length: 9223372036854775808\r\n\r\nhello", bad, length},
		{"length 2^64+5", post + "Content-Length: 18446744073709551621\r\n\r\nhello", bad, length},
		{"length in other digits", post + "Content-Length: \xd9\xa5\r\n\r\nhello", bad, length},
		{"length after a vertical tab", post + "Content-Length: \x0b5\r\n\r\nhello", bad, control},
		{"coding chunked twice", post + "Transfer-Encoding: chunked\r\n" +
			"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", bad, coding},
		{"coding chunked, chunked", post + "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
			bad, coding},
		{"coding chunked, identity", post + "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
			bad, coding},
		{"coding identity", post + "Transfer-Encoding: identity\r\n\r\n0\r\n\r\n", bad, coding},
		{"coding gzip", post + "Transfer-Encoding: gzip\r\n\r\n0\r\n\r\n", bad, coding},
		{"coding xchunked", post + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", bad, coding},
		{"coding \"chunked\"", post + "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", bad,
			coding},
		{"coding with a parameter", post + "Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n", bad,
			coding},
		{"coding with a comma behind", post + "Transfer-Encoding: chunked,\r\n\r\n0\r\n\r\n", bad,
			coding},
		{"coding with a comma before", post + "Transfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n", bad,
			coding},
		{"coding empty", post + "Transfer-Encoding:\r\n\r\n0\r\n\r\n", bad, coding},
		{"coding after a vertical tab", post + "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
			bad, control},
		{"coding before a form feed", post + "Transfer-Encoding: chunked\x0c\r\n\r\n0\r\n\r\n", bad,
			control},
		{"coding after \\x85", post + "Transfer-Encoding: \x85chunked\r\n\r\n0\r\n\r\n", bad,
			coding},
		{"coding after \\xa0", post + "Transfer-Encoding: \xa0chunked\r\n\r\n0\r\n\r\n", bad,
			coding},
		{"coding with a Kelvin sign", post + "Transfer-Encoding: chun\u212aed\r\n\r\n0\r\n\r\n",
			bad, coding},
		{"coding unknown here", post + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
			"501 Not Implemented", "no Transfer-Encoding but chunked is known here"},
		{"coding in two fields", post + "Transfer-Encoding: gzip\r\n" +
			"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "501 Not Implemented",
			"no Transfer-Encoding but chunked is known here"},

		// Section 2.2 and 5: lines and fields.
		{"bare LF everywhere", "GET / HTTP/1.1\nHost: a\n\n", bad, bareLF},
		{"bare LF after the request line", "GET / HTTP/1.1\nHost: a\r\n\r\n", bad, bareLF},
		{"bare LF after a field", line + "Host: a\nX: y\r\n\r\n", bad, bareLF},
		{"bare LF at the end", line + "Host: a\r\n\n", bad, bareLF},
		{"bare CR in the request line", "GET /\r HTTP/1.1\r\nHost: a\r\n\r\n", bad, bareCR},
		{"bare CR in a value", line + "Host: a\r\nX: y\rZ: z\r\n\r\n", bad, bareCR},
		{"bare CR before the CRLF", line + "Host: a\r\r\n\r\n", bad, bareCR},
		{"bare CR in the empty line", line + "Host: a\r\n\r\r\n", bad, bareCR},
		{"NUL in the target", "GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n", bad, bareCR},
		{"NUL in a name", line + "Host: a\r\nX\x00: y\r\n\r\n", bad, bareCR},
		{"NUL in a value", line + "Host: a\r\nX: y\x00\r\n\r\n", bad, bareCR},
		{"ESC in a value", line + "Host: a\r\nX: \x1b[2J\r\n\r\n", bad, control},
		{"DEL in a value", line + "Host: a\r\nX: \x7f\r\n\r\n", bad, control},
		{"obs-fold with a space", line + "Host: a\r\nX: y\r\n z\r\n\r\n", bad, badName},
		{"obs-fold with a tab", line + "Host: a\r\nX: y\r\n\tz: 1\r\n\r\n", bad, badName},
		{"obs-fold of a coding", post + "Content-Length: 3\r\n" +
			"X: y\r\n Transfer-Encoding: chunked\r\n\r\nabc", bad, badName},
		{"space before the first field", line + " Host: a\r\n\r\n", bad, badName},
		{"space before the colon", post + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", bad,
			badName},
		{"tab before the colon", line + "Host: a\r\nX\t: y\r\n\r\n", bad, badName},
		{"space in a name", line + "Host: a\r\nX Y: z\r\n\r\n", bad, badName},
		{"no colon", line + "Host: a\r\nX\r\n\r\n", bad, badName},
		{"empty name", line + "Host: a\r\n: y\r\n\r\n", bad, badName},
		{"parenthesis in a name", line + "Host: a\r\nX(: y\r\n\r\n", bad, badName},
		{"\\x0b in a name", line + "Host: a\r\nX\x0b: y\r\n\r\n", bad, badName},
		{"\\x85 in a name", line + "Host: a\r\nX\x85: y\r\n\r\n", bad, badName},
		{"a letter above ASCII in a name", line + "Host: a\r\nX\u00e9: y\r\n\r\n", bad, badName},

		// Section 3.2: Host.
		{"no Host", "GET / HTTP/1.1\r\n\r\n", bad, "no Host"},
		{"no Host beside absolute-form", "GET http://a/ HTTP/1.1\r\n\r\n", bad, "no Host"},
		{"two Hosts", line + "Host: a\r\nHost: b\r\n\r\n", bad, "more than one Host"},
		{"two equal Hosts", line + "Host: a\r\nhost: a\r\n\r\n", bad, "more than one Host"},
		{"two Hosts in HTTP/1.0", "GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", bad,
			"more than one Host"},
		{"Host with a path", line + "Host: a/b\r\n\r\n", bad, host},
		{"Host with a user", line + "Host: u@a\r\n\r\n", bad, host},
		{"Host with a space", line + "Host: a b\r\n\r\n", bad, host},
		{"Host with two ports", line + "Host: a:1:2\r\n\r\n", bad, host},
		{"Host with a bad port", line + "Host: a:8o\r\n\r\n", bad, host},
		{"Host a port only", line + "Host: :80\r\n\r\n", bad, host},
		{"Host with an open bracket", line + "Host: [::1\r\n\r\n", bad, host},
		{"Host behind a bracket", line + "Host: [::1]a\r\n\r\n", bad, host},
		{"Host with a \\", line + "Host: a\\b\r\n\r\n", bad, host},
		{"Host above ASCII", line + "Host: \u00e9\r\n\r\n", bad, host},
		{"Host with ?", line + "Host: a?b\r\n\r\n", bad, host},
		{"Host with #", line + "Host: a#b\r\n\r\n", bad, host},
		{"malformed Host beside absolute-form", "GET http://a/ HTTP/1.1\r\nHost: a b\r\n\r\n", bad,
			host},

		// Section 3: the request line.
		{"no target", "GET HTTP/1.1\r\nHost: a\r\n\r\n", bad, three},
		{"HTTP/0.9", "GET /\r\n\r\n", bad, three},
		{"two spaces", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", bad, three},
		{"a tab instead", "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", bad, three},
		{"a space behind", "GET / HTTP/1.1 \r\nHost: a\r\n\r\n", bad, three},
		{"a space before", " GET / HTTP/1.1\r\nHost: a\r\n\r\n", bad, three},
		{"space in the target", "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", bad, three},
		{"method no token", "GE(T / HTTP/1.1\r\nHost: a\r\n\r\n", bad, "the method is not a token"},
		{"garbage", "\x17\x03\x01\x02\x00\x01\n\n", bad, bareLF},
		{"version http/1.1", "GET / http/1.1\r\nHost: a\r\n\r\n", bad, version},
		{"version HTTP/1", "GET / HTTP/1\r\nHost: a\r\n\r\n", bad, version},
		{"version HTTP/1.10", "GET / HTTP/1.10\r\nHost: a\r\n\r\n", bad, version},
		{"version HTTP/01.1", "GET / HTTP/01.1\r\nHost: a\r\n\r\n", bad, version},
		{"version HTTP/1,1", "GET / HTTP/1,1\r\nHost: a\r\n\r\n", bad, version},
		{"version HTTP/2.0", "GET / HTTP/2.0\r\nHost: a\r\n\r\n", "505 HTTP Version Not Supported",
			major},
		{"version HTTP/0.9", "GET / HTTP/0.9\r\nHost: a\r\n\r\n", "505 HTTP Version Not Supported",
			major},
		{"the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505 HTTP Version Not " +
			"Supported", major},
		{"CONNECT", "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", "501 Not Implemented",
			"CONNECT is for forward proxies"},
		{"CONNECT with a path", "CONNECT /x HTTP/1.1\r\nHost: a\r\n\r\n", "501 Not Implemented",
			"CONNECT is for forward proxies"},
		{"target without /", "GET x HTTP/1.1\r\nHost: a\r\n\r\n", bad, noURI},
		{"target *", "GET * HTTP/1.1\r\nHost: a\r\n\r\n", bad, noURI},
		{"target *x", "OPTIONS *x HTTP/1.1\r\nHost: a\r\n\r\n", bad, noURI},
		{"target of another scheme", "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", bad, noURI},
		{"authority-form", "GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n", bad, noURI},
		{"fragment", "GET /#f HTTP/1.1\r\nHost: a\r\n\r\n", bad, badURI},
		{"tab in the target", "GET /\t HTTP/1.1\r\nHost: a\r\n\r\n", bad, badURI},
		{"ESC in the target", "GET /\x1b[2J HTTP/1.1\r\nHost: a\r\n\r\n", bad, badURI},
		{"DEL in the target", "GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n", bad, badURI},
		{"absolute-form without host", "GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n", bad, uriHost},
		{"absolute-form with a user", "GET http://u:p@a/ HTTP/1.1\r\nHost: a\r\n\r\n", bad,
			uriHost},

		// Sizes.
		{"request line too long", "GET /" + strings.Repeat("x", 8<<10) + " HTTP/1.1\r\n" +
			"Host: a\r\n\r\n", "414 URI Too Long", "the request line is longer than 8 KiB"},
		{"header too large", line + "Host: a\r\nX: " + strings.Repeat("x", 64<<10) + "\r\n\r\n",
			"431 Request Header Fields Too Large", "the header is larger than 64 KiB"},
		{"201 fields", line + "Host: a\r\n" + strings.Repeat("X:\r\n", 200) + "\r\n",
			"431 Request Header Fields Too Large", "the header has more than 200 fields"},
		{"empty lines without end", strings.Repeat("\r\n", 33<<10), "431 Request Header Fields " +
			"Too Large", "the header is larger than 64 KiB"},

		// Loops: RFC 9110, section 7.6.2 and 7.6.3.
		{"a circle", line + "Host: a\r\nVia: " + strings.Repeat("1.1 x, ", 31) + "1.1 x\r\n\r\n",
			"508 Loop Detected", "the request runs in a circle"},
	}
	for _, c := range table {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, generous())
			client := r.send(c.request)
			client.end(page(c.status, c.reason))
			client.Close()
			if e := r.wantClientsFault(); !strings.HasPrefix(c.status, strconv.Itoa(e.Status)) {
				t.Errorf("status %d", e.Status)
			}
			r.untouched()
		})
	}
}

const bad = "400 Bad Request"
