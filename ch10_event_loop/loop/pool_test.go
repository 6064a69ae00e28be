//go:build linux

package loop

import (
	"slices"
	"testing"

	"reverseproxy/ch6_keep_alive/keep"
	"reverseproxy/internal/narrate"
)

// TestTake takes an idle connection from under others that have ended in the same moment.
func TestTake(t *testing.T) {
	for _, ended := range [][]int{{}, {2}, {1, 2}, {0}, {0, 1, 2}, {0, 2}} {
		l := &Loop{settings: &Settings{Keep: &keep.Limits{Reuse: keep.Always}},
			log: narrate.New(narrate.Off)}
		l.pool = pool{loop: l, open: 3, idle: map[string][]*backend{}}
		for i := range 3 {
			b := &backend{addr: "a"}
			b.init(l, -1)
			b.readable = slices.Contains(ended, i)
			l.pool.idle["a"] = append(l.pool.idle["a"], b)
		}
		for n := range 4 {
			got := l.pool.take("a", &Conn{loop: l, x: &exchange{}})
			if want := n < 3-len(ended); (got != nil) != want || want && got.readable {
				t.Errorf("%v have ended: the %d. is %+v", ended, n+1, got)
			}
			if slices.Contains(l.pool.idle["a"], nil) {
				t.Errorf("%v have ended: nothing lies on the stack", ended)
			}
		}
	}
}

// What a connection needs no more and is kept for the next holds on to nothing that came.
func TestGivenBack(t *testing.T) {
	var f freeLists
	header := []byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	x := f.exchange()
	if err := x.request.Parse(header); err != nil {
		t.Fatal(err)
	}
	f.giveBackExchange(x)
	for _, field := range f.exchange().request.Fields[:1] {
		if field.Name != nil {
			t.Errorf("it holds on to a header: %q", field.Name)
		}
	}
}
