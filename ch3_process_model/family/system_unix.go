//go:build unix

package family

import (
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// File returns one more descriptor of a connection's socket. Unlike the File
// methods of net it leaves the socket as it is: those make it blocking, and
// this process's timeouts would no longer work on it.
func File(conn net.Conn) (*os.File, error) { return duplicate(conn) }

func duplicate(socket any) (*os.File, error) {
	raw, err := socket.(syscall.Conn).SyscallConn()
	if err != nil {
		return nil, err
	}
	copied := -1
	if err := raw.Control(func(fd uintptr) {
		copied, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0)
	}); err != nil {
		return nil, err
	}
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	return os.NewFile(uintptr(copied), "socket"), nil
}

// terminated reports whether a process was ended by SIGTERM, or by SIGINT.
func terminated(state *os.ProcessState) bool {
	status, ok := state.Sys().(syscall.WaitStatus)
	return ok && (status.Signal() == syscall.SIGTERM || status.Signal() == syscall.SIGINT)
}

// ownProcessGroup keeps the terminal's Ctrl+C, which goes to the process group
// in the foreground, away from a child.
func ownProcessGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// sharedFile is shared memory where there is no other: a file without a name.
func sharedFile() (*os.File, error) {
	file, err := os.CreateTemp("", "scoreboard")
	if err != nil {
		return nil, err
	}
	return file, os.Remove(file.Name()) // it lives on as long as somebody has it open
}
