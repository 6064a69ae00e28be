//go:build linux

// Command first is an echo server with one thread for all its clients, the same
// with select, poll and epoll: go run ./ch10_event_loop/first -with select
package main

import (
	"flag"
	"fmt"
	"log"
	"time"

	"golang.org/x/sys/unix"

	"reverseproxy/ch1_base/rawsock"
)

const nothing, in, out = 0, unix.POLLIN, unix.POLLOUT // what is awaited of a socket

// waiter is what the three calls have in common. wait returns the sockets of
// which has happened what is awaited; none if a signal came in between.
type waiter interface {
	watch(fd int, event int16) error
	wait() (ready []int)
}

// selecting hands the kernel two sets of 1,024 bits at each call.
type selecting struct{ in, out unix.FdSet }

func (s *selecting) watch(fd int, event int16) error {
	if fd >= unix.FD_SETSIZE {
		return fmt.Errorf("select knows no descriptor %d, its sets have 1,024 bits", fd)
	}
	s.in.Clear(fd)
	s.out.Clear(fd)
	if event == in {
		s.in.Set(fd)
	} else if event == out {
		s.out.Set(fd)
	}
	return nil
}

func (s *selecting) wait() (ready []int) {
	in, out := s.in, s.out // the kernel writes its answer over the question
	n, _ := unix.Select(unix.FD_SETSIZE, &in, &out, nil, nil)
	for fd := 0; len(ready) < n; fd++ { // and does not say which: look at each
		if in.IsSet(fd) || out.IsSet(fd) {
			ready = append(ready, fd)
		}
	}
	return ready
}

// polling hands over a list of any length at each call. Entry fd is of socket fd.
type polling struct{ list []unix.PollFd }

func (p *polling) watch(fd int, event int16) error {
	for fd >= len(p.list) {
		p.list = append(p.list, unix.PollFd{Fd: -1}) // -1: the kernel skips it
	}
	p.list[fd] = unix.PollFd{Fd: int32(fd), Events: event}
	if event == nothing {
		p.list[fd].Fd = -1
	}
	return nil
}

func (p *polling) wait() (ready []int) {
	n, _ := unix.Poll(p.list, -1)
	for fd := 0; len(ready) < n; fd++ { // the same again
		if p.list[fd].Revents != 0 {
			ready = append(ready, fd)
		}
	}
	return ready
}

// epolling hands over changes only: the kernel keeps the list, and a second one
// of the sockets that are ready, which is all that wait looks at.
type epolling struct{ list int }

func (e *epolling) watch(fd int, event int16) error {
	change := unix.EpollEvent{Fd: int32(fd), Events: uint32(event)}
	err := unix.EpollCtl(e.list, unix.EPOLL_CTL_MOD, fd, &change)
	if err == unix.ENOENT { // not on the list yet; close takes it off again
		err = unix.EpollCtl(e.list, unix.EPOLL_CTL_ADD, fd, &change)
	}
	return err
}

func (e *epolling) wait() (ready []int) {
	var events [64]unix.EpollEvent
	n, _ := unix.EpollWait(e.list, events[:], -1)
	for i := range n {
		ready = append(ready, int(events[i].Fd))
	}
	return ready
}

func main() {
	with := flag.String("with", "epoll", "the `call` that waits: select, poll or epoll")
	listen := flag.String("listen", "127.0.0.1:8080", "`address` to listen on")
	flag.Parse()
	time.Sleep(time.Nanosecond) // the runtime makes an epoll list for its timers, while it can
	list, err := unix.EpollCreate1(0)
	must(err)
	waiters := map[string]waiter{"select": &selecting{}, "poll": &polling{},
		"epoll": &epolling{list}}
	w := waiters[*with]
	if w == nil {
		log.Fatal("first: -with is select, poll or epoll")
	}
	addr, err := rawsock.Address(*listen)
	must(err)
	server, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
	must(err)
	rawsock.ReuseAddr(server)
	must(unix.Bind(server, &unix.SockaddrInet4{Port: addr.Port, Addr: addr.Addr}))
	must(unix.Listen(server, 1024)) // clients that may wait to be accepted
	must(w.watch(server, in))
	fmt.Println("Ready on", rawsock.LocalAddr(server))
	// region event-loop
	unsent := map[int][]byte{} // a client's state: what it is still to get back
	for {                      // the event loop: nothing but wait ever waits
		for _, fd := range w.wait() {
			if fd == server {
				accept(w, server)
			} else if !echo(w, fd, unsent) {
				w.watch(fd, nothing)
				unix.Close(fd)
				w.watch(server, in) // for there is a descriptor again
			}
		}
	}
	// endregion
}

// accept takes a client. If more are in the queue, the next wait says so.
func accept(w waiter, server int) {
	client, _, err := unix.Accept4(server, unix.SOCK_NONBLOCK)
	if err == unix.EMFILE { // no descriptor left: the others stay in the queue
		w.watch(server, nothing)
	} else if err == nil {
		if err := w.watch(client, in); err != nil {
			log.Println("A client is turned away:", err)
			unix.Close(client)
		}
	}
}

var buffer [4096]byte // one for all: only one client is served at a time

// echo does what can be done for a client without waiting. False: it has left.
func echo(w waiter, client int, unsent map[int][]byte) bool {
	data, late := unsent[client]
	if !late {
		n, err := unix.Read(client, buffer[:])
		if err == unix.EAGAIN { // the kernel may be wrong: select(2), BUGS
			return true
		}
		data = buffer[:max(n, 0)]
	}
	n, err := unix.Write(client, data)
	rest := data[max(n, 0):]
	delete(unsent, client)
	if len(data) == 0 || err != nil && err != unix.EAGAIN {
		return false
	} else if len(rest) > 0 { // it is slow: nothing more is read until it has these
		unsent[client] = append([]byte(nil), rest...)
		w.watch(client, out)
	} else if late {
		w.watch(client, in)
	}
	return true
}

func must(err error) {
	if err != nil {
		log.Fatal("first: ", err)
	}
}
