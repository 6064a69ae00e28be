package http1

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var errCut = errors.New("the input ends too early")

// pieces returns the ends of the pieces in which data comes: all at once, or
// byte by byte. How a message is cut into packets must not matter.
func pieces(data []byte, oneByte bool) []int {
	if !oneByte {
		return []int{len(data)}
	}
	ends := make([]int, len(data))
	for i := range ends {
		ends[i] = i + 1
	}
	return ends
}

// head reads a header from the beginning of data, as it comes. body is where it
// ends.
func head(data []byte, ends []int, refuse func([]byte, int) error,
	parse func([]byte) error) (body int, err error) {
	start, from := 0, 0
	for _, end := range ends {
		if from == 0 {
			start += Blank(data[start:end])
		}
		b := data[start:end]
		if n := HeadEnd(b, from); n > 0 {
			return start + n, parse(b[:n])
		}
		if len(b) > 0 && string(b) != "\r" {
			if err := refuse(b, from); err != nil {
				return 0, err
			}
			from = len(b)
		}
	}
	return 0, errCut
}

// carry appends the body of m, which comes in data, to out, framed as framing;
// used is where it ends.
func carry(out, data []byte, ends []int, m *Message, framing Framing) (all []byte, used int,
	err error) {
	write := func(part []byte) {
		if framing == Chunked && len(part) > 0 {
			out = append(out, strconv.FormatInt(int64(len(part)), 16)+"\r\n"+string(part)+"\r\n"...)
		} else {
			out = append(out, part...)
		}
	}
	switch m.Framing {
	case Length:
		if int64(len(data)) < m.Length {
			return append(out, data...), len(data), errCut
		}
		return append(out, data[:m.Length]...), int(m.Length), nil
	case UntilClose:
		write(data)
		used = len(data)
	case Chunked:
		var c Chunks
		end := false
		for _, upto := range ends {
			for used < upto && !end {
				part, n, over, err := c.Next(data[used:upto])
				write(part)
				if used, end = used+n, over; err != nil {
					return out, used, err
				}
			}
		}
		if !end {
			return out, used, errCut
		}
		if framing == Chunked {
			return m.AppendLastChunk(out, c.Trailers), used, nil
		}
	default:
		return out, 0, nil
	}
	if framing == Chunked {
		out = m.AppendLastChunk(out, nil)
	}
	return out, used, nil
}

