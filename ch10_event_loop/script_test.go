//go:build linux

package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"time"

	"reverseproxy/ch2_basic_proxy/forward"
)

// A script is what a client and a backend do to a proxy, made from a seed.
type script struct {
	slow     bool
	alone    bool // it is one request, and nothing more
	mutated  bool
	early    bool // it is answered before it has been read
	torn     bool // it breaks off while much is on its way
	requests int  // that the client sends

	methods []string
	client  []move
	flood   flood
	leaves  leave  // what the client does when it has sent it all
	after   int    // and has so many bytes of the answers
	deaf    bool   // and reads no more then
	tunnels bool   // the flood is for the tunnel
	tunnel  []byte // what it sends after 101
	answers []answered
}

// leave is how a client ends.
type leave int

const (
	stays     leave = iota // it reads the answers, and asks once more
	ends                   // it sends FIN, and reads the answers
	resets                 // it sends RST when it has read so much
	resetsNow              // it sends RST when the backend has its first request
)

func (s *script) gone() bool { return s.leaves == resets || s.leaves == resetsNow }

// A move is a piece that is sent, after a pause.
type move struct {
	pause time.Duration
	data  []byte
}

// A flood is a piece that is sent again and again, until the other side ends it, or
// floodSize bytes have been taken: far more than the sockets between hold.
type flood []byte

const floodSize = 16 << 20

func (f flood) to(conn net.Conn) {
	var err error
	for sent := 0; len(f) > 0 && sent < floodSize && err == nil; sent += len(f) {
		_, err = conn.Write(f)
	}
}

// answered is what a backend does with a request.
type answered struct {
	reads    int // bytes of the body before it answers; -1: all
	moves    []move
	flood    flood
	last     time.Duration // pause before the end
	then     string        // "keep", "close", "reset", "half" (FIN, and reads on)
	switches bool          // the answer is 101
	ends     bool          // with the connection, or not at all
	unasked  bool          // something follows it
}

// maker makes scripts.
type maker struct {
	*rand.Rand
	slow  bool // with pauses longer than the timeouts
	short bool // bodies of more than 5,000 bytes are refused
}

func (m *maker) one(in int) bool { return m.IntN(in) == 0 }

func pick[T any](m *maker, of ...T) T { return of[m.IntN(len(of))] }

func (m *maker) script() *script {
	if m.one(6) {
		return m.torn()
	}
	s := &script{slow: m.slow, requests: pick(m, 1, 1, 2, 3, 5)}
	var b bytes.Buffer
	upgrade, first := false, 0
	for i := range s.requests {
		text := m.request(i)
		upgrade = upgrade || strings.Contains(text, "Upgrade: echo")
		b.WriteString(text)
		if i == 0 {
			first = b.Len()
		}
	}
	data := b.Bytes()
	mutated := m.one(7)
	if mutated {
		data = m.mutate(data)
		first = min(first, len(data))
	}
	if m.one(4) {
		s.leaves = pick(m, ends, ends, resets, resetsNow)
		if s.leaves == ends && len(data) > 450 && (mutated || s.requests > 1) {
			s.leaves = resets // ch6 does not see FIN behind more than its buffer holds
		}
		s.after = pick(m, 1, 20, 300, 5000)
		if s.leaves != ends { // how far a second one comes would be chance
			data = data[:first]
		}
	}
	given, body := requests(data)
	s.client, s.methods = m.cut(data), given.methods
	s.tunnel = m.bytes(pick(m, 1, 100, 100_000))
	for i := range s.requests + 2 {
		method := "GET"
		if i < len(s.methods) {
			method = s.methods[i]
		}
		s.answers = append(s.answers, m.answer(method, upgrade, body))
	}
	s.mutated = mutated
	s.alone = s.requests == 1 && !mutated
	for i := range s.answers {
		a := &s.answers[i]
		if m.short || given.raw { // or it would be chance whether that is refused before
			a.reads = -1
		}
		if len(data) > 20_000 && a.reads >= 0 { // how much is read by then, is chance
			if s.early = s.alone; !s.alone {
				a.reads = -1
			}
		}
		if i < s.requests-1 && !a.ends {
			a.then = "keep" // or whether the next request is on its way would be chance
		}
		if len(a.moves) == 0 { // or it may be repeated, if its body came with it
			a.moves = []move{{0, []byte("H")}}
		}
		for j := range a.moves {
			pause := &a.moves[j].pause
			if !s.alone && !s.slow && *pause > stall {
				*pause = 0 // the same
			}
			if s.leaves == ends && j > 0 && *pause > forward.HalfCloseGrace {
				*pause = 0 // or whether FIN is seen before the piece before this one
			}
		}
	}
	return s
}

