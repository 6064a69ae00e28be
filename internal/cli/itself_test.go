package cli

import (
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
)

// TestReaches has every spelling of the proxy's own address, and neighbours
// that are not.
func TestReaches(t *testing.T) {
	own := []netip.Addr{netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("2001:db8::2"),
		netip.MustParseAddr("fe80::1"), netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()}
	for _, test := range []struct {
		listener string
		itself   []string
		others   []string
	}{
		{"127.0.0.1:8080",
			[]string{"127.0.0.1:8080", "localhost:8080", ":8080", "0.0.0.0:8080",
				"[::ffff:127.0.0.1]:8080", "127.0.0.1:http-alt",
				"LOCALHOST:8080", "127.0.0.1:08080"},
			[]string{"127.0.0.2:8080", "192.0.2.2:8080", "198.51.100.7:8080", "[::1]:8080",
				"127.0.0.1:8081", "localhost:8000"}},
		{"[::1]:8080",
			[]string{"[::1]:8080", "[::]:8080", "[0:0:0:0:0:0:0:1]:8080", "[::1%lo]:8080"},
			[]string{"127.0.0.1:8080", "0.0.0.0:8080", "[::1]:80"}},
		{"0.0.0.0:8080",
			[]string{"127.0.0.1:8080", "127.0.0.2:8080", "localhost:8080", ":8080", "0.0.0.0:8080",
				"192.0.2.2:8080"},
			[]string{"198.51.100.7:8080", "[::1]:8080", "[2001:db8::2]:8080", "192.0.2.2:8000"}},
		{"[::]:8080",
			[]string{"127.0.0.1:8080", "127.9.9.9:8080", "[::1]:8080", "[::]:8080", "0.0.0.0:8080",
				"192.0.2.2:8080", "[2001:db8::2]:8080", "[fe80::1%eth0]:8080", "localhost:8080"},
			[]string{"198.51.100.7:8080", "[2001:db8::3]:8080", "127.0.0.1:8081"}},
		{"192.0.2.2:8080",
			[]string{"192.0.2.2:8080"},
			[]string{"127.0.0.1:8080", "192.0.2.3:8080", ":8080", "localhost:8080"}},
	} {
		on := netip.MustParseAddrPort(test.listener)
		check := func(spelling string, want bool) {
			all := targets(t.Context(), spelling)
			got := slices.ContainsFunc(all, func(to netip.AddrPort) bool { return reaches(to, on, own) })
			if got != want {
				t.Errorf("listens on %s, backend %s (%v): itself %t", on, spelling, all, got)
			}
		}
		for _, spelling := range test.itself {
			check(spelling, true)
		}
		for _, spelling := range test.others {
			check(spelling, false)
		}
	}
}

// TestOwnAddrs: a listener on every address is reached on each interface's, and
// by this machine's name, if that can be looked up.
func TestOwnAddrs(t *testing.T) {
	on, own := netip.MustParseAddrPort("[::]:8080"), ownAddrs()
	if len(own) == 0 {
		t.Fatal("no interface has an address")
	}
	for _, ip := range own {
		if !reaches(netip.AddrPortFrom(ip, 8080), on, own) {
			t.Errorf("%v is not seen as this machine's", ip)
		}
	}
	name, _ := os.Hostname()
	for _, to := range targets(t.Context(), net.JoinHostPort(name, "8080")) {
		if !reaches(to, on, own) {
			t.Errorf("%s (%v) is not seen as this machine", name, to)
		}
	}
}

func TestCollide(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want bool
	}{
		{"127.0.0.1:8080", "127.0.0.1:8080", true},
		{"127.0.0.1:8080", "localhost:8080", true},
		{":8080", "127.0.0.1:8080", true},
		{"127.0.0.1:8080", "0.0.0.0:8080", true},
		{"[::]:8080", "0.0.0.0:8080", true},
		{"0.0.0.0:8080", "[::1]:8080", false},
		{"127.0.0.1:8080", "127.0.0.2:8080", false},
		{":8080", ":8081", false},
		{":0", ":0", false},
		{"127.0.0.1:0", "127.0.0.1:0", false},
	} {
		if got := collide(test.a, test.b); got != test.want {
			t.Errorf("%s and %s: %t", test.a, test.b, got)
		}
	}
}

// TestPinNames: only a name of this machine is looked up once and for all.
func TestPinNames(t *testing.T) {
	a, _ := newApp(t, nil, "127.0.0.1:8000")
	others := []string{"[::1]:8000", "198.51.100.7:80", "nowhere.invalid:80", ":8000"}
	a.Backends = append([]string{"127.0.0.1:http-alt"}, others...)
	a.pinNames()
	want := append([]string{"127.0.0.1:8080"}, others...)
	if !slices.Equal(a.Backends, want) {
		t.Errorf("%v, want %v", a.Backends, want)
	}
}
