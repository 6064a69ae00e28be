// Problem: a client wants an answer that only another server has, the
// backend.
// New idea: a program in between reads the request, forwards it, returns
// the answer.
// Still open: it serves one client at a time, so a slow one makes all
// others wait (ch3, ch4).
// C: Reverse_Proxy.c, steps 1–3 lines 17–36, 4 line 43, 5–10 lines 52–113
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
	app      *cli.App
	settings *forward.Settings
	once     bool
}

func main() {
	app := cli.New("127.0.0.1:8000")
	p := &proxy{app: app, settings: forward.Flags(app)}
	app.Flags.BoolVar(&p.once, "once", false,
		"exit after one client, as the C program does")
	app.Start()

	// 1–3. Create a socket, bind it to an address, listen: net.Listen, one
	// call below, makes all three calls (C: socket, bind, listen).
	listener, err := forward.Listen(app.Listen)
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
		// handshake with the kernel (C: accept).
		conn, err := listener.Accept()
		if err != nil {
			if p.app.Stopped(err) {
				return
			}
			pause.After(err)
			continue
		}
		p.handleClient(conn, p.app.Log.Accept(conn))
		if p.once {
			return
		}
	}
}

// handleClient serves one client: one request, one response.
func (p *proxy) handleClient(conn net.Conn, log *narrate.Conn) (err error) {
	client := forward.NewClient(conn, p.settings, log)

	// 10. At the end, tell the client what failed, if anything did, and
	// close its socket: it reads end of file (C: close).
	defer client.Close(&err)

	// 5. Read the request from the client, up to the empty line that ends
	// its header; the kernel holds the rest until it is wanted (C: read).
	request, err := forward.ReadRequest(client)
	if err != nil {
		return err
	}

	// 6. Connect to the backend: returns when the backend's kernel has
	// completed the handshake (C: socket, connect).
	backend, err := forward.Connect(p.app.Backends[0], request)
	if err != nil {
		return err
	}

	// 10. At the end, close the backend's socket first (C: close).
	defer backend.Close()

	// 7. Write the request to the backend: returns when the kernel has
	// taken the bytes, not when the backend has read them (C: write).
	if err := request.Write(backend); err != nil {
		return err
	}

	// 8. Read the response from the backend, up to the end of its header:
	// returns when the backend has begun to answer (C: read).
	response, err := forward.ReadResponse(backend, request)
	if err != nil {
		return err
	}

	// 9. Write the response to the client, each part of the body as it
	// comes from the backend (C: write).
	return response.Write(client)
}
