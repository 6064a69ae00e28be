//go:build unix

package main

import (
	"testing"

	"reverseproxy/internal/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

func TestScenarios(t *testing.T) { harness.RunScenarios(t, harness.KeepAlive) }

func TestLives(t *testing.T) { harness.RunLives(t, harness.KeepAlive) }
