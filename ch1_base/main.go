//go:build linux || darwin

// Problem: how does a program become a server that others can connect to?
// New idea: the calls: socket, bind, listen, accept, read, close.
// Still open: nothing is forwarded, and the client gets no answer (ch2).
// C: Base.c, steps 1–2 lines 17–29, 4 line 37, 5 line 46, 10 lines 55–56
// Run: go run ./ch1_base
package main

import (
	"syscall"
	"time"

	"reverseproxy/ch1_base/rawsock"
	"reverseproxy/internal/cli"
	"reverseproxy/internal/narrate"
)

const (
	bufferSize = 4096 // bytes, as in C
	backlog    = 10   // clients that may wait, as in the later C programs
)

func main() {
	app := cli.New()
	skipListen := app.Flags.Bool("skip-listen", false,
		"leave out step 3, as the C program does")
	timeout := app.Flags.Duration("request-timeout", 10*time.Second,
		"`time` for the client to speak")
	app.Check(func() error { return checkTimeout(*timeout) })
	app.Start()

	server := serve(app, *skipListen)
	handleClient(app, server, *timeout)
	app.Finish()
}

// serve makes the socket that clients can connect to.
func serve(app *cli.App, skipListen bool) (server int) {
	addr, err := rawsock.Address(app.Listen)
	must(app, "resolve", err)

	// 1. Create a socket: the kernel makes one and returns its number, the
	// file descriptor (C: socket).
	server, err = syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	must(app, "socket", err)
	rawsock.ReuseAddr(server) // else a restart within a minute would fail
	app.Log.Start(narrate.Socket, "")

	// 2. Bind: give it the address that clients will name (C: bind).
	must(app, "bind", syscall.Bind(server, addr))
	app.Log.Start(narrate.Bind, rawsock.LocalAddr(server))

	// 3. Listen: from now on the kernel completes handshakes by itself and
	// queues the clients (C: listen, missing: that is Base.c's mistake).
	if !skipListen {
		must(app, "listen", syscall.Listen(server, backlog))
		app.Log.Start(narrate.Listen, "")
		app.OnStop(func() { exitIfIdle(app) })
		app.ReadyAt(rawsock.LocalAddr(server))
	}
	return server
}

// handleClient accepts one client and prints what it says.
func handleClient(app *cli.App, server int, timeout time.Duration) {
	// 4. Accept a client: returns a second socket for the first client in
	// the queue, and waits if there is none (C: accept).
	client, peer, err := syscall.Accept(server)
	must(app, "accept", rawsock.ExplainAccept(err))
	log := app.Log.AcceptFrom(rawsock.String(peer))

	// 5. Read what it has sent so far, at most one buffer full; 0 bytes
	// mean that it sends nothing more (C: read).
	buffer := make([]byte, bufferSize)
	rawsock.ReadTimeout(client, timeout)
	n, err := syscall.Read(client, buffer)
	for err == syscall.EINTR { // a signal came in between
		n, err = syscall.Read(client, buffer)
	}
	err = rawsock.ExplainRead(n, err)
	n = max(n, 0) // it is -1 after an error
	if n > 0 {
		log.Begin()
	}
	read := narrate.Event{Calls: "read", Bytes: int64(n), Err: text(err)}
	log.Step(narrate.ReadRequest, read)
	show(app, buffer[:n])

	// 10. Clean up: close both sockets; the client reads end of file
	// (C: close).
	syscall.Close(client)
	syscall.Close(server)
	log.Close(err, err != nil, 0)
}