// torn returns a script of a request and an answer that do not end, or not as they should:
// a side breaks off while much is on its way.
func (m *maker) torn() *script {
	s := &script{slow: m.slow, torn: true, requests: 1, after: pick(m, 1, 300, 5000, 100_000),
		leaves: pick(m, stays, stays, ends, resets, resets, resetsNow)}
	s.deaf = s.leaves == resets && m.one(2)
	a := answered{reads: pick(m, 0, 0, 1, 50_000), then: pick(m, "reset", "reset", "half", "keep"),
		last: pick(m, time.Millisecond, time.Millisecond, 5*time.Millisecond, 30*time.Millisecond)}
	block := m.bytes(16 << 10)
	chunk := []byte(fmt.Sprintf("%x\r\n%s\r\n", len(block), block))
	part := string(block[:pick(m, 1, 10, 5000, len(block))])
	endless := func(framing int) (field, first string, flood flood) {
		switch framing {
		case 0:
			return "Content-Length: 1000000000\r\n", part, block
		case 1:
			return "Transfer-Encoding: chunked\r\n", fmt.Sprintf("%x\r\n%s\r\n", len(part), part),
				chunk
		}
		return "", part, block
	}

	method, field, first := "GET", "", ""
	switch kind := m.IntN(4); {
	case kind < 2:
		method = "POST"
		field, first, s.flood = endless(kind)
		if s.leaves == ends {
			s.flood, a.reads = nil, -1
		}
	case s.leaves == ends:
		s.leaves = stays
	case kind == 2:
		field, s.flood, s.tunnels = "Connection: Upgrade\r\nUpgrade: echo\r\n", block, true
	}
	line := method + " / HTTP/1." + pick(m, "1", "1", "1", "0") + "\r\nHost: kept.test\r\n"
	s.methods = []string{method}
	s.client = m.cut([]byte(line + cutOff + ": 1\r\n" + field + "\r\n" + first))
	if m.short {
		a.reads = -1 // or it would be chance whether it is refused before
	}

	line = "HTTP/1.1 200 OK\r\n"
	if a.switches = s.tunnels; a.switches {
		line = "HTTP/1.1 101 Changed\r\n"
		first, a.flood = part, block
	} else {
		framing := m.IntN(3)
		field, first, a.flood = endless(framing)
		if framing < 2 || a.then != "half" {
			field += cutOff + ": 1\r\n"
		}
	}
	if m.one(2) {
		a.flood = nil
	}
	if m.slow && m.one(4) {
		a.last = 700 * time.Millisecond
	}
	a.moves = m.cut([]byte(line + field + "\r\n" + first))
	s.answers = []answered{a}
	return s
}

// cut cuts data into pieces with pauses between.
func (m *maker) cut(data []byte) []move {
	var cuts []int
	if len(data) > 0 {
		for range pick(m, 0, 0, 1, 2, 4) {
			cuts = append(cuts, m.IntN(len(data)))
		}
		if m.one(12) { // a piece for each byte
			for i := range min(len(data), 60) {
				cuts = append(cuts, i)
			}
		}
	}
	var moves []move
	for i, piece := range pieces(data, cuts) {
		pause := pick(m, 0, 0, 500*time.Microsecond, 3*time.Millisecond)
		if i > 20 {
			pause = 0
		}
		if m.slow && m.one(4) {
			pause = 700 * time.Millisecond
		} else if m.one(300) {
			pause = 2500 * time.Millisecond // more than a half-closed client is given
		}
		moves = append(moves, move{pause, piece})
	}
	return moves
}

// mutate spoils data at a place.
func (m *maker) mutate(data []byte) []byte {
	data = bytes.Clone(data)
	if len(data) == 0 {
		return data
	}
	for range pick(m, 1, 1, 2) {
		at := m.IntN(min(len(data), 400))
		switch m.IntN(4) {
		case 0:
			data[at] = pick(m, byte(0), '\r', '\n', ' ', ':', ',', '0', '9', 'a', 0x80, 0xff)
		case 1:
			data = append(data[:at], data[at+1:]...)
		case 2:
			data = append(data[:at], append([]byte(pick(m, "\r\n", "\n", " ", ":", "0", "x", "\t",
				"\r", "Content-Length: 3\r\n", "Transfer-Encoding: chunked\r\n")), data[at:]...)...)
		case 3:
			data = data[:at]
		}
		if len(data) == 0 {
			return data
		}
	}
	return data
}

func (m *maker) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = "abcdefghijklmnopqrstuvwxyz0123456789"[(i+i/36)%36]
	}
	return b
}

// size is the length of a body.
func (m *maker) size() int {
	return pick(m, 0, 1, 10, 500, 500, 3000, 5000, 20_000, 70_000, 200_000+m.IntN(50_000), 600_000)
}

func (m *maker) fields(of []string, most int) string {
	var b strings.Builder
	for range m.IntN(most + 1) {
		b.WriteString(pick(m, of...) + "\r\n")
	}
	return b.String()
}

