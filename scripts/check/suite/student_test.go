package suite

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// student is the proxy of somebody who walks the path: at level N it does what the
// stages up to N ask for, as simply as that can be done, and no more. A fault has it
// do one thing of level 1 or 7 wrong.
type student struct {
	ln       net.Listener
	level    int
	fault    string
	backends []string
	next     atomic.Uint64
}

// StudentSubject starts it in this process.
func StudentSubject(t *testing.T, level int, fault string) *Subject {
	t.Helper()
	return &Subject{Name: fmt.Sprintf("student, level %d %s", level, fault), Count: 3,
		Timeouts: shortTimeouts, Running: func(addrs []string, _ Timeouts) (string, error) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return "", err
			}
			t.Cleanup(func() { ln.Close() })
			p := &student{ln: ln, level: level, fault: fault, backends: addrs}
			go p.loop() // ends when the listener is closed
			return ln.Addr().String(), nil
		}}
}

func (p *student) loop() {
	for {
		c, err := p.ln.Accept()
		if err != nil {
			return
		}
		switch {
		case p.level >= 9:
			go p.serve(c) // ends with the client
		case p.serve(c) != nil && p.level < 4:
			p.ln.Close() // an error that nobody has caught ends the program
		}
	}
}

var errRefused = errors.New("refused")

func (p *student) serve(c net.Conn) (err error) {
	defer c.Close()
	client := bufio.NewReader(c)
	switch p.fault {
	case "reads nothing":
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
		linger(c)
		return nil
	case "waits for the end":
		io.Copy(io.Discard, client)
	}
	head, err := p.head(client)
	if err == nil && p.level >= 7 {
		err = p.checkRequest(head)
	}
	if errors.Is(err, errRefused) {
		refuse(c)
		return nil
	}
	if err != nil {
		return err
	}
	switch {
	case p.fault == "says nothing":
		return nil
	case p.fault == "without a head":
		io.WriteString(c, "hello")
		return nil
	case p.level == 1:
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
		return nil
	}
	begun, err := p.forward(c, client, head)
	if err != nil && !begun && p.level >= 8 {
		text := "HTTP/1.1 502 Bad Gateway\r\nConnection: close\r\nContent-Length: 12\r\n\r\n"
		if !strings.HasPrefix(head, "HEAD ") {
			text += "no backend.\n"
		}
		io.WriteString(c, text)
		linger(c)
	}
	return err
}

// refuse answers 400.
func refuse(c net.Conn) {
	io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n"+
		"Content-Length: 4\r\n\r\nno.\n")
	linger(c)
}

// linger reads what the client still sends, so that its answer is not lost.
func linger(c net.Conn) {
	c.(*net.TCPConn).CloseWrite()
	c.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
	io.Copy(io.Discard, c)
}

// head reads up to the empty line. With level 7 on a line has to end in CRLF.
func (p *student) head(r *bufio.Reader) (string, error) {
	var b strings.Builder
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			if p.level >= 7 && b.Len()+len(line) > 0 {
				return "", io.ErrUnexpectedEOF
			}
			return "", err
		}
		if p.level >= 7 && (!strings.HasSuffix(line, "\r\n") ||
			strings.ContainsAny(line[:len(line)-2], "\r\x00")) {
			return "", errRefused
		}
		b.WriteString(line)
		if line == "\r\n" {
			return b.String(), nil
		}
	}
}

// fieldsOf returns the lines of a head without the first and the empty one.
func fieldsOf(head string) []string {
	lines := strings.Split(strings.TrimSuffix(head, "\r\n\r\n"), "\r\n")
	return lines[1:]
}

// values returns the values of the fields of that name.
func values(head, name string) (all []string) {
	for _, line := range fieldsOf(head) {
		n, v, _ := strings.Cut(line, ":")
		if strings.EqualFold(n, name) {
			all = append(all, strings.Trim(v, " \t"))
		}
	}
	return all
}

var (
	requestLine = regexp.MustCompile(`^[!#$%&'*+.^_|~0-9A-Za-z-]+ [!-~]+ HTTP/1\.[01]$`)
	statusLine  = regexp.MustCompile(`^HTTP/1\.[01] [0-9]{3}( .*)?$`)
	fieldLine   = regexp.MustCompile(`^[!#$%&'*+.^_|~0-9A-Za-z-]+:`)
	digits      = regexp.MustCompile(`^[0-9]{1,15}$`)
	chunkLine   = regexp.MustCompile(`^([0-9A-Fa-f]{1,15})[ \t]*(;.*)?\r\n$`)
)

// checkFields refuses what could be read in two ways.
func checkFields(head string) error {
	for _, line := range fieldsOf(head) {
		if !fieldLine.MatchString(line) {
			return errRefused
		}
	}
	lengths, codings := values(head, "Content-Length"), values(head, "Transfer-Encoding")
	switch {
	case len(lengths) > 1 || len(codings) > 1 || len(lengths)+len(codings) > 1:
		return errRefused
	case len(lengths) == 1 && !digits.MatchString(lengths[0]):
		return errRefused
	case len(codings) == 1 && !strings.EqualFold(codings[0], "chunked"):
		return errRefused
	}
	return nil
}

