package forward

import (
	"errors"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"reverseproxy/internal/narrate"
)

// steps takes one request over one backend, as a chapter's try does. It returns
// the backend's connection as it is afterwards.
func steps(t *testing.T, request *Request, backend *Backend) error {
	t.Helper()
	if err := request.Write(backend); err != nil {
		return err
	}
	response, err := ReadResponse(backend, request)
	if err != nil {
		return err
	}
	return response.Write(request.Client)
}

// pair is a client's connection with both its ends in the test's hands.
func pair(t *testing.T) (client *wire, conn net.Conn) {
	t.Helper()
	l := listen(t)
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if conn, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return newWire(t, c, "client"), conn
}

// backends are three backends; each does on its only connection what it is told.
func backends(t *testing.T, does ...func(*wire)) (addrs []string) {
	t.Helper()
	for _, do := range does {
		l := listen(t)
		t.Cleanup(func() { l.Close() })
		addrs = append(addrs, l.Addr().String())
		go func() { // ends with what it does, or with the test
			conn, err := l.Accept()
			if err != nil {
				return
			}
			do(newWire(t, conn, "backend"))
		}()
	}
	return addrs
}

func silent() *narrate.Conn { return narrate.New(narrate.Off).AcceptFrom("") }

// One request goes to three backends: the first breaks off, the second says
// nothing, the third answers. The client is watched all the time, and its answer
// is the third's.
func TestOneRequestThreeBackends(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ in, out string }{
		"no body":                  {get, getOut},
		"a body that came with it": {postTen + "0123456789", postTenOut + "0123456789"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wire3 := make(chan *wire, 1)
			addrs := backends(t,
				func(w *wire) { w.expect(c.out); time.Sleep(2 * watchAfter); w.reset() },
				func(w *wire) { w.expect(c.out); w.gone() },
				func(w *wire) { w.expect(c.out); w.send(ok); wire3 <- w })
			end, conn := pair(t)
			end.send(c.in)
			settings := generous()
			client := NewClient(conn, settings, silent())
			request, err := ReadRequest(client)
			if err != nil {
				t.Fatal(err)
			}
			for i, addr := range addrs {
				if settings.Server = 2 * patience; i == 1 {
					settings.Server = short
				}
				backend, err := Connect(addr, request)
				if err != nil {
					t.Fatal(err)
				}
				err = steps(t, request, backend)
				if i < 2 {
					var e *Error
					if !errors.As(err, &e) || e.By != ByBackend || e.Status != []int{502, 504}[i] ||
						!e.Sent || e.Answered || e.Stale {
						t.Errorf("try %d ended with %#v", i+1, err)
					}
					if ok, reason := backend.Reusable(); ok {
						t.Errorf("the connection of try %d may be used again (%s)", i+1, reason)
					}
				} else if err != nil {
					t.Errorf("try %d: %v", i+1, err)
				}
				backend.Close()
			}
			client.Close(new(error))
			end.end(okOut)
			(<-wire3).end("")
		})
	}
	t.Run("a body that is on its way", func(t *testing.T) {
		t.Parallel()
		addrs := backends(t, func(w *wire) { w.until("hello"); w.reset() },
			func(w *wire) { w.end("") })
		end, conn := pair(t)
		end.send(postTen + "hel")
		settings := generous()
		client := NewClient(conn, settings, silent())
		request, err := ReadRequest(client)
		if err != nil {
			t.Fatal(err)
		}
		if ok, _ := request.Again(); !ok {
			t.Error("nothing of it has gone, and it cannot be sent")
		}
		first, err := Connect(addrs[0], request)
		if err != nil {
			t.Fatal(err)
		}
		end.send("lo")
		err = steps(t, request, first)
		first.Close()
		second, e := Connect(addrs[1], request)
		if e != nil {
			t.Fatal(e)
		}
		if ok, reason := request.Again(); ok || reason == "" {
			t.Error("a part of its body is gone, and it may be sent again")
		}
		if request.Write(second) == nil {
			t.Error("it was sent again without its body")
		}
		second.Close()
		client.Close(&err)
		if got := end.gone(); !strings.HasPrefix(got, "HTTP/1.1 502 ") {
			t.Errorf("the client read %q", got)
		}
	})
}