var requestFields = []string{"Accept: */*", "X-A: b", "X-A: c", "Connection: X-A", "TE: trailers",
	"Connection: keep-alive", "Connection: close", "Via: 1.0 old", "Keep-Alive: timeout=5",
	"X-Forwarded-For: 10.0.0.1", "X-Forwarded-Proto: https", "Max-Forwards: 0", "Cookie: a=b",
	"Proxy-Connection: close", "Connection: TE", "Expect: 100-continue", "Trailer: X-T",
	"Forwarded: for=1.2.3.4", "Expect: more", "Connection: close, X-B", "X-Long: " +
		strings.Repeat("long ", 1200), "Date: Tue, 15 Nov 1994 08:12:31 GMT", "Upgrade: h2c",
	"Range: bytes=0-5", "If-None-Match: \"x\"", "X-Empty:", "Content-Type: text/plain"}

// request returns a request.
func (m *maker) request(n int) string {
	method := pick(m, "GET", "GET", "GET", "POST", "POST", "PUT", "HEAD", "DELETE", "OPTIONS",
		"QUERY", "TRACE", "FOO", "PATCH")
	target := fmt.Sprintf("/%d", n) + pick(m, "", "?a=b", "/%20x", "/../y")
	minor := "1"
	switch m.IntN(25) {
	case 0:
		target = "http://other.test" + target
	case 1:
		target = "*"
	case 2, 3, 4:
		minor = "0"
	case 5:
		method, target = "CONNECT", "kept.test:80"
	}
	line := method + " " + target + " HTTP/1." + minor + "\r\n"
	if m.one(20) {
		line = pick(m, "\r\n", "\r\n\r\n", "\n") + line
	}
	if !m.one(15) || minor == "1" {
		line += "Host: " + pick(m, "kept.test", "kept.test", "kept.test:80", "[::1]:80") + "\r\n"
	}
	fields := m.fields(requestFields, 4)
	if m.short || strings.Contains(fields, "Max-Forwards") {
		// The proxy answers by itself, and reads no body behind Expect but what has come.
		fields = strings.ReplaceAll(fields, "Expect: 100-continue\r\n", "")
		fields = strings.ReplaceAll(fields, "Expect: more\r\n", "")
	}
	if m.one(12) {
		fields += "Connection: Upgrade\r\nUpgrade: echo\r\n"
	}
	body := ""
	if method == "POST" || method == "PUT" || method == "PATCH" || method == "QUERY" || m.one(8) {
		data := string(m.bytes(m.size()))
		if minor == "1" && m.one(3) {
			fields += "Transfer-Encoding: chunked\r\n"
			body = m.chunked(data)
		} else {
			fields += fmt.Sprintf("Content-Length: %d\r\n", len(data))
			body = data
		}
	}
	if m.one(40) {
		fields += pick(m, "Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n",
			"Transfer-Encoding: gzip\r\n", "Host: again\r\n", "Bad Name: x\r\n", " folded\r\n")
	}
	if m.one(30) {
		return strings.ReplaceAll(line+fields+"\r\n", "\r\n", "\n") + body
	}
	return line + fields + "\r\n" + body
}

// chunked frames data, not always as it should be.
func (m *maker) chunked(data string) string {
	var b strings.Builder
	for len(data) > 0 {
		n := min(len(data), 1+m.IntN(1+pick(m, 10, 1000, 30_000, 100_000)))
		if len(data)/n > 2000 {
			n = len(data)
		}
		fmt.Fprintf(&b, "%x%s\r\n%s\r\n", n, pick(m, "", "", ";a=b", "; c=\"d;e\""), data[:n])
		data = data[n:]
	}
	b.WriteString("0\r\n")
	if m.one(3) {
		b.WriteString(pick(m, "X-T: 1\r\n", "X-A: b\r\nX-T: 2\r\n", "Content-Length: 3\r\n",
			"Host: x\r\n", "Bad Name: 1\r\n"))
	}
	text := b.String() + "\r\n"
	if m.one(15) {
		return string(m.mutate([]byte(text)))
	}
	return text
}

var responseFields = []string{"Server: s", "X-A: b", "Connection: X-A", "Connection: keep-alive",
	"Connection: close", "Keep-Alive: timeout=5", "Keep-Alive: timeout=1", "Set-Cookie: a=b",
	"Date: Tue, 15 Nov 1994 08:12:31 GMT", "Via: 1.0 old", "Trailer: X-T", "Upgrade: h2c",
	"Proxy-Connection: close", "X-Long: " + strings.Repeat("long ", 1500), "ETag: \"x\"",
	"Content-Type: text/plain", "Proxy-Authenticate: Basic", "X-Empty:", "TE: trailers",
	"Connection: Keep-Alive, X-B", "X-B: c"}

