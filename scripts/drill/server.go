package main

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"reverseproxy/internal/backends"
)

// server is a backend that the drill plays, so that it can fail on purpose.
type server struct {
	addr     string
	player   player
	accepted atomic.Int64
	open     atomic.Int64
	served   sync.WaitGroup // a goroutine for each connection

	mu       sync.Mutex
	listener net.Listener
	held     *os.File // keeps the port of one that was killed; or nil
	conns    map[net.Conn]bool
}

// player is what a server does. An error ends the connection.
type player interface {
	await(*session) error                 // for the next request
	answer(*session, *http.Request) error // to one
	garbage(*session, error)              // what came is no request
}

// session is one connection of a server.
type session struct {
	*net.TCPConn
	server *server
	r      *bufio.Reader
	plan   plan // of the drill -pool
}

// listen starts the server, for the first time or again after kill.
func (s *server) listen() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, err := backends.Relisten(s.held, s.addr)
	if s.held = nil; err != nil {
		return err
	}
	s.addr, s.listener, s.conns = l.Addr().String(), l, map[net.Conn]bool{}
	go s.accept(l) // ends when kill closes the listener
	return nil
}

func (s *server) accept(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		if s.listener != l {
			conn.Close() // accepted while it was killed
			s.mu.Unlock()
			return
		}
		s.conns[conn] = true
		s.served.Add(1)
		s.mu.Unlock()
		s.accepted.Add(1)
		s.open.Add(1)
		go s.serve(conn) // ends with the connection
	}
}

func (s *server) serve(conn net.Conn) {
	c := &session{TCPConn: conn.(*net.TCPConn), server: s, r: bufio.NewReader(conn)}
	defer func() {
		conn.Close()
		s.mu.Lock()
		delete(s.conns, conn)
		s.mu.Unlock()
		s.open.Add(-1)
		s.served.Done()
	}()
	for {
		if err := s.player.await(c); err != nil {
			return
		}
		r, err := http.ReadRequest(c.r)
		if err != nil {
			s.player.garbage(c, err)
			return
		}
		if err := s.player.answer(c, r); err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return
		}
	}
}

// kill ends the server as the kernel does when its process is killed: all its
// sockets are closed. Only its port is kept.
func (s *server) kill() {
	s.mu.Lock()
	if s.listener != nil {
		s.held, s.listener = backends.Hold(s.listener), nil
	}
	for conn := range s.conns {
		conn.Close()
	}
	s.mu.Unlock()
	s.served.Wait()
}

// farm starts a server on each address.
func farm(addrs []string, p player) ([]*server, error) {
	var all []*server
	for _, addr := range addrs {
		s := &server{addr: addr, player: p}
		if err := s.listen(); err != nil {
			killAll(all)
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

func killAll(all []*server) {
	for _, s := range all {
		s.kill()
	}
}

func addrsOf(all []*server) (addrs []string) {
	for _, s := range all {
		addrs = append(addrs, s.addr)
	}
	return addrs
}

// brokeOff reports whether err is a connection's end, and no more.
func brokeOff(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.ECONNRESET) ||
		errors.Is(err, syscall.EPIPE) || isTimeout(err)
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

// reset ends a connection with RST.
func reset(conn *net.TCPConn) {
	_ = conn.SetLinger(0)
	conn.Close()
}

const tooLong = 10 * time.Second // for anything that a proxy or a client waits for
