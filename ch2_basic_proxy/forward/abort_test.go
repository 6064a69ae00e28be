package forward

import (
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"reverseproxy/internal/narrate"
)

// A response that breaks off never looks complete: what is missing can be seen
// from the length, from the last chunk, or, for HTTP/1.0, from a reset.
func TestTruncatedResponses(t *testing.T) {
	t.Parallel()
	const whole10 = status + viaOut + closing // to HTTP/1.0 without a length
	for _, c := range []struct {
		name, request, response string
		reset                   bool // how the backend ends: RST or FIN
		wantAnswer              string
		wantReset               bool // the client gets RST, so the bytes before may be lost
	}{
		{"length", get, status + "Content-Length: 10\r\n\r\nhello", false,
			status + viaOut + "Content-Length: 10\r\n" + closing + "hello", false},
		{"length, reset", get, status + "Content-Length: 10\r\n\r\nhello", true,
			status + viaOut + "Content-Length: 10\r\n" + closing + "hello", false},
		{"long", get, status + "Content-Length: 100000\r\n\r\nhello", false,
			status + viaOut + "Content-Length: 100000\r\n" + closing + "hello", false},
		{"long, reset", get, status + "Content-Length: 100000\r\n\r\nhello", true,
			status + viaOut + "Content-Length: 100000\r\n" + closing + "hello", false},
		{"chunked, between chunks", get, status + chunks + "\r\n5\r\nhello\r\n", false,
			status + viaOut + chunks + closing + "5\r\nhello\r\n", false},
		{"chunked, in a chunk", get, status + chunks + "\r\n5\r\nhello\r\na\r\n", false,
			status + viaOut + chunks + closing + "5\r\nhello\r\n", false},
		{"chunked, in the last one", get, status + chunks + "\r\n5\r\nhello\r\n0\r", false,
			status + viaOut + chunks + closing + "5\r\nhello\r\n", false},
		{"chunked, before the trailers' end", get, status + chunks + "\r\n5\r\nhello\r\n0\r\n",
			false, status + viaOut + chunks + closing + "5\r\nhello\r\n", false},
		{"chunked, in the trailers", get, status + chunks + "\r\n5\r\nhello\r\n0\r\nT: 1\r\n",
			false, status + viaOut + chunks + closing + "5\r\nhello\r\n", false},
		{"chunked, reset", get, status + chunks + "\r\n5\r\nhello\r\n", true,
			status + viaOut + chunks + closing + "5\r\nhello\r\n", false},
		{"chunked, bad size", get, status + chunks + "\r\n5\r\nhello\r\n0x0\r\n\r\n", false,
			status + viaOut + chunks + closing + "5\r\nhello\r\n", false},
		{"chunked, negative size", get, status + chunks + "\r\n5\r\nhello\r\n-1\r\n\r\n", false,
			status + viaOut + chunks + closing + "5\r\nhello\r\n", false},
		{"chunked, data longer than the size", get,
			status + chunks + "\r\n5\r\nhelloo\r\n0\r\n\r\n", false,
			status + viaOut + chunks + closing + "5\r\nhello\r\n", false},
		{"chunked, bare LF", get, status + chunks + "\r\n5\r\nhello\r\n0\n\n", false,
			status + viaOut + chunks + closing + "5\r\nhello\r\n", false},
		{"chunked, bad trailer", get, status + chunks + "\r\n5\r\nhello\r\n0\r\nT : 1\r\n\r\n",
			false, status + viaOut + chunks + closing + "5\r\nhello\r\n", false},
		{"chunked, endless trailers", get,
			status + chunks + "\r\n5\r\nhello\r\n0\r\n" + strings.Repeat("T: 1\r\n", 2000), false,
			status + viaOut + chunks + closing + "5\r\nhello\r\n", false},
		{"until close, reset", get, status + "\r\nhello", true,
			status + viaOut + chunks + closing + "5\r\nhello\r\n", false},
		{"HTTP/1.0 client, length", head10, status + "Content-Length: 10\r\n\r\nhello", false,
			status + viaOut + "Content-Length: 10\r\n" + closing + "hello", false},
		{"HTTP/1.0 client, chunked", head10, status + chunks + "\r\n5\r\nhello\r\n", false,
			whole10 + "hello", true},
		{"HTTP/1.0 client, chunked, bad size", head10, status + chunks + "\r\n5\r\nhello\r\nx\r\n",
			false, whole10 + "hello", true},
		{"HTTP/1.0 client, until close, reset", head10, status + "\r\nhello", true,
			whole10 + "hello", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, generous())
			client := r.send(c.request)
			backend := r.accept()
			backend.until("\r\n\r\n")
			backend.send(c.response)
			client.expect(c.wantAnswer) // what came passes before the end comes
			if c.reset {
				backend.reset()
			} else {
				backend.CloseWrite()
			}
			if c.wantReset {
				if more := client.endsInReset(); more != "" {
					t.Errorf("then %q", more)
				}
			} else {
				client.end("") // nothing that would complete it
			}
			r.wantBackendsFault(502)
		})
	}
}