// One client sends three requests on its connection, the last two together, and
// gets three answers in order, over one backend connection. Watching it in
// between loses no byte.
func TestOneClientThreeRequests(t *testing.T) {
	t.Parallel()
	const (
		keep = "HTTP/1.1 200 OK\r\nDate: x\r\nVia: 1.1 test\r\nContent-Length: 2\r\n\r\nhi"
		out  = "GET / HTTP/1.1\r\nHost: a\r\nVia: 1.1 test\r\nX-Forwarded-For: 127.0.0.1\r\n" +
			"X-Forwarded-Host: a\r\nX-Forwarded-Proto: http\r\n\r\n"
		chunkOut = "POST / HTTP/1.1\r\nHost: a\r\nVia: 1.1 test\r\nX-Forwarded-For: 127.0.0.1\r\n" +
			"X-Forwarded-Host: a\r\n" +
			"X-Forwarded-Proto: http\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
	)
	for name, second := range map[string]struct{ in, out string }{
		"GET": {get, out}, "POST": {chunkedPost + "5\r\nhello\r\n0\r\n\r\n", chunkOut},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			done := make(chan struct{})
			end, conn := pair(t)
			addrs := backends(t, func(w *wire) {
				w.expect(out)
				time.Sleep(2 * watchAfter)
				end.send(second.in + get) // while the first is being served
				time.Sleep(2 * watchAfter)
				w.send(ok)
				w.expect(second.out)
				w.send(ok)
				w.expect(out)
				time.Sleep(2 * watchAfter)
				w.send(ok)
				w.end("")
				close(done)
			})
			end.send(get)
			settings := generous()
			client := NewClient(conn, settings, silent())
			client.Connection = ""
			backend, err := Connect(addrs[0], &Request{Client: client})
			if err != nil {
				t.Fatal(err)
			}
			backend.Connection = ""
			for i := range 3 {
				request, err := ReadRequest(client)
				if err == nil {
					err = steps(t, request, backend)
				}
				if err != nil {
					t.Fatalf("request %d: %v", i+1, err)
				}
				if backend.Reused != (i > 0) {
					t.Errorf("request %d: Reused is %v", i+1, backend.Reused)
				}
				if ok, reason := backend.Reusable(); !ok {
					t.Errorf("the backend's connection after request %d: %s", i+1, reason)
				}
				if ok, reason := client.Reusable(); !ok {
					t.Errorf("the client's connection after request %d: %s", i+1, reason)
				}
				client.End(new(error))
			}
			backend.Close()
			client.Close(new(error))
			end.end(keep + keep + keep)
			<-done
		})
	}
}