// answer returns what the backend does with a request. body says that some of them have one.
func (m *maker) answer(method string, upgrade, body bool) answered {
	a := answered{reads: -1, then: "keep"}
	if m.one(6) {
		a.reads = pick(m, 0, 0, 1, 3000)
	}
	if m.one(5) {
		a.then = pick(m, "close", "close", "reset", "half")
	}
	var b bytes.Buffer
	for m.one(8) {
		b.WriteString(pick(m, "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 102 Processing\r\n\r\n",
			"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: close\r\n\r\n"))
	}
	status := pick(m, 200, 200, 200, 200, 204, 304, 404, 413, 500, 301, 205, 408)
	if upgrade && m.one(2) {
		// Before it has the whole request it does not: ch6 lets the tunnel begin behind
		// the request's end, ch10 lets its bytes pass.
		status, a.switches, a.reads = 101, true, -1
		a.then = pick(m, "half", "half", "reset") // with "close", it answers bytes with RST
	}
	line := fmt.Sprintf("HTTP/1.%s %d %s\r\n", pick(m, "1", "1", "1", "1", "0"), status,
		pick(m, "OK", "Some Reason", ""))
	fields, text, cut := m.fields(responseFields, 4), "", false
	if status == 408 && body { // or it may be repeated, if its body came with it
		fields = strings.ReplaceAll(fields, "Connection: close\r\n", "")
	}
	switch {
	case status == 101:
		fields = "Connection: Upgrade\r\nUpgrade: echo\r\n"
		text = string(m.bytes(pick(m, 0, 5, 3000, 100_000)))
	case status == 204 || status == 304 || method == "HEAD":
		if m.one(2) {
			fields += fmt.Sprintf("Content-Length: %d\r\n", m.size())
		}
	default:
		data := string(m.bytes(m.size()))
		switch m.IntN(6) {
		case 0:
			fields += "Transfer-Encoding: chunked\r\n"
			text = m.chunked(data)
		case 1:
			text, a.ends = data, true
			a.then = pick(m, "close", "close", "half", "reset")
			if cut = a.then == "reset"; cut {
				fields += cutOff + ": 1\r\n"
			}
		default:
			fields += fmt.Sprintf("Content-Length: %d\r\n", len(data))
			text = data
		}
	}
	if m.one(30) && !cut {
		fields += pick(m, "Content-Length: 5\r\n", "Transfer-Encoding: gzip\r\n",
			"Bad Name: x\r\n", " folded\r\n", "Transfer-Encoding: gzip, chunked\r\n")
	}
	b.WriteString(line + fields + "\r\n" + text)
	data, unasked := b.Bytes(), ""
	if a.unasked = m.one(12); a.unasked {
		unasked = pick(m, "x", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\ny")
	}
	broken := m.IntN(24)
	if cut {
		broken = 24
	}
	a.ends = a.ends || broken <= 2
	switch broken {
	case 0:
		data = m.mutate(data)
		a.then, a.unasked = "close", true
	case 1: // breaks off
		unasked = ""
		data = data[:m.IntN(len(data)+1)]
		a.then = pick(m, "close", "reset")
	case 2: // does not answer
		data, unasked = nil, ""
		a.then = pick(m, "close", "reset")
	}
	if (a.reads >= 0 || a.switches) && a.then == "close" {
		a.then = "half" // if something is unread by then, RST is sent instead of FIN
	}
	if a.then == "reset" { // it overtakes what the kernel holds back
		a.last = pick(m, time.Millisecond, 5*time.Millisecond)
	}
	a.moves = m.cut(data)
	if last := len(a.moves) - 1; last >= 0 { // or it may come behind the next request
		a.moves[last].data = append(bytes.Clone(a.moves[last].data), unasked...)
	}
	return a
}

// String tells what happens, for people.
func (s *script) String() string {
	var b strings.Builder
	tell := func(moves []move) {
		for i, m := range moves {
			if len(m.data) == 1 && i > 0 && m.pause < 100*time.Millisecond {
				fmt.Fprintf(&b, "%s", m.data)
				continue
			}
			text := strings.ReplaceAll(strings.ReplaceAll(string(m.data), "long ", ""), "\r", "")
			fmt.Fprintf(&b, "  %v %.300q (%d)\n", m.pause, text, len(m.data))
		}
	}
	fmt.Fprintf(&b, "the client: leaves %d after %d, deaf %v, flood %.9q\n", s.leaves, s.after,
		s.deaf, s.flood)
	tell(s.client)
	for i, a := range s.answers {
		fmt.Fprintf(&b, "answer %d: reads %d, %s after %v, flood %.9q\n", i, a.reads, a.then,
			a.last, a.flood)
		tell(a.moves)
	}
	return b.String()
}