// The same for a request: the backend does not take the part for the whole.
func TestTruncatedRequests(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, request string
		reset         bool
		wantSent      string
	}{
		{"length", postTen + "hello", false, postTenOut + "hello"},
		{"length, reset", postTen + "hello", true, postTenOut + "hello"},
		{"chunked, between chunks", chunkedPost + "5\r\nhello\r\n", false,
			chunkedOut + "5\r\nhello\r\n"},
		{"chunked, before the end", chunkedPost + "5\r\nhello\r\n0\r\n", false,
			chunkedOut + "5\r\nhello\r\n"},
		{"chunked, reset", chunkedPost + "5\r\nhello\r\n", true, chunkedOut + "5\r\nhello\r\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, generous())
			client := r.send(c.request)
			backend := r.accept()
			backend.expect(c.wantSent)
			if c.reset {
				client.reset()
			} else {
				client.CloseWrite()
			}
			if more := backend.gone(); more != "" {
				t.Errorf("then the backend read %q", more)
			}
			if e := r.wantClientsFault(); e.Status != 0 {
				t.Errorf("status %d", e.Status)
			}
		})
	}
}

// A malformed chunked request is answered with 400, and not completed at the
// backend.
func TestMalformedChunks(t *testing.T) {
	t.Parallel()
	const (
		chunk = "the chunked body is malformed: a chunk with "
		size  = chunk + "a size that is not a hexadecimal number"
		line  = chunk + "a line that does not end in CRLF"
		data  = chunk + "more data than its size says"
		ext   = chunk + "a malformed extension"
	)
	for _, c := range []struct{ name, body, status, reason string }{
		{"size 0x5", "0x5\r\nhello\r\n0\r\n\r\n", bad, size},
		{"size +5", "+5\r\nhello\r\n0\r\n\r\n", bad, size},
		{"size -5", "-5\r\nhello\r\n0\r\n\r\n", bad, size},
		{"size 5_", "5_\r\nhello\r\n0\r\n\r\n", bad, size},
		{"size of 17 digits", "10000000000000005\r\nhello\r\n0\r\n\r\n", bad,
			chunk + "a size that is not below 2^63"},
		{"empty size", "\r\nhello\r\n0\r\n\r\n", bad, size},
		{"extension without size", ";x\r\nhello\r\n0\r\n\r\n", bad, size},
		{"space before the size", " 5\r\nhello\r\n0\r\n\r\n", bad, size},
		{"\\x0b behind the size", "5\x0b\r\nhello\r\n0\r\n\r\n", bad, size},
		{"bare LF behind the size", "5\nhello\r\n0\r\n\r\n", bad, line},
		{"bare LF in an extension", "5;x\ny\r\nhello\r\n0\r\n\r\n", bad, line},
		{"bare CR in an extension", "5;x\ry\r\nhello\r\n0\r\n\r\n", bad, ext},
		{"bare LF behind the data", "5\r\nhello\n0\r\n\r\n", bad, line},
		{"data longer than the size", "4\r\nhello\r\n0\r\n\r\n", bad, data},
		{"data shorter than the size", "6\r\nhello\r\n0\r\n\r\n", bad, line},
		{"too long an extension", "5;" + strings.Repeat("x", 5000) + "\r\nhello\r\n0\r\n\r\n", bad,
			chunk + "a line that is too long"},
		{"extensions without end",
			strings.Repeat("1;"+strings.Repeat("x", 1000)+"\r\nx\r\n", 40) + "0\r\n\r\n", bad,
			chunk + "too many extensions"},
		{"trailer with a bare LF", "0\r\nT: 1\n\r\n", bad, "a line ends in a bare LF; HTTP wants " +
			"CRLF (try nc -C)"},
		{"trailer with a bare CR", "0\r\nT: 1\r2\r\n\r\n", bad, "a bare CR or a NUL in the header"},
		{"trailer with a space", "0\r\nT : 1\r\n\r\n", bad, "a field's name is malformed"},
		{"trailer folded", "0\r\nT: 1\r\n U: 2\r\n\r\n", bad, "a field's name is malformed"},
		{"trailer too long", "0\r\nT: " + strings.Repeat("x", 9000) + "\r\n\r\n",
			"431 Request Header Fields Too Large", "the trailers are larger than 8 KiB"},
		{"trailers without end", "0\r\n" + strings.Repeat("T: 1\r\n", 2000), "431 Request Header " +
			"Fields Too Large", "more than 200 trailers"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, generous())
			client := r.send(chunkedPost + c.body)
			backend := r.accept()
			sent := backend.gone()
			if !strings.HasPrefix(sent, chunkedOut) {
				t.Errorf("the backend read %q", sent)
			} else if strings.HasSuffix(sent, "0\r\n\r\n") {
				t.Errorf("the backend got a complete request: %q", sent)
			}
			client.end(page(c.status, c.reason))
			client.Close()
			r.wantClientsFault()
		})
	}
}

