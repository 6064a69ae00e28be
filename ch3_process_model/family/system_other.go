//go:build unix && !linux

package family

import (
	"fmt"
	"os"
	"syscall"
)

// program is what children are started from.
type program struct {
	path string
	info os.FileInfo
}

func findProgram() program {
	path, _ := os.Executable()
	info, _ := os.Stat(path)
	return program{path, info}
}

// intact returns an error if the program's file is no longer what runs here.
func (p program) intact() error {
	if info, err := os.Stat(p.path); err != nil || !os.SameFile(info, p.info) {
		return fmt.Errorf("the program's file %s has been deleted or replaced; "+
			"end the proxy and start it again", p.path)
	}
	return nil
}

func nameProcess() {}

// sharedMemory returns a file with the given content.
func sharedMemory(content []byte) (*os.File, error) {
	file, err := sharedFile()
	if err != nil {
		return nil, err
	}
	_, err = file.Write(content) // not Truncate: a full disk is to show now
	return file, err
}

// accept returns the next client's socket.
func accept(fd int) (int, syscall.Sockaddr, error) {
	fd, peer, err := syscall.Accept(fd)
	if err == nil {
		syscall.CloseOnExec(fd)
	}
	return fd, peer, err
}
