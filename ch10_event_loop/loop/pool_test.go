//go:build linux

package loop

import (
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"reverseproxy/ch6_keep_alive/keep"
	"reverseproxy/internal/narrate"
)

// getRequest is one that may be sent again.
func getRequest() *exchange {
	x := &exchange{read: true}
	x.request.Method = []byte("GET")
	return x
}

// A request that could not be sent again does not go over a connection whose end epoll_wait
// has not told of yet.
func TestTakeLooks(t *testing.T) {
	for _, c := range []struct {
		method      string
		read, taken bool
	}{{"GET", true, true}, {"GET", false, false}, {"POST", true, false}} {
		l := &Loop{settings: &Settings{Keep: &keep.Limits{Reuse: keep.Always}},
			log: narrate.New(narrate.Off), sockets: make([]*socket, 1000)}
		l.pool = pool{loop: l, open: 1, idle: map[string][]*backend{}}
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(fds[1])
		b := &backend{addr: "a"}
		b.init(l, fds[0])
		l.pool.idle["a"] = []*backend{b}
		x := getRequest()
		x.request.Method, x.read = []byte(c.method), c.read
		if taken := l.pool.take("a", &Conn{loop: l, x: x}) != nil; taken != c.taken {
			t.Errorf("%+v: taken: %v", c, taken)
		}
		b.close()
	}
}

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
			got := l.pool.take("a", &Conn{loop: l, x: getRequest()})
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
	const fields, none = "Link: </a>\r\nLink: </b>\r\n\r\n", "HTTP/1.1 204\r\n\r\n"
	for _, test := range []struct {
		tries, interims int
		heads           []string // of the responses
	}{
		{1, 0, []string{"HTTP/1.1 204\r\n" + fields}},
		{1, 1, []string{"HTTP/1.1 103\r\n" + fields, none}},
		{2, 0, []string{"HTTP/1.1 408\r\n" + fields, none}},
	} {
		var f freeLists
		x := f.exchange()
		x.tries, x.interims = test.tries, test.interims
		if err := x.request.Parse([]byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
		for _, head := range test.heads {
			if err := x.response.Parse([]byte(head), "GET"); err != nil {
				t.Fatal(err)
			}
		}
		f.giveBackExchange(x)
		x = f.exchange()
		for _, field := range append(x.request.Fields[:1], x.response.Fields[:2]...) {
			if field.Name != nil {
				t.Errorf("%q: it holds on to a header: %q", test.heads, field.Name)
			}
		}
	}
}