// -max-body.
func TestMaxBody(t *testing.T) {
	t.Parallel()
	limits := generous()
	limits.MaxBody = 10
	tooLarge := page("413 Content Too Large", "the body is larger than -max-body allows")
	t.Run("length", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, limits)
		client := r.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n12345678901")
		client.end(tooLarge)
		client.Close()
		r.wantClientsFault()
		r.untouched()
	})
	t.Run("chunked", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, limits)
		client := r.send(chunkedPost + "a\r\n1234567890\r\n")
		backend := r.accept()
		backend.expect(chunkedOut + "a\r\n1234567890\r\n")
		client.send("1\r\n1\r\n0\r\n\r\n")
		if more := backend.gone(); more != "" {
			t.Errorf("then %q", more)
		}
		client.end(tooLarge)
		client.Close()
		r.wantClientsFault()
	})
	t.Run("just as large", func(t *testing.T) {
		t.Parallel()
		for _, c := range []struct {
			in,
			out string
		}{{postTen + "1234567890", postTenOut + "1234567890"},
			{chunkedPost + "a\r\n1234567890\r\n0\r\n\r\n", chunkedOut + "a\r\n1234567890\r\n" +
				"0\r\n\r\n"}} {
			r := newRig(t, limits)
			client := r.send(c.in)
			backend := r.accept()
			backend.expect(c.out)
			backend.send(ok)
			client.end(okOut)
			r.wantSuccess()
		}
	})
	t.Run("responses have no limit", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, limits)
		client := r.send(get)
		backend := r.accept()
		backend.expect(getOut)
		backend.send(status + chunks + "\r\n14\r\n01234567890123456789\r\n0\r\n\r\n")
		client.end(status + viaOut + chunks + closing + "14\r\n01234567890123456789\r\n0\r\n\r\n")
		r.wantSuccess()
	})
}