// Whether a connection can carry another request, and if not, why.
func TestReusable(t *testing.T) {
	t.Parallel()
	const (
		incomplete = "its response was not read to the end"
		whole      = "HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: 2\r\n"
		kept       = "its answer is not complete"
		more       = "it sent more than its response"
		early      = "it answered before it had the whole request"
		asked      = "it was asked to change the protocol"
		upgrade    = "Connection: Upgrade\r\nUpgrade: x"
	)
	with := func(request, field string) string {
		return strings.Replace(request, "\r\n\r\n", "\r\n"+field+"\r\n\r\n", 1)
	}
	for _, c := range []struct{ name, request, response, backend, client string }{
		{"length", get, ok, "", ""},
		{"chunked", get, status + chunks + "\r\n2\r\nhi\r\n0\r\n\r\n", "", ""},
		{"HEAD", strings.Replace(get, "GET", "HEAD", 1), whole + "\r\n", "", ""},
		{"204", get, "HTTP/1.1 204 No Content\r\n\r\n", "", ""},
		{"with a body", postTen + "0123456789", ok, "", ""},
		{"the client said close", with(get, "Connection: close"), ok, "", "it said close"},
		{"the backend said close", get, whole + "Connection: close\r\n\r\nhi", "it said close", ""},
		{"HTTP/1.0 client", head10, ok, "", "it speaks HTTP/1.0, and did not ask to be kept"},
		{"HTTP/1.0 client that asks", with(head10, "Connection: keep-alive"), ok, "", ""},
		{"HTTP/1.0 client that asks, no length", with(head10, "Connection: keep-alive"),
			status + chunks + "\r\n2\r\nhi\r\n0\r\n\r\n", "",
			"its answer ends with the connection"},
		{"HTTP/1.0 backend", get, "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi",
			"it speaks HTTP/1.0, and did not offer to stay", ""},
		{"HTTP/1.0 backend that offers", get, "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n" +
			"Content-Length: 2\r\n\r\nhi", "", ""},
		{"until close", get, status + "\r\nhi", "its response ends with the connection", ""},
		{"more than the response", get, ok + "HTTP/1.1 200 OK\r\n\r\n", more, ""},
		{"more than the response to HEAD", strings.Replace(get, "GET", "HEAD", 1), ok, more, ""},
		{"truncated", get, whole + "\r\nh", incomplete, kept},
		{"malformed", get, "HTTP/1.1 200 OK\r\nX\r\n\r\n", incomplete, ""},
		{"nothing", get, "", incomplete, ""},
		{"an upgrade that was declined", with(get, upgrade), ok,
			asked, ""},
		{"length 0", get, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "", ""},
		{"304 with a length", get, "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", "",
			""},
		{"interim responses", get, "HTTP/1.1 103 Early Hints\r\n\r\n" + ok, "", ""},
		{"chunked both ways", chunkedPost + "5\r\nhello\r\n0\r\n\r\n",
			status + chunks + "\r\n2\r\nhi\r\n0\r\n\r\n", "", ""},
		{"both said close", with(get, "Connection: close"), whole + "Connection: close\r\n\r\nhi",
			"it said close", "it said close"},
		{"the client said keep-alive and close", with(get, "Connection: keep-alive, close"), ok, "",
			"it said close"},
		{"the backend said keep-alive and close", get, whole + "Connection: keep-alive, " +
			"close\r\n\r\nhi", "it said close", ""},
		{"408", get, "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n" +
			"Content-Length: 0\r\n\r\n", "it said close", ""},
		{"HTTP/1.0 on both sides", with(head10, "Connection: keep-alive"), "HTTP/1.0 200 " +
			"OK\r\n\r\nhi",
			"its response ends with the connection", "its answer ends with the connection"},
		{"a body longer than its length", get, ok + "gher", more, ""},
		{"chunked, and more", get, status + chunks + "\r\n2\r\nhi\r\n0\r\n\r\n" + ok, more, ""},
		{"length 0, and more", get, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nhi", more, ""},
		{"204 with a body", get, "HTTP/1.1 204 No Content\r\n\r\nhi", more, ""},
		{"304 with a body", get, "HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\nhi", more,
			""},
		{"two framings", get, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n" +
			"Transfer-Encoding: chunked\r\n\r\nhi", incomplete, ""},
		{"chunked in HTTP/1.0", get, "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n" +
			"hi\r\n0\r\n\r\n", incomplete, ""},
		{"truncated, chunked", get, status + chunks + "\r\n2\r\nhi\r\n", incomplete, kept},
		{"a malformed chunk", get, status + chunks + "\r\nnone\r\n", incomplete, kept},
		{"101 unasked", get, "HTTP/1.1 101 Switching Protocols\r\n" + upgrade + "\r\n\r\n",
			incomplete, ""},
		{"an upgrade with a body, declined", with(postTen, upgrade) + "0123456789", ok, asked, ""},
		{"an upgrade that has to be", with(get, upgrade),
			"HTTP/1.1 426 Upgrade Required\r\n" + upgrade + "\r\nContent-Length: 0\r\n\r\n", asked,
			""},
		{"Expect answered by 200", with(postTen, "Expect: 100-continue"), ok, early, Unread},
		{"Expect answered by 417", with(postTen, "Expect: 100-continue"), "HTTP/1.1 417 " +
			"Expectation Failed\r\nContent-Length: 0\r\n\r\n", early, Unread},
		{"an early answer", postTen + "01234", ok, early, Unread},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			addrs := backends(t, func(w *wire) {
				w.until("\r\n\r\n")
				if strings.HasPrefix(c.request, chunkedPost) {
					w.until("0\r\n\r\n") // or the answer would be an early one
				}
				w.send(c.response)
				w.CloseWrite()
				w.gone()
			})
			end, conn := pair(t)
			end.send(c.request)
			settings := generous()
			client := NewClient(conn, settings, silent())
			client.Connection = ""
			backend, err := Connect(addrs[0], &Request{Client: client})
			if err != nil {
				t.Fatal(err)
			}
			request, err := ReadRequest(client)
			if err != nil {
				t.Fatal(err)
			}
			err = steps(t, request, backend)
			if ok, reason := backend.Reusable(); ok != (c.backend == "") || reason != c.backend {
				t.Errorf("the backend's connection: %v, %q, want %q", ok, reason, c.backend)
			}
			backend.Close()
			client.End(&err)
			if ok, reason := client.Reusable(); ok != (c.client == "") || reason != c.client {
				t.Errorf("the client's connection: %v, %q, want %q", ok, reason, c.client)
			}
			end.Close()
			client.Close(&err)
		})
	}
}

