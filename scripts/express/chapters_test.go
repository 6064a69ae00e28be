//go:build unix

package express

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"

	"reverseproxy/internal/backends"
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
			client := &http.Client{Timeout: 2 * patience,
				Transport: &http.Transport{DisableKeepAlives: true}}
			url := "http://" + proxy.Addr

			for i := range 2 * n {
				begun := time.Now()
				var got, want map[string]any
				body := fetch(t, client, "GET", url+"/api/data?i=1", nil)
				if err := json.Unmarshal(body, &got); err != nil {
					t.Fatalf("%q: %v", body, err)
				}
				want = map[string]any{"backend": port(express.addrs[i%n]),
					"request": float64(i/n + 1), "path": "/api/data"}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("answer %d, -want +got:\n%s", i, diff)
				}
				if took := time.Since(begun); took > held {
					t.Errorf("answer %d took %v: was it held until the backend closed?", i, took)
				}
			}

			data := fetch(t, client, "GET", url+"/bytes?n=3000000", nil)
			if err := backends.Verify(bytes.NewReader(data), 3000000); err != nil {
				t.Error(err)
			}
			upload := strings.Repeat("20,000 bytes are more than C reads. ", 600)[:20000]
			echo := fetch(t, client, "POST", url+"/echo", strings.NewReader(upload))
			if !strings.HasSuffix(string(echo), "\r\n\r\n"+upload) &&
				!strings.HasSuffix(string(echo), "\n\n"+upload) {
				t.Errorf("the echo of %d bytes has %d and does not end in them", len(upload),
					len(echo))
			}
			for _, status := range []string{"/status/204", "/status/304", "/status/404"} {
				resp, err := client.Get(url + status)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				if got := resp.Request.URL.Path[len("/status/"):]; !strings.HasPrefix(resp.Status,
					got) {
					t.Errorf("%s was answered with %s", status, resp.Status)
				}
			}
			resp, err := client.Get(url + "/drop?after=100")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadAll(resp.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("a broken-off answer was read with %v, as if it were whole", err)
			}
			resp.Body.Close()
			firstEvent(t, client, url+"/stream")
			webSocket(t, "ws://"+proxy.Addr+"/ws")
		})
	}
}

// fetch returns the whole body of a response with status 200.
func fetch(t *testing.T, client *http.Client, method, url string, body io.Reader) []byte {
	t.Helper()
	req, err := http.NewRequest(method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %s, %v", method, url, resp.Status, err)
	}
	return data
}

// firstEvent reads one server-sent event of a stream that goes on.
func firstEvent(t *testing.T, client *http.Client, url string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, "GET", url, nil)
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	for got := ""; !strings.Contains(got, "data:"); {
		b := make([]byte, 1024)
		n, err := resp.Body.Read(b)
		if got += string(b[:n]); err != nil {
			t.Fatalf("no event: %q, %v", got, err)
		}
	}
}

// webSocket sends one message and wants it back.
func webSocket(t *testing.T, url string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	if err := conn.Write(ctx, websocket.MessageText, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, got, err := conn.Read(ctx); err != nil || string(got) != "hello" {
		t.Errorf("the WebSocket echoed %q, %v", got, err)
	}
	conn.Close(websocket.StatusNormalClosure, "")
}