// A client that leaves cancels the backend's work, at whatever point, and that
// is the client's failure.
func TestClientLeaves(t *testing.T) {
	t.Parallel()
	leave := map[string]func(*wire){
		"reset": (*wire).reset,
		"close": func(w *wire) { w.Close() },
	}
	for how, leave := range leave {
		for _, c := range []struct {
			name, request, response string
		}{
			{"while the backend works", get, ""},
			{"while the backend works, after a body", postTen + "0123456789", ""},
			{"while the backend works, after chunks", chunkedPost + "0\r\n\r\n", ""},
			{"after 103", get, "HTTP/1.1 103 Early Hints\r\n\r\n"},
			{"in a body of known length", get, status + "Content-Length: 1000000\r\n\r\nhello"},
			{"in a chunked body", get, status + chunks + "\r\n5\r\nhello\r\n"},
			{"in a body until close", get, status + "\r\nhello"},
			{"in an upload", postTen + "hello", ""},
			{"in an upload, after the response began", postTen + "hello",
				status + chunks + "\r\n5\r\nhello\r\n"},
		} {
			t.Run(how+" "+c.name, func(t *testing.T) {
				t.Parallel()
				r := newRig(t, generous())
				client := r.send(c.request)
				backend := r.accept()
				backend.until("\r\n\r\n")
				if c.response != "" {
					backend.send(c.response)
					client.until("\r\n\r\n")
				}
				leave(client)
				backend.gone() // and not after minutes
				// After FIN it might still listen: then it is told.
				if e := r.wantClientsFault(); e.Status != 0 && (how == "reset" || e.Status != 408) {
					t.Errorf("status %d", e.Status)
				}
			})
		}
	}
}

// The client leaves while the body flows at full speed, through the kernel and
// through the buffer.
func TestClientLeavesMidStream(t *testing.T) {
	t.Parallel()
	for name, head := range map[string]string{"length": "Content-Length: 10000000000\r\n\r\n",
		"until close": "\r\n"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, generous())
			client := r.send(get)
			backend := r.accept()
			backend.expect(getOut)
			go func() { // ends when the proxy closes the connection
				io.WriteString(backend, status+head)
				for buf := make([]byte, 64<<10); ; {
					if _, err := backend.Write(buf); err != nil {
						return
					}
				}
			}()
			io.CopyN(io.Discard, client, 3<<20)
			client.reset()
			r.wantClientsFault()
		})
	}
}

// The backend leaves while the body flows at full speed: its failure.
func TestBackendLeavesMidStream(t *testing.T) {
	t.Parallel()
	r := newRig(t, generous())
	client := r.send(get)
	backend := r.accept()
	backend.expect(getOut)
	go func() { // ends when it has sent its part
		io.WriteString(backend, status+"Content-Length: 10000000000\r\n\r\n")
		io.CopyN(backend, zeros{}, 3<<20)
		backend.reset()
	}()
	io.Copy(io.Discard, client)
	r.wantBackendsFault(502)
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// A backend that breaks off an upload without a word.
func TestBackendLeavesDuringUpload(t *testing.T) {
	t.Parallel()
	for _, size := range []string{"Content-Length: 10000000000\r\n\r\n",
		"Transfer-Encoding: chunked\r\n\r\n2540be400\r\n"} {
		r := newRig(t, generous())
		client := r.send("POST / HTTP/1.1\r\nHost: a\r\n" + size)
		go io.Copy(client, zeros{}) // ends when the connection breaks
		backend := r.accept()
		io.CopyN(io.Discard, backend, 1<<20)
		backend.reset()
		got := client.untilEnd()
		if !strings.HasPrefix(got, "HTTP/1.1 502 Bad Gateway\r\n") {
			t.Errorf("the client read %q", got)
		}
		client.Close()
		r.wantBackendsFault(502)
	}
}

// untilEnd reads up to the end of file or a reset.
func (w *wire) untilEnd() string {
	b, _ := io.ReadAll(w)
	return masked(b)
}

// A client that has nothing more to say (nc -N) still gets its answer.
func TestHalfClosedClient(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, in, out string }{
		{"no body", get, getOut},
		{"length", postTen + "0123456789", postTenOut + "0123456789"},
		{"chunked", chunkedPost + "0\r\n\r\n", chunkedOut + "0\r\n\r\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, generous())
			client := r.send(c.in)
			backend := r.accept()
			backend.expect(c.out)
			client.CloseWrite()
			backend.send(ok)
			client.end(okOut)
			r.wantSuccess()
		})
	}
}

