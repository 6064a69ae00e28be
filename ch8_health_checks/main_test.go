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

// brief keeps idle connections so briefly that each scenario finds none; and its
// backends, which the test plays, are not asked how they are.
var brief = harness.Chapter(8, "-keepalive-timeout", "100ms", "-check", "off", "-max-fails", "0")

func TestScenarios(t *testing.T) { harness.RunScenarios(t, brief) }

func TestLives(t *testing.T) { harness.RunLives(t, brief) }
