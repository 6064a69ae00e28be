package cli

import (
	"strings"
	"testing"
)

func TestMistakes(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"log", "log", 0}, {"log", "lgo", 1},
		{"log", "lo", 1}, {"log", "loog", 1}, {"log", "lot", 1},
		{"listen", "lisetn", 1},
		{"backends", "backend", 1}, {"demo", "", 4}, {"demo", "log", 4},
	} {
		n, back := mistakes(test.a, test.b), mistakes(test.b, test.a)
		if n != test.want || back != test.want {
			t.Errorf("%q, %q: %d and %d, want %d", test.a, test.b, n, back, test.want)
		}
	}
}

// TestDidYouMean: a flag with a mistake in it, or of another chapter.
func TestDidYouMean(t *testing.T) {
	several := []string{"127.0.0.1:1", "127.0.0.1:2"}
	none, one := several[:0], several[:1]
	for _, test := range []struct {
		backends   []string
		name, want string // "": no guess
	}{
		{none, "demo", "ch2_basic_proxy?"},
		{none, "backend", "ch2_basic_proxy?"},
		{one, "backends", "-backend?"},
		{several, "backend", "-backends?"},
		{one, "lisetn", "-listen?"},
		{one, "Listen", "-listen?"},
		{one, "lgo", "-log?"},
		{one, "slowmotion", "-slow-motion?"},
		{one, "slow", "-slow-motion?"},
		{one, "dmeo", "-demo?"},
		{one, "wacth", "-watch?"},
		{one, "prefork", "ch3_process_model, which has it?"},
		{one, "max-conns", "ch4_threaded, which has it?"},
		{one, "os-threads", "ch4_threaded, which has it?"},
		{one, "frobnicate", ""},
		{one, "x", ""},
		{one, "lo", ""},
	} {
		a, _ := newApp(t, nil, test.backends...)
		got := a.noFlag(test.name).Error()
		if !strings.Contains(got, "has no flag -"+test.name) ||
			!strings.HasSuffix(got, test.want) ||
			strings.Contains(got, "did you mean") != (test.want != "") {
			t.Errorf("-%s: %q, want %q at its end", test.name, got, test.want)
		}
	}
}
