//go:build unix

package main

import (
	"flag"
	"testing"

	"reverseproxy/internal/harness"
)

func TestMain(m *testing.M) {
	flag.Set("test.parallel", "8") // most tests wait, and need no processor meanwhile
	harness.Main(m)
}

// brief keeps idle connections so briefly that each scenario finds none.
var brief = harness.Chapter(7, "-keepalive-timeout", "100ms")

func TestScenarios(t *testing.T) { harness.RunScenarios(t, brief) }

func TestLives(t *testing.T) { harness.RunLives(t, brief) }
