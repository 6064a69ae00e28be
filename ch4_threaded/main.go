// Problem: one client at a time is too few, and a process for each costs milliseconds.
// New idea: a goroutine for each connection, where C starts a thread.
// Still open: all connections are forwarded to one backend only (ch5).
// Run: go run ./ch4_threaded -demo
package main

import (
	"net"

	"reverseproxy/ch2_basic_proxy/backoff"
	"reverseproxy/ch2_basic_proxy/forward"
	"reverseproxy/ch4_threaded/workers"
	"reverseproxy/internal/cli"
	"reverseproxy/internal/narrate"
)

type proxy struct {
	app    *cli.App
	limits *forward.Limits
	pool   *workers.Pool
}

func main() {
	app := cli.New("127.0.0.1:8000")
	p := &proxy{app: app, limits: forward.Flags(app)}
	p.pool = workers.Flags(app)
	app.Start()

	// 1–3. Create a socket, bind it to an address, listen: net.Listen makes
	// all three calls (C: socket, line 95; bind, line 107; listen, line 116).
	listener, err := net.Listen("tcp", app.Listen)
	if err != nil {
		app.Fatal(err)
	}
	app.Ready(listener)

	p.serve(p.pool.Limit(listener))
	app.Finish()
}

// serve takes clients out of the listener's queue until Ctrl+C.
func (p *proxy) serve(listener net.Listener) {
	pause := backoff.New(p.app)
	for {
		// 4. Accept a client: returns when one has completed TCP's
		// handshake with the kernel (C: accept, line 125).
		client, err := listener.Accept()
		if err != nil {
			if p.app.Stopped(err) {
				return
			}
			pause.After(err)
			continue
		}
		// A goroutine of its own serves it, beside all others (C:
		// pthread_create, line 134; pthread_detach, line 142).
		go p.handleClient(client, p.app.Log.Accept(client))
	}
}

// handleClient serves one client: one request, one response.
func (p *proxy) handleClient(client net.Conn, log *narrate.Conn) (err error) {
	p.pool.Begin()
	defer p.pool.End()
	x := forward.NewExchange(client, p.app.Name, p.limits, log)

	// 10. Clean up: tell the client what failed, if anything did, and close
	// both sockets; each peer reads end of file (C: close, lines 81, 82).
	defer x.Close(&err)

	// 5. Read the request, up to the empty line that ends its header; the
	// kernel holds the rest until it is wanted (C: read, line 21).
	if err = x.ReadRequest(); err != nil {
		return err
	}

	// 6. Connect to the backend: returns when the backend's kernel has
	// completed the handshake (C: socket, line 32; connect, line 44).
	if err = x.Connect(p.app.Backends[0]); err != nil {
		return err
	}

	// 7. Forward the request: returns when the kernel has taken the bytes,
	// not when the backend has read them (C: write, line 54).
	if err = x.SendRequest(); err != nil {
		return err
	}

	// 8. Read the response's header: returns when the backend has begun
	// to answer (C: read, line 67).
	if err = x.ReadResponse(); err != nil {
		return err
	}

	// 9. Send the response to the client, each part of the body as it comes
	// from the backend (C: write, line 76).
	return x.SendResponse()
}
