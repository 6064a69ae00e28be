// Package rawsock holds the few socket calls that the load generator and the
// measuring backend make, without the Go scheduler in between.
//
// A Go program that reads through net.Conn pays for the netpoller and for a
// goroutine switch at every wait. A load generator must cost less than what it
// measures, so both ends of the bench are one thread in an epoll loop, as wrk
// and nginx are. None of the calls here blocks, but Wait; Wait tells the
// scheduler so.
package rawsock

import (
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Event is one readiness report of Wait. Its Fd and Pad fields are the two
// halves of the caller's 64-bit tag.
type Event = unix.EpollEvent

// Readiness bits, as epoll(7) names them.
const (
	In   = unix.EPOLLIN
	Out  = unix.EPOLLOUT
	Err  = unix.EPOLLERR
	Hup  = unix.EPOLLHUP
	End  = unix.EPOLLRDHUP // the peer has sent its FIN
	Edge = unix.EPOLLET
)

// Addr is an IPv4 address and port in the kernel's layout.
type Addr struct{ sa unix.RawSockaddrInet4 }

// NewAddr makes an Addr from four address bytes and a port in host order.
func NewAddr(ip [4]byte, port int) Addr {
	var a Addr
	a.sa.Family = unix.AF_INET
	a.sa.Addr = ip
	p := (*[2]byte)(unsafe.Pointer(&a.sa.Port))
	p[0], p[1] = byte(port>>8), byte(port)
	return a
}

// Port is the port in host order.
func (a *Addr) Port() int {
	p := (*[2]byte)(unsafe.Pointer(&a.sa.Port))
	return int(p[0])<<8 | int(p[1])
}

func errOf(e syscall.Errno) error {
	if e == 0 {
		return nil
	}
	return e
}

// Socket returns a non-blocking TCP socket.
func Socket() (int, error) {
	fd, _, e := syscall.RawSyscall(unix.SYS_SOCKET, unix.AF_INET,
		unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	return int(fd), errOf(e)
}

// SetInt sets an integer socket option, such as TCP_NODELAY.
func SetInt(fd, level, name, value int) error {
	v := int32(value)
	_, _, e := syscall.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), uintptr(level),
		uintptr(name), uintptr(unsafe.Pointer(&v)), 4, 0)
	return errOf(e)
}

// Error returns and clears what SO_ERROR holds: the outcome of a connect.
func Error(fd int) error {
	var v int32
	n := uint32(4)
	_, _, e := syscall.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET,
		unix.SO_ERROR, uintptr(unsafe.Pointer(&v)), uintptr(unsafe.Pointer(&n)), 0)
	if e != 0 {
		return e
	}
	return errOf(syscall.Errno(v))
}

// Bind gives a socket its own address. With port 0 and
// IP_BIND_ADDRESS_NO_PORT set, the port is chosen by Connect, so that it only
// has to be unique for that pair of addresses.
func Bind(fd int, a *Addr) error {
	_, _, e := syscall.RawSyscall(unix.SYS_BIND, uintptr(fd),
		uintptr(unsafe.Pointer(&a.sa)), unix.SizeofSockaddrInet4)
	return errOf(e)
}

// Connect starts a connection; EINPROGRESS, the usual outcome, is no error.
func Connect(fd int, a *Addr) error {
	_, _, e := syscall.RawSyscall(unix.SYS_CONNECT, uintptr(fd),
		uintptr(unsafe.Pointer(&a.sa)), unix.SizeofSockaddrInet4)
	if e == unix.EINPROGRESS {
		return nil
	}
	return errOf(e)
}

// Accept takes one connection, non-blocking, or fails with EAGAIN.
func Accept(fd int) (int, error) {
	n, _, e := syscall.RawSyscall6(unix.SYS_ACCEPT4, uintptr(fd), 0, 0,
		unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
	return int(n), errOf(e)
}

// Read reads what is there, 0 at the end of the stream, or fails with EAGAIN.
func Read(fd int, b []byte) (int, error) {
	n, _, e := syscall.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd),
		uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), 0, 0, 0)
	return int(n), errOf(e)
}

// Write sends what fits into the socket's buffer. A peer that has gone gives
// EPIPE and no signal: the Go runtime ignores SIGPIPE on sockets.
func Write(fd int, b []byte) (int, error) {
	n, _, e := syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(fd),
		uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)),
		unix.MSG_NOSIGNAL, 0, 0)
	return int(n), errOf(e)
}

// Close closes a descriptor.
func Close(fd int) { _, _, _ = syscall.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) }

// Poller is an epoll instance.
type Poller struct{ fd int }

// NewPoller makes an epoll instance.
func NewPoller() (*Poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	return &Poller{fd}, nil
}

// Add watches fd for the given bits; its events carry the two tag halves.
func (p *Poller) Add(fd int, bits uint32, a, b int32) error {
	return p.ctl(unix.EPOLL_CTL_ADD, fd, bits, a, b)
}

// Mod changes the bits that fd is watched for.
func (p *Poller) Mod(fd int, bits uint32, a, b int32) error {
	return p.ctl(unix.EPOLL_CTL_MOD, fd, bits, a, b)
}

func (p *Poller) ctl(op uintptr, fd int, bits uint32, a, b int32) error {
	ev := Event{Events: bits, Fd: a, Pad: b}
	_, _, e := syscall.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(p.fd), op, uintptr(fd),
		uintptr(unsafe.Pointer(&ev)), 0, 0)
	return errOf(e)
}

// Wait fills evs and returns how many are ready, 0 after d or when a signal
// came. d is rounded up to milliseconds; a negative d waits without end. With 0 it
// does not wait, and the scheduler is not told.
func (p *Poller) Wait(evs []Event, d time.Duration) int {
	if d == 0 {
		n, _, e := syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(p.fd),
			uintptr(unsafe.Pointer(unsafe.SliceData(evs))), uintptr(len(evs)), 0, 0, 0)
		if e != 0 {
			return 0
		}
		return int(n)
	}
	ms := -1
	if d >= 0 {
		ms = int((d + time.Millisecond - 1) / time.Millisecond)
	}
	n, err := unix.EpollWait(p.fd, evs, ms)
	if err != nil {
		return 0
	}
	return n
}

// A moment on two clocks: CLOCK_MONOTONIC, read through the system call, and
// the one of package time.
var moment, atTheMoment = bothClocks()

// bothClocks reads them until nothing came between the two.
func bothClocks() (time.Time, int64) {
	for {
		now, nano := time.Now(), monotonic()
		if time.Since(now) < 50*time.Microsecond {
			return now, nano
		}
	}
}

func monotonic() int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return ts.Nano()
}

// Now is CLOCK_MONOTONIC in nanoseconds: the same clock in every process of
// the machine, so that a backend's time can be compared with a client's. It
// makes no system call: package time reads the clock in the vDSO.
func Now() int64 { return atTheMoment + int64(time.Since(moment)) }
