//go:build !linux

// Package loop is for Linux only: it is built on epoll.
package loop
