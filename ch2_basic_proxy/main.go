// Problem: a client wants an answer that only another server, the backend, has.
// New idea: a program in between reads the request, forwards it, returns the answer.
// Still open: it serves one client at a time, so a slow one makes all others wait (ch3, ch4).
// Run: go run ./ch2_basic_proxy -demo
package main

import (
	"net"

	"reverseproxy/ch2_basic_proxy/backoff"
	"reverseproxy/ch2_basic_proxy/forward"
	"reverseproxy/internal/cli"
	"reverseproxy/internal/narrate"
)

type proxy struct {
	app    *cli.App
	limits *forward.Limits
	once   bool
}

func main() {
	app := cli.New("127.0.0.1:8000")
	p := &proxy{app: app, limits: forward.Flags(app)}
	app.Flags.BoolVar(&p.once, "once", false, "exit after one client, as the C program does")
	app.Start()

	// 1–3. Create a socket, bind it to an address, listen: net.Listen makes
	// all three calls (C: socket, line 17; bind, line 29; listen, line 36).
	listener, err := net.Listen("tcp", app.Listen)
	if err != nil {
		app.Fatal(err)
	}
	app.Ready(listener)

	p.serve(listener)
	app.Finish()
}

// serve takes clients out of the listener's queue until Ctrl+C.
func (p *proxy) serve(listener net.Listener) {
	pause := backoff.New(p.app)
	for {
		// 4. Accept a client: returns when one has completed TCP's
		// handshake with the kernel (C: accept, line 43).
		client, err := listener.Accept()
		if err != nil {
			if p.app.Stopped(err) {
				return
			}
			pause.After(err)
			continue
		}
		p.handleClient(client, p.app.Log.Accept(client))
		if p.once {
			return
		}
	}
}

// handleClient serves one client: one request, one response.
func (p *proxy) handleClient(client net.Conn, log *narrate.Conn) (err error) {
	x := forward.NewExchange(client, p.app.Name, p.limits, log)

	// 10. Clean up: tell the client what failed, if anything did, and close
	// both sockets; each peer reads end of file (C: close, lines 112, 113).
	defer x.Close(&err)

	// 5. Read the request, up to the empty line that ends its header; the
	// kernel holds the rest until it is wanted (C: read, line 52).
	if err = x.ReadRequest(); err != nil {
		return err
	}

	// 6. Connect to the backend: returns when the backend's kernel has
	// completed the handshake (C: socket, line 64; connect, line 76).
	if err = x.Connect(p.app.Backends[0]); err != nil {
		return err
	}

	// 7. Forward the request: returns when the kernel has taken the bytes,
	// not when the backend has read them (C: write, line 85).
	if err = x.SendRequest(); err != nil {
		return err
	}

	// 8. Read the response's header: returns when the backend has begun
	// to answer (C: read, line 98).
	if err = x.ReadResponse(); err != nil {
		return err
	}

	// 9. Send the response to the client, each part of the body as it comes
	// from the backend (C: write, line 107).
	return x.SendResponse()
}
