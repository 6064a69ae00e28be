//go:build linux

package main

import (
	"flag"
	"testing"

	"reverseproxy/internal/harness"
	"reverseproxy/internal/harness/kept"
)

func TestMain(m *testing.M) {
	flag.Set("test.parallel", "8") // most tests wait, and need no processor meanwhile
	harness.Main(m)
}

func TestKept(t *testing.T) { kept.Run(t, harness.Chapter(10)) }
