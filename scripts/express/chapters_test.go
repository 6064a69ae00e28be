//go:build unix

package express

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"reverseproxy/internal/backends/promise"
	"reverseproxy/internal/harness"
)

// held is less than the 5 s that Express keeps an idle connection: a proxy that
// waits for the backend to close takes longer.
const held = 4 * time.Second

// Every chapter is put before Express, which keeps its connections open.
func TestChaptersBeforeExpress(t *testing.T) {
	for _, model := range harness.Proxies() {
		t.Run(model.Name, func(t *testing.T) {
			n := len(model.Backends)
			express := start(t, n)
			proxy := harness.Start(t, model, model.BackendFlag(), strings.Join(express.addrs, ","))
			fastest := time.Hour // a busy machine may hold one up, a waiting proxy holds all
			for i := range 2 * n {
				begun := time.Now()
				var got, want map[string]any
				_, body := promise.Get(t, proxy.Addr, "/api/data?i=1")
				if err := json.Unmarshal([]byte(body), &got); err != nil {
					t.Fatalf("%q: %v", body, err)
				}
				want = map[string]any{"backend": port(express.addrs[i%n]),
					"request": float64(i/n + 1), "path": "/api/data"}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("answer %d, -want +got:\n%s", i, diff)
				}
				fastest = min(fastest, time.Since(begun))
			}
			if fastest > held {
				t.Errorf("each answer took %v: was it held until the backend closed?", fastest)
			}

			promise.CheckBehind(t, proxy.Addr)
		})
	}
}
