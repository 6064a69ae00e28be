package forward

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// read returns the client's request, with its settings.
func read(t *testing.T, in string) (end *wire, client *Client, request *Request) {
	t.Helper()
	end, conn := pair(t)
	end.send(in)
	client = NewClient(conn, generous(), silent())
	request, err := ReadRequest(client)
	if err != nil {
		t.Fatal(err)
	}
	return end, client, request
}

// on has the request answered by the backend at addr.
func (r *Request) on(t *testing.T, addr string) error {
	t.Helper()
	backend, err := Connect(addr, r)
	if err != nil {
		return err
	}
	defer backend.Close()
	return steps(t, r, backend)
}

// A body that is kept while it is sent reaches the second backend whole, wherever
// the first one left; one that is larger than what may be kept has no second try.
func TestKeep(t *testing.T) {
	const most = 1000 // bytes
	for _, test := range []struct {
		name    string
		chunked bool
		size    int  // bytes of the body
		early   int  // bytes of it that are sent before the first backend leaves
		ended   bool // and then its end, if it is chunked
		again   bool
	}{
		{"whole", false, 600, 600, false, true},
		{"all that may be kept", false, most, most, false, true},
		{"a part", false, 600, 300, false, true},
		{"nothing yet", false, 600, 0, false, true},
		{"too large", false, most + 1, 300, false, false},
		{"chunked, whole", true, 600, 600, true, true},
		{"chunked, all that may be kept", true, most, most, true, true},
		{"chunked, a part", true, 600, 300, false, true},
		{"chunked, nothing yet", true, 600, 0, false, true},
		{"chunked, too large in the end", true, most + 1, 300, false, true},
		{"chunked, too large", true, most + 1, most + 1, false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			body := strings.Repeat("0123456789", test.size/10+1)[:test.size]
			head, rest := fmt.Sprintf("Content-Length: %d\r\n\r\n", test.size), body[test.early:]
			early := body[:test.early]
			if test.chunked {
				head = "Transfer-Encoding: chunked\r\n\r\n"
				if early, rest = chunk(early), chunk(rest)+"0\r\n\r\n"; test.ended {
					early, rest = early+rest, ""
				}
			}
			end, client, request := read(t, "PUT / HTTP/1.1\r\nHost: a\r\n"+head)
			request.Keep(most)
			end.send(early)
			addrs := backends(t,
				func(w *wire) {
					w.until("\r\n\r\n")
					w.expectBody(body[:test.early], test.chunked, test.ended)
					w.reset()
				},
				func(w *wire) {
					got, err := http.ReadRequest(bufio.NewReader(w))
					if err == nil {
						var b []byte
						b, err = io.ReadAll(got.Body)
						if diff := cmp.Diff(body, string(b)); diff != "" {
							t.Errorf("the second backend's body, -want +got:\n%s", diff)
						}
					}
					if err != nil {
						t.Errorf("the second backend: %v", err)
					}
					w.send(ok)
					w.gone()
				})
			err := request.on(t, addrs[0])
			var e *Error
			if !errors.As(err, &e) || e.By != ByBackend || !e.Broken || !e.Sent {
				t.Fatalf("the first try ended with %#v", err)
			}
			if rest != "" && !e.Owed {
				t.Error("it does not say that the body was still to come")
			}
			if ok, reason := request.Again(); ok != test.again {
				t.Fatalf("again: %v (%s), want %v", ok, reason, test.again)
			}
			if test.again {
				end.send(rest)
				if err = request.on(t, addrs[1]); err != nil {
					t.Errorf("the second try: %v", err)
				}
			}
			end.CloseWrite() // so that Close does not wait for more
			client.Close(&err)
			if got := end.gone(); strings.HasSuffix(got, "hi") != test.again {
				t.Errorf("the client read %q", got)
			}
		})
	}
}

// expectBody reads a body's beginning, in as many chunks as it comes, and its end too if
// it is whole.
func (w *wire) expectBody(want string, chunked, whole bool) {
	w.t.Helper()
	in := io.Reader(w)
	if chunked {
		in = httputil.NewChunkedReader(in)
	}
	got := make([]byte, len(want))
	n, err := io.ReadFull(in, got)
	if diff := cmp.Diff(want, string(got[:n])); diff != "" {
		w.t.Errorf("%s read (%v), -want +got:\n%s", w.who, err, diff)
	}
	if !whole {
		return
	}
	if _, err := in.Read(make([]byte, 1)); err != io.EOF {
		w.t.Errorf("%s: %v behind the body, want its end", w.who, err)
	}
}

// chunk returns a body as one chunk; none, if it is empty.
func chunk(body string) string {
	if body == "" {
		return ""
	}
	return fmt.Sprintf("%x\r\n%s\r\n", len(body), body)
}

