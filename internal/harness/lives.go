//go:build unix

package harness

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"reverseproxy/internal/book"
	"reverseproxy/internal/narrate"
	"reverseproxy/internal/proc"
)

// A Life is a test that starts programs of its own: how they begin and end,
// and what their flags do.
type Life struct {
	Name string
	Run  func(t T, m Model)
}

// Lives is the table.
var Lives = []Life{
	{"Ctrl+C, and again on the same port", ctrlC},
	{"summary in words", summaryInWords},
	{"Ctrl+C with a request in flight", inFlight},
	{"Ctrl+C with a silent client", silentAtTheEnd},
	{"port in use", portInUse},
	{"bad flags", badFlags},
	{"help", help},
	{"narration in words", narrationInWords},
	{"narration off", narrationOff},
	{"no backend", noBackend},
	{"escape sequences on the terminal", escapesInWords},
	{"limits reach the program", limits},
	{"silent client", silentClient},
	{"64 descriptors", fewDescriptors},
	{"itself as the backend", itself},
	{"a request in flight at Ctrl+C gets 5 s", cutOff},
	{"a second Ctrl+C ends it at once", cutAtOnce},
}

// RunLives puts a model through the table, side by side.
func RunLives(t *testing.T, m Model) {
	NeedProc(t)
	for _, life := range Lives {
		t.Run(life.Name, func(t *testing.T) {
			t.Parallel()
			life.Run(t, m)
		})
	}
}

// almostCut is what is less than the 5 s that a request in flight gets after Ctrl+C by too
// little to matter: an end that comes before has not waited for one.
const almostCut = 4900 * time.Millisecond

func ctrlC(t T, m Model) {
	n := len(m.Backends)
	var demo []string // ports that the kernel gives to nobody else, when they are free again
	for range n {
		demo = append(demo, proc.FreeAddr())
	}
	p := Start(t, m, "-demo", m.BackendFlag(), strings.Join(demo, ","), "-listen",
		proc.FreeAddr())
	for range 5 {
		p.serveOne(t)
	}
	children := p.Children(t)
	e := p.Interrupt(t)
	if e.Summary == nil || e.Summary.Connections != 5 || e.Summary.Failed != 0 ||
		e.Summary.MostAtOnce < 1 {
		t.Errorf("summary after 5 clients: %+v", e.Summary)
	}
	if left := p.Family(); len(left) > 0 {
		t.Errorf("left over, of the children %v: %v", children, left)
	}
	for _, addr := range p.Backends {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			t.Errorf("the demo backend %s still listens", addr)
		}
	}
	again := Start(t, m, append(m.Demo(n), "-listen", p.Addr)...)
	if again.Addr != p.Addr {
		t.Errorf("the second run listens on %s, want %s", again.Addr, p.Addr)
	}
	again.serveOne(t)
	again.Interrupt(t)
}

var summaryLine = regexp.MustCompile(
	`(?m)^Summary: 2 connections, 2 requests, 1 failed, at most [12] at once,\n` +
		`         CPU \d+\.\d{3} s, peak memory \d+\.\d MB$`)

func summaryInWords(t T, m Model) {
	for _, format := range []string{"text", "off"} {
		p := StartWithBackend(t, m, "-log", format)
		p.serveOne(t)
		malformed(t, p)
		e := p.Interrupt(t)
		if n := len(summaryLine.FindAllString(e.Stdout, -1)); n != 1 {
			t.Errorf("-log %s: %d summary lines for 2 connections, 1 failed, in:\n%s", format, n,
				e.Stdout)
		}
		if at := summaryLine.FindStringIndex(e.Stdout); at != nil && at[1] != len(e.Stdout)-1 {
			t.Errorf("-log %s: behind the summary stands %q", format, e.Stdout[at[1]:])
		}
	}
}

