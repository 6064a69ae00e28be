//go:build !linux

package main

import "log"

func main() { log.Fatal("nullrelay: epoll is Linux's") }
