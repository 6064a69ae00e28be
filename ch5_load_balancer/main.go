// Problem: one backend cannot do all the work, and when it is down, nothing
// works.
// New idea: several backends, each in its turn (round robin).
// Still open: one request a connection (ch6); a dead backend still gets
// its turn, and those clients get 502 (ch7, ch8).
// C: proxy_load_balancer.c, steps 1–3 lines 17–36, 4 line 43, 5–10 lines
// 51–118
// Run: go run ./ch5_load_balancer -demo
package main

import (
	"net"

	"reverseproxy/ch2_basic_proxy/backoff"
	"reverseproxy/ch2_basic_proxy/forward"
	"reverseproxy/ch4_threaded/workers"
	"reverseproxy/ch5_load_balancer/balance"
	"reverseproxy/internal/cli"
	"reverseproxy/internal/narrate"
)

type proxy struct {
	app      *cli.App
	settings *forward.Settings
	slots    *workers.Slots
	turns    *balance.RoundRobin
}

func main() {
	app := cli.New("127.0.0.1:8000", "127.0.0.1:8001", "127.0.0.1:8002")
	p := &proxy{app: app, settings: forward.Flags(app)}
	p.slots = workers.Flags(app)
	app.Start()
	p.turns = balance.NewRoundRobin(app.Backends)
	app.AtEnd(p.turns.Tally)

	// 1–3. Create a socket, bind it to an address, listen: net.Listen, one
	// call below, makes all three calls (C: socket, bind, listen).
	listener, err := forward.Listen(app.Listen)
	if err != nil {
		app.Fatal(err)
	}
	app.Ready(listener)

	p.serve(p.slots.Limit(listener))
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
		// A goroutine of its own serves it, beside all others; the C
		// program serves one client at a time.
		go p.handleClient(conn, p.app.Log.Accept(conn))
	}
}

// handleClient serves one client: one request, one response.
func (p *proxy) handleClient(conn net.Conn, log *narrate.Conn) (err error) {
	p.slots.Begin()
	defer p.slots.End()
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

	// Choose the backend whose turn it is (C: lines 71–75).
	addr := p.turns.Next()
	log.Route(addr)

	// 6. Connect to the backend: returns when the backend's kernel has
	// completed the handshake (C: socket, connect).
	backend, err := forward.Connect(addr, request)
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