func inFlight(t T, m Model) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		p := StartWithBackend(t, m)
		c := p.Dial(t)
		c.Send("GET /slow HTTP/1.1\r\nHost: proxy.test\r\n\r\n")
		b := p.Backend.Accept(t)
		b.Request()
		if sig == syscall.SIGINT {
			p.CtrlC()
		} else {
			p.Signal(sig)
		}
		p.waitStopping(t)
		b.Send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate")
		got := c.Response("GET")
		if got.Status != 200 || got.Body != "late" || got.End != "closed" {
			t.Errorf("%v: the request in flight ends with %+v", sig, got)
		}
		e := p.Wait(t)
		// waitStopping's own look may count as a connection.
		if e.Code != 0 || e.Summary == nil || e.Summary.Connections < 1 || e.Summary.Failed != 0 {
			t.Errorf("%v: exit status %d, summary %+v", sig, e.Code, e.Summary)
		}
		if left := p.Family(); len(left) > 0 {
			t.Errorf("%v: left over: %v", sig, left)
		}
	}
}

// silentAtTheEnd presses Ctrl+C while a client is connected that has said nothing,
// as a browser's spare connection: it is closed at once, and nothing has failed.
func silentAtTheEnd(t T, m Model) {
	p := StartWithBackend(t, m)
	c := p.Dial(t)
	p.WaitEvent(t, "the silent client is accepted",
		func(e narrate.Event) bool { return e.Step == narrate.Accept })
	start := time.Now()
	e := p.Interrupt(t)
	if d := time.Since(start); d > almostCut {
		t.Errorf("the end came only after %v: it waited for a client that had said nothing", d)
	}
	c.Gone()
	if e.Code != 0 || e.Summary == nil || e.Summary.Failed != 0 {
		t.Errorf("exit status %d, summary %+v", e.Code, e.Summary)
	}
}

// waitStopping waits until a signal to stop has been obeyed: nobody listens any
// more, or, of standing children, only those with a client are left.
func (p *Proxy) waitStopping(t T) {
	t.Helper()
	if p.Model.Standing > 0 {
		p.WaitChildren(t, 1)
		return
	}
	for end := time.Now().Add(Patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		c, err := net.Dial("tcp", p.Addr)
		if err != nil {
			return
		}
		c.Close()
	}
	t.Fatalf("%s still listens after it was told to stop", p.Model.Name)
}

// cutOff holds a request in flight for longer than the 5 s that it gets after
// Ctrl+C.
func cutOff(t T, m Model) {
	p := StartWithBackend(t, m, "-server-timeout", "60s") // nothing else ends it
	c := p.Dial(t)
	c.Send("GET /forever HTTP/1.1\r\nHost: proxy.test\r\n\r\n")
	p.Backend.Accept(t).Request()
	start := time.Now()
	e := p.Interrupt(t)
	if d := time.Since(start); d < almostCut {
		t.Errorf("the end came after %v, the request had 5 s", d)
	}
	if e.Summary == nil || e.Summary.Connections != 1 {
		t.Errorf("summary: %+v", e.Summary)
	}
	c.Gone()
	p.WaitFamilyGone(t)
}

// cutAtOnce presses Ctrl+C twice.
func cutAtOnce(t T, m Model) {
	p := StartWithBackend(t, m)
	c := p.Dial(t)
	c.Send("GET /forever HTTP/1.1\r\nHost: proxy.test\r\n\r\n")
	p.Backend.Accept(t).Request()
	start := time.Now()
	p.CtrlC()
	p.waitStopping(t)
	p.Interrupt(t)
	if d := time.Since(start); d > almostCut {
		t.Errorf("the end came only after %v, the second Ctrl+C did nothing", d)
	}
	p.WaitFamilyGone(t)
}