// checkFields fails on a name or a value that the next server might read
// otherwise than this one.
func checkFields(t *testing.T, fields []Field) {
	t.Helper()
	for _, f := range fields {
		if len(f.Name) == 0 || strings.ContainsFunc(string(f.Name), func(c rune) bool {
			return c <= ' ' || c > '~' || strings.ContainsRune("\"(),/:;<=>?@[\\]{}", c)
		}) {
			t.Fatalf("accepted field name %q", f.Name)
		}
		if bytes.ContainsAny(f.Value, "\r\n\x00") ||
			string(f.Value) != strings.Trim(string(f.Value), " \t") {
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
	if s := string(m.Get("Transfer-Encoding")); len(s) != len("chunked") ||
		!strings.EqualFold(s, "chunked") {
		t.Fatalf("%q is taken for chunked", s)
	}
}

// goRefusesTrailer reports whether net/http refuses the message for the names
// that its Trailer field announces.
func goRefusesTrailer(m *Message) bool {
	for t, rest := element(m.Get("Trailer")); t != nil; t, rest = element(rest) {
		if fold(t, "transfer-encoding") || fold(t, "trailer") || fold(t, "content-length") {
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
	left, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b), string(left), nil
}

func FuzzRequest(f *testing.F) {
	for _, s := range requestSeeds {
		f.Add([]byte(s), false)
	}
	f.Fuzz(func(t *testing.T, data []byte, oneByte bool) {
		var req Request
		at, err := head(data, pieces(data, oneByte), RefuseRequest, req.Parse)
		if err != nil {
			var e *Error
			if errors.As(err, &e) && (e.Status < 400 || e.Status > 599) || e == nil &&
				err != errCut {
				t.Fatalf("odd refusal: %#v", err)
			}
			return
		}
		checkFields(t, req.Fields)
		checkCoding(t, &req.Message)
		if len(req.Host) == 0 && req.Minor == 1 && len(req.Get("Host")) > 0 {
			t.Fatal("the Host got lost")
		}
		if _, err := url.ParseRequestURI(string(req.Target)); err != nil {
			req.Target = []byte("/x") // net/http refuses bad escapes; a proxy need not
		}
		out := req.Append(nil,
			Hop{Via: "test", Host: "backend.test:80", For: "192.0.2.1", Connection: "close"})
		if again := req.Append(nil,
			Hop{Via: "test", Host: "backend.test:80", For: "192.0.2.1",
				Connection: "close"}); !bytes.Equal(out, again) {
			t.Fatalf("written as %q, and then as %q", out, again)
		}
		out, used, failed := carry(out, data[at:], pieces(data[at:], oneByte), &req.Message,
			req.Framing)
		rest := string(data[at+used:])

		// What the backend reads, with another parser than ours.
		again := bufio.NewReaderSize(bytes.NewReader(out), 1<<17)
		if goRefusesTrailer(&req.Message) {
			return
		}
		gr, err := http.ReadRequest(again)
		if err != nil {
			t.Fatalf("net/http refuses what was forwarded: %v\n%q", err, out)
		}
		body, behind, err := goBody(t, gr.Body, again)
		if failed != nil {
			if err == nil && (req.Framing != NoBody) {
				t.Fatalf("a body cut short (%v) looks complete:\n%q", failed, out)
			}
			return
		}
		if err != nil {
			t.Fatalf("net/http cannot read the forwarded body: %v\n%q", err, out)
		}
		if behind != "" {
			t.Fatalf("%q smuggled behind the request:\n%q", behind, out)
		}
		wantHost := string(req.Host)
		if wantHost == "" && req.count(host) == 0 {
			wantHost = "backend.test:80"
		}
		if gr.Method != string(req.Method) || gr.RequestURI != string(req.Target) ||
			gr.Host != wantHost {
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
		if or.Method != string(req.Method) || obody != body || obehind != rest {
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
		t.Fatalf("framing %d, length %d; forwarded with %v, length %d", m.Framing, m.Length,
			codings, length)
	}
}

func FuzzResponse(f *testing.F) {
	for _, s := range responseSeeds {
		f.Add([]byte(s), false, false)
		f.Add([]byte(s), true, false)
	}
	f.Fuzz(func(t *testing.T, data []byte, toHead, oneByte bool) {
		method := "GET"
		if toHead {
			method = "HEAD"
		}
		var resp Response
		at, err := head(data, pieces(data, oneByte), RefuseResponse,
			func(b []byte) error { return resp.Parse(b, method) })
		if err != nil {
			var e *Error
			if errors.As(err, &e) && e.Status != 502 || e == nil && err != errCut {
				t.Fatalf("odd error: %#v", err)
			}
			return
		}
		checkFields(t, resp.Fields)
		checkCoding(t, &resp.Message)
		if bytes.ContainsAny(resp.Reason, "\r\n\x00") || resp.Status < 100 || resp.Status > 999 {
			t.Fatalf("accepted status line %d %q", resp.Status, resp.Reason)
		}
		if resp.Status == http.StatusSwitchingProtocols || goRefusesTrailer(&resp.Message) {
			return // the tunnel's bytes belong to no message
		}
		framing := resp.Framing
		if framing == UntilClose {
			framing = Chunked
		}
		out := resp.Append(nil, framing, Hop{Via: "test", Date: "x", Connection: "close"})
		out, _, failed := carry(out, data[at:], pieces(data[at:], oneByte), &resp.Message, framing)

		again := bufio.NewReaderSize(bytes.NewReader(out), 1<<17)
		gr, err := http.ReadResponse(again, &http.Request{Method: method})
		if err != nil {
			t.Fatalf("net/http refuses what was forwarded: %v\n%q", err, out)
		}
		body, behind, err := goBody(t, gr.Body, again)
		if failed != nil {
			if err == nil {
				t.Fatalf("a body cut short (%v) looks complete:\n%q", failed, out)
			}
			return
		}
		if err != nil || behind != "" {
			t.Fatalf("net/http reads the forwarded body with %v, then %q\n%q", err, behind, out)
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
			t.Fatalf("net/http reads %d, body %q\nwe read %d, body %q", or.StatusCode, obody,
				resp.Status, body)
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

func FuzzChunks(f *testing.F) {
	for _, s := range chunkSeeds {
		f.Add([]byte(s), false, false)
		f.Add([]byte(s), true, true)
	}
	f.Fuzz(func(t *testing.T, data []byte, http10, oneByte bool) {
		framing := Chunked
		if http10 {
			framing = UntilClose
		}
		out, used, err := carry(nil, data, pieces(data, oneByte), &Message{Framing: Chunked},
			framing)
		sent := string(out)
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
		if behind := string(data[used:]); behind != rest {
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
		again := bufio.NewReaderSize(strings.NewReader("HTTP/1.1 200 OK\r\n"+
			"Transfer-Encoding: chunked\r\n\r\n"+sent), 1<<17)
		gr, err := http.ReadResponse(again, nil)
		if err != nil {
			t.Fatal(err)
		}
		if body, behind, err := goBody(t, gr.Body, again); err != nil || body != want ||
			behind != "" {
			t.Fatalf("net/http reads %q, then %q, %v", body, behind, err)
		}
		for name := range gr.Trailer {
			if lower := strings.ToLower(name); hopByHop[known([]byte(lower))] ||
				notInTrailers[lower] {
				t.Fatalf("the trailer %s was forwarded", name)
			}
		}
	})
}

// FuzzPieces reads the same bytes whole and cut into pieces: the result is the
// same, whatever the cuts, but that a piece may be refused for the first thing
// that is wrong and the whole for the worst.
func FuzzPieces(f *testing.F) {
	for _, s := range append(append(requestSeeds, responseSeeds...), chunkSeeds...) {
		f.Add([]byte(s), uint64(1))
		f.Add([]byte(s), ^uint64(0))
	}
	f.Fuzz(func(t *testing.T, data []byte, cuts uint64) {
		var ends []int
		for i := 1; i < len(data); i++ {
			if cuts>>(i%64)&1 == 1 {
				ends = append(ends, i)
			}
		}
		ends = append(ends, len(data))
		whole := []int{len(data)}

		type result struct {
			At, Used int
			Refused  bool
			Out      string
		}
		request := func(ends []int) (r result) {
			var q Request
			at, err := head(data, ends, RefuseRequest, q.Parse)
			if r.Refused = err != nil && err != errCut; err == nil {
				r.At = at
				r.Out = string(q.Append(nil, Hop{}))
			}
			return r
		}
		if diff := cmp.Diff(request(whole), request(ends)); diff != "" {
			t.Errorf("request, whole and in pieces:\n%s", diff)
		}
		response := func(ends []int) (r result) {
			var p Response
			at, err := head(data, ends, RefuseResponse,
				func(b []byte) error { return p.Parse(b, "GET") })
			if r.Refused = err != nil && err != errCut; err == nil {
				r.At = at
				r.Out = string(p.Append(nil, p.Framing, Hop{}))
			}
			return r
		}
		if diff := cmp.Diff(response(whole), response(ends)); diff != "" {
			t.Errorf("response, whole and in pieces:\n%s", diff)
		}
		chunks := func(ends []int) (r result) {
			out, used, err := carry(nil, data, ends, &Message{Framing: Chunked}, UntilClose)
			if r.Refused = err != nil && err != errCut; !r.Refused {
				r.Out, r.Used = string(out), used
			}
			return r
		}
		if diff := cmp.Diff(chunks(whole), chunks(ends)); diff != "" {
			t.Errorf("chunks, whole and in pieces:\n%s", diff)
		}
	})
}
