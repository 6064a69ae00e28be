// Problem: all backends get the same, though not all can do the same.
// New idea: an algorithm chooses, by weights, by what is in flight, by how
// long answers take, by a hash or a cookie; each has its own way to fail.
// Still open: a goroutine and its stack for each client (ch10).
// Run: go run ./ch9_balancing_algorithms -demo

package main

import (
	"net"

	"reverseproxy/ch2_basic_proxy/backoff"
	"reverseproxy/ch2_basic_proxy/forward"
	"reverseproxy/ch4_threaded/workers"
	"reverseproxy/ch6_keep_alive/keep"
	"reverseproxy/ch7_timeouts_retries/retry"
	"reverseproxy/ch9_balancing_algorithms/chooser"
	"reverseproxy/internal/cli"
	"reverseproxy/internal/narrate"
)

type proxy struct {
	app      *cli.App
	settings *forward.Settings
	slots    *workers.Slots
	pool     *keep.Pool
	retry    *retry.Policy
	chooser  *chooser.Chooser
}

func main() {
	app := cli.New("127.0.0.1:8000", "127.0.0.1:8001", "127.0.0.1:8002")
	p := &proxy{app: app, settings: forward.Flags(app)}
	p.slots = workers.Flags(app)
	p.pool = keep.Flags(app, p.slots)
	p.retry = retry.Flags(app)
	p.chooser = chooser.Flags(app, p.settings, p.pool)
	app.Start()

	// 1–3. Create a socket, bind it to an address, listen: net.Listen, one
	// call below, makes all three calls.
	listener, err := forward.Listen(app.Listen)
	if err != nil {
		app.Fatal(err)
	}
	app.Ready(listener)
	p.chooser.Watch()

	p.serve(p.pool.Limit(p.slots.Limit(listener)))
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
		// A goroutine of its own serves it, beside all others.
		go p.handleClient(conn, p.app.Log.Accept(conn))
	}
}

// handleClient serves one client: one request after another.
func (p *proxy) handleClient(conn net.Conn, log *narrate.Conn) (err error) {
	p.slots.Begin()
	defer p.slots.End()
	client := forward.NewClient(conn, p.settings, log)

	// 10. At the end, close the client's socket: it reads end of file.
	defer client.Close(&err)
	defer p.pool.Leave(client)

	for p.pool.Next(client, log) {
		p.handleRequest(client, log)
	}
	return nil
}

// handleRequest serves one request with one response.
func (p *proxy) handleRequest(client *forward.Client,
	log *narrate.Conn) (err error) {
	// At the end, tell the client what failed, if anything did.
	defer client.End(&err)

	// 5. Read the request from the client, up to the empty line that ends
	// its header; the kernel holds the rest until it is wanted.
	request, err := forward.ReadRequest(client)
	if err != nil {
		return err
	}

	// Try the backend that is chosen, of those that are well, then others.
	choice := p.chooser.Begin(request, log)
	tries := p.retry.Begin(request, choice, log)
	defer tries.End(&err)
	for tries.Next(err) {
		err = p.tryBackend(client, request, choice, tries, log)
		if p.pool.Again(request, err, log) {
			// The backend closed an idle connection just when it was used.
			err = p.tryBackend(client, request, choice, tries, log)
		}
		choice.Report(tries.Addr, err) // whose fault is it?
	}
	return err
}

// tryBackend has a request answered by one backend.
func (p *proxy) tryBackend(client *forward.Client, request *forward.Request,
	choice *chooser.Choice, tries *retry.Tries, log *narrate.Conn) error {
	// 6. Take an idle connection to the backend, or connect: returns when
	// the backend's kernel has completed the handshake.
	backend, err := p.pool.Get(tries.Addr, request, log)
	if err != nil {
		return err
	}

	// 10. At the end, keep the connection if it can carry another request;
	// otherwise close it.
	defer p.pool.Put(backend, request, log)

	// 7. Write the request to the backend: returns when the kernel has
	// taken the bytes, not when the backend has read them.
	if err := request.Write(backend); err != nil {
		return err
	}

	// 8. Read the response from the backend, up to the end of its header:
	// returns when the backend has begun to answer.
	response, err := forward.ReadResponse(backend, request)
	if err != nil {
		return err
	}
	choice.Answer(response) // how long that took; it may get a cookie
	if err := tries.Answer(response); err != nil {
		return err // it is a failure, and another backend may do better
	}

	// 9. Write the response to the client, each part of the body as it
	// comes from the backend.
	return response.Write(client)
}
