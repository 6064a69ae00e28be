//go:build linux

package main

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reverseproxy/internal/harness"
	"reverseproxy/internal/narrate"
)

// naming returns a command that runs a program with its own text for a file in /etc.
func naming(t *testing.T, file, text string) []string {
	t.Helper()
	mine := filepath.Join(t.TempDir(), filepath.Base(file))
	if err := os.WriteFile(mine, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	under := []string{"unshare", "-rm", "sh", "-c",
		"mount --bind " + mine + " " + file + ` && exec "$@"`, "sh"}
	if err := exec.Command(under[0], append(under[1:], "true")...).Run(); err != nil {
		t.Skip("no mount namespace: ", err) // not everywhere may one make some
	}
	return under
}

// A backend's name may have several addresses. They are tried one after the other.
func TestNameOfTwoAddresses(t *testing.T) {
	b := harness.NewBackend(t)
	_, port, _ := net.SplitHostPort(b.Addr)
	p := harness.Launch{Model: harness.Chapter(10),
		Flags: []string{"-backends", "two.test:" + port},
		Under: naming(t, "/etc/hosts", "127.0.0.2 two.test\n127.0.0.1 two.test\n")}.Start(t)
	c := p.Dial(t)
	c.Send(request)
	s := b.Accept(t)
	s.Head()
	s.Send(response)
	if r, _, err := c.TryResponse("GET"); err != nil || r.StatusCode != 200 {
		t.Errorf("it is answered with %+v, %v, want 200", r, err)
	}
}

// A name may have an address that this machine has no way to: ::1 without IPv6. What the
// client is told is the first address's failure, and at once.
func TestNameWithAnAddressThatCannotBe(t *testing.T) {
	if !ownNetwork(t, "/proc/sys/net/ipv6/conf/all/disable_ipv6") {
		return
	}
	p := harness.Launch{Model: harness.Chapter(10), // who waits, waits longer than the client
		Flags: []string{"-backends", "dead.test:80", "-connect-timeout", "10m"},
		Under: naming(t, "/etc/hosts", "127.0.0.1 dead.test\n::1 dead.test\n")}.Start(t)
	c := p.Dial(t)
	c.Send(request)
	if r, body, err := c.TryResponse("GET"); err != nil || r.StatusCode != 502 {
		t.Errorf("it is answered with %+v, %q, %v, want 502", r, body, err)
	}
}

// An address without a host is every address, of IPv4 and of IPv6, even where the kernel
// would keep them apart; so is 0.0.0.0, as in Go.
func TestListenOnEveryAddress(t *testing.T) {
	if !ownNetwork(t, "/proc/sys/net/ipv6/bindv6only") {
		return
	}
	for _, listen := range []string{":0", "0.0.0.0:0", "[::]:0"} {
		p := harness.Launch{Model: harness.Chapter(10), Flags: []string{"-listen", listen,
			"-backends", quick(t)}}.Start(t)
		_, port, _ := net.SplitHostPort(p.Addr)
		for _, host := range []string{"127.0.0.1", "::1"} {
			c, err := net.Dial("tcp", net.JoinHostPort(host, port))
			if err == nil {
				err = asker(c)()
				c.Close()
			}
			if err != nil {
				t.Errorf("-listen %s: %v", listen, err)
			}
		}
	}
}

// ownNetwork runs the test once more, in a network of its own where a setting of the kernel
// is 1. It reports whether this is that run.
func ownNetwork(t *testing.T, setting string) bool {
	t.Helper()
	if os.Getenv("OWN_NETWORK") != "" {
		raiseLoopback(t)
		if err := os.WriteFile(setting, []byte("1"), 0); err != nil {
			t.Skip("no such setting: ", err)
		}
		return true
	}
	if err := exec.Command("unshare", "-rn", "true").Run(); err != nil {
		t.Skip("no network of its own: ", err) // not everywhere may one make some
	}
	again := exec.Command("unshare", "-rn", os.Args[0], "-test.run", "^"+t.Name()+"$")
	again.Env = append(os.Environ(), "OWN_NETWORK=1")
	if out, err := again.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	return false
}

// raiseLoopback makes 127.0.0.1 work in a new network.
func raiseLoopback(t *testing.T) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err == nil {
		lo.SetUint16(unix.IFF_UP)
		err = unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// To look a name up may take long. Nobody else waits for it, and it ends with the connect
// timeout, or when the client leaves.
func TestNameServerIsSilent(t *testing.T) {
	t.Parallel()
	const limit = 10 * time.Second
	server, err := net.ListenPacket("udp", "127.0.0.99:53")
	if err != nil {
		t.Skip("no port for a name server: ", err)
	}
	defer server.Close()
	p := harness.Launch{Model: harness.Chapter(10), Flags: []string{"-connect-timeout",
		limit.String(), "-backends", "silent.test:80," + quick(t)},
		Under: naming(t, "/etc/resolv.conf", "nameserver 127.0.0.99\n")}.Start(t)
	began := time.Now()
	slow := p.Dial(t)
	slow.Send(request)
	p.WaitEvent(t, "the silent name's request", func(e narrate.Event) bool {
		return e.Kind == narrate.KindRoute
	})
	if err := asker(dial(t, p.Addr))(); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(began); d >= limit {
		t.Errorf("another client waits for %v", d)
	}
	if r, _, err := slow.TryResponse("GET"); err != nil || r.StatusCode != 504 {
		t.Errorf("it is answered with %+v, %v, want 504", r, err)
	}
}