// RefusesToStart wants a program that cannot do what it is told to exit with
// the code, and to say why on stderr in these words; one sentence for code 1.
func RefusesToStart(t T, m Model, code int, flags []string, words ...string) {
	t.Helper()
	p := Launch{Model: m, Flags: flags}.Spawn(t)
	e := p.Wait(t)
	if e.Code != code {
		t.Errorf("%v: exit status %d, want %d; stdout %q, stderr %q", flags, e.Code, code, e.Stdout,
			e.Stderr)
	}
	said := strings.ReplaceAll(e.Stderr, "\n    ", " ") // a long line goes on in the next
	for _, word := range words {
		if !strings.Contains(said, word) {
			t.Errorf("%v: stderr does not mention %q: %q", flags, word, e.Stderr)
		}
	}
	if code == 1 && strings.Count(said, "\n") != 1 {
		t.Errorf("%v: stderr is not one line: %q", flags, e.Stderr)
	}
}

func portInUse(t T, m Model) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("%v", err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	words := []string{m.Folder, port, "in use", "-listen"}
	if runtime.GOOS == "linux" {
		words = append(words, "(process ") // a process that is just being started may hold it too
	}
	RefusesToStart(t, m, 1, []string{"-listen", l.Addr().String()}, words...)
	if m.Forwards() {
		RefusesToStart(t, m, 1, []string{"-demo", m.BackendFlag(), l.Addr().String()}, port,
			"-demo")
	}
	if m.Standing == 0 {
		RefusesToStart(t, m, 1, []string{"-watch", l.Addr().String()}, port, "-watch")
	}
}

func badFlags(t T, m Model) {
	tests := [][]string{
		{"-listen", "8080"},
		{"-listen", "127.0.0.1:99999"},
		{"-log", "xml"},
		{"-slow-motion", "-1s"},
		{"-slow-motion", "soon"},
		{"-watch", "9090"},
		{"-request-timeout", "0"},
		{"-request-timeout", "-3s"},
		{"-no-such-flag"},
		{"an argument"},
	}
	if m.Forwards() {
		tests = append(tests, [][]string{
			{m.BackendFlag(), "8000"},
			{m.BackendFlag(), ""},
			{m.BackendFlag(), "127.0.0.1:none"},
			{"-connect-timeout", "0s"},
			{"-server-timeout", "0s"},
			{"-idle-timeout", "0s"},
			{"-max-body", "-1"},
			{"-max-body", "many"},
		}...)
	}
	for _, flags := range tests {
		word := flags[0]
		if flags[0] == m.BackendFlag() {
			word = "-backend" // -backends is named by its beginning
		}
		RefusesToStart(t, m, 2, flags, word)
	}
}

func help(t T, m Model) {
	p := Launch{Model: m, Flags: []string{"-h"}}.Spawn(t)
	e := p.Wait(t)
	if e.Code != 0 {
		t.Errorf("-h: exit status %d, want 0", e.Code)
	}
	flags := []string{"listen", "watch", "log", "slow-motion", "request-timeout"}
	if m.Forwards() {
		flags = append(flags, m.BackendFlag()[1:], "demo", "connect-timeout", "server-timeout",
			"idle-timeout", "max-body")
	}
	text := e.Stdout + e.Stderr
	for _, name := range flags {
		if !regexp.MustCompile(`(?m)^  -` + name + ` \w+|^  -` + name + `\n`).MatchString(text) {
			t.Errorf("-h does not explain -%s:\n%s", name, text)
		}
	}
	if !strings.HasPrefix(text, m.Folder+": ") {
		t.Errorf("-h begins with %.60q", text)
	}
}

// narrationInWords wants the ten steps of one request, in order and numbered.
func narrationInWords(t T, m Model) {
	p := StartWithBackend(t, m, "-log", "text")
	p.serveOne(t)
	p.WaitLine(t, `^#1 .*10 .*closed after`)
	e := p.Interrupt(t)
	var steps []string
	line := regexp.MustCompile(`^(?:#1)? +(\d+) (\S+)\s`)
	for _, s := range strings.Split(e.Stdout, "\n") {
		if m := line.FindStringSubmatch(s); m != nil {
			steps = append(steps, m[1]+m[2])
		}
	}
	same(t, "the steps' lines", "1✅ 2✅ 3👂 4✅ 5📦 6✅ 7📤 8📥 9📤 10🔒", strings.Join(steps, " "))
	CheckPlain(t, "stdout", e.Stdout) // also: no colours, for it is no terminal
	if e.Stderr != "" {
		t.Errorf("stderr: %q", e.Stderr)
	}
}

