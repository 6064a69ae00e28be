package cases

import (
	"strconv"
	"strings"
	"time"

	"reverseproxy/internal/proc"
	"reverseproxy/scripts/check/suite"
)

var processCases = group("process",
	Case{ID: "process-lives", Level: Should, RFC: "–", Mode: Last, Need: NeedsProcess,
		Why: "The program serves one client after another without being started again: one that " +
			"exits or dies takes everybody with it.",
		Run: func(t *T) {
			runs, accidents := t.Lab.History()
			if t.Lab.OneShot {
				t.Errorf("the program serves one client and exits; it was started %d times so far",
					runs)
			}
			if n := len(accidents); n > 0 {
				t.Errorf("the program died or hung %d times; first: %s", n, accidents[0])
			}
		}},
	Case{ID: "process-children", Level: Should, RFC: "–", Mode: Alone, Need: NeedsProcess,
		Why: "Children that have ended are waited for: a zombie keeps its place in the process " +
			"table, and after some thousands nothing can be started any more.",
		Run: func(t *T) {
			if !proc.CanLook {
				t.Skip("this system has no /proc")
			}
			t.Answer(Reply(200, "ok"))
			for i := 0; i < 5; i++ {
				t.Whole(t.Do(t.Get("child"), "GET"), 200)
			}
			left := 0
			for span := t.Span(2 * time.Second); span() > 0; {
				if left = proc.Mem(t.Lab.Proc.PID()).Zombies; left == 0 {
					return
				}
				time.Sleep(100 * time.Millisecond)
			}
			t.Errorf("the program has %d zombie children", left)
		}},
	Case{ID: "process-descriptors", Level: Quality, RFC: "–", Mode: Alone, Need: NeedsProcess,
		Why: "After its clients have gone the program has as many descriptors as before: what " +
			"leaks, runs out.",
		Run: descriptorLeak},
	Case{ID: "process-memory", Level: Quality, RFC: "–", Mode: Alone, Need: NeedsProcess,
		Why: "After a 48 MiB download to a slow reader the program is no more than 32 MiB " +
			"larger: a body is streamed, not kept.",
		Run: memoryFlat},
	Case{ID: "process-escapes", Level: Quality, RFC: "–", Mode: Alone, Need: NeedsProcess,
		Why: "Bytes from the network are not printed raw: a terminal obeys the escape sequences " +
			"in them.",
		Run: func(t *T) {
			t.Answer(Reply(200, "ok", "X-Esc: "+suite.EscapeMarker))
			attack(t, "GET "+t.Path("esc")+" HTTP/1.1\r\nHost: "+Host+"\r\nX-Esc: "+
				suite.EscapeMarker+"\r\nConnection: close\r\n\r\n")
			attack(t, "GET "+t.Path(suite.EscapeMarker)+" HTTP/1.1\r\nHost: "+Host+
				"\r\nConnection: close\r\n\r\n")
			time.Sleep(50 * time.Millisecond)
			// A C program keeps what it prints into a pipe until it has 4 KB.
			pad := "X-Pad: " + strings.Repeat("x", 900)
			for i := 0; i < 12 && !t.Lab.Proc.Escaped() && !t.Lab.OneShot; i++ {
				t.Do(t.Get("pad", pad, "X-Esc: "+suite.EscapeMarker), "GET")
			}
			time.Sleep(50 * time.Millisecond)
			if t.Lab.Proc.Escaped() {
				t.Errorf("the program printed an escape sequence that came from the network")
			}
		}},
)

// descriptorLeak counts descriptors before and after some traffic.
func descriptorLeak(t *T) {
	if !proc.CanLook {
		t.Skip("this system has no /proc")
	}
	if t.Lab.OneShot {
		t.Skip("the program exits after each client")
	}
	t.Serve(func(x *Exchange) {
		x.Request()
		x.Send(Reply(200, "ok"))
	})
	t.Whole(t.Do(t.Get("warm"), "GET"), 200)
	time.Sleep(100 * time.Millisecond)
	before := descriptors(t.Lab.Proc.PID())
	for i := 0; i < 50; i++ {
		c := t.Dial()
		c.Send(t.Get("fd"))
		if i%5 != 0 {
			t.Whole(c.Final("GET"), 200)
		}
		c.Close()
	}
	left := 0
	for span := t.Span(3 * time.Second); span() > 0; {
		if left = descriptors(t.Lab.Proc.PID()) - before; left <= 8 {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Errorf("after 50 clients the program has %d more descriptors open", left)
}

// memoryFlat compares resident memory before and during a big download.
func memoryFlat(t *T) {
	if !proc.CanLook {
		t.Skip("this system has no /proc")
	}
	if t.Lab.OneShot {
		t.Skip("the program exits after each client")
	}
	before := proc.Mem(t.Lab.Proc.PID()).RSS
	c := t.Dial()
	c.Send(t.Get("mem"))
	x := t.Expect(c)
	x.Request()
	const size = 48 << 20
	// Ends when all is written or the proxy breaks off.
	go func() {
		x.Send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: " +
			strconv.Itoa(size) + "\r\n\r\n")
		sendPattern(t, x.Reader, 15, size)
		x.Close()
	}()
	time.Sleep(400 * time.Millisecond) // the client reads late
	peak := proc.Mem(t.Lab.Proc.PID()).RSS
	m := &Message{}
	readBig(t, c.Reader, m, size)
	peak = max(peak, proc.Mem(t.Lab.Proc.PID()).RSS)
	if grown := peak - before; grown > 32<<20 {
		t.Errorf("resident memory grew by %d MiB", grown>>20)
	}
}

// descriptors counts the open descriptors of a process and its children.
func descriptors(pid int) (n int) {
	for _, p := range proc.Tree(pid) {
		n += len(proc.Files(p.PID))
	}
	return n
}
