package forward

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// memConn is a net.Conn without a network: what is read was given beforehand,
// what is written is kept.
type memConn struct {
	net.Conn // nil: only the methods below are used
	in       io.Reader
	out      bytes.Buffer
}

func (c *memConn) Read(b []byte) (int, error)       { return c.in.Read(b) }
func (c *memConn) Write(b []byte) (int, error)      { return c.out.Write(b) }
func (c *memConn) SetReadDeadline(time.Time) error  { return nil }
func (c *memConn) SetWriteDeadline(time.Time) error { return nil }

// memPeer returns a peer that reads from r.
func memPeer(r io.Reader) (*peer, *memConn) {
	conn := &memConn{in: r}
	p := &peer{Conn: conn}
	p.buf = bufio.NewReaderSize(p, readSize)
	return p, conn
}

// pieces returns a reader of data that gives it in one go or byte by byte: how
// a message is cut into packets must not matter.
func pieces(data []byte, oneByte bool) io.Reader {
	if oneByte {
		return iotest.OneByteReader(bytes.NewReader(data))
	}
	return bytes.NewReader(data)
}

// left returns what r still holds.
func left(t *testing.T, r io.Reader) string {
	t.Helper()
	rest, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(rest)
}

// checkFields fails on a name or a value that the next server might read
// otherwise than this one.
func checkFields(t *testing.T, fields []Field) {
	t.Helper()
	for _, f := range fields {
		if f.Name == "" || strings.ContainsFunc(f.Name, func(c rune) bool {
			return c <= ' ' || c > '~' || strings.ContainsRune("\"(),/:;<=>?@[\\]{}", c)
		}) {
			t.Fatalf("accepted field name %q", f.Name)
		}
		if strings.ContainsAny(f.Value, "\r\n\x00") || f.Value != strings.Trim(f.Value, " \t") {
			t.Fatalf("accepted field value %q of %q", f.Value, f.Name)
		}
	}
}

// checkCoding fails if a message is taken for chunked that does not say exactly
// that; Unicode knows more than one k.
func checkCoding(t *testing.T, m *Message) {
	t.Helper()
	if m.Framing != Chunked {
		return
	}
	if s := m.Get("Transfer-Encoding"); len(s) != len("chunked") || !strings.EqualFold(s, "chunked") {
		t.Fatalf("%q is taken for chunked", s)
	}
}

// goRefusesTrailer reports whether net/http refuses the message for the names
// that its Trailer field announces.
func goRefusesTrailer(m *Message) bool {
	for _, name := range m.tokens("Trailer") {
		if name == "transfer-encoding" || name == "trailer" || name == "content-length" {
			return true
		}
	}
	return false
}

// goBody reads the body of a message that net/http has parsed from r. It
// returns the body and what followed the message.
func goBody(t *testing.T, body io.Reader, r *bufio.Reader) (data, rest string, err error) {
	t.Helper()
	b, err := io.ReadAll(body)
	if err != nil {
		return string(b), "", err
	}
	return string(b), left(t, r), nil
}

