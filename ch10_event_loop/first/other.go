//go:build !linux

package main

import "log"

func main() {
	log.SetFlags(0)
	log.Fatal("first: epoll is Linux's; use a virtual machine, WSL or a container")
}