// A backend that has closed a connection which it had offered to keep: nothing
// came, and nothing was processed, as far as one can know.
func TestStale(t *testing.T) {
	t.Parallel()
	for name, leave := range map[string]func(*wire){
		"FIN": func(w *wire) { w.Close() }, "RST": (*wire).reset,
		"FIN after the request": func(w *wire) { w.until("\r\n\r\n"); w.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			left := make(chan struct{})
			addrs := backends(t,
				func(w *wire) { w.until("\r\n\r\n"); w.send(ok); leave(w); close(left) })
			end, conn := pair(t)
			end.send(get + get)
			settings := generous()
			client := NewClient(conn, settings, silent())
			backend, err := Connect(addrs[0], &Request{Client: client})
			if err != nil {
				t.Fatal(err)
			}
			var last error
			for i := range 2 {
				request, err := ReadRequest(client)
				if err != nil {
					t.Fatal(err)
				}
				if i == 1 && !strings.Contains(name, "after") {
					<-left
				}
				last = steps(t, request, backend)
				backend.Reusable()
				client.End(&last)
			}
			var e *Error
			if !errors.As(last, &e) || !e.Stale || e.By != ByBackend || e.Answered {
				t.Errorf("ended with %#v", last)
			}
			backend.Close()
			client.Close(&last)
		})
	}
}

// A lack of descriptors or of ports is the proxy's failure.
func TestExhausted(t *testing.T) {
	t.Parallel()
	for _, lack := range []error{syscall.EMFILE, syscall.ENFILE, syscall.EADDRNOTAVAIL} {
		e := ConnectError(&net.OpError{Op: "dial", Err: lack}, "127.0.0.1:8000")
		if e.By != ByProxy || e.Status != 503 || strings.Contains(e.Reason, "backend") {
			t.Errorf("%v: %#v", lack, e)
		}
	}
}

// TestWhatATrySays: whether the backend was reached, and the status that it
// answered with, until the next try begins.
func TestWhatATrySays(t *testing.T) {
	addr := backends(t, func(w *wire) {
		w.until("\r\n\r\n")
		w.send("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
	})[0]
	end, client, request := read(t, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	for _, want := range []struct {
		addr      string
		unreached bool
		status    int
	}{{addr, false, 503}, {refused(t), true, 0}} {
		err := request.on(t, want.addr)
		var e *Error
		if errors.As(err, &e); e != nil != want.unreached || e != nil && !e.Unreached ||
			request.Status() != want.status {
			t.Errorf("%s: %v, status %d", want.addr, err, request.Status())
		}
	}
	client.Close(new(error))
	end.until("Busy")
}
