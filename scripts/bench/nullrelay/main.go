//go:build linux

// Command nullrelay is the floor under an event loop that forwards: one thread
// moves bytes between pairs of sockets and looks at none of them. What a proxy on
// the same loop needs beyond this, it needs for HTTP.
//
//	go run ./scripts/bench/nullrelay -listen 127.0.0.1:8080 -backend 127.0.0.1:8000
package main

import (
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"reverseproxy/scripts/bench/rawsock"
)

const (
	bufferSize   = 16 << 10 // bytes of one read
	eventsAtOnce = 512      // that one epoll_wait returns

	yieldEvery = 5 * time.Millisecond // half of what the Go runtime allows
)

// side is one socket of a pair.
type side struct {
	fd       int
	pair     int32 // its number, which no later pair has on the same descriptors
	peer     *side
	client   bool
	readable bool   // a read may bring something
	writable bool   // a write may take something
	ending   bool   // the kernel has told of its end
	ended    bool   // that has been read
	unsent   []byte // what it has not taken; until then its peer is not read
}

type relay struct {
	file    *os.File // it owns server's descriptor
	server  int
	poll    *rawsock.Poller
	backend rawsock.Addr
	sides   []*side // by descriptor
	pairs   int32   // so far
	buffer  [bufferSize]byte
}

func main() {
	listen := flag.String("listen", "127.0.0.1:8080", "`address` to listen on")
	backend := flag.String("backend", "127.0.0.1:8000", "`address` of the backend")
	flag.Parse()
	r, err := start(*listen, *backend)
	if err != nil {
		log.Fatal("nullrelay: ", err)
	}
	runtime.LockOSThread()
	r.loop()
}

// start makes a relay that listens.
func start(listen, backend string) (*relay, error) {
	to, err := net.ResolveTCPAddr("tcp4", backend)
	if err != nil {
		return nil, err
	}
	ln, err := net.Listen("tcp4", listen)
	if err != nil {
		return nil, err
	}
	file, err := ln.(*net.TCPListener).File()
	if err != nil {
		return nil, err
	}
	r := &relay{file: file, server: int(file.Fd()),
		backend: rawsock.NewAddr([4]byte(to.IP.To4()), to.Port)}
	if err := unix.SetNonblock(r.server, true); err != nil { // Fd has made it blocking
		return nil, err
	}
	if r.poll, err = rawsock.NewPoller(); err != nil {
		return nil, err
	}
	fmt.Println("Ready on", ln.Addr())
	return r, r.poll.Add(r.server, rawsock.In, int32(r.server), -1)
}

// loop serves until the process ends.
func (r *relay) loop() {
	events := make([]rawsock.Event, eventsAtOnce)
	for yielded := time.Now(); ; {
		if now := time.Now(); now.Sub(yielded) > yieldEvery { // as ch10's loop does
			runtime.Gosched()
			yielded = now
		}
		n := r.poll.Wait(events, 0)
		if n == 0 {
			n = r.poll.Wait(events, -1)
		}
		for _, e := range events[:n] {
			if e.Pad < 0 {
				r.accept()
			} else if s := r.sides[e.Fd]; s != nil && s.pair == e.Pad {
				s.readable = s.readable || e.Events&^rawsock.Out != 0
				s.writable = s.writable || e.Events&^rawsock.In != 0
				s.ending = s.ending || e.Events&(rawsock.End|rawsock.Hup|rawsock.Err) != 0
				if !r.move(s, s.peer) || !r.move(s.peer, s) {
					r.drop(s)
				}
			}
		}
	}
}

// accept takes all clients that wait, each with a backend connection of its own.
func (r *relay) accept() {
	for {
		fd, err := rawsock.Accept(r.server)
		if err != nil {
			return
		}
		r.pairs = (r.pairs + 1) & 0x3fffffff
		client := &side{fd: fd, pair: r.pairs, client: true}
		fd, err = rawsock.Socket()
		if err != nil {
			rawsock.Close(client.fd)
			continue
		}
		client.peer = &side{fd: fd, pair: r.pairs, peer: client}
		if rawsock.Connect(fd, &r.backend) != nil || !r.watch(client) || !r.watch(client.peer) {
			r.drop(client)
		}
	}
}

// watch has the kernel tell of each change of a socket, once.
func (r *relay) watch(s *side) bool {
	for s.fd >= len(r.sides) {
		r.sides = append(r.sides, nil)
	}
	r.sides[s.fd] = s
	_ = rawsock.SetInt(s.fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	return r.poll.Add(s.fd, rawsock.In|rawsock.Out|rawsock.End|rawsock.Edge, int32(s.fd),
		s.pair) == nil
}

// move moves what has come from one side to the other; false ends the pair.
func (r *relay) move(from, to *side) bool {
	for {
		if len(to.unsent) > 0 {
			n, ok := to.write(to.unsent)
			if to.unsent = to.unsent[n:]; len(to.unsent) > 0 || !ok {
				return ok
			}
			to.unsent = nil
		}
		if from.ended || !from.readable {
			return true
		}
		n, err := rawsock.Read(from.fd, r.buffer[:])
		switch {
		case err == unix.EAGAIN:
			from.readable = false
			return true
		case err != nil:
			return false
		case n == 0:
			from.ended = true
			if from.client && !to.ended { // it may wait for an answer
				return unix.Shutdown(to.fd, unix.SHUT_WR) == nil
			}
			return false
		}
		// Less than there was room for is all there is, but for the end.
		from.readable = n == len(r.buffer) || from.ending
		sent, ok := to.write(r.buffer[:n])
		if !ok {
			return false
		}
		if sent < n {
			to.unsent = append([]byte(nil), r.buffer[sent:n]...)
		}
	}
}

// write writes what the kernel takes of b; false: the connection is at its end.
func (s *side) write(b []byte) (n int, ok bool) {
	if !s.writable {
		return 0, true
	}
	n, err := rawsock.Write(s.fd, b)
	n = max(n, 0)
	s.writable = n == len(b)
	return n, err == nil || err == unix.EAGAIN
}

// drop ends a pair.
func (r *relay) drop(s *side) {
	for _, s := range []*side{s, s.peer} {
		if s.fd < len(r.sides) && r.sides[s.fd] == s {
			r.sides[s.fd] = nil
		}
		rawsock.Close(s.fd)
	}
}
