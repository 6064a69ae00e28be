// This proxy is ch4_threaded with a fault that can be chosen: the harness's
// scenarios must find each, and must find nothing with -fault none.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"reverseproxy/ch2_basic_proxy/backoff"
	"reverseproxy/ch2_basic_proxy/forward"
	"reverseproxy/internal/cli"
	"reverseproxy/internal/narrate"
)

var fault = new(string)

func main() {
	app := cli.New("127.0.0.1:8000")
	app.Flags.StringVar(fault, "fault", "none", "what to do wrong")
	settings := forward.Flags(app)
	app.Start()
	listener, err := net.Listen("tcp", app.Listen)
	if err != nil {
		app.Fatal(err)
	}
	app.Ready(listener)
	pause := backoff.New(app)
	if *fault == "hasty" {
		signal.Reset(os.Interrupt) // Ctrl+C ends it at once
	}
	for {
		client, err := listener.Accept()
		if err != nil {
			if app.Stopped(err) {
				break
			}
			pause.After(err)
			continue
		}
		serve := func(tell *narrate.Conn) { handleClient(app, settings, client, tell) }
		if *fault == "serial" {
			serve(app.Log.Accept(client))
		} else {
			go serve(app.Log.Accept(client)) // ends when the client is served
		}
	}
	if *fault == "rude" {
		os.Exit(3)
	}
	app.Finish()
}

func handleClient(app *cli.App, settings *forward.Settings, client net.Conn,
	tell *narrate.Conn) (err error) {
	switch *fault {
	case "none", "serial", "hasty", "rude":
	case "goroutine":
		go func() { select {} }() // never ends: the fault
	case "descriptor":
		kept = append(kept, must(os.Open(os.DevNull)))
	default:
		client = &faulty{Conn: client, mine: answers.begin()}
	}
	c := forward.NewClient(client, settings, tell)
	defer c.Close(&err)
	request, err := forward.ReadRequest(c)
	if err != nil {
		return err
	}
	backend, err := forward.Connect(app.Backends[0], request)
	if err != nil {
		return err
	}
	defer backend.Close()
	if err := request.Write(backend); err != nil {
		return err
	}
	response, err := forward.ReadResponse(backend, request)
	if err != nil {
		return err
	}
	return response.Write(c)
}

// kept keeps descriptors from being closed by the garbage collector.
var kept []*os.File

func must(f *os.File, err error) *os.File {
	if err != nil {
		log.Fatal(err)
	}
	return f
}

// faulty is a client's connection with the fault.
type faulty struct {
	net.Conn
	read, written int
	slurped       *bytes.Reader // slurp: the whole request
	held          bytes.Buffer  // hold: the response so far
	head          []byte
	mine          int // mix: number of the client
}

func (f *faulty) Read(b []byte) (n int, err error) {
	switch *fault {
	case "short-upload": // reads once, as the C programs do
		if f.read > 0 {
			time.Sleep(50 * time.Millisecond)
			return 0, io.ErrUnexpectedEOF
		}
		n, err = f.Conn.Read(b)
	case "slurp":
		if f.slurped == nil {
			f.slurped = bytes.NewReader(slurp(f.Conn))
		}
		if n, err = f.slurped.Read(b); err == io.EOF {
			n, err = f.Conn.Read(b)
		}
	default:
		n, err = f.Conn.Read(b)
	}
	if *fault == "crash" && errors.Is(err, syscall.ECONNRESET) {
		os.Exit(1)
	}
	if *fault == "raw" && n > 0 {
		os.Stdout.Write(append(b[:n:n], '\n'))
	}
	f.read += n
	return n, err
}

// slurp reads a request of known length into memory.
func slurp(conn net.Conn) []byte {
	all := make([]byte, 0, 1<<20)
	buf := make([]byte, 64<<10)
	for {
		n, err := conn.Read(buf)
		all = append(all, buf[:n]...)
		head, body, found := bytes.Cut(all, []byte("\r\n\r\n"))
		length := 0
		if _, after, ok := strings.Cut(string(head), "Content-Length: "); ok {
			fmt.Sscan(after, &length)
		}
		if err != nil || found && len(body) >= length {
			return all
		}
	}
}

func (f *faulty) Write(b []byte) (int, error) {
	start := f.written
	f.written += len(b)
	switch *fault {
	case "truncate": // what C's single read of 4095 bytes leaves
		if start < 4095 {
			f.Conn.Write(b[:min(len(b), 4095-start)])
		}
		return len(b), nil
	case "corrupt":
		if at := 500_000; start <= at && at < f.written {
			b = bytes.Clone(b)
			b[at-start] ^= 1
		}
	case "hold":
		return f.held.Write(b)
	case "mix":
		b = answers.swap(f.mine, b)
	}
	n, err := f.Conn.Write(b)
	if err != nil && *fault == "crash" {
		os.Exit(1)
	}
	f.head = append(f.head, b[:min(len(b), 1000)]...)
	return n, err
}

func (f *faulty) SetReadDeadline(t time.Time) error {
	if *fault == "patient" && time.Until(t) > 0 {
		return nil
	}
	return f.Conn.SetReadDeadline(t)
}

func (f *faulty) Close() error {
	switch *fault {
	case "hold":
		f.Conn.Write(f.held.Bytes())
	case "swallow": // a response cut short gets its end mark all the same
		if bytes.Contains(f.head, []byte("chunked")) &&
			!bytes.HasSuffix(f.head, []byte("0\r\n\r\n")) {
			io.WriteString(f.Conn, "0\r\n\r\n")
		}
	case "never-close":
		return nil
	}
	return f.Conn.Close()
}

// answers gives every second client the first bytes that another got.
var answers mixer

type mixer struct {
	mu      sync.Mutex
	clients int
	last    []byte
}

func (m *mixer) begin() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.clients++
	return m.clients
}

func (m *mixer) swap(client int, b []byte) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	if client%2 == 0 && m.last != nil {
		return m.last
	}
	m.last = bytes.Clone(b)
	return b
}
