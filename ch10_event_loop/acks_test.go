//go:build linux

package main

import (
	"io"
	"math"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reverseproxy/internal/harness"
)

// delayedAck is how long the kernel puts an acknowledgement off at least.
const delayedAck = 40 * time.Millisecond

// atLast has something done again until it is as it should be: on a busy machine it may take
// longer than delayedAck for another reason, and what takes so long is acknowledged without
// data. It gives up after harness.Patience.
func atLast(once func() (good bool)) {
	for end := time.Now().Add(harness.Patience); !once() && time.Now().Before(end); {
	}
}

// The last packet of the handshake with the backend is the request's, and the request is
// acknowledged with its response: no packet has that only. The response is acknowledged with
// what follows, another request or FIN.
func TestAcksTravel(t *testing.T) {
	for _, c := range []struct {
		flags []string
		want  uint32 // packets, to either, before the backend has answered
		then  uint32 // and to the backend, when it has
	}{
		{[]string{"-without", "piggyback"}, 3, 4},
		{nil, 2, 2},
	} {
		p := harness.StartWithBackend(t, harness.Chapter(10), c.flags...)
		const most = uint32(math.MaxUint32)
		toClient, toBackend, then := most, most, most
		atLast(func() bool {
			client := p.Dial(t)
			client.Send(request)
			backend := p.Backend.Accept(t)
			backend.Head()
			toBackend = min(toBackend, packets(t, backend))
			backend.Send(response)
			client.Head()
			toClient = min(toClient, packets(t, client))
			then = min(then, packets(t, backend))
			backend.Close()
			client.Close()
			return toClient == c.want && toBackend == c.want && then == c.then
		})
		if toClient != c.want || toBackend != c.want || then != c.then {
			t.Errorf("%v: %d packets came to the client, want %d; %d to the backend, want %d; "+
				"%d when it had answered, want %d",
				c.flags, toClient, c.want, toBackend, c.want, then, c.then)
		}
	}
}

// The last answer on a connection, the connection's end, and the request's acknowledgement
// are one packet.
func TestTheEndTravels(t *testing.T) {
	const closing = " / HTTP/1.1\r\nHost: loop.test\r\nConnection: close\r\n"
	for name, c := range map[string]struct {
		flags           []string
		request, answer string
		want            uint32 // packets to the client
	}{
		"whole":    {nil, "GET" + closing, response, 2},
		"no body":  {nil, "HEAD" + closing, response, 2},
		"HTTP/1.0": {nil, "GET / HTTP/1.0\r\n", response, 2},
		"two pieces": {nil, "GET" + closing,
			"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 4},
		"separate": {[]string{"-without", "piggyback"}, "GET" + closing, response, 4},
	} {
		t.Run(name, func(t *testing.T) {
			p := harness.StartWithBackend(t, harness.Chapter(10), c.flags...)
			least := uint32(math.MaxUint32)
			atLast(func() bool {
				client := p.Dial(t)
				client.Send(c.request + "\r\n")
				backend := p.Backend.Accept(t)
				backend.Head()
				backend.Send(c.answer)
				client.End()
				least = min(least, packets(t, client))
				client.Close()
				backend.Close()
				return least == c.want
			})
			if least != c.want {
				t.Errorf("%d packets came to the client, want %d", least, c.want)
			}
		})
	}
}

// packets is how many have come to c, with that of the handshake.
func packets(t *testing.T, c *harness.Conn) uint32 {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var info *unix.TCPInfo
	raw.Control(func(fd uintptr) {
		info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	})
	if err != nil {
		t.Fatal(err)
	}
	return info.Segs_in
}

// promptly has something done and measured. None of it may wait for an acknowledgement that
// is put off.
func promptly(t *testing.T, once func() time.Duration) {
	t.Helper()
	best := time.Hour
	atLast(func() bool {
		best = min(best, once())
		return best < delayedAck
	})
	if best >= delayedAck {
		t.Errorf("it took %v at least, want less than %v", best, delayedAck)
	}
}

// answer is a response in pieces.
var answer = []string{"HTTP/1.1 200 OK\r\n", "Content-Length: 2\r\n\r\n", "ok"}

// Who sends a message in small pieces with Nagle's algorithm sends the next one when the one
// before is acknowledged. The proxy does not put that off.
func TestPiecesAreAcknowledgedAtOnce(t *testing.T) {
	const head = "POST / HTTP/1.1\r\nHost: loop.test\r\nConnection: close\r\n"
	for name, request := range map[string][]string{
		"header": {head, "Content-Length: 0\r\n", "\r\n"},
		"body":   {head + "Content-Length: 4\r\n\r\n", "ab", "cd"},
		"chunked body": {head + "Transfer-Encoding: chunked\r\n\r\n", "1\r\na\r\n",
			"0\r\n\r\n"},
		"whole, but the answer in pieces": {head + "Content-Length: 0\r\n\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			p := harness.StartWithBackend(t, harness.Chapter(10))
			promptly(t, func() time.Duration {
				client := p.Dial(t)
				client.SetNoDelay(false)
				began := time.Now()
				for _, piece := range request {
					client.Send(piece)
				}
				backend := p.Backend.Accept(t)
				backend.SetNoDelay(false)
				backend.Request()
				for _, piece := range answer {
					backend.Send(piece)
				}
				io.Copy(io.Discard, client)
				return time.Since(began)
			})
		})
	}
}

