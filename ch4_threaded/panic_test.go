package main

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"reverseproxy/ch2_basic_proxy/forward"
	"reverseproxy/ch4_threaded/workers"
	"reverseproxy/internal/cli"
)

// explosive is a client whose connection panics once: at the first read or,
// with late, at the first write.
type explosive struct {
	net.Conn
	late bool
	once sync.Once
}

func explode() { panic("a fault in the program, made by the test") }

func (e *explosive) Read(b []byte) (int, error) {
	if !e.late {
		e.once.Do(explode)
	}
	return e.Conn.Read(b)
}

func (e *explosive) Write(b []byte) (int, error) {
	if e.late {
		e.once.Do(explode)
	}
	return e.Conn.Write(b)
}

// mined is a listener whose first two clients are explosive.
type mined struct {
	net.Listener
	accepted int
}

func (m *mined) Accept() (net.Conn, error) {
	conn, err := m.Listener.Accept()
	if m.accepted++; err == nil && m.accepted <= 2 {
		return &explosive{Conn: conn, late: m.accepted == 2}, nil
	}
	return conn, err
}

// TestPanicCostsOneConnection runs the chapter's own serve and handleClient.
// There is one slot only, which each panic must give back.
func TestPanicCostsOneConnection(t *testing.T) {
	backend, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "ok")
	})}
	go server.Serve(backend) // ends when the test closes it
	defer server.Close()

	app := cli.New(backend.Addr().String())
	p := &proxy{app: app, settings: forward.Flags(app)}
	p.slots = workers.Flags(app)
	app.Args = []string{"-log", "off", "-max-conns", "1"}
	app.Start()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	// Ends when the test closes the listener.
	go func() {
		p.serve(p.slots.Limit(&mined{Listener: listener}))
		close(served)
	}()

	want := []int{500, 0, 200} // 0: no answer, because writing it is what fails
	for i, status := range want {
		conn, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(20 * time.Second))
		io.WriteString(conn, "GET / HTTP/1.1\r\nHost: proxy.test\r\n\r\n")
		r, err := http.ReadResponse(bufio.NewReader(conn), nil)
		got := 0
		if err == nil {
			got = r.StatusCode
		}
		if got != status {
			t.Errorf("client %d: status %d (%v), want %d", i+1, got, err, status)
		}
		conn.Close()
	}
	app.Log.Drain()
	if s := app.Log.Summary(); s.Connections != 3 || s.Failed != 2 {
		t.Errorf("%+v", s)
	}
	listener.Close()
	<-served
}