func (p *student) checkRequest(head string) error {
	first, _, _ := strings.Cut(head, "\r\n")
	if !requestLine.MatchString(first) {
		return errRefused
	}
	if len(values(head, "Host")) != 1 {
		return errRefused
	}
	return checkFields(head)
}

// forward does steps 6 to 9; begun says that the client has a part of the answer.
func (p *student) forward(c net.Conn, client *bufio.Reader, head string) (begun bool, err error) {
	addr := p.backends[0]
	if p.level >= 10 {
		addr = p.backends[int(p.next.Add(1)-1)%len(p.backends)]
	}
	b, err := net.Dial("tcp", addr)
	if err != nil {
		return false, err
	}
	defer b.Close()
	forwarded := head
	if p.level >= 6 {
		forwarded = p.rewrite(head, "Via: 1.1 student\r\nX-Forwarded-For: 127.0.0.1\r\n")
	}
	io.WriteString(b, forwarded)
	if p.level == 2 {
		early, _ := client.Peek(client.Buffered())
		b.Write(early)
		_, err := io.Copy(c, b)
		return true, err
	}
	if err := p.body(b, client, head, false); errors.Is(err, errRefused) {
		refuse(c)
		return true, nil
	} else if err != nil {
		return false, err
	}
	backend := bufio.NewReader(b)
	answer, err := p.head(backend)
	if err != nil {
		return false, err
	}
	first, _, _ := strings.Cut(answer, "\r\n")
	if p.level >= 8 && (!statusLine.MatchString(first) || checkFields(answer) != nil) {
		return false, errRefused
	}
	none := strings.HasPrefix(head, "HEAD ") || strings.Contains(first, " 204") ||
		strings.Contains(first, " 304")
	if p.level >= 6 {
		answer = "HTTP/1.1" + p.rewrite(answer, "Connection: close\r\n")[len("HTTP/1.1"):]
	}
	io.WriteString(c, answer)
	if none && p.level >= 5 {
		return true, nil
	}
	return true, p.body(c, backend, answer, true)
}

// rewrite takes out what belongs to one connection, and adds lines.
func (p *student) rewrite(head, more string) string {
	first, _, _ := strings.Cut(head, "\r\n")
	drop := ",connection,keep-alive,proxy-connection,te,"
	for _, v := range values(head, "Connection") {
		for name := range strings.SplitSeq(v, ",") {
			drop += strings.ToLower(strings.Trim(name, " \t")) + ","
		}
	}
	drop = strings.ReplaceAll(drop, ",host,", ",")
	var b strings.Builder
	b.WriteString(first + "\r\n")
	for _, line := range fieldsOf(head) {
		name, _, _ := strings.Cut(line, ":")
		if !strings.Contains(drop, ","+strings.ToLower(name)+",") {
			b.WriteString(line + "\r\n")
		}
	}
	return b.String() + more + "\r\n"
}

// body copies a body as it is.
func (p *student) body(to io.Writer, from *bufio.Reader, head string, answer bool) error {
	codings, lengths := values(head, "Transfer-Encoding"), values(head, "Content-Length")
	switch {
	case p.level >= 5 && len(codings) > 0:
		return p.chunks(to, from)
	case len(lengths) > 0:
		n, err := strconv.ParseInt(lengths[0], 10, 64)
		if err == nil {
			_, err = io.CopyN(to, from, n)
		}
		return err
	case answer && p.level >= 5:
		_, err := io.Copy(to, from)
		return err
	}
	return nil
}

func (p *student) chunks(to io.Writer, from *bufio.Reader) error {
	for {
		line, err := from.ReadString('\n')
		if err != nil {
			return err
		}
		size, _, _ := strings.Cut(strings.TrimSpace(line), ";")
		if p.level >= 7 {
			m := chunkLine.FindStringSubmatch(line)
			if p.fault == "size by int" { // Python's int(size, 16)
				m = []string{"", strings.TrimPrefix(strings.TrimSpace(size), "0x")}
			}
			if m == nil {
				return errRefused
			}
			size = m[1]
		}
		n, err := strconv.ParseInt(strings.TrimSpace(size), 16, 64)
		if err != nil && p.level >= 7 {
			return errRefused
		}
		io.WriteString(to, line)
		if n == 0 {
			break
		}
		if _, err := io.CopyN(to, from, n); err != nil {
			return err
		}
		end := make([]byte, 2)
		if _, err := io.ReadFull(from, end); err != nil {
			return err
		}
		if p.level >= 7 && string(end) != "\r\n" {
			return errRefused
		}
		to.Write(end)
	}
	for { // trailers
		line, err := from.ReadString('\n')
		if err != nil {
			return err
		}
		io.WriteString(to, line)
		if line == "\r\n" {
			return nil
		}
	}
}
