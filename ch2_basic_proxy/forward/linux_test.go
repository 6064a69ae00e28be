//go:build linux

package forward

import (
	"errors"
	"net"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A backend whose queue is full does not even complete the handshake.
func TestConnectTimeout(t *testing.T) {
	t.Parallel()
	limits := generous()
	limits.Connect = short / 5
	r := newRig(t, limits, func(r *rig) { r.target = fullQueue(t) })
	start := time.Now()
	client := r.send(get)
	client.end(page("504 Gateway Timeout", "the backend did not accept the connection in time"))
	if d := time.Since(start); d < limits.Connect {
		t.Errorf("after %v already", d)
	}
	r.wantBackendsFault(504)
}

// fullQueue returns the address of a listening socket whose queue is full.
// Linux then drops what else wants to connect.
func fullQueue(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(name.(*syscall.SockaddrInet4).Port))
	for range 10 {
		// Of a listening socket the kernel tells how many connections wait to be accepted,
		// and the number above which no more may.
		queue, err := unix.GetsockoptTCPInfo(fd, unix.SOL_TCP, unix.TCP_INFO)
		if err != nil {
			t.Fatal(err)
		}
		if queue.Unacked > queue.Sacked {
			return addr
		}
		conn, err := net.DialTimeout("tcp", addr, patience)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
	}
	t.Fatal("the queue takes connections without end")
	return ""
}

// unsent returns how many bytes the peer has not acknowledged yet.
func unsent(fd uintptr) int {
	n, err := unix.IoctlGetInt(int(fd), unix.SIOCOUTQ)
	if err != nil {
		return 0
	}
	return n
}

// A client that leaves while the backend does not accept the connection ends the
// wait for it; so does Abandon.
func TestConnectEnds(t *testing.T) {
	for name, leave := range map[string]func(end *wire, r *Request){
		"reset": func(end *wire, r *Request) { end.reset() },
		"FIN":   func(end *wire, r *Request) { end.Close() },
		"abandoned": func(end *wire, r *Request) {
			r.Abandon(&Error{Status: 504, Reason: "it is enough", By: ByClient})
		},
		"abandoned before": func(end *wire, r *Request) {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			end, client, request := read(t, get)
			client.settings.Connect = patience
			if name == "abandoned before" {
				request.Abandon(&Error{Status: 504, Reason: "it is enough", By: ByClient})
			}
			time.AfterFunc(5*watchAfter, func() { leave(end, request) })
			began := time.Now()
			_, err := Connect(fullQueue(t), request)
			var e *Error
			if !errors.As(err, &e) || e.By != ByClient || e.Sent {
				t.Errorf("it ended with %#v", err)
			}
			if took := time.Since(began); took > patience/2 {
				t.Errorf("it took %v", took)
			}
			client.Close(&err)
		})
	}
}

// What comes from the client while the backend is connected to is not lost.
func TestConnectKeepsWhatComes(t *testing.T) {
	end, client, request := read(t, postTen+"012")
	client.settings.Connect = 10 * watchAfter
	second := make(chan struct{})
	time.AfterFunc(3*watchAfter, func() { end.send("3456"); close(second) })
	if _, err := Connect(fullQueue(t), request); err == nil {
		t.Fatal("it is connected")
	}
	client.settings.Connect = patience
	time.AfterFunc(watchAfter, func() { <-second; end.send("789") })
	addrs := backends(t, func(w *wire) {
		w.expect(postTenOut + "0123456789")
		w.send(ok)
		w.gone()
	})
	err := request.on(t, addrs[0])
	if err != nil {
		t.Error(err)
	}
	client.Close(&err)
	end.end(okOut)
}
