package family

import (
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// program is what children are started from.
type program struct{ path string }

// findProgram returns the kernel's own link to the program that runs here. It
// leads there even when its file has been deleted or replaced meanwhile.
func findProgram() program {
	const link = "/proc/self/exe"
	if _, err := os.Stat(link); err == nil {
		return program{link}
	}
	path, _ := os.Executable()
	return program{path}
}

func (program) intact() error { return nil }

// nameProcess gives a child the name that ps and pkill know the parent by; the
// kernel has named it "exe", after the link.
func nameProcess() { os.WriteFile("/proc/self/comm", []byte(filepath.Base(os.Args[0])), 0) }

// sharedMemory returns a file in memory with the given content.
func sharedMemory(content []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate("scoreboard", unix.MFD_CLOEXEC)
	file := os.NewFile(uintptr(fd), "scoreboard")
	if err != nil { // a kernel older than 3.17, or a sandbox
		if file, err = sharedFile(); err != nil {
			return nil, err
		}
	}
	_, err = file.Write(content)
	return file, err
}

// accept returns the next client's socket.
func accept(fd int) (int, syscall.Sockaddr, error) {
	return syscall.Accept4(fd, syscall.SOCK_CLOEXEC)
}