// Abandon ends a request wherever it is, and the client is told why; one that has
// seen a part of the answer sees a reset.
func TestAbandon(t *testing.T) {
	why := &Error{Status: 504, Reason: "it is enough", By: ByProxy}
	large := "HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n"
	for _, test := range []struct {
		name    string
		request string
		backend func(w *wire)
		reset   bool
		full    bool // the client takes no more
	}{
		{"it does not answer", get, func(w *wire) { w.gone() }, false, false},
		{"it does not take the body",
			"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n",
			func(w *wire) {}, false, false},
		{"the client does not send the body", postTen, func(w *wire) { w.gone() }, false, false},
		{"half a header", get, func(w *wire) { w.send("HTTP/1.1 200"); w.gone() }, false, false},
		{"half an answer", get, func(w *wire) { w.send(large); w.gone() }, true, false},
		{"the client does not take interim responses", get, func(w *wire) {
			hint := "HTTP/1.1 103 Early Hints\r\nLink: " + strings.Repeat("x", 60000) + "\r\n\r\n"
			for err := error(nil); err == nil; {
				_, err = io.WriteString(w, hint)
			}
		}, true, true},
		{"the client does not take the answer", get, func(w *wire) {
			w.send(large)
			for w.writeZeros() == nil {
			}
		}, true, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			end, client, request := read(t, test.request)
			client.Conn.(*net.TCPConn).SetWriteBuffer(4 << 10) // it is soon full
			if strings.HasPrefix(test.request, "PUT") {
				go func() { // ends when the proxy has read it, or closed the connection
					for range 50 {
						end.writeZeros()
					}
					end.CloseWrite()
				}()
			}
			addrs := backends(t, test.backend)
			go func() { // ends when the client has been sent all that it takes
				before := int64(-1)
				for same := 0; same < 10; time.Sleep(10 * time.Millisecond) {
					sent, waits := client.sent.Load(), client.writing.Load()
					same++
					if sent != before || waits != test.full || test.reset && !waits && sent == 0 {
						before, same = sent, 0
					}
				}
				request.Abandon(why)
			}()
			began := time.Now()
			err := request.on(t, addrs[0])
			var e *Error
			if !errors.As(err, &e) || e.Reason != why.Reason || e.Answered != test.reset {
				t.Errorf("it ended with %#v", err)
			}
			if took := time.Since(began); took > patience/2 {
				t.Errorf("it took %v", took)
			}
			if again := request.on(t, addrs[0]); !errors.As(again, &e) || e.Reason != why.Reason {
				t.Errorf("another try ended with %#v", again)
			}
			if test.name == "the client does not send the body" {
				end.CloseWrite() // so that Close does not wait for it
			}
			client.Close(&err)
			if test.reset {
				end.endsInReset()
			} else if got := end.gone(); !strings.HasPrefix(got, "HTTP/1.1 504 ") {
				t.Errorf("the client read %q", got)
			}
		})
	}
	t.Run("when the answer is whole", func(t *testing.T) {
		t.Parallel()
		end, client, request := read(t, get)
		addrs := backends(t, func(w *wire) { w.send(ok); w.gone() })
		backend, err := Connect(addrs[0], request)
		if err != nil {
			t.Fatal(err)
		}
		err = steps(t, request, backend)
		request.Abandon(why)
		backend.Close()
		client.Close(&err)
		end.end(okOut)
		if err != nil {
			t.Errorf("it ended with %v", err)
		}
	})
	t.Run("when it is over", func(t *testing.T) {
		t.Parallel()
		end, client, request := read(t, get+get)
		client.Connection = ""
		addrs := backends(t, func(w *wire) {
			w.until("\r\n\r\n")
			w.send(ok)
			w.until("\r\n\r\n")
			w.send(ok)
		})
		backend, err := Connect(addrs[0], request)
		if err != nil {
			t.Fatal(err)
		}
		defer backend.Close()
		for range 2 {
			if err := steps(t, request, backend); err != nil {
				t.Fatal(err)
			}
			if ok, reason := backend.Reusable(); !ok {
				t.Errorf("its connection carries nothing more: %s", reason)
			}
			request.Abandon(why)
			end.until("\r\n\r\nhi")
			var none error
			client.End(&none)
			if client.Requests == 1 {
				request, _ = ReadRequest(client)
			}
		}
		client.Close(&err)
	})
}

// writeZeros writes some zeros.
func (w *wire) writeZeros() error {
	_, err := w.Write(make([]byte, 100000))
	return err
}

// A backend answers as soon as it has the last byte of a body, often before the
// goroutine that has sent that has come to say so. The request was whole all the
// same: the connection goes on, and the request may be written once more.
func TestAnswerAtTheLastByte(t *testing.T) {
	large := strings.Repeat("x", 300000) // through the kernel alone
	for name, test := range map[string]struct{ fields, body string }{
		"length":  {"Content-Length: 4", "body"},
		"chunked": {"Transfer-Encoding: chunked", "4\r\nbody\r\n0\r\n\r\n"},
		"large":   {"Content-Length: 300000", large},
	} {
		t.Run(name, func(t *testing.T) {
			requests := 1000
			if name == "large" {
				requests = 300 // each takes ten times as long
			}
			end, client, request := read(t, "PUT / HTTP/1.1\r\nHost: a\r\n"+test.fields+"\r\n\r\n")
			client.Connection = ""
			backend, err := Connect(backends(t, func(w *wire) {
				for in := bufio.NewReader(w); ; io.WriteString(w, ok) {
					r, err := http.ReadRequest(in)
					if err != nil {
						return
					}
					io.Copy(io.Discard, r.Body)
				}
			})[0], request)
			if err != nil {
				t.Fatal(err)
			}
			defer backend.Close()
			for n := range requests {
				request.Keep(1000)
				go end.Write([]byte(test.body)) // ends when the kernel has it
				if err := request.Write(backend); err != nil {
					t.Fatal(err)
				}
				response, err := ReadResponse(backend, request)
				if err != nil {
					t.Fatal(err)
				}
				if ok, reason := request.Again(); !ok && len(test.body) < 1000 {
					t.Fatalf("request %d cannot be written again: %s", n, reason)
				}
				if err := response.Write(client); err != nil {
					t.Fatal(err)
				}
				if ok, reason := backend.Reusable(); !ok {
					t.Fatalf("after request %d the connection carries nothing more: %s", n, reason)
				}
				client.End(&err)
				end.until("\r\n\r\nhi")
				if n < requests-1 {
					end.send("PUT / HTTP/1.1\r\nHost: a\r\n" + test.fields + "\r\n\r\n")
					if request, err = ReadRequest(client); err != nil {
						t.Fatal(err)
					}
				}
			}
			client.Close(&err)
		})
	}
}