func FuzzReadRequest(f *testing.F) {
	for _, s := range requestSeeds {
		f.Add([]byte(s), false)
	}
	f.Fuzz(func(t *testing.T, data []byte, oneByte bool) {
		src, _ := memPeer(pieces(data, oneByte))
		req, err := ReadRequest(src.buf)
		if err != nil {
			var e *Error
			if errors.As(err, &e) && (e.Status < 400 || e.Status > 599 || !e.Client) ||
				e == nil && err != io.EOF && err != io.ErrUnexpectedEOF {
				t.Fatalf("odd refusal: %#v", err)
			}
			return
		}
		checkFields(t, req.Fields)
		checkCoding(t, &req.Message)
		if req.Host == "" && req.Minor == 1 && req.Get("Host") != "" {
			t.Fatal("the Host got lost")
		}
		if _, err := url.ParseRequestURI(req.Target); err != nil {
			req.Target = "/x" // net/http refuses bad escapes; a proxy need not
		}

		dst, out := memPeer(nil)
		m := req.Message
		head := req.appendHead(nil, "backend.test:80", "192.0.2.1:4711", "test")
		head, m = withBody(head, src, m)
		dst.Write(head)
		failed := copyBody(dst, src, &m, m.Framing, 0)
		rest := left(t, src.buf)

		// What the backend reads, with another parser than ours.
		again := bufio.NewReaderSize(bytes.NewReader(out.out.Bytes()), 1<<17)
		if goRefusesTrailer(&req.Message) {
			return
		}
		gr, err := http.ReadRequest(again)
		if err != nil {
			t.Fatalf("net/http refuses what was forwarded: %v\n%q", err, out.out.Bytes())
		}
		body, behind, err := goBody(t, gr.Body, again)
		if failed != nil {
			if err == nil && (req.Framing != NoBody) {
				t.Fatalf("a body cut short (%v) looks complete:\n%q", failed, out.out.Bytes())
			}
			return
		}
		if err != nil {
			t.Fatalf("net/http cannot read the forwarded body: %v\n%q", err, out.out.Bytes())
		}
		if behind != "" {
			t.Fatalf("%q smuggled behind the request:\n%q", behind, out.out.Bytes())
		}
		wantHost := req.Host
		if wantHost == "" && req.count("Host") == 0 {
			wantHost = "backend.test:80"
		}
		if gr.Method != req.Method || gr.RequestURI != req.Target || gr.Host != wantHost {
			t.Fatalf("read as %q %q %q, forwarded as %q %q %q",
				req.Method, req.Target, req.Host, gr.Method, gr.RequestURI, gr.Host)
		}
		checkGoFraming(t, &req.Message, gr.ContentLength, gr.TransferEncoding)
		if n := len(gr.Header.Values("Via")); n != 1 {
			t.Fatalf("%d Via fields", n)
		}

		// The same bytes, read by net/http as they came: where both accept
		// them, they must mean the same.
		original := bufio.NewReaderSize(bytes.NewReader(data), 1<<17)
		or, err := http.ReadRequest(original)
		if err != nil {
			return
		}
		obody, obehind, err := goBody(t, or.Body, original)
		if err != nil {
			return
		}
		if or.Method != req.Method || obody != body || obehind != rest {
			t.Fatalf("net/http reads %q, body %q, then %q\nwe read %q, body %q, then %q",
				or.Method, obody, obehind, req.Method, body, rest)
		}
	})
}

// checkGoFraming compares our view of where a body ends with net/http's.
func checkGoFraming(t *testing.T, m *Message, length int64, codings []string) {
	t.Helper()
	chunked := len(codings) == 1 && codings[0] == "chunked"
	want := int64(0)
	switch m.Framing {
	case Length:
		want = m.Length
	case Chunked:
		want = -1
	}
	if chunked != (m.Framing == Chunked) || length != want {
		t.Fatalf("framing %d, length %d; forwarded with %v, length %d", m.Framing, m.Length, codings, length)
	}
}

func FuzzReadResponse(f *testing.F) {
	for _, s := range responseSeeds {
		f.Add([]byte(s), false, false)
		f.Add([]byte(s), true, false)
	}
	f.Fuzz(func(t *testing.T, data []byte, head, oneByte bool) {
		method := "GET"
		if head {
			method = "HEAD"
		}
		src, _ := memPeer(pieces(data, oneByte))
		resp, err := ReadResponse(src.buf, method)
		if err != nil {
			if e := responseError(err); e.Status != http.StatusBadGateway || e.Client {
				t.Fatalf("odd error: %#v", err)
			}
			return
		}
		checkFields(t, resp.Fields)
		checkCoding(t, &resp.Message)
		if strings.ContainsAny(resp.Reason, "\r\n\x00") || resp.Status < 100 || resp.Status > 999 {
			t.Fatalf("accepted status line %d %q", resp.Status, resp.Reason)
		}
		if resp.Status == http.StatusSwitchingProtocols || goRefusesTrailer(&resp.Message) {
			return // the tunnel's bytes belong to no message
		}

		dst, out := memPeer(nil)
		m, framing := resp.Message, resp.Framing
		if framing == UntilClose {
			framing = Chunked
		}
		header := resp.appendHead(nil, framing, "test")
		header, m = withBody(header, src, m)
		dst.Write(header)
		failed := copyBody(dst, src, &m, framing, 0)

		again := bufio.NewReaderSize(bytes.NewReader(out.out.Bytes()), 1<<17)
		gr, err := http.ReadResponse(again, &http.Request{Method: method})
		if err != nil {
			t.Fatalf("net/http refuses what was forwarded: %v\n%q", err, out.out.Bytes())
		}
		body, behind, err := goBody(t, gr.Body, again)
		if failed != nil {
			if err == nil {
				t.Fatalf("a body cut short (%v) looks complete:\n%q", failed, out.out.Bytes())
			}
			return
		}
		if err != nil || behind != "" {
			t.Fatalf("net/http reads the forwarded body with %v, then %q\n%q", err, behind, out.out.Bytes())
		}
		if gr.StatusCode != resp.Status {
			t.Fatalf("status %d became %d", resp.Status, gr.StatusCode)
		}

		original := bufio.NewReaderSize(bytes.NewReader(data), 1<<17)
		or, err := http.ReadResponse(original, &http.Request{Method: method})
		if err != nil {
			return
		}
		obody, _, err := goBody(t, or.Body, original)
		if err != nil {
			return
		}
		if or.StatusCode != resp.Status || obody != body {
			t.Fatalf("net/http reads %d, body %q\nwe read %d, body %q", or.StatusCode, obody, resp.Status, body)
		}
	})
}

