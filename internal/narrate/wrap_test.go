package narrate

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestWrap(t *testing.T) {
	x := func(n int) string { return strings.Repeat("x", n) }
	for _, test := range []struct {
		text          string
		start, indent int
		want          string
	}{
		{"", 0, 4, ""},
		{"short", 11, 11, "short"},
		{x(40) + " " + x(39), 0, 4, x(40) + " " + x(39)},                 // exactly a line
		{x(40) + " " + x(40), 0, 4, x(40) + "\n    " + x(40)},            // one more
		{x(69), 11, 11, x(69)},                                           // exactly a line
		{x(70), 11, 11, x(69) + "\n           x"},                        // a word too wide
		{"a " + x(100), 0, 4, "a\n    " + x(76) + "\n    " + x(24)},      // and behind another
		{"    indented\nnext", 0, 8, "    indented\nnext"},               // blanks stay
		{"one\n" + x(80) + " two", 70, 4, "one\n" + x(80) + "\n    two"}, // lines stay lines
		{strings.Repeat("µ", 80), 0, 4, strings.Repeat("µ", 80)},         // not bytes
	} {
		if got := Wrap(test.text, test.start, test.indent); got != test.want {
			t.Errorf(
				"Wrap(%q, %d, %d) = %q, want %q",
				test.text,
				test.start,
				test.indent,
				got,
				test.want,
			)
		}
	}
}

// TestLongLines: whatever an event holds, no line of it is wider than a
// terminal, and the request is cut so that who reads it still has room.
func TestLongLines(t *testing.T) {
	long := strings.Repeat("x", 300)
	for _, e := range []Event{
		{Conn: 1, Step: ReadRequest, Bytes: 1 << 20, Text: "GET /" + long, Worker: "goroutine 21"},
		{Conn: 12345, Request: 12, Step: ReadRequest, Text: "GET /" + long, Worker: "child 4711"},
		{Conn: 1, Step: Connect, Name: "connect", Calls: "socket, connect",
			Peer: "[2001:db8:1111:2222:3333:4444:5555:6666]:65535", Text: "inside net.Dial"},
		{Conn: 1, Step: Connect, Name: "connect", Err: strings.Repeat("why ", 50)},
		{Conn: 1, Step: Close, Err: long},
		{Kind: KindProblem, Err: strings.Repeat("Accept failed ", 20)},
	} {
		if e.Kind == "" {
			e.Kind = KindStep
		}
		got := describe(e)
		for line := range strings.Lines(got) {
			n := utf8.RuneCountInString(strings.TrimRight(line, "\n"))
			if line[0] != ' ' {
				n++ // an emoji has two columns
			}
			if n > Columns {
				t.Errorf("%d columns: %q", n, line)
			}
		}
		if e.Step == ReadRequest &&
			(strings.Contains(got, "\n") || !strings.HasSuffix(got, "... ["+e.Worker+"]")) {
			t.Errorf("%q", got)
		}
	}
}
