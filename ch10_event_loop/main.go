//go:build linux

// Problem: a goroutine for each client keeps a stack for each, most of them
// to wait, and every wait changes from one goroutine to another.
// New idea: one thread serves all clients and waits for none: it asks the
// kernel which can go on (epoll). What was a line that blocks is a state.
// Still open: a try that fails is the client's failure, as in ch6 (ch7).
// Run: go run ./ch10_event_loop -demo
package main

import (
	"runtime"
	"sync"

	"reverseproxy/ch10_event_loop/loop"
	"reverseproxy/ch5_load_balancer/balance"
	"reverseproxy/internal/cli"
)

type proxy struct {
	app      *cli.App
	settings *loop.Settings
	turns    *balance.RoundRobin
}

func main() {
	app := cli.New("127.0.0.1:8000", "127.0.0.1:8001", "127.0.0.1:8002")
	p := &proxy{app: app, settings: loop.Flags(app)}
	app.Start()
	p.turns = balance.NewRoundRobin(app.Backends)
	app.AtEnd(p.turns.Tally)

	// 1–3. Create a socket, bind it to an address, listen. With -loops
	// each has its own, and the kernel spreads the clients over them.
	servers, err := loop.Listen(p.settings)
	if err != nil {
		app.Fatal(err)
	}
	var loops sync.WaitGroup
	for _, server := range servers {
		l, err := loop.New(p.settings, server,
			p.accept, p.readRequest, finish)
		if err != nil {
			app.Fatal(err)
		}
		app.OnStop(l.Stop)
		// The loop is all that this goroutine does, on a thread of its own.
		loops.Go(func() {
			runtime.LockOSThread()
			l.Run()
		})
	}
	p.settings.Ready(servers)
	loops.Wait() // until Ctrl+C, and the last client's end
	app.Finish()
}

// accept is called by the loop when clients are in the listener's queue.
func (p *proxy) accept(l *loop.Loop) {
	// 4. Accept them, until the queue is empty: none is waited for.
	for l.Accept() {
	}
}

// Each function below is a state of a connection: what ch4 is doing while
// it waits in a line. It returns the state that follows, or nil: "not yet".
// The loop then serves others, and calls it again when there is more.

// readRequest is where a connection begins, and each further request on it.
func (p *proxy) readRequest(c *loop.Conn) loop.State {
	// 5. Read the request from the client, up to the empty line that ends
	// its header, as much of it as has come.
	if !c.ReadRequest() {
		return nil
	}
	// Choose the backend whose turn it is.
	c.Route(p.turns.Next())
	return connect
}

func connect(c *loop.Conn) loop.State {
	// 6. Take an idle connection to the backend, or have the kernel begin a
	// handshake and come back when that is complete.
	if !c.Connect() {
		return nil
	}
	return forwardRequest
}

func forwardRequest(c *loop.Conn) loop.State {
	// 7. Write the request to the backend, as much as the kernel takes.
	if !c.WriteRequest() {
		return nil
	}
	return readResponse
}

func readResponse(c *loop.Conn) loop.State {
	// 8. Read the response from the backend, up to the end of its header.
	if c.ReadResponse() {
		return sendResponse
	}
	if c.Again() {
		// The backend closed an idle connection just when it was used.
		return connect
	}
	return nil
}

func sendResponse(c *loop.Conn) loop.State {
	// 9. Write the response to the client, each part of the body as it
	// comes from the backend and as the client takes it.
	if !c.WriteResponse() {
		return nil
	}
	return finish
}

// finish is the last state. One that failed comes here as well: the client
// is told what failed, if its answer has not begun.
func finish(c *loop.Conn) loop.State {
	// 10. Keep both connections if they can carry another request;
	// otherwise close them.
	if !c.Finish() {
		return nil
	}
	return c.Begin()
}
