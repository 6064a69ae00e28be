package forward

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

// drip sends s again and again, byte by byte, and ends when the connection breaks.
func drip(w io.Writer, s string, pause time.Duration) {
	for i := 0; ; i++ {
		if _, err := w.Write([]byte{s[i%len(s)]}); err != nil {
			return
		}
		time.Sleep(pause)
	}
}

// Each wait has its own limit; a limit that is met does not come too early.
func TestTimeouts(t *testing.T) { // not beside other tests, which would cost it its time
	const (
		slowClient  = "the request did not come in time"
		slowBackend = "the backend did not answer in time"
		notTaking   = "the backend does not take the request"
	)
	request, server, idle := generous(), generous(), generous()
	request.Request, server.Server, idle.Idle = short, short, short
	lateServer, lateIdle := generous(), generous() // where something has to come before
	lateServer.Server, lateIdle.Idle = enough, enough
	tooSlow := page("408 Request Timeout", slowClient)
	noAnswer := page("504 Gateway Timeout", slowBackend)

	run := func(name string, f func(t *testing.T)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			start := time.Now()
			f(t)
			if d := time.Since(start); d < short {
				t.Errorf("over after %v, before the limit of %v", d, short)
			} else if d > patience {
				t.Errorf("over only after %v", d)
			}
		})
	}
	run("client is silent", func(t *testing.T) {
		r := newRig(t, request)
		client := r.dial()
		client.end(tooSlow)
		r.untouched()
		if e := r.wantClientsFault(); e.Status != 408 {
			t.Errorf("%v", e)
		}
	})
	run("client drips its request line", func(t *testing.T) {
		r := newRig(t, request)
		client := r.dial()
		go drip(client, "GET /"+strings.Repeat("x", 1000), short/10)
		if got := client.untilEnd(); got != tooSlow && got != "" {
			t.Errorf("%q", got) // a byte after the answer may destroy it
		}
		r.untouched()
		r.wantClientsFault()
	})
	run("client drips its fields", func(t *testing.T) {
		r := newRig(t, request)
		client := r.send("GET / HTTP/1.1\r\nHost: a\r\n")
		go drip(client, "X: y\r\n", short/10)
		client.untilEnd()
		r.untouched()
		r.wantClientsFault()
	})
	run("client drips empty lines", func(t *testing.T) {
		r := newRig(t, request)
		client := r.dial()
		go drip(client, "\r\n", short/10)
		client.untilEnd()
		r.untouched()
		r.wantClientsFault()
	})
	for _, c := range []struct{ name, in, out string }{
		{"length", postTen + "hello", postTenOut + "hello"},
		{"long", strings.Replace(postTen, "10", "100000", 1) + "hello",
			strings.Replace(postTenOut, "10", "100000", 1) + "hello"},
		{"chunked", chunkedPost + "5\r\nhello\r\n", chunkedOut + "5\r\nhello\r\n"},
		{"chunked, in the size", chunkedPost + "5\r\nhello\r\n1", chunkedOut + "5\r\nhello\r\n"},
		{"chunked, in the trailers", chunkedPost + "5\r\nhello\r\n0\r\nT",
			chunkedOut + "5\r\nhello\r\n"},
	} {
		run("client's body stands still, "+c.name, func(t *testing.T) {
			r := newRig(t, idle)
			client := r.send(c.in)
			backend := r.accept()
			backend.expect(c.out)
			client.end(tooSlow)
			if more := backend.gone(); more != "" {
				t.Errorf("the backend then read %q", more)
			}
			r.wantClientsFault()
		})
	}
	run("backend is silent", func(t *testing.T) {
		r := newRig(t, server)
		client := r.send(get)
		backend := r.accept()
		client.end(noAnswer)
		backend.end(getOut)
		r.wantBackendsFault(504)
	})
	run("backend is silent after a body", func(t *testing.T) {
		r := newRig(t, server)
		client := r.send(chunkedPost + "5\r\nhello\r\n0\r\n\r\n")
		backend := r.accept()
		client.end(noAnswer)
		backend.end(chunkedOut + "5\r\nhello\r\n0\r\n\r\n")
		r.wantBackendsFault(504)
	})
	run("backend is silent after 103", func(t *testing.T) {
		r := newRig(t, lateServer)
		client := r.send(get)
		backend := r.accept()
		backend.send("HTTP/1.1 103 Early Hints\r\n\r\n")
		client.end("HTTP/1.1 103 Early Hints\r\n" + viaOut + "\r\n" + noAnswer)
		backend.end(getOut)
		r.wantBackendsFault(504)
	})
	run("backend drips its header", func(t *testing.T) {
		r := newRig(t, server)
		client := r.send(get)
		backend := r.accept()
		go drip(backend, "HTTP/1.1 200 OK\r\nX"+strings.Repeat("x", 10000), short/10)
		client.end(noAnswer)
		r.wantBackendsFault(504)
	})
	run("backend does not read, length", func(t *testing.T) {
		r := newRig(t, lateIdle)
		client := r.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000000\r\n\r\n")
		go io.Copy(client, zeros{}) // ends when the connection breaks
		r.accept()
		if got := masked([]byte(client.until("\r\n\r\n") +
			client.until("\n"))); got != page("504 Gateway Timeout", notTaking) {
			t.Errorf("the client read %q", got)
		}
		client.Close()
		r.wantBackendsFault(504)
	})
	run("backend does not read, chunked", func(t *testing.T) {
		r := newRig(t, lateIdle)
		client := r.send(chunkedPost + "2540be400\r\n")
		go io.Copy(client, zeros{}) // the same
		r.accept()
		if got := masked([]byte(client.until("\r\n\r\n") +
			client.until("\n"))); got != page("504 Gateway Timeout", notTaking) {
			t.Errorf("the client read %q", got)
		}
		client.Close()
		r.wantBackendsFault(504)
	})
	for _, c := range []struct{ name, response, more string }{
		{"length", status + "Content-Length: 10\r\n\r\nhello", ""},
		{"long", status + "Content-Length: 100000\r\n\r\nhello", ""},
		{"chunked", status + chunks + "\r\n5\r\nhello\r\n", ""},
		{"until close", status + "\r\nhello", ""},
	} {
		run("backend's body stands still, "+c.name, func(t *testing.T) {
			r := newRig(t, idle)
			client := r.send(get)
			backend := r.accept()
			backend.expect(getOut)
			backend.send(c.response)
			got := client.gone()
			if strings.HasSuffix(got, "0\r\n\r\n") || !strings.Contains(got, "hello") {
				t.Errorf("the client read %q", got)
			}
			backend.gone()
			r.wantBackendsFault(504)
		})
	}
	for name, head := range map[string]string{"length": "Content-Length: 10000000000\r\n\r\n",
		"until close": "\r\n"} {
		run("client does not read, "+name, func(t *testing.T) {
			r := newRig(t, lateIdle)
			client := r.send(get)
			backend := r.accept()
			backend.expect(getOut)
			io.WriteString(backend, status+head)
			io.Copy(backend, zeros{}) // ends when the proxy has had enough
			r.wantClientsFault()
			client.Close()
		})
	}
}

