//go:build linux

package loop

import (
	"io"

	"golang.org/x/sys/unix"
)

const (
	spliceFrom = 64 << 10  // bytes that a body must still have to go through a pipe
	spliceSize = 256 << 10 // bytes a pipe is asked to hold
	sparePipes = 16        // pipes that are kept for the next long body
)

// A pipe is what a long body goes through from one socket to the other, without
// entering this process's memory (splice(2)).
type pipe struct {
	in, out int // descriptors: what is written to in can be read from out
	held    int // bytes in it
}

// splice moves a part of a body. handled is false if that cannot be done here, and
// nothing has been moved.
func (t *transfer) splice() (handled bool, err error) {
	s := t.src
	if t.pipe == nil {
		if !s.readable {
			_, err := t.next(1) // waits
			return true, early(err)
		}
		if t.pipe = s.loop.free.pipe(); t.pipe == nil {
			return false, nil
		}
	}
	p := t.pipe
	// Into the pipe only when it is empty: then EAGAIN can only mean the socket.
	if p.held == 0 {
		if t.left == 0 {
			t.ended = true
			t.dropPipe()
			return true, nil
		}
		if !s.readable || !s.loop.myTurn(s.conn) {
			_, err := s.read(nil, t.idle)
			return true, err
		}
		n, err := spliced(s.fd, p.in, min(t.left, spliceSize))
		switch {
		case err == unix.EAGAIN && s.urgent: // it does not get past such a byte
			t.dropPipe()
			return false, nil
		case err == unix.EAGAIN:
			s.readable = false
			_, err = s.read(nil, t.idle)
			return true, err
		case err == unix.EINVAL && t.total == 0:
			t.dropPipe()
			return false, nil // not a socket that can be spliced
		case err != nil:
			return true, err
		case n == 0:
			return true, io.ErrUnexpectedEOF
		}
		s.readBy = 0
		s.got += int64(n)
		s.loop.turn -= (n - 1) / scratchSize // as if it had been read
		p.held, t.total = n, t.total+int64(n)
		t.left -= int64(n)
	}
	t.writes = true
	for p.held > 0 {
		if !t.dst.writable {
			return true, t.dst.waitWrite(t.idle)
		}
		n, err := spliced(p.out, t.dst.fd, int64(p.held))
		switch {
		case err == unix.EAGAIN:
			t.dst.writable = false
		case err != nil:
			return true, err
		default:
			p.held -= n
			t.dst.took(int(n))
			t.dst.writeBy = 0
		}
	}
	return true, nil
}

// spliced is splice(2) that does not wait.
func spliced(from, to int, n int64) (int, error) {
	for {
		moved, err := unix.Splice(from, nil, to, nil, int(n),
			unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
		if err != unix.EINTR {
			return int(max(moved, 0)), err
		}
	}
}

// dropPipe gives the pipe back, or closes it if something is left in it.
func (t *transfer) dropPipe() {
	if t.pipe == nil {
		return
	}
	f := &t.src.loop.free
	if t.pipe.held == 0 && len(f.pipes) < sparePipes {
		f.pipes = append(f.pipes, t.pipe)
	} else {
		unix.Close(t.pipe.in)
		unix.Close(t.pipe.out)
		f.morePipes++
	}
	t.pipe = nil
}

// pipe returns an empty pipe, or nil if enough descriptors are in pipes: a body can do
// without one, a connection cannot do without its socket.
func (f *freeLists) pipe() *pipe {
	if n := len(f.pipes); n > 0 {
		p := f.pipes[n-1]
		f.pipes = f.pipes[:n-1]
		return p
	}
	var fds [2]int
	if f.morePipes == 0 || unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK) != nil {
		return nil
	}
	f.morePipes--
	unix.FcntlInt(uintptr(fds[1]), unix.F_SETPIPE_SZ, spliceSize) // a wish
	return &pipe{in: fds[1], out: fds[0]}
}
