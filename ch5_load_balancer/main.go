// Problem: one backend cannot do all the work, and when it is down, nothing works.
// New idea: several backends, each in its turn (round robin).
// Still open: a dead backend still gets its turn, and those clients get 502 (ch7, ch8).
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
	app    *cli.App
	limits *forward.Limits
	pool   *workers.Pool
	turns  *balance.RoundRobin
}

func main() {
	app := cli.New("127.0.0.1:8000", "127.0.0.1:8001", "127.0.0.1:8002")
	p := &proxy{app: app, limits: forward.Flags(app)}
	p.pool = workers.Flags(app)
	app.Start()
	p.turns = balance.NewRoundRobin(app.Backends)
	app.AtEnd(p.turns.Tally)

	// 1–3. Create a socket, bind it to an address, listen: net.Listen makes
	// all three calls (C: socket, line 17; bind, line 29; listen, line 36).
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
		// handshake with the kernel (C: accept, line 43).
		client, err := listener.Accept()
		if err != nil {
			if p.app.Stopped(err) {
				return
			}
			pause.After(err)
			continue
		}
		// A goroutine of its own serves it, beside all others; the C
		// program serves one client at a time.
		go p.handleClient(client, p.app.Log.Accept(client))
	}
}

// handleClient serves one client: one request, one response.
func (p *proxy) handleClient(client net.Conn, log *narrate.Conn) (err error) {
	p.pool.Begin()
	defer p.pool.End()
	x := forward.NewExchange(client, p.app.Name, p.limits, log)

	// 10. Clean up: tell the client what failed, if anything did, and close
	// both sockets; each peer reads end of file (C: close, lines 117, 118).
	defer x.Close(&err)

	// 5. Read the request, up to the empty line that ends its header; the
	// kernel holds the rest until it is wanted (C: read, line 51).
	if err = x.ReadRequest(); err != nil {
		return err
	}

	// Choose the backend whose turn it is (C: lines 71–75).
	backend := p.turns.Next()
	log.Route(backend)

	// 6. Connect to the backend: returns when the backend's kernel has
	// completed the handshake (C: socket, line 63; connect, line 83).
	if err = x.Connect(backend); err != nil {
		return err
	}

	// 7. Forward the request: returns when the kernel has taken the bytes,
	// not when the backend has read them (C: write, line 92).
	if err = x.SendRequest(); err != nil {
		return err
	}

	// 8. Read the response's header: returns when the backend has begun
	// to answer (C: read, line 104).
	if err = x.ReadResponse(); err != nil {
		return err
	}

	// 9. Send the response to the client, each part of the body as it comes
	// from the backend (C: write, line 112).
	return x.SendResponse()
}
