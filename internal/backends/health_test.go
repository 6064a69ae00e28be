package backends

import (
	"net/http"
	"testing"
)

// TestHealth: what all depend on takes all out together for a deep check, and none
// for a shallow one; a backend that leaves says so by itself.
func TestHealth(t *testing.T) {
	g, err := Start([]string{"127.0.0.1:0", "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	do := func(method string, i int, path string) int {
		t.Helper()
		r, _ := http.NewRequest(method, "http://"+g.Addrs()[i]+path, nil)
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res.StatusCode
	}
	for _, c := range []struct {
		post          string // to the first backend
		shallow, deep [2]int // of both backends
	}{
		{"/dependency", [2]int{200, 200}, [2]int{200, 200}},
		{"/dependency?on=0", [2]int{200, 200}, [2]int{503, 503}},
		{"/leave", [2]int{404, 200}, [2]int{404, 503}},
		{"/dependency?on=1", [2]int{404, 200}, [2]int{404, 200}},
		{"/leave?on=0", [2]int{200, 200}, [2]int{200, 200}},
	} {
		if got := do("POST", 0, c.post); got != 200 {
			t.Errorf("POST %s: %d", c.post, got)
		}
		do("GET", 0, "/dependency?on=0") // only asks
		for i := range 2 {
			if s, d := do("GET", i, "/health"), do("GET", i, "/health?deep=1"); s != c.shallow[i] ||
				d != c.deep[i] {
				t.Errorf("after %s, backend %d: %d, deep %d", c.post, i, s, d)
			}
		}
	}
	if got := do("POST", 0, "/dependency?on=2"); got != 400 {
		t.Errorf("on=2: %d", got)
	}
}
