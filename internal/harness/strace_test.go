//go:build linux

package harness

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseTrace(t *testing.T) {
	trace := `
10 socket(AF_INET6, SOCK_STREAM, IPPROTO_TCP) = 3
10 bind(3, {sa_family=AF_INET6}, 28) = 0
10 close(3)                          = 0
10 socket(AF_INET, SOCK_STREAM, IPPROTO_TCP) = 3
10 bind(3, {sa_family=AF_INET}, 16) = 0
10 listen(3, 4096) = 0
10 write(1, "{\"time\":\"x\",\"event\":\"step\",\"step\":1}\n", 9 <unfinished ...>
11 accept4(3,  <unfinished ...>
10 <... write resumed>) = 9
11 <... accept4 resumed>{sa_family=AF_INET}, [112 => 16], SOCK_CLOEXEC) = 7
11 read(7, 0xc000, 4096)     = -1 EAGAIN (Resource temporarily unavailable)
11 read(7, "GET", 4096)     = 3
11 read(7, "more", 4096)     = 4
11 socket(AF_INET, SOCK_STREAM, IPPROTO_IP) = 8
11 connect(8, {sa_family=AF_INET}, 16) = -1 EINPROGRESS (Operation now in progress)
11 close(8) = 0
11 write(1, "{\"event\":\"step\",\"conn\":1,\"step\":10}\n", 9) = 9
11 close(3) = 0
`
	want := "socket, bind, listen, told 1, accept, read client, socket, connect, close backend, " +
		"told 10"
	if diff := cmp.Diff(want, strings.Join(parseTrace(trace), ", ")); diff != "" {
		t.Error(diff)
	}
}