func narrationOff(t T, m Model) {
	p := StartWithBackend(t, m, "-log", "off")
	p.serveOne(t)
	e := p.Interrupt(t)
	want := regexp.MustCompile(
		`^Ready on \S+.*\n((Turns|Backend connections): .*\n)*` +
			`Summary: 1 connection, 1 request, 0 failed, .*\n +CPU .*\n$`)
	if !want.MatchString(e.Stdout) {
		t.Errorf("-log off prints:\n%s", e.Stdout)
	}
}

// noBackend has nobody listen on the backend's port.
func noBackend(t T, m Model) {
	dead := Refused(t)
	p := Start(t, m, m.BackendFlag(), dead)
	got, want := p.Get(t, "/"), 502
	if m.Number >= Health.Number && !m.Has(book.DeadBackend) {
		want = 503 // it looked for another one
	}
	same(t, "status", want, got.Status)
	if !strings.Contains(got.Body, "refused") || strings.Contains(got.Body, dead) {
		t.Errorf("the client is told %q; it must learn the reason, but no address", got.Body)
	}
	e := p.WaitEvent(t, "a failed connect",
		func(e narrate.Event) bool { return e.Step == narrate.Connect && e.Err != "" })
	_, port, _ := net.SplitHostPort(dead)
	for _, word := range []string{dead, "go run ./scripts/backends -ports " + port} {
		if !strings.Contains(e.Err, word) {
			t.Errorf("the log does not name %q: %s", word, e.Err)
		}
	}
	closing := p.WaitEvent(t, "close",
		func(e narrate.Event) bool { return e.Step == narrate.Close })
	if !closing.Failed || closing.Status != want {
		t.Errorf("close: %+v", closing)
	}
	if s := p.Interrupt(t).Summary; s == nil || s.Failed != 1 {
		t.Errorf("summary: %+v", s)
	}
}

func escapesInWords(t T, m Model) {
	p := StartWithBackend(t, m, "-log", "text")
	escapes(t, p)
	p.WaitLine(t, `^#6 .*10 `)
	e := p.Interrupt(t)
	CheckPlain(t, "stdout", e.Stdout)
	CheckPlain(t, "stderr", e.Stderr)
	if !strings.Contains(e.Stdout, `\x`) {
		t.Errorf("nothing of the bytes is shown, not even escaped:\n%s", e.Stdout)
	}
}

// limits sets each limit so low that one exchange meets it, and that one only: the
// others are as usual, or a busy machine meets another one first. In ch3 it shows that
// the children know the flags too.
func limits(t T, m Model) {
	const get = "GET / HTTP/1.1\r\nHost: proxy.test\r\n\r\n"
	p := StartWithBackend(t, m, "-request-timeout", "200ms")
	c := p.Dial(t)
	c.Send("GET / HT")
	same(t, "status of a header that stops", 408, c.Response("GET").Status)
	p.Interrupt(t)

	p = StartWithBackend(t, m, "-server-timeout", "200ms", "-max-body", "10")
	c = p.Dial(t)
	c.Send("POST / HTTP/1.1\r\nHost: proxy.test\r\nContent-Length: 11\r\n\r\n")
	same(t, "status of a body that is too large", 413, c.Response("POST").Status)

	c = p.Dial(t)
	c.Send(get)
	b := p.Backend.Accept(t)
	b.Request()
	same(t, "status when the backend is silent", 504, c.Response("GET").Status)
	b.Gone()
	p.Interrupt(t)

	p = StartWithBackend(t, m, "-idle-timeout", "200ms")
	c = p.Dial(t)
	c.Send(get)
	b = p.Backend.Accept(t)
	b.Request()
	b.Send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\npart")
	if _, body, err := c.TryResponse("GET"); err == nil {
		t.Errorf("a body that stands still ends as if complete: %q", body)
	}
	b.Gone()
	p.Interrupt(t)
}

