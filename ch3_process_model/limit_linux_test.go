package main

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// limitFiles lets a process open n more files than it has open.
func limitFiles(t *testing.T, pid, n int) {
	t.Helper()
	dir := filepath.Join("/proc", strconv.Itoa(pid), "fd")
	names, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	open := map[int]bool{}
	for _, name := range names {
		fd, _ := strconv.Atoi(name.Name())
		open[fd] = true
	}
	limit := unix.Rlimit{}
	for fd := 0; n > 0; fd++ {
		if !open[fd] {
			n--
		}
		limit.Cur = uint64(fd + 1)
	}
	limit.Max = limit.Cur
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &limit, nil); err != nil {
		t.Fatal(err)
	}
}