// The same of answers, of the first one over a connection and of a later one.
func TestAnswersInPieces(t *testing.T) {
	for name, answer := range map[string][]string{
		"length": {"HTTP/1.1 200 OK\r\n", "Content-Length: 2\r\n\r\n", "o", "k"},
		"chunked": {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1", "\r\no\r\n",
			"0\r\n\r\n"},
		"interim": {"HTTP/1.1 103 Early Hints\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n",
			"\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			p := harness.StartWithBackend(t, harness.Chapter(10))
			promptly(t, func() (longest time.Duration) {
				client := p.Dial(t)
				defer client.Close()
				var backend *harness.Conn
				for range 3 {
					began := time.Now()
					client.Send(request)
					if backend == nil {
						backend = p.Backend.Accept(t)
						defer backend.Close()
						backend.SetNoDelay(false)
					}
					backend.Head()
					for _, piece := range answer {
						backend.Send(piece)
					}
					client.TryResponse("GET")
					longest = max(longest, time.Since(began))
				}
				return longest
			})
		})
	}
}

// And of what both send behind 101, in turn.
func TestTunnelInPieces(t *testing.T) {
	p := harness.StartWithBackend(t, harness.Chapter(10))
	promptly(t, func() time.Duration {
		client := p.Dial(t)
		client.SetNoDelay(false)
		client.Send("GET / HTTP/1.1\r\nHost: loop.test\r\nConnection: upgrade\r\n" +
			"Upgrade: x\r\n\r\n")
		backend := p.Backend.Accept(t)
		backend.SetNoDelay(false)
		backend.Head()
		began := time.Now()
		backend.Send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n" +
			"Upgrade: x\r\n\r\n")
		client.Head()
		for range 3 {
			for _, way := range [][2]*harness.Conn{{backend, client}, {client, backend}} {
				way[0].Send("a")
				way[0].Send("b")
				io.ReadFull(way[1].R, make([]byte, 2))
			}
		}
		took := time.Since(began)
		client.Close()
		backend.Close()
		return took
	})
}

// And of a body's rest, when the proxy has sent something to the client meanwhile.
func TestRestInPieces(t *testing.T) {
	const head = "POST / HTTP/1.1\r\nHost: loop.test\r\nContent-Length: 3\r\n"
	for name, c := range map[string]struct{ head, answer string }{
		"100 Continue":    {head + "Expect: 100-continue\r\n", "HTTP/1.1 100 Continue\r\n\r\n"},
		"an early answer": {head, response},
	} {
		t.Run(name, func(t *testing.T) {
			p := harness.StartWithBackend(t, harness.Chapter(10))
			promptly(t, func() time.Duration {
				client := p.Dial(t)
				client.SetNoDelay(false)
				client.Send(c.head + "\r\n")
				backend := p.Backend.Accept(t)
				backend.Head()
				began := time.Now()
				backend.Send(c.answer)
				client.Head()
				for range 3 {
					client.Send("a")
				}
				if c.answer == response { // the rest is read, and dropped
					client.Send(request)
					backend.Close()
					backend = p.Backend.Accept(t)
					backend.Head()
				} else {
					io.ReadFull(backend.R, make([]byte, 3))
				}
				backend.Send(response)
				client.Head()
				took := time.Since(began)
				client.Close()
				backend.Close()
				return took
			})
		})
	}
}

// Nor does it where an answer comes before its request has ended.
func TestEarlyAnswerInPieces(t *testing.T) {
	p := harness.StartWithBackend(t, harness.Chapter(10))
	promptly(t, func() time.Duration {
		client := p.Dial(t)
		began := time.Now()
		client.Send("POST / HTTP/1.1\r\nHost: loop.test\r\nContent-Length: 10\r\n\r\n")
		backend := p.Backend.Accept(t)
		backend.SetNoDelay(false)
		backend.Head()
		client.Send("a part")
		io.ReadFull(backend.R, make([]byte, 6))
		for _, piece := range answer {
			backend.Send(piece)
		}
		client.TryResponse("POST")
		took := time.Since(began)
		client.Close()
		return took
	})
}
