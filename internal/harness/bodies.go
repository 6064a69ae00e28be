//go:build unix

package harness

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/coder/websocket"

	"reverseproxy/internal/backends"
)

// verifyBody reads a response and compares its body with the first n bytes of
// what backends send.
func (c *Conn) verifyBody(n int64) error {
	r, err := http.ReadResponse(c.R, nil)
	if err != nil {
		return err
	}
	if r.StatusCode != http.StatusOK {
		return fmt.Errorf("status %s", r.Status)
	}
	return backends.Verify(r.Body, n)
}

// webSocketEcho sends messages through a tunnel and wants them back.
func webSocketEcho(t T, p *Proxy) {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	conn, response, err := websocket.Dial(ctx, "ws://"+p.Addr+"/ws", nil)
	if err != nil {
		t.Fatalf("the upgrade: %v (%+v)", err, response)
	}
	defer conn.CloseNow()
	conn.SetReadLimit(1 << 20)
	for _, message := range []string{"hello", strings.Repeat("long ", 100_000), "bye"} {
		if err := conn.Write(ctx, websocket.MessageText, []byte(message)); err != nil {
			t.Fatalf("send: %v", err)
		}
		_, got, err := conn.Read(ctx)
		if err != nil {
			t.Fatalf("receive: %v", err)
		}
		same(t, "the echo", message, string(got))
	}
	if err := conn.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Errorf("the closing handshake: %v", err)
	}
}
