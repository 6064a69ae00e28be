package suite

import (
	"strings"
	"time"
)

var processCases = group("process",
	Case{ID: "process-lives", Level: Should, RFC: "–", Mode: Last, Need: NeedsProcess,
		Why: "The program serves one client after another without being started again: one that " +
			"exits or dies takes everybody with it.",
		Run: func(t *T) {
			l := t.lab
			l.mu.Lock()
			defer l.mu.Unlock()
			if l.oneShot {
				t.Errorf("the program serves one client and exits; it was started %d times so far",
					l.runs)
			}
			if n := len(l.restarts); n > 0 {
				t.Errorf("the program died or hung %d times; first: %s", n, l.restarts[0])
			}
		}},
	Case{ID: "process-children", Level: Should, RFC: "–", Mode: Alone, Need: NeedsProcess,
		Why: "Children that have ended are waited for: a zombie keeps its place in the process " +
			"table, and after some thousands nothing can be started any more.",
		Run: func(t *T) {
			if !canInspect {
				t.Skip("this system has no /proc")
			}
			t.Answer(Reply(200, "ok"))
			for i := 0; i < 5; i++ {
				t.Whole(t.Do(t.Get("child"), "GET"), 200)
			}
			left := 0
			for until := time.Now().Add(t.within(2 * time.Second)); time.Now().Before(until); {
				if left = zombies(t.lab.proc.pid()); left == 0 {
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
			t.Answer(Reply(200, "ok", "X-Esc: "+escapeMarker))
			t.attack("GET " + t.Path("esc") + " HTTP/1.1\r\nHost: " + Host + "\r\nX-Esc: " +
				escapeMarker + "\r\nConnection: close\r\n\r\n")
			t.attack("GET " + t.Path(escapeMarker) + " HTTP/1.1\r\nHost: " + Host +
				"\r\nConnection: close\r\n\r\n")
			time.Sleep(50 * time.Millisecond)
			// A C program keeps what it prints into a pipe until it has 4 KB.
			pad := "X-Pad: " + strings.Repeat("x", 900)
			for i := 0; i < 12 && !t.lab.proc.output.hasMarker() && !t.lab.oneShot; i++ {
				t.Do(t.Get("pad", pad, "X-Esc: "+escapeMarker), "GET")
			}
			time.Sleep(50 * time.Millisecond)
			if t.lab.proc.output.hasMarker() {
				t.Errorf("the program printed an escape sequence that came from the network")
			}
		}},
)

// descriptorLeak counts descriptors before and after some traffic.
func descriptorLeak(t *T) {
	if !canInspect {
		t.Skip("this system has no /proc")
	}
	if t.lab.oneShot {
		t.Skip("the program exits after each client")
	}
	t.Serve(func(x *Exchange) {
		x.Request()
		x.Send(Reply(200, "ok"))
	})
	t.Whole(t.Do(t.Get("warm"), "GET"), 200)
	time.Sleep(100 * time.Millisecond)
	before := descriptors(t.lab.proc.pid())
	for i := 0; i < 50; i++ {
		c := t.Dial()
		c.Send(t.Get("fd"))
		if i%5 != 0 {
			t.Whole(c.Final("GET"), 200)
		}
		c.Close()
	}
	left := 0
	for until := time.Now().Add(t.within(3 * time.Second)); time.Now().Before(until); {
		if left = descriptors(t.lab.proc.pid()) - before; left <= 8 {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Errorf("after 50 clients the program has %d more descriptors open", left)
}

// memoryFlat compares resident memory before and during a big download.
func memoryFlat(t *T) {
	if !canInspect {
		t.Skip("this system has no /proc")
	}
	if t.lab.oneShot {
		t.Skip("the program exits after each client")
	}
	before := resident(t.lab.proc.pid())
	c := t.Dial()
	c.Send(t.Get("mem"))
	x := t.Expect(c)
	x.Request()
	const size = 48 << 20
	// Ends when all is written or the proxy breaks off.
	go func() {
		x.Send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: " + itoa(size) + "\r\n\r\n")
		sendPattern(t, x.stream, 15, size)
		x.Close()
	}()
	time.Sleep(400 * time.Millisecond) // the client reads late
	peak := resident(t.lab.proc.pid())
	m := &Message{}
	t.readBig(c.reader, m, size)
	peak = max(peak, resident(t.lab.proc.pid()))
	if grown := peak - before; grown > 32<<20 {
		t.Errorf("resident memory grew by %d MiB", grown>>20)
	}
}