// readChunks is a reading of RFC 9112, section 7.1, that shares nothing with
// the code it checks: it returns the body, what follows the message, and
// whether the message is complete and well-formed.
func readChunks(s string) (body, rest string, ok bool) {
	for {
		line, more, found := strings.Cut(s, "\r\n")
		if !found || strings.ContainsAny(line, "\r\n") {
			return body, "", false
		}
		size, _, _ := strings.Cut(line, ";")
		n, err := strconv.ParseUint(strings.TrimRight(size, " \t"), 16, 63)
		if err != nil || strings.ContainsAny(size, "_+-xX") {
			return body, "", false
		}
		if n == 0 {
			s = more
			break
		}
		if uint64(len(more)) < n+2 || more[n:n+2] != "\r\n" {
			return body + more[:min(n, uint64(len(more)))], "", false
		}
		body, s = body+more[:n], more[n+2:]
	}
	for { // the trailers
		line, more, found := strings.Cut(s, "\r\n")
		if !found {
			return body, "", false
		}
		if s = more; line == "" {
			return body, s, true
		}
	}
}

func FuzzCopyBody(f *testing.F) {
	for _, s := range chunkSeeds {
		f.Add([]byte(s), false, false)
		f.Add([]byte(s), true, true)
	}
	f.Fuzz(func(t *testing.T, data []byte, http10, oneByte bool) {
		framing := Chunked
		if http10 {
			framing = UntilClose
		}
		src, _ := memPeer(pieces(data, oneByte))
		dst, out := memPeer(nil)
		err := copyBody(dst, src, &Message{Framing: Chunked}, framing, 0)
		sent := out.out.String()
		want, rest, ok := readChunks(string(data))

		if err != nil {
			if !http10 && strings.HasSuffix(sent, "0\r\n\r\n") {
				if _, _, complete := readChunks(sent); complete {
					t.Fatalf("a body cut short (%v) looks complete: %q", err, sent)
				}
			}
			return
		}
		if !ok {
			t.Fatalf("accepted %q as chunks", data)
		}
		// net/http refuses some of what the grammar allows, a space before an
		// extension for one; what it takes must mean the same to it.
		theirs, err := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(data)))
		if err == nil && string(theirs) != want {
			t.Fatalf("net/http reads %q, want %q", theirs, want)
		}
		if behind := left(t, src.buf); behind != rest {
			t.Fatalf("the message ends before %q, not before %q", rest, behind)
		}
		if http10 {
			if sent != want {
				t.Fatalf("body %q, want %q", sent, want)
			}
			return
		}
		body, behind, ok := readChunks(sent)
		if !ok || behind != "" || body != want {
			t.Fatalf("body %q became %q, then %q; complete: %v", want, body, behind, ok)
		}
		// net/http's reader, too, with the trailers.
		again := bufio.NewReaderSize(strings.NewReader("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"+sent), 1<<17)
		gr, err := http.ReadResponse(again, nil)
		if err != nil {
			t.Fatal(err)
		}
		if body, behind, err := goBody(t, gr.Body, again); err != nil || body != want || behind != "" {
			t.Fatalf("net/http reads %q, then %q, %v", body, behind, err)
		}
		for name := range gr.Trailer {
			if lower := strings.ToLower(name); hopByHop[lower] || notInTrailers[lower] {
				t.Fatalf("the trailer %s was forwarded", name)
			}
		}
	})
}
