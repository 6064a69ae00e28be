//go:build unix

package main

import (
	"flag"
	"fmt"
	"testing"

	"reverseproxy/internal/harness"
	"reverseproxy/internal/harness/kept"
)

func TestMain(m *testing.M) {
	flag.Set("test.parallel", "8") // most tests wait, and need no processor meanwhile
	harness.Main(m)
}

func TestKept(t *testing.T) { kept.Run(t, harness.KeepAlive) }

func get(path string) string { return "GET " + path + " HTTP/1.1\r\nHost: kept.test\r\n\r\n" }

// answer is the backend's response, which keeps the connection.
func answer(body string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}
