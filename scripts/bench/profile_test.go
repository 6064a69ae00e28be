//go:build linux

package main

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"reverseproxy/internal/peers"
)

// A stack belongs to the system call that it began with, whatever that led to, or to
// the function that ran.
func TestShares(t *testing.T) {
	script := `
	ffffffff82011d89 ep_poll_callback ([kernel.kallsyms])
	ffffffff81ffcac1 sock_def_readable ([kernel.kallsyms])
	ffffffff8201352e tcp_sendmsg ([kernel.kallsyms])
	ffffffff816bb8da ksys_write ([kernel.kallsyms])
	ffffffff821ef691 do_syscall_64 ([kernel.kallsyms])
	            b34e internal/runtime/syscall/linux.Syscall6 (/tmp/ch10_event_loop)
	          2e4408 reverseproxy/ch10_event_loop/loop.write (/tmp/ch10_event_loop)

	ffffffff816bb8da tcp_recvmsg ([kernel.kallsyms])
	ffffffff816bb8da __sys_recvfrom ([kernel.kallsyms])
	            b34e __libc_recv (/usr/lib/libc.so.6)

	ffffffff816bb8da irqentry_exit_to_user_mode ([kernel.kallsyms])

	          2e4408 reverseproxy/ch2_basic_proxy/http1.(*Message).parse (/tmp/ch10)
	          2e4408 main.main (/tmp/ch10)

	          2e4408 runtime.mallocgc (/tmp/ch6)

	          2e4408 runtime.findRunnable (/tmp/ch6)

	          2e4408 internal/poll.(*FD).Read (/tmp/ch6)

	          2e4408 ngx_http_parse_request_line (/usr/sbin/nginx)

`
	want := map[string]float64{"write": 1, "read": 1, "kernel, rest": 1, "program": 2, "memory": 1,
		"scheduler": 1, "net, poll": 1}
	for name := range want {
		want[name] /= 8
	}
	got, n := shares(script)
	if d := cmp.Diff(want, got, cmpopts.EquateApprox(0, 1e-9)); d != "" || n != 8 {
		t.Errorf("%v samples, -want +got\n%s", n, d)
	}
}

// All of the floor's time is in one part or another.
func TestProfile(t *testing.T) {
	if peers.Find("perf") == "" {
		t.Skip("perf is not installed; on Debian: apt-get install linux-perf")
	}
	dir := t.TempDir()
	page := filepath.Join(dir, loopPage)
	if err := os.WriteFile(page, []byte("<!-- bench profile -->\n<!-- /bench -->\n"),
		0o600); err != nil {
		t.Fatal(err)
	}
	err := run(t.Context(), options4test(t, "-profile", "-only", "^null-relay$", "-docs", dir))
	if err != nil {
		t.Skip("perf may need more rights: ", err)
	}
	b, _ := os.ReadFile(page)
	var all []float64 // the sum, and each part
	for row := range strings.Lines(string(b)) {
		if cells := strings.Split(row, " | "); len(cells) > 2 {
			if x, ok := toFloat(cells[1]); ok {
				all = append(all, x)
			}
		}
	}
	if len(all) != 1+len(parts) {
		t.Fatalf("the page is\n%s", b)
	}
	sum := 0.0
	for _, x := range all[1:] {
		sum += x
	}
	if math.Abs(sum-all[0]) > 0.1*all[0] || all[2] < 0.2*all[0] {
		t.Errorf("%v: the parts do not make the whole", all)
	}
	left(t)
}

func toFloat(s string) (x float64, ok bool) {
	_, err := fmt.Sscan(s, &x)
	return x, err == nil
}
