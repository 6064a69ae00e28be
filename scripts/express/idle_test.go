//go:build unix

package express

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"reverseproxy/internal/harness"
)

// What the clients of TestIdleConnectionsOfExpress do.
const (
	idleClients = 100
	idlePosts   = 5                      // of each
	idleSpread  = 200 * time.Millisecond // about each pause
	farAway     = 10 * time.Millisecond  // from the proxy to Express
)

// idlePauses are how long clients wait between two POSTs. Node closes after the 5 s
// that it tells, in its later versions a second after that.
var idlePauses = []time.Duration{5 * time.Second, 6 * time.Second}

// relay stands between a proxy and Express, and is the distance between them:
// what one sends, the end too, reaches the other later.
type relay struct {
	to   string
	drop string // a line that is taken out of what Express sends; "" takes none
}

// start returns the relay's address.
func (r *relay) start(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() { // ends with the test
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			express, err := net.Dial("tcp", r.to)
			if err != nil {
				conn.Close()
				continue
			}
			go r.carry(express, conn, "") // both end with the connections
			go r.carry(conn, express, r.drop)
		}
	}()
	return l.Addr().String()
}

// carry passes on what comes from src, farAway later.
func (r *relay) carry(dst, src net.Conn, drop string) {
	type part struct {
		due time.Time
		b   []byte
	}
	way := make(chan part, 100)
	go func() { // ends with src
		defer close(way)
		for {
			b := make([]byte, 32<<10)
			n, err := src.Read(b)
			way <- part{time.Now().Add(farAway), bytes.ReplaceAll(b[:n], []byte(drop), nil)}
			if err != nil {
				return
			}
		}
	}()
	for p := range way {
		time.Sleep(time.Until(p.due))
		dst.Write(p.b)
	}
	dst.(*net.TCPConn).CloseWrite()
}

// Express closes a connection that has been idle for 5 or 6 s, and says so before:
// Keep-Alive: timeout=5. Clients that come again just then, each over a connection
// of its own, lose no POST to a proxy that obeys. One that is not told loses those
// that meet the end on the way, and must not send them again.
func TestIdleConnectionsOfExpress(t *testing.T) {
	if harness.Race || testing.Short() {
		t.Skip("takes 25 s, and needs not be run twice")
	}
	var both sync.WaitGroup
	for _, c := range []struct {
		name, drop string
		loses      bool
	}{{"obeyed", "", false}, {"ignored", "Keep-Alive: timeout=5\r\n", true}} {
		both.Go(func() { // ends with its clients
			t.Run(c.name, func(t *testing.T) {
				r := &relay{start(t, 1).addrs[0], c.drop}
				proxy := harness.Start(t, harness.KeepAlive, "-backends", r.start(t),
					"-reuse", "never")
				if lost := askAfterPauses(t, proxy.Addr); (lost > 0) != c.loses {
					t.Errorf("%d of %d POSTs are lost", lost, idleClients*idlePosts)
				} else {
					t.Logf("%d of %d POSTs are lost", lost, idleClients*idlePosts)
				}
			})
		})
	}
	both.Wait()
}

// askAfterPauses has the clients send their POSTs, and returns how many were lost.
func askAfterPauses(t *testing.T, proxy string) (lost int64) {
	var failed atomic.Int64
	var all sync.WaitGroup
	for i := range idleClients {
		all.Go(func() { // ends after its last POST
			client := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1}}
			defer client.CloseIdleConnections()
			for n := range idlePosts {
				if n > 0 {
					time.Sleep(idlePauses[i%2] + rand.N(idleSpread) - idleSpread/2)
				}
				res, err := client.Post("http://"+proxy+"/echo", "text/plain",
					strings.NewReader("a POST"))
				if err != nil {
					t.Error(err)
					continue
				}
				io.Copy(io.Discard, res.Body)
				res.Body.Close()
				if res.StatusCode != http.StatusOK {
					failed.Add(1)
				}
			}
		})
	}
	all.Wait()
	return failed.Load()
}
