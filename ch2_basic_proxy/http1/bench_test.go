package http1

import "testing"

// browser is a request of ten fields as a browser sends it.
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

const curl = "GET / HTTP/1.1\r\nHost: localhost:8080\r\nUser-Agent: curl/8.0\r\nAccept: */*\r\n\r\n"

const answer = "HTTP/1.1 200 OK\r\nDate: Mon, 23 Nov 2026 08:00:00 GMT\r\n" +
	"Content-Type: application/json\r\n" +
	"Content-Length: 64\r\nConnection: close\r\n\r\n"

// BenchmarkRequest reads a header that has come whole: with a Request that is
// kept, and with a new one each time.
func BenchmarkRequest(b *testing.B) {
	for _, c := range []struct{ name, head string }{{"curl", curl}, {"browser", browser}} {
		head := []byte(c.head)
		read := func(b *testing.B, r *Request) {
			if n := HeadEnd(head, 0); n != len(head) {
				b.Fatal(n)
			}
			if err := r.Parse(head); err != nil {
				b.Fatal(err)
			}
		}
		b.Run(c.name+", kept", func(b *testing.B) {
			var r Request
			b.SetBytes(int64(len(head)))
			b.ReportAllocs()
			for b.Loop() {
				read(b, &r)
			}
		})
		b.Run(c.name+", new", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				read(b, new(Request))
			}
		})
	}
}

func BenchmarkRequestAppend(b *testing.B) {
	var r Request
	if err := r.Parse([]byte(browser)); err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		r.Append(buf, Hop{Via: "proxy", For: "192.0.2.1", Connection: "close"})
	}
}

func BenchmarkResponse(b *testing.B) {
	head := []byte(answer)
	var r Response
	buf := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		if err := r.Parse(head[:HeadEnd(head, 0)], "GET"); err != nil {
			b.Fatal(err)
		}
		r.Append(buf, Length, Hop{Via: "proxy", Connection: "close"})
	}
}
