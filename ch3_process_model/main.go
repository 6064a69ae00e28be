// Problem: while one client is served, all others wait.
// New idea: a child process for each connection inherits its socket.
// Still open: to start a process costs milliseconds (ch4).
// C: fork_proxy.c, steps 1–3 lines 21–41, 4 line 51, 5–10 lines 69–137
// Run: go run ./ch3_process_model -demo
package main

import (
	"net"
	"os"
	"os/exec"

	"reverseproxy/ch2_basic_proxy/backoff"
	"reverseproxy/ch2_basic_proxy/forward"
	"reverseproxy/ch3_process_model/family"
	"reverseproxy/internal/cli"
	"reverseproxy/internal/narrate"
)

type proxy struct {
	app      *cli.App
	settings *forward.Settings
	family   *family.Family
}

func main() {
	app := cli.New("127.0.0.1:8000")
	p := &proxy{app: app, settings: forward.Flags(app)}
	p.family = family.Flags(app)
	app.Start()
	if p.family.IsChild() { // in C, fork has returned 0
		for conn, log := range p.family.Clients() { // -prefork: many
			p.handleClient(conn, log)
		}
		os.Exit(p.family.Status()) // 0: the client is answered (C: exit)
	}
	p.family.Prepare()

	// 1–3. Create a socket, bind it to an address, listen: net.Listen, one
	// call below, makes all three calls (C: socket, bind, listen).
	listener, err := forward.Listen(app.Listen)
	if err != nil {
		app.Fatal(err)
	}
	app.Ready(listener)

	if !p.family.Prefork(listener) { // -prefork: its children accept
		p.serve(p.family.Limit(listener))
	}
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
		log := p.app.Log.Accept(conn)
		if err := p.start(conn, log); err != nil {
			go p.refuse(conn, log, err) // ends when the client knows
			continue
		}
		// The child has the socket. The parent's copy must go, too: the
		// client reads end of file when none is left (C: close).
		conn.Close()
	}
}

// start starts a child that serves a client, and sees to its end.
func (p *proxy) start(conn net.Conn, log *narrate.Conn) error {
	socket, err := family.File(conn) // one more descriptor of it (dup)
	if err != nil {
		return err
	}
	defer socket.Close()
	// fork alone would copy one thread; Go needs all of them. So the child
	// is this program anew, with the socket as its file 3 (C: fork).
	cmd := exec.Command(p.family.Program(), p.family.Args()...)
	cmd.ExtraFiles = []*os.File{socket}
	child := p.family.Child(cmd, conn, log) // with a pipe to narrate by
	if err := child.Start(); err != nil {
		return err
	}
	go func() { // ends with the child
		defer p.family.End()
		child.Relay()  // its narration
		child.Wait()   // or a zombie would stay (C: wait, missing)
		child.Report() // how it has ended
	}()
	return nil
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

// refuse answers a client for whom no child could be started.
func (p *proxy) refuse(conn net.Conn, log *narrate.Conn, cause error) {
	defer p.family.End()
	err := forward.Unavailable("no process could be started", cause)
	forward.NewClient(conn, p.settings, log).Close(&err)
}
