package forward

import (
	"io"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"reverseproxy/internal/cli"
)

// What splice(2) and fcntl(2) are told; package syscall does not name these.
const (
	spliceSize     = 256 << 10 // bytes a pipe is asked to hold
	spliceMove     = 0x1       // SPLICE_F_MOVE: move pages instead of copying them
	spliceNonblock = 0x2       // SPLICE_F_NONBLOCK: the pipe never waits
	setPipeSize    = 1031      // F_SETPIPE_SZ
)

// pipes counts the pipes that are open.
var pipes atomic.Int64

// splice moves n bytes from src's socket to dst's. They stay in the kernel, on
// their way through a pipe, and never enter this process's memory: a gigabyte
// costs a third of the CPU time that read and write take. handled is false if
// it cannot be done here and nothing has been moved. ending is called before the
// last of them are written.
func splice(dst, src *peer, n int64, ending func()) (handled bool, err error) {
	from, ok1 := src.Conn.(syscall.Conn)
	to, ok2 := dst.Conn.(syscall.Conn)
	if !ok1 || !ok2 {
		return false, nil
	}
	defer pipes.Add(-1)
	if pipes.Add(1) > int64(cli.Pipes()) {
		return false, nil // enough descriptors are in pipes: the copy does without
	}
	in, err1 := from.SyscallConn()
	out, err2 := to.SyscallConn()
	var pipe [2]int
	if err1 != nil || err2 != nil ||
		syscall.Pipe2(pipe[:], syscall.O_CLOEXEC|syscall.O_NONBLOCK) != nil {
		return false, nil
	}
	defer syscall.Close(pipe[0])
	defer syscall.Close(pipe[1])
	syscall.Syscall(syscall.SYS_FCNTL, uintptr(pipe[1]), setPipeSize, spliceSize) // a wish

	for n > 0 {
		if err := src.readBy(time.Now().Add(src.readIdle)); err != nil {
			return true, err
		}
		held, err := move(in.Read, min(n, spliceSize), func(fd, size int) (int64, error) {
			n, err := syscall.Splice(fd, nil, pipe[1], nil, size, spliceMove|spliceNonblock)
			return int64(n), err // the type of n depends on the processor
		})
		switch {
		case err == syscall.EINVAL && !handled:
			return false, nil // not a socket that can be spliced
		case err != nil:
			return true, err
		case held == 0:
			return true, io.ErrUnexpectedEOF
		}
		handled = true
		src.got += held
		if n -= held; n == 0 {
			ending()
		}
		for held > 0 {
			if err := dst.writeBy(time.Now().Add(dst.writeIdle)); err != nil {
				return true, writeError{err}
			}
			dst.writing.Store(true)
			gone, err := move(out.Write, held, func(fd, size int) (int64, error) {
				n, err := syscall.Splice(pipe[0], nil, fd, nil, size, spliceMove|spliceNonblock)
				return int64(n), err
			})
			err = dst.writeFailed(err)
			dst.writing.Store(false)
			dst.sent.Add(gone)
			if held -= gone; err != nil {
				return true, err
			}
		}
	}
	return true, nil
}

// move calls splice for up to size bytes, once ready says that the socket is
// ready, and returns how many were moved.
func move(ready func(func(uintptr) bool) error, size int64,
	splice func(fd, size int) (int64, error)) (moved int64, err error) {
	waited := ready(func(fd uintptr) bool {
		for {
			moved, err = splice(int(fd), int(size))
			if err != syscall.EINTR {
				return err != syscall.EAGAIN // false: wait until it is ready
			}
		}
	})
	if waited != nil {
		return 0, waited // the deadline passed
	}
	if err != nil && err != syscall.EINVAL {
		err = os.NewSyscallError("splice", err)
	}
	return max(moved, 0), err
}
