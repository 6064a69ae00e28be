//go:build linux

package loop

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// calls are the system calls of the busy path. They never wait, so the Go runtime need
// not be told of them (RawSyscall): it would make ready to give this thread's
// goroutines to another one, and take that back at once.
type calls struct{ raw bool }

// read is read(2).
func (c calls) read(fd int, b []byte) (int, error) {
	if !c.raw {
		return unix.Read(fd, b)
	}
	n, _, e := syscall.RawSyscall(unix.SYS_READ, uintptr(fd),
		uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	if e != 0 {
		return 0, e
	}
	return int(n), nil
}

// write is write(2).
func (c calls) write(fd int, b []byte) (int, error) {
	if !c.raw {
		return unix.Write(fd, b)
	}
	n, _, e := syscall.RawSyscall(unix.SYS_WRITE, uintptr(fd),
		uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	if e != 0 {
		return 0, e
	}
	return int(n), nil
}

// poll is epoll_wait(2) that does not wait; 0 after an error.
func (c calls) poll(fd int, events []unix.EpollEvent) int {
	if !c.raw {
		n, _ := unix.EpollWait(fd, events, 0)
		return n
	}
	n, _, e := syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(fd),
		uintptr(unsafe.Pointer(unsafe.SliceData(events))), uintptr(len(events)), 0, 0, 0)
	if e != 0 {
		return 0
	}
	return int(n)
}
