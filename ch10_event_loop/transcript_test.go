//go:build linux

package main

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"regexp"
	"slices"
	"strings"

	"reverseproxy/ch2_basic_proxy/http1"
)

// A transcript tells what came on one side of a connection, message by message, in
// words that do not depend on how the bytes were cut: of a body its length and its
// checksum, not its chunks.
type transcript struct {
	methods []string          // of the requests that these are responses to, or that have come
	answers bool              // these are responses
	names   *strings.Replacer // what differs between the programs by name

	vague bool // how much comes of a message that is cut off is chance
	cut   bool // this one is: it says so itself

	text     strings.Builder
	pending  []byte
	messages int // whole ones, but for interim responses
	headers  int // whole headers

	request  http1.Request
	response http1.Response
	framing  http1.Framing
	inBody   bool
	page     bool // it is the proxy's page for a malformed request
	raw      bool // the rest is no message: a tunnel, or nonsense
	chunks   http1.Chunks
	left     int64 // bytes of a body of known length to come
	size     int64
	sum      uint32
}

// A message with the field cutOff never comes whole. lie is what is told of one that looks
// so all the same: no other proxy has to show the same, and no second try mends it.
const (
	cutOff = "X-Cut-Off"
	lie    = "IT LOOKS WHOLE\n"
)

var dates = regexp.MustCompile(`(?m)^Date: .* GMT\r$`)

var refusal = regexp.MustCompile(`^HTTP/1.1 400 [^\x00]*\r\nX-Content-Type-Options: nosniff\r\n`)

// add takes what has come next.
func (t *transcript) add(b []byte) {
	t.pending = append(t.pending, b...)
	for t.next() {
	}
}

// next takes one part out of what is pending; false: not now.
func (t *transcript) next() bool {
	switch {
	case t.raw:
		t.data(t.pending)
		t.pending = nil
		return false
	case !t.inBody:
		return t.header()
	case len(t.pending) == 0:
		return false
	}
	used := len(t.pending)
	switch t.framing {
	case http1.Length:
		used = int(min(t.left, int64(used)))
		t.left -= int64(used)
		t.data(t.pending[:used])
		if t.left == 0 {
			t.end()
		}
	case http1.UntilClose:
		t.data(t.pending)
	case http1.Chunked:
		data, n, end, err := t.chunks.Next(t.pending)
		used = n
		t.data(data)
		if err != nil {
			t.nonsense(err)
			return false
		}
		if end {
			for _, f := range t.chunks.Trailers {
				fmt.Fprintf(&t.text, "trailer %s: %s\n", f.Name, f.Value)
			}
			t.end()
		}
	}
	t.pending = t.pending[used:]
	return true
}

func (t *transcript) header() bool {
	n := http1.HeadEnd(t.pending, 0)
	if n == 0 {
		return false
	}
	head := bytes.Clone(t.pending[:n])
	text := t.names.Replace(string(dates.ReplaceAll(head, []byte("Date: now\r"))))
	if t.page = refusal.MatchString(text); t.page {
		text = "HTTP/1.1 400, with a page\r\n"
	}
	fmt.Fprintf(&t.text, "%s", strings.ReplaceAll(text, "\r\n", "\n"))
	var err error
	message := &t.request.Message
	if t.answers {
		method := "GET"
		if t.messages < len(t.methods) {
			method = t.methods[t.messages]
		}
		message = &t.response.Message
		err = t.response.Parse(head, method)
	} else {
		err = t.request.Parse(head)
		method, _, _ := strings.Cut(text, " ")
		t.methods = append(t.methods, method)
	}
	t.framing, t.left, t.cut = message.Framing, message.Length, message.Get(cutOff) != nil
	if err != nil {
		t.nonsense(err)
		return false
	}
	t.pending = t.pending[n:]
	t.headers++
	t.chunks, t.size, t.sum = http1.Chunks{}, 0, 0
	switch {
	case t.answers && t.response.Status == 101:
		t.raw, t.framing = true, http1.UntilClose
		t.messages++
	case t.answers && t.response.Interim():
	case t.framing == http1.NoBody || t.framing == http1.Length && t.left == 0:
		t.messages++
	default:
		t.inBody = true
	}
	return true
}

func (t *transcript) data(b []byte) {
	if t.page { // it says what is malformed first, and that depends on how much has come
		return
	}
	t.size += int64(len(b))
	t.sum = crc32.Update(t.sum, crc32.IEEETable, b)
}

// end ends a message.
func (t *transcript) end() {
	fmt.Fprintf(&t.text, "body of %d bytes, %08x\n\n", t.size, t.sum)
	if t.cut {
		t.text.WriteString(lie)
	}
	t.inBody = false
	t.messages++
}

func (t *transcript) nonsense(err error) {
	fmt.Fprintf(&t.text, "nonsense: %v\n", err)
	t.raw, t.size, t.sum = true, 0, 0
}

// close notes the connection's end, and returns the whole text. How much of a message
// comes before RST is chance. So is whether a response that breaks off does so with FIN or
// with RST, if that can be told from its framing.
func (t *transcript) close(end string) string {
	part := t.raw || t.inBody
	if t.cut && t.inBody && t.framing == http1.UntilClose && end == "closed" {
		t.text.WriteString(lie)
	}
	switch {
	case t.answers && t.inBody && t.framing != http1.UntilClose:
		t.text.WriteString("a part\n")
		return t.text.String()
	case (end == "reset" || end == "nothing more" || t.vague) && (part || len(t.pending) > 0):
		fmt.Fprintf(&t.text, "a part, ")
	case part:
		fmt.Fprintf(&t.text, "%d bytes, %08x, ", t.size, t.sum)
	case len(t.pending) > 0:
		fmt.Fprintf(&t.text, "%q, ", t.pending)
	}
	t.text.WriteString(end + "\n")
	return t.text.String()
}

// requests takes the requests in b, as a proxy sees them. body says that some have one.
func requests(b []byte) (t transcript, body bool) {
	t = transcript{names: strings.NewReplacer(), pending: b}
	for more := true; more; more = t.next() {
		body = body || t.inBody
		if !t.inBody {
			t.pending = t.pending[http1.Blank(t.pending):]
		}
	}
	if bytes.HasPrefix(t.pending, []byte("HEAD ")) { // a header that does not come whole
		t.methods = append(t.methods, "HEAD")
	}
	return t, body
}

// pieces cuts b at the given places.
func pieces(b []byte, cuts []int) [][]byte {
	var all [][]byte
	slices.Sort(cuts)
	from := 0
	for _, at := range append(cuts, len(b)) {
		if at > from {
			all = append(all, b[from:at])
			from = at
		}
	}
	return all
}
