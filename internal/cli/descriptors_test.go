//go:build linux

package cli_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"reverseproxy/internal/harness"
)

// TestDescriptorsAreReserved lets 660 clients come at once to a program that may
// have 1024 files, with a backend that takes longer than the connect timeout,
// and with bodies both ways that may go through a pipe. Whom it accepts it must
// be able to serve: a client that was accepted, and then finds no descriptor
// left for its backend, would be told 503 or 504.
func TestDescriptorsAreReserved(t *testing.T) {
	const clients, size = 660, 64 << 10 // bytes
	connect, work := "4s", 4500*time.Millisecond
	if harness.Race { // everything takes ten times as long: only the counts are looked at
		connect, work = "60s", 2500*time.Millisecond
	}
	for _, test := range []struct {
		m    harness.Model
		demo bool
	}{
		{harness.Threaded, false}, {harness.Threaded, true},
		{harness.Chapter(3, "-max-children", "660"), false},
	} {
		t.Run(fmt.Sprintf("%s demo %t", test.m.Name, test.demo), func(t *testing.T) {
			t.Parallel()
			l := harness.Launch{Model: test.m, Plain: true,
				Flags: []string{"-connect-timeout", connect, "-log", "off",
					// however slow this machine is
					"-request-timeout", "200s", "-server-timeout", "200s"},
				Under: []string{"sh", "-c", `ulimit -n 1024; exec "$0" "$@"`}}
			var p *harness.Proxy
			target, endless := "/", "/endless"
			if test.demo {
				l.Flags = append(l.Flags, test.m.Demo(1)...)
				p, endless = l.Start(t), "/bytes?n=1000000000"
				target = fmt.Sprint("/slow?ms=", work.Milliseconds())
			} else {
				p = l.StartWithBackend(t)
				p.Backend.Serve(t, slowAndLarge(work, size))
			}
			for range 100 { // who read nothing of it keep a pipe, while there are some
				c := p.Dial(t)
				c.Send("GET " + endless + " HTTP/1.1\r\nHost: proxy.test\r\n\r\n")
			}
			answers := make(chan string, clients)
			var all sync.WaitGroup
			for range clients {
				all.Go(func() { // ends with its client
					answers <- post("http://"+p.Addr+target, size)
				})
			}
			all.Wait()
			close(answers)
			count := map[string]int{}
			for a := range answers {
				count[a]++
			}
			if count["200"] != clients {
				t.Errorf("of %d clients: %v", clients, count)
			}
		})
	}
}

// post sends a body on a connection of its own and returns the status, with the
// reason if it is not 200, or why there is none.
func post(url string, size int) string {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true},
		Timeout: 3 * time.Minute}
	response, err := client.Post(url, "text/plain", strings.NewReader(strings.Repeat("x", size)))
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	switch {
	case err != nil:
		return err.Error()
	case response.StatusCode != http.StatusOK:
		return string(body)
	}
	return "200"
}

func slowAndLarge(work time.Duration, size int) http.HandlerFunc {
	body := bytes.Repeat([]byte("x"), size)
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/endless" {
			w.Header().Set("Content-Length", "1000000000")
			for {
				if _, err := w.Write(body); err != nil {
					return
				}
			}
		}
		io.Copy(io.Discard, r.Body)
		time.Sleep(work) // so that clients pile up
		w.Write(body)
	}
}