// It also gets an answer that it reads slowly: nothing is sent while its
// window is full, but it is there.
func TestHalfClosedSlowReader(t *testing.T) {
	t.Parallel()
	for name, head := range map[string]string{"length": "Content-Length: 400000\r\n\r\n",
		"until close": "\r\n"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, generous(), small)
			client := r.dial()
			client.SetReadBuffer(8 << 10)
			client.send(get)
			backend := r.accept()
			backend.expect(getOut)
			go func() { // ends with the body
				io.WriteString(backend, status+head)
				io.CopyN(backend, zeros{}, 400_000)
				backend.CloseWrite()
			}()
			client.until("\r\n\r\n")
			client.CloseWrite()
			time.Sleep(HalfCloseGrace*2 + HalfCloseGrace/2) // it is busy elsewhere
			got, err := io.Copy(io.Discard, client)
			if got < 400_000 || err != nil {
				t.Errorf("%d bytes and %v, want 400,000 and more", got, err)
			}
			r.wantSuccess()
		})
	}
}

// A response that comes before the upload has ended arrives intact, although
// the backend has had enough and the client goes on sending.
func TestEarlyResponse(t *testing.T) {
	t.Parallel()
	const length = 600_000 // more than goes into the socket buffers at once
	body := strings.Repeat("0123456789", length/10)
	answer := "HTTP/1.1 413 Too Large\r\nDate: x\r\nContent-Length: 600000\r\n\r\n" + body
	want := "HTTP/1.1 413 Too Large\r\nDate: x\r\nVia: 1.1 test\r\nContent-Length: 600000\r\n" +
		"Connection: close\r\n\r\n" + body
	for name, end := range map[string]func(*wire){
		"backend keeps the connection": func(*wire) {},
		"backend closes":               func(w *wire) { w.Close() }, // with unread bytes: RST
		"backend ends its sending":     func(w *wire) { w.CloseWrite() },
	} {
		for _, upload := range []string{"Content-Length: 10000000000\r\n\r\n",
			"Transfer-Encoding: chunked\r\n\r\n2540be400\r\n"} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				r := newRig(t, generous(), small)
				client := r.send("POST / HTTP/1.1\r\nHost: a\r\n" + upload)
				go io.Copy(client, zeros{}) // ends when the connection breaks
				backend := r.accept()
				backend.until("\r\n\r\n")
				go func() { // ends when it has answered
					io.WriteString(backend, answer)
					if name == "backend closes" {
						// The response has to have left before RST does.
						waitSent(t, backend)
					}
					end(backend)
				}()
				var got strings.Builder
				for b := make([]byte, 16<<10); got.Len() < len(want); {
					time.Sleep(time.Millisecond) // slowly, so that a reset could overtake
					n, err := client.Read(b)
					got.Write(b[:n])
					if err != nil {
						t.Errorf("after %d bytes: %v", got.Len(), err)
						break
					}
				}
				if got.String() != want {
					t.Errorf("%d bytes came, want %d", got.Len(), len(want))
				}
				client.Close()
				r.result()
			})
		}
	}
}

