//go:build unix

package cli

import "syscall"

// ownDescriptors is how many file descriptors the program itself needs.
const ownDescriptors = 24

// FitDescriptors returns how many connections of the n that are wanted the
// limit on open files (ulimit -n) leaves room for, at least one: two thirds of
// the descriptors are for clients, the rest for their backends; with -demo, whose
// backends are in this process, one third. A live page takes a quarter before.
// Clients beyond that wait in the backlog instead of failing halfway.
func (a *App) FitDescriptors(n int) int {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
		return n
	}
	room := int64(min(uint64(limit.Cur), 1<<30)) - ownDescriptors
	if a.watch != "" {
		room -= room / 4
	}
	if a.demo {
		room /= 3
	} else {
		room = room * 2 / 3
	}
	return int(max(1, min(int64(n), room)))
}