// A long body, which goes through the kernel alone, is not cut off while it goes on,
// however slowly: the limit is for standing still. TestAliveToTheLastMoment has the others.
func TestSlowButAlive(t *testing.T) {
	t.Parallel()
	limits := generous()
	limits.Idle = enough
	const parts, size = 12, 100_000 // bytes
	head := fmt.Sprintf("Content-Length: %d\r\n\r\n", parts*size)
	drop := func(t *testing.T, from, to *wire) {
		part := strings.Repeat("x", size)
		for range parts {
			time.Sleep(enough / 10)
			from.send(part)
			to.expect(part)
		}
	}
	t.Run("request", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, limits)
		client := r.send("POST / HTTP/1.1\r\nHost: a\r\n" + head)
		backend := r.accept()
		backend.until("\r\n\r\n")
		drop(t, client, backend)
		backend.send(ok)
		client.end(okOut)
		r.wantSuccess()
	})
	t.Run("response", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, limits)
		client := r.send(get)
		backend := r.accept()
		backend.expect(getOut)
		backend.send(status + head)
		client.until("\r\n\r\n")
		drop(t, backend, client)
		client.end("")
		r.wantSuccess()
	})
}

// A client that reads a little at a time is alive as well.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	limits := generous()
	limits.Idle = enough
	for name, head := range map[string]string{"length": "Content-Length: 400000\r\n\r\n",
		"until close": "\r\n"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, limits, small)
			client := r.dial()
			client.send(get)
			backend := r.accept()
			backend.expect(getOut)
			go func() { // ends with the body
				io.WriteString(backend, status+head)
				io.CopyN(backend, zeros{}, 400_000)
				backend.CloseWrite()
			}()
			client.until("\r\n\r\n")
			total := int64(0)
			for err := error(nil); err == nil; time.Sleep(enough / 8) { // 13 times
				var n int64
				n, err = io.CopyN(io.Discard, client, 32<<10)
				if total += n; err != nil && err != io.EOF {
					t.Fatalf("after %d bytes: %v", total, err)
				}
			}
			if total < 400_000 {
				t.Errorf("%d bytes, want 400,000 and more", total)
			}
			r.wantSuccess()
		})
	}
}