// silentClient connects a client that says nothing, and another one after it.
// Where clients are served side by side the other one does not notice; in ch2
// it waits until the first is cut off, which is that chapter's named gap.
func silentClient(t T, m Model) {
	const timeout = 1 * time.Second
	accepted := func(e narrate.Event) bool { return e.Step == narrate.Accept }
	if !m.Serial { // the other one does not wait, however long the first may be silent
		p := StartWithBackend(t, m, "-request-timeout", (2 * Patience).String())
		p.Dial(t)
		p.WaitEvent(t, "the silent client is accepted", accepted)
		p.serveOne(t)
		p.Interrupt(t)
	}
	p := StartWithBackend(t, m, "-request-timeout", timeout.String())
	silent := p.Dial(t)
	first := p.WaitEvent(t, "the silent client is accepted", accepted)
	if m.Serial {
		p.serveOne(t)
	}
	got := silent.Response("GET")
	same(t, "what the silent client reads", 408, got.Status)
	same(t, "and then", "closed", got.End)
	e := p.WaitEvent(t, "it is closed", func(e narrate.Event) bool {
		return e.Step == narrate.Close && e.Conn == first.Conn
	})
	// The time may have begun a little before the connection's own clock.
	if e.Elapsed < timeout.Microseconds()*9/10 || e.Status != 408 || !e.Failed {
		t.Errorf("close of the silent client: %+v", e)
	}
	if !m.Serial {
		return
	}
	p.WaitEvents(t, "the other one is closed, too", 2,
		func(e narrate.Event) bool { return e.Step == narrate.Close })
	order := ""
	for _, e := range p.Events() {
		if e.Step == narrate.Accept || e.Step == narrate.Close {
			order += fmt.Sprintf("%s %d; ", e.Name, e.Conn)
		}
	}
	if want := "accept 1; close 1; accept 2; close 2; "; !strings.HasPrefix(order, want) {
		t.Errorf("order %s, want %s", order, want)
	}
}

// fewDescriptors lets the program have 64 files, for 100 clients at once.
func fewDescriptors(t T, m Model) {
	p := Launch{Model: m, Under: proc.Limited(64)}.StartWithBackend(t)
	p.settle(t)
	before := p.Descriptors(t)
	p.Backend.Serve(t, func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(5 * time.Millisecond) // a backend that works, so that clients pile up
		io.WriteString(w, r.URL.Path)
	})
	const n = 100
	errs := make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { // ends with its client
			body, err := p.TryGet(fmt.Sprintf("/%d", i))
			if err == nil && body != fmt.Sprintf("/%d", i) {
				err = fmt.Errorf("body %q", body)
			}
			errs[i] = err
		})
	}
	all.Wait()
	failed := 0
	for i, err := range errs {
		if err != nil {
			if failed++; failed < 4 {
				t.Errorf("client %d of %d: %v", i, n, err)
			}
		}
	}
	for _, e := range p.Events() {
		if e.Err != "" {
			t.Errorf("the first of the program's own complaints: %s", e.Err)
			break
		}
	}
	if body, err := p.TryGet("/next"); err != nil || body != "/next" {
		t.Errorf("the next client reads %q, %v (%d of %d had failed)", body, err, failed, n)
	}
	p.WaitChildren(t, m.Standing)
	p.WaitDescriptors(t, before)
}

// itself names the proxy as its own backend: a request would never end.
func itself(t T, m Model) {
	addr := proc.FreeAddr()
	RefusesToStart(t, m, 1, []string{"-listen", addr, m.BackendFlag(), addr}, addr, "itself",
		"-backend")
}