// A client that has its answer early, and goes on with its body after a silence,
// is still read from: a reset would destroy the answer on its way.
func TestLingers(t *testing.T) {
	t.Parallel()
	r := newRig(t, generous())
	client := r.send(postTen + "01234")
	backend := r.accept()
	backend.expect(postTenOut + "01234")
	backend.send(ok)
	client.expect(okOut)
	time.Sleep(2 * time.Second) // nginx waits for 5
	client.send("567")
	time.Sleep(100 * time.Millisecond) // for a reset to arrive
	client.send("89")
	client.end("")
	client.Close()
	r.wantSuccess()
}

// Behind a request the client may have sent another one. It is not read, and
// it does not destroy the answer to the first.
func TestPipelined(t *testing.T) {
	t.Parallel()
	r := newRig(t, generous())
	client := r.send(get + strings.Repeat(get, 2000))
	backend := r.accept()
	backend.expect(getOut)
	backend.send(ok)
	client.end(okOut)
	client.Close()
	backend.end("")
	r.wantSuccess()
}

// When the kernel's news of a reset reaches the goroutine that writes, the one
// that reads must not take the end that it sees for a regular one.
func TestResetDuringUploadIsNoEnd(t *testing.T) {
	t.Parallel()
	for range 20 {
		r := newRig(t, generous())
		client := r.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n")
		backend := r.accept()
		backend.until("\r\n\r\n")
		backend.send(status + "\r\nhello")
		client.expect(status + viaOut + chunks + closing + "5\r\nhello\r\n")
		go io.Copy(client, zeros{}) // ends when the connection breaks
		io.CopyN(io.Discard, backend, 1<<20)
		backend.reset()
		if more := client.untilEnd(); more != "" {
			t.Fatalf("a response cut short was ended with %q", more)
		}
		client.Close()
		if r.result() == nil {
			t.Fatal("the exchange succeeded")
		}
	}
}

// Nobody is told anything when the client left without a word.
func TestClientWithoutRequest(t *testing.T) {
	t.Parallel()
	for name, leave := range map[string]func(*wire){
		"close":      func(w *wire) { w.Close() },
		"half-close": func(w *wire) { w.CloseWrite(); w.end("") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, generous())
			leave(r.dial())
			if err := r.result(); !errors.Is(err, ErrNoRequest) {
				t.Errorf("%v", err)
			}
			r.untouched()
			if s := r.narrator.Summary(); s.Failed != 0 {
				t.Errorf("%d failed", s.Failed)
			}
		})
	}
	t.Run("reset", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, generous())
		r.dial().reset()
		r.wantClientsFault()
		r.untouched()
	})
	t.Run("in the header", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, generous())
		client := r.send("GET / HTTP/1.1\r\nHo")
		client.CloseWrite()
		client.end("")
		r.wantClientsFault()
		r.untouched()
	})
}

// waitSent returns when the kernel has got rid of all that was written.
func waitSent(t *testing.T, w *wire) {
	raw, err := w.SyscallConn()
	if err != nil {
		t.Error(err)
		return
	}
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		pending := 0
		raw.Control(func(fd uintptr) { pending = unsent(fd) })
		if pending == 0 {
			return
		}
	}
	t.Error("the bytes stay in the kernel")
}

// A backend breaks off while a request's body is being sent: both sides of the
// try notice, each in its goroutine, and the second one does so while the first
// is being ended.
func TestBothSidesNoticeAReset(t *testing.T) {
	t.Parallel()
	failed, sent := make(chan bool), make(chan bool)
	r := newRig(t, generous(), func(r *rig) {
		r.narrator = narrate.New(narrate.All, func(e narrate.Event) {
			if e.Step == narrate.ReadResponse {
				close(failed)
				<-sent
			}
		})
	})
	client := r.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
	backend := r.accept()
	backend.until("\r\n\r\n")
	backend.reset()
	<-failed
	client.send("1\r\nx\r\n")
	time.Sleep(20 * time.Millisecond) // the other side meets the reset
	close(sent)
	client.end(page("502 Bad Gateway", "the backend broke the connection"))
	client.Close()
	r.wantBackendsFault(502)
}
