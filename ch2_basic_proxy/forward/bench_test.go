package forward

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
)

// browser is a request as a browser sends it.
const browser = "GET /api/data?page=2&sort=name HTTP/1.1\r\n" +
	"Host: www.example.com\r\n" +
	"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n" +
	"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n" +
	"Accept-Language: en-US,en;q=0.5\r\n" +
	"Accept-Encoding: gzip, deflate, br, zstd\r\n" +
	"Connection: keep-alive\r\n" +
	"Cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n" +
	"Upgrade-Insecure-Requests: 1\r\n" +
	"Sec-Fetch-Dest: document\r\n" +
	"Sec-Fetch-Mode: navigate\r\n" +
	"\r\n"

func BenchmarkReadRequest(b *testing.B) {
	for name, s := range map[string]string{"curl": "GET / HTTP/1.1\r\nHost: localhost:8080\r\nUser-Agent: curl/8.0\r\nAccept: */*\r\n\r\n", "browser": browser} {
		b.Run(name, func(b *testing.B) {
			in := strings.NewReader(s)
			r := bufio.NewReaderSize(in, readSize)
			b.SetBytes(int64(len(s)))
			b.ReportAllocs()
			for b.Loop() {
				in.Reset(s)
				r.Reset(in)
				if _, err := ReadRequest(r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAppendHead(b *testing.B) {
	req, err := ReadRequest(bufio.NewReader(strings.NewReader(browser)))
	if err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		req.appendHead(buf, "127.0.0.1:8000", "192.0.2.1:50000", "proxy")
	}
}

func BenchmarkReadResponse(b *testing.B) {
	const s = "HTTP/1.1 200 OK\r\nDate: Mon, 23 Nov 2026 08:00:00 GMT\r\nContent-Type: application/json\r\nContent-Length: 64\r\nConnection: close\r\n\r\n"
	in := strings.NewReader(s)
	r := bufio.NewReaderSize(in, readSize)
	b.ReportAllocs()
	for b.Loop() {
		in.Reset(s)
		r.Reset(in)
		resp, err := ReadResponse(r, "GET")
		if err != nil {
			b.Fatal(err)
		}
		resp.appendHead(nil, Length, "proxy")
	}
}

// BenchmarkExchange is a whole exchange over loopback, with connections of its
// own on both sides; the backend is part of it.
func BenchmarkExchange(b *testing.B) {
	for _, n := range []int{64, 64 << 10, 16 << 20} {
		b.Run(fmt.Sprintf("%d bytes", n), func(b *testing.B) {
			r := newRig(b, generous)
			body := make([]byte, n)
			answer := fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: %d\r\n\r\n", n)
			go func() { // ends when the listener is closed
				for {
					conn, err := r.backend.Accept()
					if err != nil {
						return
					}
					go func() { // ends with the exchange
						defer conn.Close()
						bufio.NewReader(conn).ReadSlice('\n')
						conn.Write(append(answer[:len(answer):len(answer)], body...))
						io.Copy(io.Discard, conn)
					}()
				}
			}()
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				client, err := net.Dial("tcp", r.proxy.Addr().String())
				if err != nil {
					b.Fatal(err)
				}
				io.WriteString(client, browser)
				got, err := io.Copy(io.Discard, client)
				if err != nil || got < int64(n) {
					b.Fatal(got, err)
				}
				client.Close()
				r.wantSuccess()
			}
		})
	}
}
